//! Tensors as differences to those of another model: what training on changed, coded losslessly.
//!
//! The difference is the exclusive or of the bits. Where training moved a weight a little, or not
//! enough to change its rounded value, its upper bits are zero; they are the field that is
//! entropy-coded ([`lossless::choose_for_differences`](crate::codec::lossless)).

use std::collections::HashMap;

use rayon::prelude::*;

use super::blocks::{Copier, Place};
use crate::archive::{Archive, ArchiveWriter, ArrayId};
use crate::buffer;
use crate::codec::histogram::Histogram;
use crate::codec::isa::Isa;
use crate::error::{Error, Result};
use crate::format::{ArrayInfo, BlockMode, Codec, Model};
use crate::ops::convert::{Coding, Encoded, PatternTable, Plan, encode};

/// A difference must take less than this part of what the tensor itself does: reading it decodes
/// twice as much.
const WORTH: f64 = 0.9;
/// Blocks that are coded at a time, and kept until they are written.
const BATCH: usize = 32;

/// The model that others are stored as differences to.
pub struct Base<'a> {
    archive: usize,
    /// In the order of the files.
    arrays: Vec<u32>,
    by_name: HashMap<&'a str, u32>,
}

impl<'a> Base<'a> {
    /// `archive`: which of the archives the model is in.
    pub fn new(archives: &'a [Archive], archive: usize, model: &'a Model) -> Base<'a> {
        let of = &archives[archive];
        let mut base = Base { archive, arrays: Vec::new(), by_name: HashMap::new() };
        for tensor in of.tensors(model) {
            // What is a difference itself stands for what it is from: that is whole, and much like it.
            let Some(array) = tensor.array() else { continue };
            let array = of.array(array).base.unwrap_or(array.0);
            base.arrays.push(array);
            base.by_name.entry(tensor.name()).or_insert(array);
        }
        base
    }

    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.arrays.iter().map(|&array| Place { archive: self.archive, array })
    }

    pub fn tensor(&self, name: &str) -> Option<Place> {
        self.by_name.get(name).map(|&array| Place { archive: self.archive, array })
    }
}

/// Writes an array as its difference from another, which is in the new archive as array `base`.
/// None if that cannot be done, or does not pay.
pub fn write(
    copier: &Copier,
    writer: &mut ArchiveWriter,
    tensor: Place,
    from: Place,
    base: u32,
) -> Result<Option<u32>> {
    let (array, other) = (copier.info(tensor), copier.info(from));
    let of = |array: &ArrayInfo| (array.elements, array.block_elems, array.dtype);
    let exact = |array: &ArrayInfo| array.codec.prime_sparse().is_none() && array.base.is_none();
    if !exact(array) || !exact(other) || of(array) != of(other) {
        return Ok(None);
    }
    let blocks = 0..array.block_count();
    let histogram = blocks.clone().into_par_iter().try_fold(
        || Histogram::new(array.dtype),
        |mut histogram, block| {
            histogram.add(&difference(copier, tensor, from, block)?);
            Ok::<_, Error>(histogram)
        },
    );
    let histogram = histogram.try_reduce(|| Histogram::new(array.dtype), |a, b| Ok(a.merge(&b)))?;
    let most = WORTH * copier.archive(tensor.archive).index().stored_bytes(tensor.array) as f64;
    let plan = Plan::difference(array.dtype, &histogram);
    let plan = plan.filter(|plan| plan.block_elems == array.block_elems && plan.estimated_bytes() < most);
    let Some(plan) = plan else { return Ok(None) };
    let Coding::Lossless(exact) = &plan.coding else { return Ok(None) };
    let patterns = PatternTable::new(&plan);
    let mut first = None;
    for start in blocks.clone().step_by(BATCH) {
        let batch = start..blocks.end.min(start + BATCH as u32);
        let coded: Vec<Encoded> = batch
            .into_par_iter()
            .map(|block| {
                let bytes = difference(copier, tensor, from, block)?;
                encode(Isa::chosen(), &plan, &patterns, u64::from(block), &bytes)
            })
            .collect::<Result<_>>()?;
        for block in &coded {
            let record = writer.add_block(block.mode, &block.stored)?;
            first.get_or_insert(record);
        }
    }
    let side = writer.add_block(BlockMode::Coded, &exact.side)?;
    Ok(Some(writer.add_array(&ArrayInfo {
        row_len: plan.row_len,
        first_block: first.unwrap_or(0),
        codec: Codec::Symbols(exact.params),
        side_block: Some(side),
        base: Some(base),
        ..array.clone()
    })))
}

fn difference(copier: &Copier, tensor: Place, from: Place, block: u32) -> Result<Vec<u8>> {
    copier.check_cancelled()?;
    let decoded = |place: Place| {
        let mut bytes = buffer::of(copier.info(place).bytes_of_block(block) as usize)?;
        copier.archive(place.archive).decode_block(ArrayId(place.array), block, &mut bytes)?;
        Ok::<_, Error>(bytes)
    };
    let (mut bytes, other) = (decoded(tensor)?, decoded(from)?);
    bytes.iter_mut().zip(&other).for_each(|(byte, other)| *byte ^= other);
    Ok(bytes)
}
