"""config.json of each family, with the names and the constants of the published one."""


def common(model, architecture, model_type, **more):
    return {
        "architectures": [architecture],
        "attention_dropout": 0.0,
        "hidden_size": model.hidden,
        "initializer_range": 0.02,
        "intermediate_size": model.intermediate,
        "model_type": model_type,
        "num_attention_heads": model.heads,
        "num_hidden_layers": model.layers,
        "num_key_value_heads": model.kv_heads,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": model.vocab,
        **more,
    }


def phi4(model, ids):
    return {
        "_name_or_path": "",
        "architectures": ["Phi3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": ids.bos,
        "embd_pdrop": 0.0,
        "eos_token_id": ids.eos,
        "hidden_act": "silu",
        "hidden_size": model.hidden,
        "initializer_range": 0.02,
        "intermediate_size": model.intermediate,
        "max_position_embeddings": 16384,
        "model_type": "phi3",
        "num_attention_heads": model.heads,
        "num_hidden_layers": model.layers,
        "num_key_value_heads": model.kv_heads,
        "original_max_position_embeddings": 16384,
        "pad_token_id": ids.pad,
        "resid_pdrop": 0.0,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 250000,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.47.0",
        "use_cache": True,
        "vocab_size": model.vocab,
    }


def grok1(model, ids):
    """Without the auto_map of the published one: its classes are not part of transformers."""
    return common(
        model, "Grok1ModelForCausalLM", "grok-1",
        attn_output_multiplier=0.08838834764831845, bos_token_id=ids.bos, eos_token_id=ids.eos,
        embedding_multiplier_scale=78.38367176906169, max_attn_value=30.0,
        max_position_embeddings=8192, num_experts=model.experts, num_experts_per_tok=2,
        output_multiplier_scale=0.5773502691896257, output_router_logits=False,
        pad_token_id=ids.pad, rms_norm_eps=1e-05, router_aux_loss_coef=0.001,
        tie_word_embeddings=True, transformers_version="4.35.0",
    )  # fmt: skip


def mixtral(model, ids):
    return common(
        model, "MixtralForCausalLM", "mixtral",
        bos_token_id=ids.bos, eos_token_id=ids.eos, hidden_act="silu",
        max_position_embeddings=32768, num_experts_per_tok=2, num_local_experts=model.experts,
        output_router_logits=False, rms_norm_eps=1e-05, rope_theta=1000000.0,
        router_aux_loss_coef=0.02, sliding_window=None, tie_word_embeddings=False,
        transformers_version="4.36.0.dev0",
    )  # fmt: skip


def qwen3(model, ids):
    dense = common(
        model, "Qwen3ForCausalLM", "qwen3",
        attention_bias=False, bos_token_id=ids.bos, eos_token_id=ids.eos, head_dim=model.head,
        hidden_act="silu", max_position_embeddings=40960, max_window_layers=model.layers,
        rms_norm_eps=1e-06, rope_scaling=None, rope_theta=1000000, sliding_window=None,
        tie_word_embeddings=False, transformers_version="4.51.0", use_sliding_window=False,
    )  # fmt: skip
    if not model.experts:
        return dense
    return dense | dict(
        architectures=["Qwen3MoeForCausalLM"], model_type="qwen3_moe", decoder_sparse_step=1,
        mlp_only_layers=[], moe_intermediate_size=model.intermediate, norm_topk_prob=True,
        num_experts=model.experts, num_experts_per_tok=8, output_router_logits=False,
        router_aux_loss_coef=0.001,
    )  # fmt: skip


def deepseek_v3(model, ids):
    """Without the auto_map of the published one: transformers has the classes by now."""
    quantised = dict(
        activation_scheme="dynamic", fmt="e4m3", quant_method="fp8", weight_block_size=[128, 128]
    )
    scaling = dict(
        beta_fast=32, beta_slow=1, factor=40, mscale=1.0, mscale_all_dim=1.0,
        original_max_position_embeddings=4096, type="yarn",
    )  # fmt: skip
    return common(
        model, "DeepseekV3ForCausalLM", "deepseek_v3",
        attention_bias=False, bos_token_id=ids.bos, eos_token_id=ids.eos, ep_size=1,
        first_k_dense_replace=model.dense_layers, hidden_act="silu", kv_lora_rank=model.kv_rank,
        max_position_embeddings=163840, moe_intermediate_size=model.expert_inner,
        moe_layer_freq=1, n_group=4, n_routed_experts=model.experts, n_shared_experts=1,
        norm_topk_prob=True, num_experts_per_tok=4, num_nextn_predict_layers=1,
        q_lora_rank=model.q_rank, qk_nope_head_dim=model.head, qk_rope_head_dim=model.rope_head,
        quantization_config=quantised, rms_norm_eps=1e-06, rope_scaling=scaling,
        rope_theta=10000, routed_scaling_factor=2.5, scoring_func="sigmoid",
        tie_word_embeddings=False, topk_group=2, topk_method="noaux_tc",
        transformers_version="4.33.1", v_head_dim=model.head,
    )  # fmt: skip


def gemma3(model, ids):
    text = dict(
        head_dim=model.head, hidden_size=model.hidden, intermediate_size=model.intermediate,
        model_type="gemma3_text", num_attention_heads=model.heads,
        num_hidden_layers=model.layers, num_key_value_heads=model.kv_heads,
        query_pre_attn_scalar=model.head, rope_scaling={"factor": 8.0, "rope_type": "linear"},
        sliding_window=1024, vocab_size=model.vocab,
    )  # fmt: skip
    vision = dict(
        hidden_size=model.vision, image_size=model.image, intermediate_size=model.vision_inner,
        model_type="siglip_vision_model", num_attention_heads=model.vision_heads,
        num_hidden_layers=model.vision_layers, patch_size=model.patch, vision_use_head=False,
    )  # fmt: skip
    return {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "boi_token_index": model.vocab - 3,
        "eoi_token_index": model.vocab - 2,
        "eos_token_id": [ids.eos],
        "image_token_index": model.vocab - 1,
        "initializer_range": 0.02,
        "mm_tokens_per_image": (model.image // model.patch // 2) ** 2,
        "model_type": "gemma3",
        "text_config": text,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.50.0.dev0",
        "vision_config": vision,
    }


def gpt_oss(model, ids):
    kept = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    scaling = dict(
        beta_fast=32.0, beta_slow=1.0, factor=32.0, original_max_position_embeddings=4096,
        rope_type="yarn", truncate=False,
    )  # fmt: skip
    types = ["sliding_attention", "full_attention"] * model.layers
    return common(
        model, "GptOssForCausalLM", "gpt_oss",
        attention_bias=True, eos_token_id=ids.eos, experts_per_token=4, head_dim=model.head,
        hidden_act="silu", initial_context_length=4096, layer_types=types[: model.layers],
        max_position_embeddings=131072, num_experts_per_tok=4, num_local_experts=model.experts,
        output_router_logits=False, pad_token_id=ids.pad,
        quantization_config=dict(modules_to_not_convert=kept, quant_method="mxfp4"),
        rms_norm_eps=1e-05, rope_scaling=scaling, rope_theta=150000, router_aux_loss_coef=0.9,
        sliding_window=128, swiglu_limit=7.0, tie_word_embeddings=False,
        transformers_version="4.55.0.dev0",
    )  # fmt: skip


CONFIGS = {
    "phi-4": phi4,
    "grok-1": grok1,
    "mixtral": mixtral,
    "qwen3": qwen3,
    "qwen3-moe": qwen3,
    "deepseek-v3": deepseek_v3,
    "gemma-3": gemma3,
    "gpt-oss": gpt_oss,
}
