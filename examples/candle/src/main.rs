//! Generates text with candle, all of it from one .upg file: nothing is mounted or unpacked.
//!
//!     cargo run --release --manifest-path examples/candle/Cargo.toml -- FILE PROMPT [TOKENS]
//!
//! FILE holds a model of the Phi-3 family (phi-4 is one). candle runs it on the processor in F32, and
//! takes the likeliest token each time: at most TOKENS (64). The text goes to standard output.
//!
//! FILE may also be a directory with safetensors files, plain or mounted, which candle maps by itself.

mod mapped;
mod weights;

use std::cell::OnceCell;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use candle_core::{D, DType, Device, IndexOp, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::phi3;
use serde_json::Value;
use tokenizers::Tokenizer;
use upg::archive::Archive;
use upg::format::Model;

use crate::weights::Weights;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (file, prompt, tokens) = match &arguments[..] {
        [file, prompt] => (file, prompt, 64),
        [file, prompt, tokens] => (file, prompt, tokens.parse().context("TOKENS is a number")?),
        _ => bail!("usage: upg-candle FILE PROMPT [TOKENS]"),
    };
    let (path, archive) = (Path::new(file), OnceCell::new());
    let (tokenizer, config, variables) = if path.is_dir() { mapped::model(path)? } else { stored(path, &archive)? };
    let tokenizer = Tokenizer::from_bytes(tokenizer).map_err(|e| anyhow!(e))?;
    let config = self::config(&config)?;
    let mut phi = phi3::Model::new(&config, variables)?;

    let prompt = tokenizer.encode(prompt.as_str(), true).map_err(|e| anyhow!(e))?;
    let said = generate(&mut phi, prompt.get_ids(), tokens, config.eos_token_id)?;
    let text = tokenizer.decode(&said, true).map_err(|e| anyhow!(e))?;
    Ok(writeln!(std::io::stdout(), "{}", printable(&text))?)
}

/// tokenizer.json, config.json and the weights of the first model in a .upg file.
fn stored<'a>(file: &Path, archive: &'a OnceCell<Archive>) -> Result<(Vec<u8>, Vec<u8>, VarBuilder<'a>)> {
    let opened = Archive::open(file)?;
    let archive = archive.get_or_init(|| opened);
    let model = archive.models().first().context("the file holds no model")?;
    let weights = Box::new(Weights::new(archive, model));
    let variables = VarBuilder::from_backend(weights, DType::F32, Device::Cpu);
    Ok((file_of(archive, model, "tokenizer.json")?, file_of(archive, model, "config.json")?, variables))
}

/// A file of the model, as a mount would show it.
fn file_of(archive: &Archive, model: &Model, path: &str) -> Result<Vec<u8>> {
    let found = archive.files(model).find(|(_, file)| file.path == path);
    let (id, file) = found.with_context(|| format!("the model has no {path}"))?;
    let mut bytes = vec![0; file.size as usize];
    archive.read_at(id, 0, &mut bytes)?;
    Ok(bytes)
}

/// transformers 5 writes the base of the rotary embedding where candle does not look for it.
fn config(json: &[u8]) -> Result<phi3::Config> {
    let mut config: Value = serde_json::from_slice(json)?;
    if let Some(base) = config.pointer("/rope_parameters/rope_theta").cloned() {
        config["rope_theta"] = base;
    }
    serde_json::from_value(config).context("config.json is of no model of the Phi-3 family")
}

/// The prompt with what follows it.
fn generate(phi: &mut phi3::Model, prompt: &[u32], tokens: usize, end: Option<u32>) -> Result<Vec<u32>> {
    let mut said = prompt.to_vec();
    let mut position = 0;
    for _ in 0..tokens {
        let input = Tensor::new(&said[position..], &Device::Cpu)?.unsqueeze(0)?;
        let logits = phi.forward(&input, position)?;
        position = said.len();
        let next = logits.i((0, 0))?.argmax(D::Minus1)?.to_scalar::<u32>()?;
        if Some(next) == end {
            break;
        }
        said.push(next);
    }
    Ok(said)
}

/// A model may say anything; a terminal should not obey it.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}
