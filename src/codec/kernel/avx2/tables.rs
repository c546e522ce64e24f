//! Elements that come from a table, one for each row step.

use super::super::Job;
use super::super::vector::{Loop, Part, RowTables, halves};
use super::coder::Symbols;
use super::look_up::{Table, join_halves, look_up_words, opaque, table};
use super::run::Output;
use super::store;
use crate::codec::params::PrimeSparse;
use crate::dtype::Dtype;

/// Elements of 2 bytes.
pub struct Table16<'a>(RowTables<'a, Table>);

impl<'a> Table16<'a> {
    /// # Safety
    /// The machine has the features of this kernel.
    #[target_feature(enable = "avx2,f16c,popcnt")]
    pub unsafe fn new(job: &Job<'a>, params: &PrimeSparse) -> Table16<'a> {
        Table16(RowTables::new(job, params, job.params.dtype, |elements| table(&halves(elements)[0].0)))
    }
}

impl Output for Table16<'_> {
    const WIDTH: usize = 2;
    const RAW: bool = false;
    type Row<'r>
        = &'r Table
    where
        Self: 'r;

    #[inline(always)]
    fn row(&self, row: usize) -> &Table {
        self.0.of_row(row)
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c,popcnt")]
    unsafe fn put<L: Loop>(&self, row: &Table, _: &Part<L>, _: &[u8], symbols: Symbols, out: &mut [u8]) {
        store(out, look_up_words(opaque(row), symbols.entry));
    }
}

/// Values of 32 bits: lower and upper halves.
pub type Table32 = [Table; 2];

/// Tables of values as f32.
///
/// # Safety
/// The machine has the features of this kernel.
#[target_feature(enable = "avx2,f16c,popcnt")]
pub unsafe fn values<'a>(job: &Job<'a>, params: &PrimeSparse) -> RowTables<'a, Table32> {
    RowTables::new(job, params, Dtype::F32, |elements| halves(elements).map(|half| table(&half.0)))
}

/// Elements of 4 bytes.
pub struct Elements32<'a>(RowTables<'a, Table32>);

impl<'a> Elements32<'a> {
    /// # Safety
    /// The machine has the features of this kernel.
    #[target_feature(enable = "avx2,f16c,popcnt")]
    pub unsafe fn new(job: &Job<'a>, params: &PrimeSparse) -> Elements32<'a> {
        // SAFETY: the caller's promise.
        Elements32(unsafe { values(job, params) })
    }
}

impl Output for Elements32<'_> {
    const WIDTH: usize = 4;
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
    unsafe fn put<L: Loop>(&self, row: &Table32, _: &Part<L>, _: &[u8], symbols: Symbols, out: &mut [u8]) {
        let [low, high] = opaque(row);
        store(out, join_halves(look_up_words(low, symbols.entry), look_up_words(high, symbols.entry)));
    }
}
