//! Prime-sparse with a trellis: coding the blocks of a matrix.

use std::cell::RefCell;

use crate::codec::encode::{Symbols, encode_block_on};
use crate::codec::entropy::encode::EncodeTable;
use crate::codec::float;
use crate::codec::isa::Isa;
use crate::codec::layout::BlockShape;
use crate::codec::params::SymbolParams;
use crate::codec::raw::Raw;
use crate::codec::side::Side;
use crate::codec::trellis::{Choice, Metrics, Scratch, Search, Source};
use crate::dtype::Dtype;
use crate::error::{Error, Result};

/// All that encoding needs.
pub struct TrellisPlan {
    pub params: SymbolParams,
    pub side: Vec<u8>,
    pub grid_cost_db: Option<f64>,
    pub metrics: Metrics,
    pub tables: Vec<EncodeTable>,
    pub parsed: Side,
    pub row_steps: Vec<u8>,
    /// 1 over what the steps stand for.
    pub row_scales: Vec<f32>,
    pub row_classes: Vec<u8>,
    pub column_scales: Vec<f32>,
}

#[derive(Default)]
struct Work {
    values: Vec<f32>,
    scratch: Scratch,
    choice: Choice,
    escaped: Vec<u8>,
}

thread_local! {
    static WORK: RefCell<Work> = RefCell::default();
}

impl TrellisPlan {
    /// Codes the block that begins with this element.
    pub fn encode(&self, isa: Isa, row_len: u64, first: u64, bytes: &[u8]) -> Result<Vec<u8>> {
        WORK.with_borrow_mut(|work| self.encode_with(isa, work, row_len as usize, (first / row_len) as usize, bytes))
    }

    fn encode_with(
        &self,
        isa: Isa,
        work: &mut Work,
        row_len: usize,
        first_row: usize,
        bytes: &[u8],
    ) -> Result<Vec<u8>> {
        let dtype = self.params.dtype;
        let width = dtype.width_in_array();
        let shape = BlockShape { elements: bytes.len() / width, row_len, lanes: self.params.lanes };
        let last_row = first_row + shape.rows();
        let source = if dtype == Dtype::BF16 {
            Source::Bf16(bytes)
        } else {
            work.values.clear();
            float::extend_values(dtype, bytes, &mut work.values);
            Source::F32(&work.values)
        };
        let search = Search {
            shape,
            source,
            metrics: &self.metrics,
            row_scales: of_rows(&self.row_scales, first_row, last_row),
            column_scales: &self.column_scales,
            row_classes: of_rows(&self.row_classes, first_row, last_row),
        };
        search.run(isa, &mut work.scratch, &mut work.choice);
        work.escaped.clear();
        for &at in &work.choice.escapes {
            work.escaped.extend_from_slice(&bytes[at as usize * width..][..width]);
        }
        let symbols = Symbols {
            symbols: &work.choice.entries,
            escape_positions: &work.choice.escapes,
            escape_values: &work.escaped,
            row_steps: of_rows(&self.row_steps, first_row, last_row),
            row_classes: of_rows(&self.row_classes, first_row, last_row),
        };
        let raw = if self.params.raw_bits > 0 { Raw::U16(&work.choice.raw) } else { Raw::None };
        encode_block_on(isa, &self.params, &shape, &self.tables, &symbols, raw)
            .map_err(|defect| Error::Invalid(format!("a block cannot be coded: {}", defect.0)))
    }
}

/// The part of a list that has an item per row, or nothing of an empty one.
fn of_rows<T>(all: &[T], first: usize, last: usize) -> &[T] {
    if all.is_empty() { all } else { &all[first..last] }
}
