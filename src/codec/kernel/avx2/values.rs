//! Elements that are calculated in f32: with column steps, and of levels with raw bits.
//!
//! The order of the multiplications is that of the format, so that every product is
//! rounded as the portable kernel rounds it.

use core::arch::x86_64::*;
use core::marker::PhantomData;

use super::super::Job;
use super::super::vector::{Factors, LevelTable, Loop, Part, RowTables, both, four};
use super::coder::Symbols;
use super::look_up::{Index, Table, bit_of_bytes, join_halves, look_up_words, opaque, packed, table, widen};
use super::run::Output;
use super::tables::{Table32, values};
use super::{byte_plane, store};
use crate::codec::params::PrimeSparse;

/// Values before column steps. Unsafe as [`Output`] is.
pub trait Source {
    const RAW: bool;
    type Row<'a>: Copy
    where
        Self: 'a;
    fn row(&self, row: usize) -> Self::Row<'_>;
    unsafe fn raw<L: Loop>(&self, part: &Part<L>, raw: &[u8], entry: Index) -> [__m256i; 2];
    unsafe fn values(&self, row: Self::Row<'_>, symbols: Symbols) -> [__m256; 4];
}

/// Values from a table.
pub struct Columns<'a>(RowTables<'a, Table32>);

impl<'a> Columns<'a> {
    /// # Safety
    /// The machine has the features of this kernel.
    #[target_feature(enable = "avx2,f16c,popcnt")]
    pub unsafe fn new(job: &Job<'a>, params: &PrimeSparse) -> Columns<'a> {
        // SAFETY: the caller's promise.
        Columns(unsafe { values(job, params) })
    }
}

impl Source for Columns<'_> {
    const RAW: bool = false;
    type Row<'r>
        = &'r Table32
    where
        Self: 'r;

