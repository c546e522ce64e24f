//! Elements that come from a table, one for each row step.

use super::super::Job;
use super::super::vector::{Aligned, Loop, Part, RowTables, halves};
use super::coder::{Output, Symbols};
use super::{Table, join_halves, load_aligned, look_up, store_16, store_32};
use crate::codec::params::PrimeSparse;
use crate::dtype::Dtype;

/// Elements of 2 bytes.
pub struct Table16<'a>(RowTables<'a, Aligned>);

impl<'a> Table16<'a> {
    pub fn new(job: &Job<'a>, params: &PrimeSparse) -> Table16<'a> {
        Table16(RowTables::new(job, params, job.params.dtype, |table| halves(table)[0]))
    }
}

impl Output for Table16<'_> {
    const WIDTH: usize = 2;
    const RAW: bool = false;
    type Row = Table;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
    unsafe fn row(&self, row: usize) -> Table {
        load_aligned(self.0.of_row(row))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,popcnt")]
    unsafe fn put<L: Loop>(&self, row: Table, part: &Part<L>, _: &[u8], symbols: Symbols, out: &mut [u8]) {
        store_16(out, part.mask(), look_up(row, symbols.entry));
    }
}

/// Elements of 4 bytes.
pub struct Table32<'a>(RowTables<'a, [Aligned; 2]>);

impl<'a> Table32<'a> {
    pub fn new(job: &Job<'a>, params: &PrimeSparse) -> Table32<'a> {
        Table32(RowTables::new(job, params, Dtype::F32, halves))
    }
}

impl Output for Table32<'_> {
    const WIDTH: usize = 4;
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
    unsafe fn put<L: Loop>(&self, row: [Table; 2], part: &Part<L>, _: &[u8], symbols: Symbols, out: &mut [u8]) {
        let [low, high] = row;
        store_32(out, part.mask(), join_halves(look_up(low, symbols.entry), look_up(high, symbols.entry)));
    }
}
