//! A directory with a model, as every program with candle loads one: its safetensors files mapped.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device};
use candle_nn::VarBuilder;

/// tokenizer.json, config.json and the weights of a model.
pub fn model(directory: &Path) -> Result<(Vec<u8>, Vec<u8>, VarBuilder<'static>)> {
    let read = |name| fs::read(directory.join(name)).with_context(|| format!("{name} of {directory:?}"));
    let entries = fs::read_dir(directory)?.map(|entry| Ok(entry?.path()));
    let mut shards: Vec<PathBuf> = entries.collect::<Result<_>>()?;
    shards.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    ensure!(!shards.is_empty(), "{directory:?} holds no .safetensors file: is it a model, and is it mounted?");
    // SAFETY: candle asks that nobody changes the files while they are mapped. A mount is read-only.
    let variables = unsafe { VarBuilder::from_mmaped_safetensors(&shards, DType::F32, &Device::Cpu)? };
    Ok((read("tokenizer.json")?, read("config.json")?, variables))
}
