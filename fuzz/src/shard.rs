//! The header of a safetensors file: what is accepted, the crate `safetensors` accepts and
//! understands alike; and what it accepts is refused only for a few reasons.

use safetensors::SafeTensors;
use serde_json::Value;
use upg::shard::Shard;
use upg::source::Memory;

use crate::input::Input;

/// The input is a file as it is; else a JSON header, to which length and data are added.
const AS_IS: u8 = 1;
/// The data is a byte short.
const SHORT: u8 = 2;
/// What is refused although `safetensors` takes it: what a `.upg` file cannot hold, what
/// others might understand otherwise, and spellings that serde has for every structure.
const STRICTER: [&str; 4] = [
    "more than 32 dimensions",
    "two tensors of the name",
    "invalid type: sequence, expected an object with dtype",
    "invalid type: map, expected a string",
];
const MOST_DATA: u64 = 1 << 20;

/// An input that is this safetensors file, and one that is its header.
pub fn seeds(file: &[u8]) -> Option<[Vec<u8>; 2]> {
    let length = u64::from_le_bytes(*file.first_chunk()?) as usize;
    Some([[&[AS_IS], file].concat(), [&[0], file.get(8..)?.get(..length)?].concat()])
}

/// Where the data ends, as far as the header says so.
fn data_end(header: &[u8]) -> u64 {
    let header: Value = serde_json::from_slice(header).unwrap_or_default();
    let ends = header.as_object().into_iter().flatten().filter_map(|(_, tensor)| tensor["data_offsets"][1].as_u64());
    ends.max().unwrap_or(0)
}

/// The header of a safetensors file, if it is there.
fn header(file: &[u8]) -> Option<&[u8]> {
    let length = u64::from_le_bytes(*file.first_chunk()?);
    file[8..].get(..usize::try_from(length).ok()?)
}

/// The safetensors file that an input stands for.
pub fn file(data: &[u8]) -> Vec<u8> {
    let mut input = Input(data);
    let flags = input.u8();
    if flags & AS_IS != 0 {
        return input.0.to_vec();
    }
    let mut file = (input.0.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(input.0);
    let data = data_end(input.0).min(MOST_DATA).saturating_sub(u64::from(flags & SHORT != 0));
    file.resize(file.len() + data as usize, 0);
    file
}

pub fn run(data: &[u8]) {
    let file = file(data);
    let ours = Shard::read(&Memory::new("memory", file.as_slice()));
    if ours.is_err() && header(&file).map_or(0, data_end) > u64::MAX / 2 {
        // safetensors 0.8 would add to this without looking.
        return;
    }
    let theirs = SafeTensors::deserialize(&file);
    let shard = match (ours, theirs.is_ok()) {
        (Ok(shard), true) => shard,
        (Ok(_), false) => panic!("accepted, but not by safetensors: {:?}", theirs.err()),
        (Err(_), false) => return,
        (Err(error), true) => {
            let error = error.to_string();
            assert!(STRICTER.iter().any(|reason| error.contains(reason)), "refused, but not by safetensors: {error}");
            return;
        }
    };
    let theirs = theirs.expect("accepted");
    assert_eq!(shard.tensors.len(), theirs.len());
    let mut at = shard.header_len;
    for tensor in &shard.tensors {
        let view = theirs.tensor(&tensor.name).expect("a tensor of the name");
        assert_eq!(tensor.dtype.name(), view.dtype().to_string());
        assert!(tensor.shape.iter().copied().eq(view.shape().iter().map(|&dim| dim as u64)));
        assert_eq!(view.data().len() as u64, tensor.length);
        assert_eq!(view.data().as_ptr(), file[tensor.offset as usize..].as_ptr());
        assert_eq!(tensor.elements() * u64::from(tensor.dtype.bits()), 8 * tensor.length);
        // The data of one follows that of the other.
        assert_eq!(tensor.offset, at);
        at += tensor.length;
    }
    assert_eq!(at, file.len() as u64);
}
