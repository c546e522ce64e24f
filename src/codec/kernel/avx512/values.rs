//! Elements that are calculated in f32: with column steps, and of levels with raw bits.
//!
//! The order of the multiplications is that of the format, so that every product is
//! rounded as the portable kernel rounds it.

use core::arch::x86_64::*;
use core::marker::PhantomData;

use super::super::Job;
use super::super::vector::{Aligned, Factors, LevelTable, Loop, Part, RowTables, both, halves};
use super::coder::{Output, Symbols};
use super::lossless::{byte_plane, set_bit};
use super::{Aligned32, Table, join_halves, load_aligned, load_order, look_up, store_16, store_32};
use crate::codec::params::PrimeSparse;
use crate::dtype::Dtype;

/// Values before column steps. Unsafe as [`Output`] is.
pub trait Source {
    const RAW: bool;
    type Row: Copy;
    unsafe fn row(&self, row: usize) -> Self::Row;
    unsafe fn raw<L: Loop>(&self, part: &Part<L>, raw: &[u8], entry: __m512i) -> __m512i;
    unsafe fn values(&self, row: Self::Row, symbols: Symbols) -> [__m512; 2];
}

/// Values from a table.
pub struct Columns<'a>(RowTables<'a, [Aligned; 2]>);

impl<'a> Columns<'a> {
    pub fn new(job: &Job<'a>, params: &PrimeSparse) -> Columns<'a> {
        Columns(RowTables::new(job, params, Dtype::F32, halves))
    }
}

impl Source for Columns<'_> {
    const RAW: bool = false;
    type Row = [Table; 2];

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
    unsafe fn row(&self, row: usize) -> [Table; 2] {
        let [low, high] = self.0.of_row(row);
        [load_aligned(low), load_aligned(high)]
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
    unsafe fn raw<L: Loop>(&self, _: &Part<L>, _: &[u8], entry: __m512i) -> __m512i {
        entry
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
    unsafe fn values(&self, row: [Table; 2], Symbols { entry, .. }: Symbols) -> [__m512; 2] {
        let [low, high] = row;
        {
            let bits = join_halves(look_up(low, entry), look_up(high, entry));
            both!(|h| _mm512_castsi512_ps(bits[h]))
        }
    }
}

/// Levels from a table and raw bits, times the step, times the row's.
pub struct Levels {
    table: LevelTable,
    factors: Factors,
    step: f32,
    raw_bits: u8,
}

impl Levels {
    pub fn new(job: &Job<'_>, params: &PrimeSparse) -> Levels {
        let raw_bits = job.params.raw_bits;
        let table = LevelTable::new(params, raw_bits);
        Levels { table, factors: Factors::new(job), step: params.step, raw_bits }
    }
}

impl Source for Levels {
    const RAW: bool = true;
    type Row = (Table, __m512);

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
    unsafe fn row(&self, row: usize) -> (Table, __m512) {
        (load_aligned(&self.table.levels), _mm512_set1_ps(self.factors.of_row(row)))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
    unsafe fn raw<L: Loop>(&self, part: &Part<L>, raw: &[u8], entry: __m512i) -> __m512i {
        let whole_bytes = usize::from(self.raw_bits / 8);
        let mut value = if whole_bytes > 0 { byte_plane(part, raw, 0) } else { _mm512_setzero_si512() };
        for bit in 0..self.raw_bits % 8 {
            let lanes = part.raw_bit(raw, whole_bytes, usize::from(bit));
            value = set_bit(value, lanes, 1 << (8 * whole_bytes as u16 + u16::from(bit)));
        }
        let symbols = _mm512_test_epi16_mask(entry, _mm512_set1_epi16(self.table.symbol_bits as i16));
        _mm512_maskz_mov_epi16(symbols, value)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
    unsafe fn values(&self, (levels, row): (Table, __m512), Symbols { entry, raw }: Symbols) -> [__m512; 2] {
        let mut level = _mm512_add_epi16(look_up(levels, entry), raw);
        if let Some(zero) = self.table.odd_zero {
            level = _mm512_add_epi16(level, raw);
            let symbol = _mm512_cmpeq_epi16_mask(entry, _mm512_set1_epi16(zero as i16));
            let zero = _mm512_mask_testn_epi16_mask(symbol, raw, raw);
            level = _mm512_mask_mov_epi16(level, zero, _mm512_setzero_si512());
        }
        let halves = [_mm512_castsi512_si256(level), _mm512_extracti64x4_epi64::<1>(level)];
        both!(|h| {
            let level = _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(halves[h]));
            _mm512_mul_ps(_mm512_mul_ps(level, _mm512_set1_ps(self.step)), row)
        })
    }
}

/// Rounds values to elements and writes them. Unsafe as [`Output`] is.
pub trait Round {
    const WIDTH: usize;
    unsafe fn put<L: Loop>(part: &Part<L>, values: [__m512; 2], out: &mut [u8]);
}

pub struct Bf16;
pub struct F16;
pub struct F32;

impl Round for Bf16 {
    const WIDTH: usize = 2;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
    unsafe fn put<L: Loop>(part: &Part<L>, values: [__m512; 2], out: &mut [u8]) {
        // To nearest, ties to even, in integers: the conversion of AVX512_BF16 would
        // flush subnormal numbers. There is no not-a-number among the values.
        let rounded = both!(|h| {
            let bits = _mm512_castps_si512(values[h]);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd)
        });
        let upper_halves = load_order(&UPPER_HALVES);
        store_16(out, part.mask(), _mm512_permutex2var_epi16(rounded[0], upper_halves, rounded[1]));
    }
}

static UPPER_HALVES: Aligned32 = {
    let mut order = [0; 32];
    let mut i = 0;
    while i < 32 {
        order[i] = 2 * i as u16 + 1;
        i += 1;
    }
    Aligned32(order)
};

impl Round for F16 {
    const WIDTH: usize = 2;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
    unsafe fn put<L: Loop>(part: &Part<L>, values: [__m512; 2], out: &mut [u8]) {
        let [low, high] = both!(|h| _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(values[h]));
        store_16(out, part.mask(), _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high));
    }
}

impl Round for F32 {
    const WIDTH: usize = 4;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
    unsafe fn put<L: Loop>(part: &Part<L>, values: [__m512; 2], out: &mut [u8]) {
        store_32(out, part.mask(), both!(|h| _mm512_castps_si512(values[h])));
    }
}

/// Values of a source, times column steps if there are any, rounded.
pub struct Values<S, R> {
    source: S,
    columns: Factors,
    round: PhantomData<R>,
}

impl<S: Source, R: Round> Values<S, R> {
    pub fn new(job: &Job<'_>, source: S) -> Values<S, R> {
        Values { source, columns: Factors::new(job), round: PhantomData }
    }
}

impl<S: Source, R: Round> Output for Values<S, R> {
    const WIDTH: usize = R::WIDTH;
    const RAW: bool = S::RAW;
    type Row = S::Row;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
    unsafe fn row(&self, row: usize) -> S::Row {
        // SAFETY: the caller's promise.
        unsafe { self.source.row(row) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
    unsafe fn raw<L: Loop>(&self, part: &Part<L>, raw: &[u8], entry: __m512i) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { self.source.raw(part, raw, entry) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
    unsafe fn put<L: Loop>(&self, row: S::Row, part: &Part<L>, _: &[u8], symbols: Symbols, out: &mut [u8]) {
        // SAFETY: the caller's promise.
        let mut values = unsafe { self.source.values(row, symbols) };
        if let Some(columns) = self.columns.of_columns(part.column, part.active()) {
            let factors = if let Some(columns) = columns.first_chunk::<32>() {
                // SAFETY: 32 numbers.
                unsafe { [_mm512_loadu_ps(columns.as_ptr()), _mm512_loadu_ps(columns.as_ptr().add(16))] }
            } else {
                let lanes = part.mask();
                let upper = columns.as_ptr().wrapping_add(16);
                // SAFETY: a number per lane of the mask, which keeps the loads to them.
                unsafe {
                    [
                        _mm512_maskz_loadu_ps(lanes as u16, columns.as_ptr()),
                        _mm512_maskz_loadu_ps((lanes >> 16) as u16, upper),
                    ]
                }
            };
            values = both!(|h| _mm512_mul_ps(values[h], factors[h]));
        }
        // SAFETY: the caller's promise.
        unsafe { R::put(part, values, out) }
    }
}
