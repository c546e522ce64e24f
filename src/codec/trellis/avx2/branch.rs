//! From elements to the costs of the branches; see the same file of AVX-512.

use std::arch::x86_64::*;

use super::Pair;
use crate::codec::trellis::tables::{ROWS, Tables};
use crate::codec::trellis::{GROUP, Run, Search, Source, UNIT};

/// Elements as F32: by half of the 32, those with even and those with odd numbers.
type Values = [[__m256; 2]; 2];

/// What turns the elements of a run into fixed-point magnitudes.
pub struct Scaling {
    columns: Option<Values>,
    top: __m256i,
    /// One more than what is no escape.
    beyond: __m256i,
}

/// Fixed-point magnitudes: place in the period, multiples of [`UNIT`], sign in bit 0.
pub struct Magnitudes {
    place: Pair,
    units: Pair,
    sign: Pair,
}

/// A table of 16 16-bit numbers as lower and upper bytes.
#[derive(Clone, Copy)]
struct Planes {
    low: __m256i,
    high: __m256i,
}

/// A class's tables, by subset.
pub struct ClassPlanes {
    threshold: [Planes; 4],
    offset: [Planes; 4],
    rate: [Planes; 4],
}

#[inline]
#[target_feature(enable = "avx2")]
fn planes(table: [u16; ROWS]) -> Planes {
    let plane = |bytes: [u8; ROWS]| {
        // SAFETY: 16 bytes, which need no alignment.
        _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
    };
    Planes { low: plane(table.map(|v| v as u8)), high: plane(table.map(|v| (v >> 8) as u8)) }
}

#[target_feature(enable = "avx2")]
pub fn class_planes(tables: &Tables) -> ClassPlanes {
    let unsigned = |all: &[[u16; 2 * ROWS]; 4], subset: usize| planes(std::array::from_fn(|row| all[subset][row]));
    ClassPlanes {
        threshold: std::array::from_fn(|subset| unsigned(&tables.threshold, subset)),
        offset: std::array::from_fn(|subset| planes(std::array::from_fn(|row| tables.offset[subset][row] as u16))),
        rate: std::array::from_fn(|subset| unsigned(&tables.rate, subset)),
    }
}

/// Rows as bytes, in the order that `look_up` undoes.
#[inline]
#[target_feature(enable = "avx2")]
fn index(rows: Pair) -> __m256i {
    _mm256_packus_epi16(rows[0], rows[1])
}

#[inline]
#[target_feature(enable = "avx2")]
fn look_up(table: &Planes, index: __m256i) -> Pair {
    let (low, high) = (_mm256_shuffle_epi8(table.low, index), _mm256_shuffle_epi8(table.high, index));
    [_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)]
}

/// All 32 if there are so many, else a copy with zeros behind.
#[inline]
fn padded<'a, T: Copy + Default>(elements: &'a [T], copy: &'a mut [T; GROUP]) -> &'a [T; GROUP] {
    if let Some(all) = elements.first_chunk() {
        return all;
    }
    copy[..elements.len()].copy_from_slice(elements);
    copy
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_f32(numbers: &[f32]) -> Values {
    let mut copy = [0.0; GROUP];
    let numbers = padded(numbers, &mut copy).as_chunks::<16>().0;
    let half = |sixteen: &[f32; 16]| {
        // SAFETY: 16 numbers are twice 32 bytes.
        let [a, b] = [0, 8].map(|i| unsafe { _mm256_loadu_ps(sixteen.as_ptr().add(i)) });
        // Shuffles within 128 bits leave the middle quarters exchanged.
        let in_order = |v| _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(v)));
        [in_order(_mm256_shuffle_ps::<0b10_00_10_00>(a, b)), in_order(_mm256_shuffle_ps::<0b11_01_11_01>(a, b))]
    };
    [half(&numbers[0]), half(&numbers[1])]
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_bf16(bytes: &[u8]) -> Values {
    let mut copy = [[0; 2]; GROUP];
    let elements = padded(bytes.as_chunks::<2>().0, &mut copy).as_chunks::<16>().0;
    let half = |sixteen: &[[u8; 2]; 16]| {
        // SAFETY: 32 bytes, which need no alignment.
        let pairs = unsafe { _mm256_loadu_si256(sixteen.as_ptr().cast()) };
        let upper = _mm256_set1_epi32(0xFFFF_0000_u32 as i32);
        [_mm256_slli_epi32::<16>(pairs), _mm256_and_si256(pairs, upper)].map(|v| _mm256_castsi256_ps(v))
    };
    [half(&elements[0]), half(&elements[1])]
}

#[inline]
#[target_feature(enable = "avx2")]
pub fn scaling(search: &Search<'_>, run: &Run) -> Scaling {
    let columns = search.column_scales.get(run.column..run.column + run.active);
    Scaling {
        columns: columns.map(|scales| load_f32(scales)),
        top: _mm256_set1_epi32(search.metrics.top as i32),
        beyond: _mm256_set1_epi32(search.metrics.limit as i32 + 1),
    }
}

