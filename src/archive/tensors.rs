//! The tensors of a model, by name.

use alloc::format;

use super::reader::{Archive, ArrayId, FileId};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::format::{Extent, ExtentKind, Model};

/// A tensor of an open archive.
#[derive(Clone, Copy)]
pub struct Tensor<'a> {
    archive: &'a Archive,
    file: FileId,
    extent: &'a Extent,
    dtype: Dtype,
}

impl Archive {
    /// The tensors of a model, in the order of its files, and of the data in each.
    pub fn tensors<'a>(&'a self, model: &'a Model) -> impl Iterator<Item = Tensor<'a>> {
        self.files(model).flat_map(move |(file, entry)| {
            let extents = self.extents(entry).iter().filter(|extent| extent.kind == ExtentKind::Tensor);
            extents.filter_map(move |extent| Some(Tensor { archive: self, file, extent, dtype: extent.dtype? }))
        })
    }

    /// The first tensor of that name in a model: a search, so whoever looks for many makes a map of
    /// [`Archive::tensors`].
    pub fn tensor<'a>(&'a self, model: &'a Model, name: &str) -> Option<Tensor<'a>> {
        self.tensors(model).find(|tensor| tensor.name() == name)
    }
}

impl<'a> Tensor<'a> {
    /// Any text: quote it before showing it.
    pub fn name(&self) -> &'a str {
        &self.extent.name
    }

    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Empty for a scalar.
    pub fn shape(&self) -> &'a [u64] {
        &self.extent.shape
    }

    /// Of all elements, little-endian and in row-major order.
    pub fn byte_len(&self) -> u64 {
        self.extent.length
    }

    /// What it is stored as; None if it has no elements.
    pub fn array(&self) -> Option<ArrayId> {
        self.extent.array.map(ArrayId)
    }

    /// The file that a mount shows it in, and where it begins there.
    pub fn place(&self) -> (FileId, u64) {
        (self.file, self.extent.offset)
    }

    /// Reads all of it; `out` has its length.
    pub fn read(&self, out: &mut [u8]) -> Result<()> {
        self.check(out)?;
        self.read_at(0, out)
    }

    /// Reads from byte `offset` of it on. Fails if the range leaves it.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(out.len() as u64).filter(|&end| end <= self.byte_len());
        if end.is_none() {
            let (len, name, all) = (out.len(), self.name(), self.byte_len());
            return Err(Error::Invalid(format!("{len} bytes at {offset} of tensor {name:?}, which has {all}")));
        }
        self.archive.read_at(self.file, self.extent.offset + offset, out)
    }

    /// Reads all of it on the threads of rayon's pool; `out` has its length.
    #[cfg(feature = "std")]
    pub fn read_parallel(&self, out: &mut [u8]) -> Result<()> {
        use rayon::prelude::*;

        self.check(out)?;
        let Some(array) = self.array() else { return Ok(()) };
        let block = self.archive.array(array).block_bytes() as usize;
        let blocks = out.par_chunks_mut(block).enumerate();
        blocks.try_for_each(|(i, out)| self.archive.decode_block(array, i as u32, out))
    }

    fn check(&self, out: &[u8]) -> Result<()> {
        if out.len() as u64 == self.byte_len() {
            return Ok(());
        }
        let (len, name, all) = (out.len(), self.name(), self.byte_len());
        Err(Error::Invalid(format!("a buffer of {len} bytes for tensor {name:?}, which has {all}")))
    }
}
