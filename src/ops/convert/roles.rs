//! What a tensor does in its model, from its name: which noise it may have and which
//! norm's gain stands before it.
//!
//! The names are those of the Hugging Face classes for Llama, Mistral, Mixtral, Phi-3,
//! Qwen, Gemma, DeepSeek, Grok-1, gpt-oss and BERT, and of what follows them. A name that
//! says nothing costs nothing but the refinement.

use std::collections::HashSet;

use crate::ops::names::{EMBEDDINGS, HEADS, is_outer_weight_of, layer_of};

/// What a matrix does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A row per token, one of which is read at a time.
    Embedding,
    /// A row per token, all of which are read for each token: the logits.
    Head,
    /// Anything between them.
    Linear,
}

/// What is read of `config.json`: all of it would take many times its size.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Config {
    model_type: String,
}

/// Which names of a model stand for what.
pub struct Names<'a> {
    all: HashSet<&'a str>,
    has_head: bool,
    layers: usize,
    /// Gemma's norms store their gain less 1.
    pub gain_less_one: bool,
}

impl<'a> Names<'a> {
    /// `config` is the text of `config.json`, if there is one.
    pub fn new(all: impl Iterator<Item = &'a str>, config: Option<&str>) -> Names<'a> {
        let all: HashSet<&str> = all.collect();
        let config: Config = config.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        Names {
            has_head: all.iter().any(|name| is_outer_weight_of(name, &HEADS)),
            layers: all.iter().filter_map(|name| layer_of(name)).collect::<HashSet<_>>().len(),
            gain_less_one: config.model_type.starts_with("gemma"),
            all,
        }
    }

    /// How many layers there are.
    pub fn layers(&self) -> usize {
        self.layers
    }

    /// An embedding without a head beside it is the head, too.
    pub fn role(&self, name: &str) -> Role {
        if is_outer_weight_of(name, &HEADS) {
            Role::Head
        } else if !is_outer_weight_of(name, &EMBEDDINGS) {
            Role::Linear
        } else if self.has_head {
            Role::Embedding
        } else {
            Role::Head
        }
    }

    /// The norm whose output a matrix is applied to, if it is among the tensors.
    pub fn norm_before(&self, name: &str) -> Option<String> {
        let stem = name.strip_suffix(".weight")?;
        let named = |norm: String| [format!("{norm}.weight"), norm + ".scale"];
        candidates(stem).into_iter().flat_map(named).find(|norm| self.all.contains(norm.as_str()))
    }
}

/// Names that the norm before a matrix may have, the likeliest first.
fn candidates(stem: &str) -> Vec<String> {
    if is_outer_weight_of(&format!("{stem}.weight"), &HEADS) {
        return ["model.norm", "norm", "model.final_layernorm", "language_model.model.norm"].map(str::to_owned).into();
    }
    let Some(layer) = layer_of(stem) else { return Vec::new() };
    let part = &stem[layer.len() + 1..];
    let number = layer.rsplit('.').next().unwrap_or_default();
    let last = part.rsplit('.').next().unwrap_or_default();
    let of_layer = |norms: &[&str]| norms.iter().map(|norm| format!("{layer}.{norm}")).collect();
    match last {
        "q_b_proj" => of_layer(&["self_attn.q_a_layernorm"]),
        "kv_b_proj" => of_layer(&["self_attn.kv_a_layernorm"]),
        "q_proj" | "k_proj" | "v_proj" | "qkv_proj" | "q_a_proj" | "kv_a_proj_with_mqa" => {
            of_layer(&["input_layernorm", "attention_norm", "pre_attn_norm"])
        }
        "wq" | "wk" | "wv" => of_layer(&["attention_norm"]),
        "gate_proj" | "up_proj" | "gate_up_proj" | "w1" | "w3" | "gate" | "router" => {
            of_layer(&["pre_feedforward_layernorm", "post_attention_layernorm", "ffn_norm", "pre_moe_norm"])
        }
        "linear" | "linear_v" => of_layer(&["pre_moe_norm"]),
        // BERT: the norm stands behind the sublayer before.
        "query" | "key" | "value" => before_bert(layer, number),
        "dense" if part.starts_with("intermediate.") => of_layer(&["attention.output.LayerNorm"]),
        _ => Vec::new(),
    }
}

/// Whether a norm is one of BERT's, which stand behind the sublayers.
pub fn is_post_norm(norm: &str) -> bool {
    norm.ends_with("LayerNorm.weight")
}

fn before_bert(layer: &str, number: &str) -> Vec<String> {
    match (number.parse::<u32>(), layer.strip_suffix(number)) {
        (Ok(0), Some(layers)) => {
            let root = layers.strip_suffix("encoder.layer.").unwrap_or_default();
            vec![format!("{root}embeddings.LayerNorm")]
        }
        (Ok(number), Some(layers)) => vec![format!("{layers}{}.output.LayerNorm", number - 1)],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHI3: [&str; 6] = [
        "model.embed_tokens.weight",
        "lm_head.weight",
        "model.norm.weight",
        "model.layers.11.input_layernorm.weight",
        "model.layers.11.post_attention_layernorm.weight",
        "model.layers.11.self_attn.qkv_proj.weight",
    ];

    #[test]
    fn roles_follow_from_names_and_a_tied_embedding_is_a_head() {
        let names = Names::new(PHI3.into_iter(), None);
        assert_eq!(names.role("model.embed_tokens.weight"), Role::Embedding);
        assert_eq!(names.role("lm_head.weight"), Role::Head);
        assert_eq!(names.role("model.layers.11.self_attn.o_proj.weight"), Role::Linear);
        assert_eq!(names.role("model.layers.0.attention.output.weight"), Role::Linear);
        let tied = Names::new(PHI3.into_iter().filter(|name| !name.starts_with("lm_head")), None);
        assert_eq!(tied.role("model.embed_tokens.weight"), Role::Head);
    }

    #[test]
    fn norms_are_found_for_every_family() {
        let find = |name: &str, norm: &str| {
            let names = Names::new([norm].into_iter(), None);
            assert_eq!(names.norm_before(name).as_deref(), Some(norm), "{name}");
        };
        let names = Names::new(PHI3.into_iter(), None);
        assert_eq!(names.norm_before("model.layers.11.self_attn.o_proj.weight"), None);
        assert_eq!(names.norm_before("model.layers.1.self_attn.qkv_proj.weight"), None);
        find("model.layers.11.self_attn.qkv_proj.weight", "model.layers.11.input_layernorm.weight");
        find("model.layers.3.mlp.gate_up_proj.weight", "model.layers.3.post_attention_layernorm.weight");
        find("model.layers.3.mlp.up_proj.weight", "model.layers.3.pre_feedforward_layernorm.weight");
        find("model.layers.3.block_sparse_moe.experts.7.w3.weight", "model.layers.3.post_attention_layernorm.weight");
        find("model.layers.3.self_attn.kv_b_proj.weight", "model.layers.3.self_attn.kv_a_layernorm.weight");
        find("model.layers.3.attn.k_proj.weight", "model.layers.3.pre_attn_norm.scale");
        find("model.layers.3.moe_block.experts.7.linear_v.weight", "model.layers.3.pre_moe_norm.scale");
        find("model.layers.3.mlp.router.weight", "model.layers.3.post_attention_layernorm.weight");
        find("lm_head.weight", "model.norm.weight");
        find("bert.encoder.layer.0.attention.self.query.weight", "bert.embeddings.LayerNorm.weight");
        find("encoder.layer.4.attention.self.key.weight", "encoder.layer.3.output.LayerNorm.weight");
        find("encoder.layer.4.intermediate.dense.weight", "encoder.layer.4.attention.output.LayerNorm.weight");
    }
}
