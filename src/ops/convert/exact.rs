//! Which tensors are stored exactly, and why.

use serde::Serialize;

use super::{Options, Target};
use crate::dtype::Dtype;
use crate::ops::names::ROUTERS;
use crate::shard::ShardTensor;

/// Fewer elements than this are stored exactly: tables would outweigh them.
const LEAST_MATRIX: u64 = 4096;
/// A router has at least so many times as many columns as rows; what is called a gate
/// and is not as flat as that is something else.
const ROUTER_FLATNESS: u64 = 4;
/// Last parts of the names of scales and zero points, which belong to weights that were quantised
/// before: GPTQ and AWQ, compressed-tensors, DeepSeek, NVFP4, bitsandbytes, MXFP4.
const SCALES: [&str; 8] = [
    "scales",
    "weight_scale",
    "weight_scale_inv",
    "weight_scale_2",
    "input_scale",
    "absmax",
    "weight_zero_point",
    "qzeros",
];
/// The same for integers that hold several weights each.
const PACKED: [&str; 2] = ["qweight", "weight_packed"];

/// Why a tensor is stored exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// FP8, FP4, 8-bit and packed integers, and what scales them: quantising them once more
    /// would cost more than it saves.
    Quantised,
    /// A type without lossy coding: wider integers, F64, complex numbers.
    Type,
    /// A vector or a scalar, or biases of whatever shape.
    NoMatrix,
    /// A matrix that its tables would outweigh.
    Small,
    /// What chooses the experts: it is next to nothing of the model, and what it gets wrong is
    /// another expert.
    Router,
    /// The user asked for it by name.
    Asked,
    /// The user asked for it for the whole model.
    Lossless,
    /// Exactly it takes no more than it may take lossily.
    NoLarger,
}

impl Reason {
    /// All of them, in the order of the report.
    pub const ALL: [Reason; 8] = [
        Reason::Quantised,
        Reason::Type,
        Reason::NoMatrix,
        Reason::Small,
        Reason::Router,
        Reason::Asked,
        Reason::Lossless,
        Reason::NoLarger,
    ];

    /// For people: "kept exactly, ...".
    pub fn text(self) -> &'static str {
        match self {
            Reason::Quantised => "quantised already",
            Reason::Type => "no lossy coding for the type",
            Reason::NoMatrix => "no matrices",
            Reason::Small => "too small",
            Reason::Router => "routers",
            Reason::Asked => "asked for with --keep",
            Reason::Lossless => "asked for with --lossless",
            Reason::NoLarger => "no larger than lossily",
        }
    }
}

/// Why a tensor is to be stored exactly; none if it is to be stored lossily.
pub fn reason(options: &Options, tensor: &ShardTensor) -> Option<Reason> {
    let lossless = options.target == Target::Lossless;
    of_tensor(tensor, options.lossy_fp8 && !lossless).or_else(|| {
        let kept = options.like.as_ref().is_some_and(|like| like.keeps(&tensor.name));
        let asked = (kept || options.keep.is_match(&tensor.name)).then_some(Reason::Asked);
        if lossless { Some(Reason::Lossless) } else { asked }
    })
}

/// What follows from the tensor alone.
fn of_tensor(tensor: &ShardTensor, lossy_fp8: bool) -> Option<Reason> {
    let lossy = if lossy_fp8 { tensor.dtype.lossy_when_asked() } else { tensor.dtype.lossy_by_default() };
    let ends = |parts: &[&str]| parts.iter().any(|part| tensor.name.ends_with(part));
    let small_type = tensor.dtype.bits() <= 8 && tensor.dtype != Dtype::BOOL;
    if ends(&SCALES) || !lossy && (small_type || ends(&PACKED)) {
        Some(Reason::Quantised)
    } else if !lossy {
        Some(Reason::Type)
    } else if tensor.shape.iter().filter(|&&dim| dim > 1).count() < 2 || tensor.name.ends_with("bias") {
        Some(Reason::NoMatrix)
    } else if tensor.elements() < LEAST_MATRIX {
        Some(Reason::Small)
    } else if is_router(tensor) {
        Some(Reason::Router)
    } else {
        None
    }
}

fn is_router(tensor: &ShardTensor) -> bool {
    let flat = matches!(tensor.shape[..], [rows, columns] if columns / ROUTER_FLATNESS >= rows);
    flat && ROUTERS.iter().any(|part| tensor.name.ends_with(&format!(".{part}.weight")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(name: &str, dtype: Dtype, shape: &[u64]) -> Option<Reason> {
        let length = shape.iter().product::<u64>() * u64::from(dtype.bits()) / 8;
        let tensor = ShardTensor { name: name.to_owned(), dtype, shape: shape.to_vec(), offset: 0, length };
        of_tensor(&tensor, false)
    }

    #[test]
    fn what_was_quantised_is_known_by_type_or_name() {
        let quantised = Some(Reason::Quantised);
        assert_eq!(why("model.layers.3.mlp.experts.gate_up_proj_blocks", Dtype::U8, &[32, 5760, 90, 16]), quantised);
        assert_eq!(why("model.layers.3.self_attn.o_proj.weight", Dtype::F8_E4M3, &[7168, 16384]), quantised);
        assert_eq!(why("model.layers.3.self_attn.o_proj.weight_scale_inv", Dtype::F32, &[56, 128]), quantised);
        assert_eq!(why("model.layers.3.self_attn.o_proj.qweight", Dtype::I32, &[512, 4096]), quantised);
        assert_eq!(why("model.layers.3.self_attn.o_proj.scales", Dtype::F16, &[32, 4096]), quantised);
        assert_eq!(why("model.layers.3.self_attn.o_proj.weight", Dtype::BF16, &[512, 4096]), None);
        assert_eq!(why("model.layers.3.pre_attn_norm.scale", Dtype::BF16, &[6144]), Some(Reason::NoMatrix));
        assert_eq!(why("position_ids", Dtype::I64, &[1, 512]), Some(Reason::Type));
    }

    #[test]
    fn biases_of_experts_and_routers_are_no_matrices_of_weights() {
        assert_eq!(
            why("model.layers.3.mlp.experts.gate_up_proj_bias", Dtype::BF16, &[32, 5760]),
            Some(Reason::NoMatrix)
        );
        assert_eq!(why("model.layers.3.block_sparse_moe.gate.weight", Dtype::BF16, &[8, 4096]), Some(Reason::Router));
        assert_eq!(why("model.layers.3.mlp.router.weight", Dtype::BF16, &[32, 2880]), Some(Reason::Router));
        assert_eq!(why("model.layers.3.mlp.gate.weight", Dtype::BF16, &[8, 128]), Some(Reason::Small));
        assert_eq!(why("model.layers.3.mlp.gate_proj.weight", Dtype::BF16, &[1024, 4096]), None);
        assert_eq!(why("blocks.3.attention.gate.weight", Dtype::BF16, &[4096, 4096]), None);
    }
}
