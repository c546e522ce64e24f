//! What names of tensors have in common: those of the Hugging Face classes, and what follows them.

/// Last parts of the names of embeddings, before `.weight`.
pub const EMBEDDINGS: [&str; 6] =
    ["embed_tokens", "word_embeddings", "wte", "tok_embeddings", "embed_in", "embeddings"];
/// The same of output heads.
pub const HEADS: [&str; 5] = ["lm_head", "embed_out", "output", "score", "decoder"];
/// The same of what chooses the experts.
pub const ROUTERS: [&str; 2] = ["gate", "router"];

/// The layer that a tensor is part of: "model.layers.7".
pub fn layer_of(name: &str) -> Option<&str> {
    let at = ["layers.", "layer.", "h."].iter().find_map(|part| {
        let at = name.find(part)?;
        (at == 0 || name[..at].ends_with('.')).then_some(at + part.len())
    })?;
    let end = at + name[at..].find('.')?;
    name[at..end].bytes().all(|b| b.is_ascii_digit()).then_some(&name[..end])
}

/// Whether a name is that of one of these weights, in the outer levels of the model: layers have
/// parts of such names, too.
pub fn is_outer_weight_of(name: &str, parts: &[&str]) -> bool {
    let last = name.strip_suffix(".weight").and_then(|stem| stem.rsplit('.').next());
    last.is_some_and(|part| parts.contains(&part)) && layer_of(name).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_have_numbers() {
        assert_eq!(layer_of("model.layers.11.mlp.x"), Some("model.layers.11"));
        assert_eq!(layer_of("encoder.layer.3.output"), Some("encoder.layer.3"));
        assert_eq!(layer_of("h.0.ln_1.weight"), Some("h.0"));
        for none in ["model.norm.weight", "model.layers.x.y", "model.layers.7", "tlayers.1.x"] {
            assert_eq!(layer_of(none), None, "{none}");
        }
    }

    #[test]
    fn what_layers_have_is_not_outer() {
        assert!(is_outer_weight_of("output.weight", &HEADS));
        assert!(is_outer_weight_of("model.score.weight", &HEADS));
        assert!(!is_outer_weight_of("model.layers.3.attention.output.weight", &HEADS));
        assert!(!is_outer_weight_of("output.bias", &HEADS));
    }
}
