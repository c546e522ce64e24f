//! From elements to the costs of the branches.
//!
//! Elements are taken apart into those with even and those with odd numbers: of BF16
//! they are the lower and upper halves of 32-bit lanes, and so are the 16-bit numbers
//! that come of them.

use std::arch::x86_64::*;

use super::look_up;
use crate::codec::trellis::tables::Tables;
use crate::codec::trellis::{PERIOD, Run, Search, Source, UNIT};

const EVEN: [u32; 16] = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30];
const ODD: [u32; 16] = [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31];

/// What turns the elements of a run into fixed-point magnitudes.
pub struct Scaling {
    lanes: u32,
    /// By parity of the element's number.
    columns: Option<[__m512; 2]>,
    top: __m512i,
    limit: __m512i,
}

/// Fixed-point magnitudes: place in the period, multiples of [`UNIT`], sign in bit 0.
pub struct Magnitudes {
    place: __m512i,
    units: __m512i,
    sign: __m512i,
}

/// Up to 32 numbers, zeros behind them, by parity of their number.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn load_f32(numbers: &[f32], lanes: u32) -> [__m512; 2] {
    debug_assert_eq!(lanes.count_ones() as usize, numbers.len());
    // SAFETY: the masks keep the loads to the numbers; the indices are 64 bytes.
    unsafe {
        let low = _mm512_maskz_loadu_ps(lanes as u16, numbers.as_ptr());
        let high = _mm512_maskz_loadu_ps((lanes >> 16) as u16, numbers.as_ptr().wrapping_add(16));
        [EVEN, ODD].map(|which| _mm512_permutex2var_ps(low, _mm512_loadu_si512(which.as_ptr().cast()), high))
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn scaling(search: &Search<'_>, run: &Run) -> Scaling {
    let lanes = super::lanes(run.active);
    let columns = search.column_scales.get(run.column..run.column + run.active);
    Scaling {
        lanes,
        columns: columns.map(|scales| load_f32(scales, lanes)),
        top: _mm512_set1_epi32(search.metrics.top as i32),
        limit: _mm512_set1_epi32(search.metrics.limit as i32),
    }
}

/// The magnitudes of a step of a run, whose first element is `first`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn magnitudes(
    search: &Search<'_>,
    scaling: &Scaling,
    run: &Run,
    row: usize,
    first: usize,
    escapes: &mut Vec<u32>,
) -> Magnitudes {
    let upper = _mm512_set1_epi32(0xFFFF_0000_u32 as i32);
    let values = match search.source {
        Source::Bf16(bytes) => {
            let elements = &bytes[2 * first..2 * (first + run.active)];
            _mm_prefetch::<_MM_HINT_T0>(elements.as_ptr().wrapping_add(4 * search.shape.row_len).cast());
            // SAFETY: the mask keeps the load to the elements.
            let pairs = unsafe { _mm512_maskz_loadu_epi16(scaling.lanes, elements.as_ptr().cast()) };
            [_mm512_slli_epi32::<16>(pairs), _mm512_and_si512(pairs, upper)].map(|v| _mm512_castsi512_ps(v))
        }
        Source::F32(values) => load_f32(&values[first..first + run.active], scaling.lanes),
    };
    let scale = _mm512_set1_ps(search.scale_of_row(row));
    let mut scaled = values.map(|v| _mm512_mul_ps(v, scale));
    if let Some(columns) = scaling.columns {
        scaled = [_mm512_mul_ps(scaled[0], columns[0]), _mm512_mul_ps(scaled[1], columns[1])];
    }
    let mut fixed =
        scaled.map(|v| _mm512_cvt_roundps_epi32::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(_mm512_abs_ps(v)));
    // What is too large or not a number became 2^31.
    let beyond = fixed.map(|f| _mm512_cmpgt_epu32_mask(f, scaling.limit));
    if beyond[0] | beyond[1] != 0 {
        list(beyond, scaling.lanes, first, escapes);
        for i in 0..2 {
            scaled[i] = _mm512_maskz_mov_ps(!beyond[i], scaled[i]);
            fixed[i] = _mm512_maskz_mov_epi32(!beyond[i], fixed[i]);
        }
    }
    let [even, odd] = fixed.map(|f| _mm512_min_epu32(f, scaling.top));
    let [sign_even, sign_odd] = scaled.map(|v| _mm512_castps_si512(v));
    let place = _mm512_or_si512(_mm512_and_si512(even, _mm512_set1_epi32(0x7FFF)), _mm512_slli_epi32::<16>(odd));
    let odd_units = _mm512_and_si512(_mm512_slli_epi32::<3>(odd), upper);
    let odd_sign = _mm512_and_si512(_mm512_srli_epi32::<15>(sign_odd), _mm512_set1_epi32(0x1_0000));
    Magnitudes {
        place: _mm512_and_si512(place, _mm512_set1_epi16(0x7FFF)),
        units: _mm512_or_si512(_mm512_srli_epi32::<13>(even), odd_units),
        sign: _mm512_or_si512(_mm512_srli_epi32::<31>(sign_even), odd_sign),
    }
}

/// Lists the escapes among the lanes of a step.
#[cold]
fn list(beyond: [u16; 2], lanes: u32, first: usize, escapes: &mut Vec<u32>) {
    let is_escape = |&i: &usize| lanes >> i & 1 == 1 && beyond[i % 2] >> (i / 2) & 1 == 1;
    escapes.extend((0..32).filter(is_escape).map(|i| (first + i) as u32));
}

/// Costs of the best candidate of each subset, and the words to keep.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub fn branches<const RAW: bool>(
    m: &Magnitudes,
    tables: &Tables,
    raw_bits: __m128i,
    bits: &[__m512i; 16],
) -> ([__m512i; 4], __m512i) {
    const { assert!(PERIOD == 1 << 15) };
    let rows = |candidate| if RAW { _mm512_srl_epi16(candidate, raw_bits) } else { candidate };
    let mut costs = [_mm512_setzero_si512(); 4];
    let mut word = _mm512_or_si512(_mm512_slli_epi16::<6>(m.units), m.sign);
    for (subset, cost) in costs.iter_mut().enumerate() {
        let reach = 4 - subset as i16;
        let candidate = _mm512_srli_epi16::<2>(_mm512_add_epi16(m.units, _mm512_set1_epi16(reach)));
        let above = if subset == 0 {
            m.place
        } else {
            let above = _mm512_add_epi16(m.place, _mm512_set1_epi16((i32::from(reach) * UNIT) as i16));
            _mm512_and_si512(above, _mm512_set1_epi16(0x7FFF))
        };
        let up = _mm512_cmpgt_epu16_mask(above, look_up(&tables.threshold[subset], rows(candidate)));
        let candidate = _mm512_mask_add_epi16(candidate, up, candidate, bits[0]);
        let row = rows(candidate);
        let mut distance = _mm512_mask_sub_epi16(above, up, above, bits[15]);
        if !RAW {
            distance = _mm512_subs_epi16(distance, look_up(&tables.offset[subset], row));
        } else if subset == 3 {
            let zero = _mm512_testn_epi16_mask(candidate, candidate);
            distance = _mm512_mask_subs_epi16(distance, zero, distance, _mm512_set1_epi16(UNIT as i16));
        }
        *cost = _mm512_add_epi16(_mm512_mulhi_epi16(distance, distance), look_up(&tables.rate[subset], row));
        word = _mm512_mask_add_epi16(word, up, word, bits[reach as usize + 1]);
    }
    (costs, word)
}
