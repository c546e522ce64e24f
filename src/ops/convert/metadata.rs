//! What a model says of its conversion (`docs/format.md`, 4.3), and converting another like it.
//!
//! What a tensor becomes depends on its elements, on the options, and on the rate that it was given,
//! which depends on the tensors before it. Converted with the rates of an earlier model, tensors that
//! both have alike come out alike, and merging stores them once.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::part::PartNote;
use super::{Columns, GridChoice, Options, Target};
use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::format::{ExtentKind, Model};
use crate::hub::Snapshot;

/// Rates are multiples of this, so that they are short as text and the same when read again.
const RATES_PER_BIT: f64 = 1e4;
/// Rates that a file may tell of.
const POSSIBLE: std::ops::RangeInclusive<f64> = 0.5..=16.0;

#[derive(Clone, Serialize, Deserialize)]
struct Metadata {
    generator: String,
    /// Repository and revision, if they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Snapshot>,
    /// If it is not all of a model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    part: Option<PartNote>,
    options: Recorded,
}

#[derive(Clone, Serialize, Deserialize)]
struct Recorded {
    /// Per weight, of the matrices together; null if all is lossless.
    bits: Option<f64>,
    lossless: bool,
    grid: String,
    states: u32,
    flat: bool,
    /// Whether tensors were named that were to be kept exactly.
    keep: bool,
    columns: String,
    lossy_fp8: bool,
    /// Of each tensor in the order of the files, what it was given per weight, tables and index
    /// included; null if it was not to be stored lossily. Empty if all is lossless.
    tensor_bits: Vec<Option<f64>>,
}

/// The rate to ask for in place of one that was calculated.
pub fn rounded(bits: f64) -> f64 {
    (bits * RATES_PER_BIT).floor() / RATES_PER_BIT
}

/// The metadata of a model that was converted so; `bits` and `tensor_bits` as there.
pub fn write(
    options: &Options,
    source: Option<Snapshot>,
    part: Option<PartNote>,
    bits: Option<f64>,
    tensor_bits: Vec<Option<f64>>,
) -> Result<String> {
    let recorded = Recorded {
        bits,
        lossless: bits.is_none(),
        grid: options.grid.name().to_owned(),
        states: 1 << options.log2_states,
        flat: options.flat,
        keep: !options.keep.is_empty(),
        columns: options.columns.name().to_owned(),
        lossy_fp8: options.lossy_fp8,
        tensor_bits: if bits.is_some() { tensor_bits } else { Vec::new() },
    };
    let generator = concat!("upg ", env!("CARGO_PKG_VERSION")).to_owned();
    let metadata = Metadata { generator, source, part, options: recorded };
    serde_json::to_string(&metadata).map_err(|e| Error::Invalid(format!("metadata: {e}")))
}

/// The metadata of the model that these are the parts of, each an archive with the model in it, in the
/// order of their numbers.
pub fn join(parts: &[(&Archive, &Model)]) -> Result<String> {
    let mut joined: Option<Metadata> = None;
    let mut rates: Vec<(&str, Vec<Option<f64>>)> = Vec::new();
    for &(archive, model) in parts {
        let damaged =
            || Error::Invalid(format!("{}: a part whose metadata is damaged: convert it again", archive.name()));
        let metadata: Metadata = serde_json::from_str(&model.metadata).map_err(|_| damaged())?;
        let mut tensor_bits = metadata.options.tensor_bits.iter();
        for (_, file) in archive.files(model) {
            let tensors = archive.extents(file).iter().filter(|extent| extent.kind == ExtentKind::Tensor).count();
            let of_file: Vec<_> = tensor_bits.by_ref().take(tensors).copied().collect();
            if !metadata.options.lossless && of_file.len() < tensors {
                return Err(damaged());
            }
            rates.push((file.path.as_str(), of_file));
        }
        let first = joined.get_or_insert_with(|| Metadata { part: None, ..metadata.clone() });
        if first.generator != metadata.generator {
            let (one, other) = (&first.generator, &metadata.generator);
            let what = "parts of one model must be converted by one version";
            return Err(Error::Invalid(format!("{}: converted by {other}, others by {one}: {what}", archive.name())));
        }
    }
    // As one conversion would have met them.
    rates.sort_by_key(|&(path, _)| path);
    let Some(mut joined) = joined else { return Err(Error::Invalid("no parts to join".into())) };
    joined.options.tensor_bits = rates.into_iter().flat_map(|(_, bits)| bits).collect();
    serde_json::to_string(&joined).map_err(|e| Error::Invalid(format!("metadata: {e}")))
}

/// The rates of another model's tensors.
#[derive(Debug, Clone)]
pub struct Like {
    bits: f64,
    tensors: HashMap<String, Option<f64>>,
}

impl Like {
    /// What the matrices of the other model got together.
    pub fn bits(&self) -> f64 {
        self.bits
    }

    /// Whether the other model has a tensor of this name that was not to be stored lossily.
    pub fn keeps(&self, name: &str) -> bool {
        self.tensors.get(name) == Some(&None)
    }

    /// What a tensor gets: what its namesake got, or else what all got together.
    pub fn bits_of(&self, name: &str) -> f64 {
        self.tensors.get(name).copied().flatten().unwrap_or(self.bits)
    }
}

impl Options {
    /// These options, but for those that decide what a tensor becomes: these are as they were when
    /// `model` was converted, which is one of the models in `archive`.
    pub fn like(self, archive: &Archive, model: &Model) -> Result<Options> {
        let unusable = |what: &str| Error::Invalid(format!("{}: model {:?} {what}", archive.name(), model.name));
        let unknown = |_| unusable("does not say how it was converted: convert it again, with this version of upg");
        let metadata = serde_json::from_str::<Metadata>(&model.metadata).map_err(unknown)?;
        if metadata.part.is_some() {
            return Err(unusable("is a part of one: join it with the others first (upg merge)"));
        }
        let recorded = metadata.options;
        let Some(bits) = recorded.bits.filter(|bits| !recorded.lossless && POSSIBLE.contains(bits)) else {
            return Err(unusable("is lossless: what is the same in a model with --lossless is stored once as it is"));
        };
        let damaged = || unusable("does not say how it was converted: its metadata is damaged");
        let names: Vec<&str> = archive.tensors(model).map(|tensor| tensor.name()).collect();
        let possible = |bits: &f64| POSSIBLE.contains(bits);
        if names.len() != recorded.tensor_bits.len() || !recorded.tensor_bits.iter().flatten().all(possible) {
            return Err(damaged());
        }
        let log2_states = recorded.states.trailing_zeros() as u8;
        if recorded.states != 1 << log2_states.min(8) || log2_states == 1 {
            return Err(damaged());
        }
        Ok(Options {
            target: Target::Bits(bits.clamp(*super::BITS.start(), *super::BITS.end())),
            grid: GridChoice::from_name(&recorded.grid).ok_or_else(damaged)?,
            log2_states,
            flat: recorded.flat,
            columns: Columns::from_name(&recorded.columns).ok_or_else(damaged)?,
            lossy_fp8: recorded.lossy_fp8,
            like: Some(Like {
                bits,
                tensors: names.into_iter().map(str::to_owned).zip(recorded.tensor_bits).collect(),
            }),
            ..self
        })
    }
}
