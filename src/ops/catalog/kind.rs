//! What part of its model a tensor is, from its name.

use serde::Serialize;

use crate::ops::names::{HEADS, ROUTERS, is_outer_weight_of};

/// Parts that a model's bytes are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Embedding,
    Attention,
    Mlp,
    /// One of several parts of which a router chooses, or that stands beside them.
    Expert,
    Router,
    Norm,
    /// The output: logits.
    Head,
    Other,
}

/// Whatever belongs to these is of a head, biases, too. A conversion gives no more bits to classifiers:
/// they have few rows.
const HEAD_PARTS: [&str; 4] = ["lm_head", "embed_out", "score", "classifier"];

impl Kind {
    pub const ALL: [Kind; 8] =
        [Kind::Embedding, Kind::Attention, Kind::Mlp, Kind::Expert, Kind::Router, Kind::Norm, Kind::Head, Kind::Other];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Embedding => "embedding",
            Kind::Attention => "attention",
            Kind::Mlp => "mlp",
            Kind::Expert => "expert",
            Kind::Router => "router",
            Kind::Norm => "norm",
            Kind::Head => "head",
            Kind::Other => "other",
        }
    }

    /// Names are those of the Hugging Face classes. The innermost part that says something decides,
    /// but for experts: what is in one belongs to it.
    pub fn of(name: &str) -> Kind {
        let parts = || name.rsplit('.').map(str::to_ascii_lowercase);
        if parts().any(|part| part.contains("expert")) {
            return Kind::Expert;
        }
        if is_outer_weight_of(name, &HEADS) {
            return Kind::Head;
        }
        // BERT has these in its MLP, and in its attention, where that says more.
        let vague = parts().any(|part| part == "intermediate" || part == "output");
        let otherwise = if vague { Kind::Mlp } else { Kind::Other };
        parts().find_map(|part| Kind::of_part(&part)).unwrap_or(otherwise)
    }

    fn of_part(part: &str) -> Option<Kind> {
        let has = |words: &[&str]| words.iter().any(|word| part.contains(word));
        let is = |words: &[&str]| words.contains(&part);
        if has(&["norm"]) || part.starts_with("ln_") || is(&["ln1", "ln2"]) {
            Some(Kind::Norm)
        } else if is(&ROUTERS) || part == "e_score_correction_bias" {
            Some(Kind::Router)
        } else if is(&HEAD_PARTS) {
            Some(Kind::Head)
        } else if has(&["embed"]) || is(&["wte", "wpe"]) {
            Some(Kind::Embedding)
        } else if has(&["attn", "attention"]) {
            Some(Kind::Attention)
        } else if has(&["mlp", "ffn", "feed_forward", "moe"]) {
            Some(Kind::Mlp)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_the_families() {
        for (kind, names) in [
            (Kind::Embedding, &["model.embed_tokens.weight", "embeddings.word_embeddings.weight", "wte.weight"][..]),
            (
                Kind::Attention,
                &[
                    "model.layers.0.self_attn.qkv_proj.weight",
                    "model.layers.0.attn.q_proj.weight",
                    "encoder.layer.3.attention.output.dense.weight",
                    "model.layers.0.self_attn.q_a_proj.weight_scale_inv",
                    "model.layers.0.self_attn.sinks",
                ],
            ),
            (
                Kind::Mlp,
                &[
                    "model.layers.11.mlp.gate_up_proj.weight",
                    "model.layers.0.mlp.gate_proj.weight",
                    "encoder.layer.3.intermediate.dense.weight",
                    "encoder.layer.3.output.dense.weight",
                ],
            ),
            (
                Kind::Expert,
                &[
                    "model.layers.0.block_sparse_moe.experts.7.w1.weight",
                    "model.layers.3.mlp.shared_experts.down_proj.weight",
                    "model.layers.0.mlp.experts.gate_up_proj_blocks",
                    "model.layers.0.moe_block.experts.1.linear_v.weight",
                ],
            ),
            (
                Kind::Router,
                &[
                    "model.layers.0.block_sparse_moe.gate.weight",
                    "model.layers.3.mlp.gate.e_score_correction_bias",
                    "model.layers.0.mlp.router.weight",
                ],
            ),
            (
                Kind::Norm,
                &[
                    "model.layers.0.self_attn.q_norm.weight",
                    "model.norm.weight",
                    "model.layers.0.pre_moe_norm.scale",
                    "encoder.layer.3.output.LayerNorm.bias",
                    "h.0.ln_1.weight",
                ],
            ),
            (Kind::Head, &["lm_head.weight", "output.weight", "lm_head.bias", "classifier.weight", "classifier.bias"]),
            (Kind::Other, &["multi_modal_projector.mm_input_projection_weight", "x", ""]),
        ] {
            for name in names {
                assert_eq!(Kind::of(name), kind, "{name}");
            }
        }
    }
}
