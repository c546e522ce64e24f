//! `upg catalog`: every tensor of a model and what its parts amount to, from headers alone.

mod kind;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::archive::Archive;
use crate::format::{Extent, ExtentKind, Model};
use crate::ops::names::layer_of;
use crate::shard::ShardTensor;
pub use kind::Kind;

#[derive(Debug, Serialize)]
pub struct Catalog {
    pub model: String,
    /// Elements of all tensors, as their element types count them: of MXFP4 in bytes, two weights
    /// are one.
    pub parameters: u64,
    /// Of the safetensors files.
    pub bytes: u64,
    /// Those that there are, in the order of [`Kind::ALL`].
    pub kinds: Vec<Total<Kind>>,
    /// Of each layer, in the order of their numbers.
    pub layers: Vec<Total<String>>,
    /// In the order of the files, and of the data in each.
    pub tensors: Vec<Tensor>,
}

/// What tensors amount to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Total<Part> {
    pub name: Part,
    pub tensors: u64,
    pub parameters: u64,
    /// Of data, without headers.
    pub bytes: u64,
}

#[derive(Debug, Serialize)]
pub struct Tensor {
    pub name: String,
    /// The shard, relative to the model.
    pub file: String,
    pub dtype: &'static str,
    pub shape: Vec<u64>,
    pub bytes: u64,
    pub parameters: u64,
    pub kind: Kind,
}

impl Tensor {
    fn of_shard(file: &str, tensor: &ShardTensor) -> Tensor {
        Tensor {
            name: tensor.name.clone(),
            file: file.to_owned(),
            dtype: tensor.dtype.name(),
            shape: tensor.shape.clone(),
            bytes: tensor.length,
            parameters: tensor.elements(),
            kind: Kind::of(&tensor.name),
        }
    }

    fn of_archive(file: &str, extent: &Extent) -> Option<Tensor> {
        Some(Tensor {
            name: extent.name.clone(),
            file: file.to_owned(),
            dtype: extent.dtype?.name(),
            shape: extent.shape.clone(),
            bytes: extent.length,
            parameters: extent.elements(),
            kind: Kind::of(&extent.name),
        })
    }
}

impl Catalog {
    /// Of a source with the tensors of its shards, each with its file.
    pub fn of_shards<'a>(
        model: &str,
        bytes: u64,
        tensors: impl Iterator<Item = (&'a str, &'a ShardTensor)>,
    ) -> Catalog {
        Catalog::new(model, bytes, tensors.map(|(file, tensor)| Tensor::of_shard(file, tensor)).collect())
    }

    /// Of a model in an archive: what its source had.
    pub fn of_archive(archive: &Archive, model: &Model) -> Catalog {
        let (mut bytes, mut tensors) = (0u64, Vec::new());
        for (_, file) in archive.files(model) {
            let extents = archive.extents(file);
            if extents.first().is_some_and(|extent| extent.kind == ExtentKind::Header) {
                bytes = bytes.saturating_add(file.size);
                tensors.extend(extents.iter().filter_map(|extent| Tensor::of_archive(&file.path, extent)));
            }
        }
        Catalog::new(&model.name, bytes, tensors)
    }

    fn new(model: &str, bytes: u64, tensors: Vec<Tensor>) -> Catalog {
        let mut kinds = BTreeMap::<Kind, Total<Kind>>::new();
        let mut layers = BTreeMap::<(&str, u64), Total<String>>::new();
        for tensor in &tensors {
            kinds.entry(tensor.kind).or_insert_with(|| Total::none(tensor.kind)).add(tensor);
            if let Some(layer) = layer_of(&tensor.name) {
                let (stack, number) = layer.rsplit_once('.').unwrap_or_default();
                let key = (stack, number.parse().unwrap_or(u64::MAX));
                layers.entry(key).or_insert_with(|| Total::none(layer.to_owned())).add(tensor);
            }
        }
        Catalog {
            model: model.to_owned(),
            parameters: tensors.iter().map(|tensor| tensor.parameters).fold(0, u64::saturating_add),
            bytes,
            kinds: kinds.into_values().collect(),
            layers: layers.into_values().collect(),
            tensors,
        }
    }
}

impl<Part> Total<Part> {
    fn none(name: Part) -> Total<Part> {
        Total { name, tensors: 0, parameters: 0, bytes: 0 }
    }

    fn add(&mut self, tensor: &Tensor) {
        self.tensors += 1;
        self.parameters = self.parameters.saturating_add(tensor.parameters);
        self.bytes = self.bytes.saturating_add(tensor.bytes);
    }
}
