//! Coded blocks in memory, ready to be decoded again and again.

use std::ops::Range;

use super::timing::Pieces;
use super::{Direction, Speed, Speeds};
use crate::archive::{Archive, ArrayId};
use crate::codec::decode_block_on;
use crate::codec::isa::Isa;
use crate::codec::params::SymbolParams;
use crate::codec::side::Side;
use crate::error::{Error, Result};

/// Bytes that a thread decodes in a turn.
const TURN: usize = 4 << 20;

/// What blocks of one array share.
struct Shared {
    params: SymbolParams,
    side: Side,
    row_len: usize,
    width: usize,
}

/// A block, and where the bytes that it decodes to lie among all of them.
struct Block {
    shared: usize,
    stored: Vec<u8>,
    range: Range<usize>,
}

/// Blocks with all that they decode to.
#[derive(Default)]
pub struct Blocks {
    shared: Vec<Shared>,
    blocks: Vec<Block>,
    pub decoded: Vec<u8>,
}

impl Blocks {
    /// Adds those of these blocks of an array that a codec of ours coded, and decodes them
    /// with every instruction set, which must agree.
    pub fn add(&mut self, archive: &Archive, id: ArrayId, blocks: impl Iterator<Item = u32>) -> Result<()> {
        let array = archive.array(id);
        let Some(&params) = array.codec.symbols() else { return Ok(()) };
        let mut known = None;
        for block in blocks {
            let Some((stored, side)) = archive.coded_block(id, block)? else { continue };
            let shared = *known.get_or_insert_with(|| {
                let row_len = array.row_len as usize;
                self.shared.push(Shared { params, side: side.into_owned(), row_len, width: array.width() as usize });
                self.shared.len() - 1
            });
            let range = self.decoded.len()..self.decoded.len() + array.bytes_of_block(block) as usize;
            self.decoded.resize(range.end, 0);
            let mut again = vec![0; range.len()];
            for (i, isa) in Isa::available().into_iter().enumerate() {
                let out = if i == 0 { &mut self.decoded[range.clone()] } else { &mut again[..] };
                self.shared[shared].decode(isa, &stored, out)?;
                if i > 0 && again != self.decoded[range.clone()] {
                    let what = format!("block {block} of array {} decodes differently with {}", id.0, isa.name());
                    return Err(Error::Invalid(what));
                }
            }
            self.blocks.push(Block { shared, stored, range });
        }
        Ok(())
    }

    /// Repeats the blocks, each time with bytes of its own, to so many decoded bytes.
    pub fn repeat(&mut self, bytes: u64) {
        let once = self.blocks.len();
        let mut next = 0;
        while once > 0 && (self.decoded.len() as u64) < bytes {
            let (Block { shared, stored, range }, end) = (&self.blocks[next], self.decoded.len());
            let block = Block { shared: *shared, stored: stored.clone(), range: end..end + range.len() };
            let range = range.clone();
            self.decoded.extend_from_within(range);
            self.blocks.push(block);
            next += 1;
        }
    }

    /// Stored bytes of block number `i` of those that were added.
    pub fn stored(&self, i: usize) -> Option<&[u8]> {
        self.blocks.get(i).map(|block| &block.stored[..])
    }

    pub fn ranges(&self) -> Vec<Range<usize>> {
        self.blocks.iter().map(|block| block.range.clone()).collect()
    }

    /// How fast they decode.
    pub fn measure(&self, speeds: &Speeds<'_>) -> Result<Vec<Speed>> {
        let Some(first) = self.shared.first() else { return Ok(Vec::new()) };
        let pieces = Pieces { bytes: &self.decoded, ranges: self.ranges(), turn_bytes: TURN };
        speeds.measure(Direction::Decode, &pieces, first.width, |isa, i, out| {
            let block = &self.blocks[i];
            self.shared[block.shared].decode(isa, &block.stored, out)
        })
    }
}

impl Shared {
    fn decode(&self, isa: Isa, stored: &[u8], out: &mut [u8]) -> Result<()> {
        let decoded = decode_block_on(isa, &self.params, &self.side, self.row_len, stored, out);
        decoded.map_err(|defect| Error::Invalid(format!("a block does not decode with {}: {}", isa.name(), defect.0)))
    }
}
