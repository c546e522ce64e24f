//! The tensors of an archive as candle asks for them.

use std::collections::HashMap;

use candle_core::{DType, Device, Error, Result, Shape, Tensor};
use candle_nn::Init;
use candle_nn::var_builder::SimpleBackend;
use upg::archive::{self, Archive};
use upg::dtype::Dtype;
use upg::format::Model;

/// Each tensor is decoded when candle asks for it, on all cores.
pub struct Weights<'a>(HashMap<&'a str, archive::Tensor<'a>>);

impl<'a> Weights<'a> {
    pub fn new(archive: &'a Archive, model: &'a Model) -> Self {
        Weights(archive.tensors(model).map(|tensor| (tensor.name(), tensor)).collect())
    }
}

impl SimpleBackend for Weights<'_> {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let tensor = self.get_unchecked(name, dtype, device)?;
        if tensor.shape() != &shape {
            let (msg, got) = (format!("the file's {name:?} has another shape"), tensor.shape().clone());
            return Err(Error::UnexpectedShape { msg, expected: shape, got });
        }
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let missing = || Error::CannotFindTensor { path: name.to_owned() };
        let tensor = self.0.get(name).ok_or_else(missing)?;
        let stored = match tensor.dtype() {
            Dtype::BF16 => DType::BF16,
            Dtype::F16 => DType::F16,
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            other => return Err(Error::Msg(format!("tensor {name:?} is of {}", other.name()))),
        };
        let mut bytes = vec![0; tensor.byte_len() as usize];
        tensor.read_parallel(&mut bytes).map_err(Error::wrap)?;
        let shape: Vec<usize> = tensor.shape().iter().map(|&length| length as usize).collect();
        Tensor::from_raw_buffer(&bytes, stored, &shape, device)?.to_dtype(dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}
