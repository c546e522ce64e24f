//! What part of its model a tensor is, from its name.

use serde::Serialize;

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
        } else if is(&["gate", "router", "e_score_correction_bias"]) {
            Some(Kind::Router)
        } else if is(&["lm_head", "embed_out", "score", "classifier"]) {
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

/// The layer that a tensor is part of: "model.layers.7".
pub fn layer_of(name: &str) -> Option<&str> {
    let at = ["layers.", "layer.", "h."].iter().find_map(|part| {
        let at = name.find(part)?;
        (at == 0 || name[..at].ends_with('.')).then_some(at + part.len())
    })?;
    let end = at + name[at..].find('.')?;
    name[at..end].bytes().all(|b| b.is_ascii_digit()).then_some(&name[..end])
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
            (Kind::Head, &["lm_head.weight"]),
            (Kind::Other, &["multi_modal_projector.mm_input_projection_weight", "x", ""]),
        ] {
            for name in names {
                assert_eq!(Kind::of(name), kind, "{name}");
            }
        }
    }

    #[test]
    fn layers_have_numbers() {
        assert_eq!(layer_of("model.layers.11.mlp.x"), Some("model.layers.11"));
        assert_eq!(layer_of("encoder.layer.3.output"), Some("encoder.layer.3"));
        assert_eq!(layer_of("h.0.ln_1.weight"), Some("h.0"));
        for none in ["model.norm.weight", "model.layers.x.y", "model.layers.7", "tlayers.1.x"] {
            assert_eq!(layer_of(none), None, "{none}");
        }
    }
}
