//! Small models, made here.

use std::fs;
use std::path::Path;

use upg::archive::Archive;
use upg::ops::convert::{Options, Report, Target, convert};

/// A generator of numbers that is the same on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 24
    }

    /// Standard normal, by the Box-Muller method.
    pub fn gaussian(&mut self) -> f32 {
        let mut uniform = || (self.next() as f64 + 0.5) / (1u64 << 40) as f64;
        let radius = (-2.0 * uniform().ln()).sqrt();
        (radius * (2.0 * std::f64::consts::PI * uniform()).cos()) as f32
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// `n` weights in the element type, with standard deviation 0.02.
    pub fn weights(&mut self, dtype: &str, n: usize) -> Vec<u8> {
        (0..n)
            .flat_map(|_| {
                let w = self.gaussian() * 0.02;
                match dtype {
                    "BF16" => half::bf16::from_f32(w).to_le_bytes().to_vec(),
                    "F16" => half::f16::from_f32(w).to_le_bytes().to_vec(),
                    "F32" => w.to_le_bytes().to_vec(),
                    "F64" => f64::from(w).to_le_bytes().to_vec(),
                    other => panic!("no weights of type {other}"),
                }
            })
            .collect()
    }
}

/// A tensor of a safetensors file: name, element type, shape, bytes.
pub type Tensor = (String, &'static str, Vec<usize>, Vec<u8>);

/// A safetensors file, written by hand so that every layout can be had.
pub fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert(name.clone(), serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
        data.extend_from_slice(bytes);
    }
    let header = serde_json::to_vec(&header).expect("JSON");
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(&header);
    file.extend_from_slice(&data);
    file
}

pub fn write(directory: &Path, path: &str, bytes: &[u8]) {
    let path = directory.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
    fs::write(path, bytes).expect("a file");
}

pub fn options(source: &Path, output: &Path, target: Target) -> Options {
    Options { target, threads: 2, memory: 1 << 30, ..Options::new(source, output) }
}

pub fn run(options: &Options) -> Report {
    convert(options, &()).expect("conversion")
}

pub fn try_run(options: &Options) -> upg::error::Result<Report> {
    convert(options, &())
}

/// Every presented file with its bytes; those of several models below their names.
pub fn unpack(archive: &Archive) -> Vec<(String, Vec<u8>)> {
    try_unpack(archive).expect("every block decodes")
}

pub fn try_unpack(archive: &Archive) -> upg::error::Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for model in archive.models() {
        for (id, file) in archive.files(model) {
            let mut bytes = vec![0; file.size as usize];
            archive.read_at(id, 0, &mut bytes)?;
            files.push((archive.shown_path(id.0 as usize), bytes));
        }
    }
    Ok(files)
}
