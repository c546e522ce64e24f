//! The payload of a block: its parts, found and checked (`docs/format.md`, 7.3).

use crate::codec::layout::BlockShape;
use crate::codec::params::SymbolParams;
use crate::error::Defect;

/// The parts of a payload, each of the length that the parameters demand.
#[derive(Debug, Clone, Copy)]
pub struct Payload<'a> {
    /// A step byte per row, or none.
    pub row_steps: &'a [u8],
    /// A table class per row, each below the number of classes, or none.
    pub row_classes: &'a [u8],
    pub raw: &'a [u8],
    /// 4 bytes each, ascending, below the number of elements.
    pub escape_positions: &'a [u8],
    pub escape_values: &'a [u8],
    /// 2 bytes per lane: upper halves of the states.
    pub states_high: &'a [u8],
    pub states_low: &'a [u8],
    /// 2 bytes each.
    pub words: &'a [u8],
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Defect> {
        let (head, tail) = self.0.split_at_checked(len).ok_or(Defect("block is shorter than its parts"))?;
        self.0 = tail;
        Ok(head)
    }
}

impl<'a> Payload<'a> {
    pub fn parse(params: &SymbolParams, shape: &BlockShape, bytes: &'a [u8]) -> Result<Payload<'a>, Defect> {
        // Such a dtype is refused when the parameters are validated.
        let width = params.dtype.width().ok_or(Defect("coded elements must be whole bytes"))?;
        let mut cursor = Cursor(bytes);
        let escapes = u32_at(cursor.take(4)?, 0) as usize;
        if escapes > shape.elements {
            return Err(Defect("more escapes than elements"));
        }
        let rows = |wanted: bool| if wanted { shape.rows() } else { 0 };
        let payload = Payload {
            row_steps: cursor.take(rows(params.row_steps()))?,
            row_classes: cursor.take(rows(params.row_classes))?,
            raw: cursor.take(shape.raw_bytes(params.raw_bits))?,
            escape_positions: cursor.take(4 * escapes)?,
            escape_values: cursor.take(width * escapes)?,
            states_high: cursor.take(2 * shape.lanes)?,
            states_low: cursor.take(2 * shape.lanes)?,
            words: cursor.0,
        };
        if payload.row_classes.iter().any(|&class| class >= params.classes) {
            return Err(Defect("row class out of range"));
        }
        if !payload.words.len().is_multiple_of(2) {
            return Err(Defect("half a word at the end of a block"));
        }
        if payload.states_high.chunks_exact(2).any(|half| half == [0, 0]) {
            return Err(Defect("state of a lane out of range"));
        }
        payload.check_positions(shape)?;
        Ok(payload)
    }

    fn check_positions(&self, shape: &BlockShape) -> Result<(), Defect> {
        let mut least = 0;
        for i in 0..self.escape_positions.len() / 4 {
            let position = u32_at(self.escape_positions, i);
            if position < least || position as usize >= shape.elements {
                return Err(Defect("escapes out of order"));
            }
            least = position + 1;
        }
        Ok(())
    }

    pub fn state(&self, lane: usize) -> u32 {
        let half = |bytes: &[u8]| u32::from(u16::from_le_bytes([bytes[2 * lane], bytes[2 * lane + 1]]));
        half(self.states_high) << 16 | half(self.states_low)
    }

    /// Overwrites the escaped elements with their exact bytes.
    pub fn patch_escapes(&self, width: usize, out: &mut [u8]) {
        for (i, value) in self.escape_values.chunks_exact(width).enumerate() {
            let at = width * u32_at(self.escape_positions, i) as usize;
            out[at..at + width].copy_from_slice(value);
        }
    }
}

fn u32_at(bytes: &[u8], i: usize) -> u32 {
    u32::from_le_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]])
}