/// The magnitudes of a step of a run, whose first element is `first`.
#[inline]
#[target_feature(enable = "avx2")]
pub fn magnitudes(
    search: &Search<'_>,
    scaling: &Scaling,
    run: &Run,
    row: usize,
    first: usize,
    escapes: &mut Vec<u32>,
) -> Magnitudes {
    let mut scaled = match search.source {
        Source::Bf16(bytes) => load_bf16(&bytes[2 * first..2 * (first + run.active)]),
        Source::F32(values) => load_f32(&values[first..first + run.active]),
    };
    let scale = _mm256_set1_ps(search.scale_of_row(row));
    let absolute = _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX));
    let zero = _mm256_setzero_si256();
    let (mut fixed, mut beyond) = ([[zero; 2]; 2], [[zero; 2]; 2]);
    for h in 0..2 {
        for i in 0..2 {
            scaled[h][i] = _mm256_mul_ps(scaled[h][i], scale);
            if let Some(columns) = &scaling.columns {
                scaled[h][i] = _mm256_mul_ps(scaled[h][i], columns[h][i]);
            }
            fixed[h][i] = _mm256_cvtps_epi32(_mm256_and_ps(scaled[h][i], absolute));
            // What is too large or not a number became 2^31.
            beyond[h][i] = _mm256_cmpeq_epi32(_mm256_max_epu32(fixed[h][i], scaling.beyond), fixed[h][i]);
        }
    }
    let any = _mm256_or_si256(_mm256_or_si256(beyond[0][0], beyond[0][1]), _mm256_or_si256(beyond[1][0], beyond[1][1]));
    if _mm256_testz_si256(any, any) == 0 {
        let masks = beyond.map(|half| half.map(|v| _mm256_movemask_ps(_mm256_castsi256_ps(v))));
        list(masks, run.active, first, escapes);
        for h in 0..2 {
            for i in 0..2 {
                scaled[h][i] = _mm256_andnot_ps(_mm256_castsi256_ps(beyond[h][i]), scaled[h][i]);
                fixed[h][i] = _mm256_andnot_si256(beyond[h][i], fixed[h][i]);
            }
        }
    }
    let halves = |even, odd| _mm256_blend_epi16::<0b1010_1010>(even, odd);
    let mut m = Magnitudes { place: [zero; 2], units: [zero; 2], sign: [zero; 2] };
    for h in 0..2 {
        let [even, odd] = fixed[h].map(|f| _mm256_min_epu32(f, scaling.top));
        let place = halves(even, _mm256_slli_epi32::<16>(odd));
        m.place[h] = _mm256_and_si256(place, _mm256_set1_epi16(0x7FFF));
        m.units[h] = halves(_mm256_srli_epi32::<13>(even), _mm256_slli_epi32::<3>(odd));
        let [even, odd] = scaled[h].map(|v| _mm256_castps_si256(v));
        m.sign[h] = halves(_mm256_srli_epi32::<31>(even), _mm256_srli_epi32::<15>(odd));
    }
    m
}

/// Lists the escapes among the lanes of a step.
#[cold]
fn list(beyond: [[i32; 2]; 2], active: usize, first: usize, escapes: &mut Vec<u32>) {
    let is_escape = |&i: &usize| beyond[i / 16][i % 2] >> (i % 16 / 2) & 1 == 1;
    escapes.extend((0..active).filter(is_escape).map(|i| (first + i) as u32));
}

/// Costs of the best candidate of each subset, and the words to keep.
#[inline]
#[target_feature(enable = "avx2")]
pub fn branches<const RAW: bool>(m: &Magnitudes, class: &ClassPlanes, raw_bits: __m128i) -> ([Pair; 4], Pair) {
    let set = |v: i32| _mm256_set1_epi16(v as i16);
    let rows = |candidate: Pair| index(if RAW { candidate.map(|c| _mm256_srl_epi16(c, raw_bits)) } else { candidate });
    let mut costs = [[_mm256_setzero_si256(); 2]; 4];
    let mut word: Pair = std::array::from_fn(|h| _mm256_or_si256(_mm256_slli_epi16::<6>(m.units[h]), m.sign[h]));
    for (subset, cost) in costs.iter_mut().enumerate() {
        let reach = 4 - subset as i32;
        let mut candidate = m.units.map(|units| _mm256_srli_epi16::<2>(_mm256_add_epi16(units, set(reach))));
        let above = m.place.map(|place| match subset {
            0 => place,
            _ => _mm256_and_si256(_mm256_add_epi16(place, set(reach * UNIT)), set(0x7FFF)),
        });
        let threshold = look_up(&class.threshold[subset], rows(candidate));
        let up: Pair = std::array::from_fn(|h| _mm256_cmpgt_epi16(above[h], threshold[h]));
        for h in 0..2 {
            candidate[h] = _mm256_sub_epi16(candidate[h], up[h]);
            word[h] = _mm256_or_si256(word[h], _mm256_and_si256(up[h], set(1 << (reach + 1))));
        }
        let row = rows(candidate);
        // A period less is the upper bit.
        let mut distance: Pair = std::array::from_fn(|h| _mm256_or_si256(above[h], _mm256_slli_epi16::<15>(up[h])));
        if !RAW {
            let offset = look_up(&class.offset[subset], row);
            distance = std::array::from_fn(|h| _mm256_subs_epi16(distance[h], offset[h]));
        } else if subset == 3 {
            for h in 0..2 {
                let zero = _mm256_cmpeq_epi16(candidate[h], _mm256_setzero_si256());
                distance[h] = _mm256_subs_epi16(distance[h], _mm256_and_si256(zero, set(UNIT)));
            }
        }
        let rate = look_up(&class.rate[subset], row);
        *cost = std::array::from_fn(|h| _mm256_add_epi16(_mm256_mulhi_epi16(distance[h], distance[h]), rate[h]));
    }
    (costs, word)
}
