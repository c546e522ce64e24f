//! A safetensors file, described by a few bytes: names that mean something to convert,
//! shapes, and values in the ways that weights have them.

use serde_json::{Map, json};
use upg::codec::float;
use upg::dtype::Dtype;

use crate::input::{Input, Random};

const MOST_TENSORS: u8 = 6;
/// Of a tensor: enough for it to be stored lossily, few enough for many conversions.
const MOST_ELEMENTS: usize = 6000;

const NAMES: [&str; 10] = [
    "lm_head.weight",
    "model.embed_tokens.weight",
    "model.layers.0.input_layernorm.weight",
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.0.self_attn.q_proj.bias",
    "model.layers.0.post_attention_layernorm.weight",
    "model.layers.0.mlp.gate_up_proj.weight",
    "model.layers.1.mlp.down_proj.weight",
    "encoder.layer.0.attention.output.LayerNorm.weight",
    "encoder.layer.0.intermediate.dense.weight",
];

/// What one tensor is to be: the numbers that [`tensor`] reads.
pub struct Described {
    pub name: u8,
    pub dtype: Dtype,
    pub rows: u8,
    pub columns: u16,
    pub how: u8,
    pub scale: u8,
}

/// The description of a file of such tensors.
pub fn describe(tensors: &[Described]) -> Vec<u8> {
    let mut out = vec![0, tensors.len() as u8];
    for tensor in tensors {
        out.extend([tensor.name, tensor.dtype.code(), 0, tensor.rows]);
        out.extend(tensor.columns.to_le_bytes());
        out.extend([tensor.how, tensor.scale]);
        out.extend([7, 0, 0, 0]);
    }
    out
}

/// The safetensors file that the input describes.
pub fn file(input: &mut Input<'_>) -> Vec<u8> {
    let padding = usize::from(input.u8() % 16);
    let count = input.u8() % (MOST_TENSORS + 1);
    let (mut header, mut data) = (Map::new(), Vec::new());
    for i in 0..count {
        let (name, dtype, shape, bytes) = tensor(input, i);
        if name == "__metadata__" || header.contains_key(&name) {
            continue;
        }
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert(name, json!({"dtype": dtype.name(), "shape": shape, "data_offsets": offsets}));
        data.extend_from_slice(&bytes);
    }
    let mut header = serde_json::to_vec(&header).expect("JSON");
    header.extend(std::iter::repeat_n(b' ', padding));
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

fn tensor(input: &mut Input<'_>, i: u8) -> (String, Dtype, Vec<usize>, Vec<u8>) {
    let name = match usize::from(input.u8() % 16) {
        of @ 0..10 => NAMES[of].replacen('0', &i.to_string(), 1),
        other => String::from_utf8_lossy(input.take(other - 9)).into_owned(),
    };
    let dtype = Dtype::from_code(input.u8() % 22).expect("a code");
    let form = input.u8();
    let (rows, columns) = (usize::from(input.u8()), usize::from(input.u16()) % (MOST_ELEMENTS + 1));
    let rows = rows.min(MOST_ELEMENTS / columns.max(1));
    let mut elements = rows * columns;
    let mut shape = match form % 8 {
        0..=4 => vec![rows, columns],
        5 => vec![elements],
        6 => vec![1, rows, columns, 1],
        _ => vec![],
    };
    if shape.is_empty() {
        elements = 1;
    }
    // Four elements of any type are whole bytes.
    if !(elements * dtype.bits() as usize).is_multiple_of(8) {
        (elements, shape) = (4, vec![2, 2]);
    }
    let bytes = values(input, dtype, elements, columns);
    (name, dtype, shape, bytes)
}

fn values(input: &mut Input<'_>, dtype: Dtype, elements: usize, columns: usize) -> Vec<u8> {
    let (how, scale) = (input.u8(), input.u8());
    let mut random = Random(u64::from(input.u32()));
    let length = elements * dtype.bits() as usize / 8;
    let float = dtype.lossy_when_asked();
    let width = dtype.width().unwrap_or(1);
    let mut bytes = Vec::with_capacity(length);
    // From the least to the largest powers of two that there are in f32.
    let size = f32::from_bits(u32::from(scale) << 23);
    let row_sizes = how & 16 != 0;
    while bytes.len() < length {
        let i = bytes.len() / width;
        let noise = (0..4).map(|_| (random.next() >> 40) as f32 / (1 << 24) as f32).sum::<f32>() - 2.0;
        let row = if row_sizes { 2f32.powi((i / columns.max(1)) as i32 % 7 - 3) } else { 1.0 };
        match how % 8 {
            0..=3 if float => {
                bytes.extend_from_slice(&float::to_bits(dtype, noise * size * row).to_le_bytes()[..width]);
            }
            0..=2 => bytes.extend_from_slice(&((noise * 9.0) as i64 as u64).to_le_bytes()[..width]),
            4 if random.next() >> 33 & 255 != 0 => bytes.extend_from_slice(&[0; 8][..width]),
            5 => bytes.extend_from_slice(&u64::from(scale).wrapping_mul(0x0101_0101_0101_0101).to_le_bytes()[..width]),
            _ => bytes.extend_from_slice(&(random.next() ^ random.next() << 32).to_le_bytes()[..width]),
        }
    }
    bytes.truncate(length);
    // A few elements of any bits: infinities, numbers below the normal ones, outliers.
    for _ in 0..how / 32 {
        let (at, any) = (input.u16() as usize, input.u32());
        let Some(at) = at.checked_rem(elements).map(|at| at * width).filter(|at| at + width <= length) else {
            continue;
        };
        let any = (u64::from(any) << 32 | u64::from(any)).to_be_bytes();
        bytes[at..at + width].copy_from_slice(&any[..width]);
    }
    bytes
}