    #[inline(always)]
    fn row(&self, row: usize) -> &Table32 {
        self.0.of_row(row)
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c,popcnt")]
    unsafe fn raw<L: Loop>(&self, _: &Part<L>, _: &[u8], _: Index) -> [__m256i; 2] {
        [_mm256_setzero_si256(); 2]
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c,popcnt")]
    unsafe fn values(&self, row: &Table32, symbols: Symbols) -> [__m256; 4] {
        let [low, high] = opaque(row);
        let bits = join_halves(look_up_words(low, symbols.entry), look_up_words(high, symbols.entry));
        four!(|i| _mm256_castsi256_ps(bits[i]))
    }
}

/// Levels from a table and raw bits, times the step, times the row's.
pub struct Levels {
    levels: Table,
    table: LevelTable,
    factors: Factors,
    step: f32,
    raw_bits: u8,
}

impl Levels {
    /// # Safety
    /// The machine has the features of this kernel.
    #[target_feature(enable = "avx2,f16c,popcnt")]
    pub unsafe fn new(job: &Job<'_>, params: &PrimeSparse) -> Levels {
        let raw_bits = job.params.raw_bits;
        let levels = LevelTable::new(params, raw_bits);
        Levels {
            levels: table(&levels.levels.0),
            table: levels,
            factors: Factors::new(job),
            step: params.step,
            raw_bits,
        }
    }
}

impl Source for Levels {
    const RAW: bool = true;
    type Row<'r> = f32;

    #[inline(always)]
    fn row(&self, row: usize) -> f32 {
        self.factors.of_row(row)
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c,popcnt")]
    unsafe fn raw<L: Loop>(&self, part: &Part<L>, raw: &[u8], entry: Index) -> [__m256i; 2] {
        let zero = _mm256_setzero_si256();
        let whole_bytes = usize::from(self.raw_bits / 8);
        let mut bits = zero;
        for bit in 0..self.raw_bits % 8 {
            let lanes = part.raw_bit(raw, whole_bytes, usize::from(bit));
            bits = _mm256_or_si256(bits, bit_of_bytes(lanes, 1 << bit));
        }
        let symbol = _mm256_and_si256(entry, _mm256_set1_epi8(self.table.symbol_bits as i8));
        let escape = _mm256_cmpeq_epi8(symbol, zero);
        let bits = _mm256_andnot_si256(escape, bits);
        match whole_bytes {
            0 => [bits, zero],
            _ => [_mm256_andnot_si256(escape, packed(byte_plane(part, raw, 0))), bits],
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c,popcnt")]
    unsafe fn values(&self, row: f32, Symbols { entry, raw }: Symbols) -> [__m256; 4] {
        let raw = widen(raw[0], raw[1]);
        let base = look_up_words(&self.levels, entry);
        let mut level = both!(|h| _mm256_add_epi16(base[h], raw[h]));
        if let Some(zero) = self.table.odd_zero {
            let symbol = _mm256_cmpeq_epi8(entry, _mm256_set1_epi8(zero as i8));
            let symbol = widen(symbol, symbol);
            level = both!(|h| {
                let zero = _mm256_and_si256(_mm256_cmpeq_epi16(raw[h], _mm256_setzero_si256()), symbol[h]);
                _mm256_andnot_si256(zero, _mm256_add_epi16(level[h], raw[h]))
            });
        }
        let (step, row) = (_mm256_set1_ps(self.step), _mm256_set1_ps(row));
        let upper = both!(|h| _mm256_extracti128_si256::<1>(level[h]));
        let lower = both!(|h| _mm256_castsi256_si128(level[h]));
        let parts = [lower[0], upper[0], lower[1], upper[1]];
        four!(|i| {
            let level = _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(parts[i]));
            _mm256_mul_ps(_mm256_mul_ps(level, step), row)
        })
    }
}

/// Rounds values to elements and writes them. Unsafe as [`Output`] is.
pub trait Round {
    const WIDTH: usize;
    unsafe fn put(values: [__m256; 4], out: &mut [u8]);
}

pub struct Bf16;
pub struct F16;
pub struct F32;

impl Round for Bf16 {
    const WIDTH: usize = 2;

    #[inline]
    #[target_feature(enable = "avx2,f16c,popcnt")]
    unsafe fn put(values: [__m256; 4], out: &mut [u8]) {
        // To nearest, ties to even, in integers. There is no not-a-number among the values.
        let [a, b, c, d] = four!(|i| {
            let bits = _mm256_castps_si256(values[i]);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
            _mm256_srli_epi32::<16>(rounded)
        });
        let join = |a, b| _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(a, b));
        store(out, [join(a, b), join(c, d)]);
    }
}

impl Round for F16 {
    const WIDTH: usize = 2;

    #[inline]
    #[target_feature(enable = "avx2,f16c,popcnt")]
    unsafe fn put(values: [__m256; 4], out: &mut [u8]) {
        let [a, b, c, d] = four!(|i| _mm256_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(values[i]));
        store(out, [_mm256_set_m128i(b, a), _mm256_set_m128i(d, c)]);
    }
}

impl Round for F32 {
    const WIDTH: usize = 4;

    #[inline]
    #[target_feature(enable = "avx2,f16c,popcnt")]
    unsafe fn put(values: [__m256; 4], out: &mut [u8]) {
        store(out, four!(|i| _mm256_castps_si256(values[i])));
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
    type Row<'r>
        = S::Row<'r>
    where
        Self: 'r;

    #[inline(always)]
    fn row(&self, row: usize) -> S::Row<'_> {
        self.source.row(row)
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c,popcnt")]
    unsafe fn raw<L: Loop>(&self, part: &Part<L>, raw: &[u8], entry: Index) -> [__m256i; 2] {
        // SAFETY: the caller's promise.
        unsafe { self.source.raw(part, raw, entry) }
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c,popcnt")]
    unsafe fn put<L: Loop>(&self, row: S::Row<'_>, part: &Part<L>, _: &[u8], symbols: Symbols, out: &mut [u8]) {
        // SAFETY: the caller's promise.
        let mut values = unsafe { self.source.values(row, symbols) };
        if let Some(columns) = self.columns.of_columns(part.column, part.active()) {
            let factors = match columns.first_chunk::<32>() {
                Some(columns) => load_factors(columns),
                None => load_few_factors(columns),
            };
            values = four!(|i| _mm256_mul_ps(values[i], factors[i]));
        }
        // SAFETY: the caller's promise.
        unsafe { R::put(values, out) }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_factors(factors: &[f32; 32]) -> [__m256; 4] {
    // SAFETY: 8 numbers from 8 i on, of 32.
    four!(|i| unsafe { _mm256_loadu_ps(factors.as_ptr().add(8 * i)) })
}

#[inline(never)]
#[target_feature(enable = "avx2")]
fn load_few_factors(factors: &[f32]) -> [__m256; 4] {
    let mut all = [1.0; 32];
    all[..factors.len()].copy_from_slice(factors);
    load_factors(&all)
}
