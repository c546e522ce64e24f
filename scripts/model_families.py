"""The tensors of each family of models: names, element types and shapes as on the hub, in the order
of the state dicts, and the small sizes that every family but phi-4 is made in."""

from types import SimpleNamespace

from model_tensors import Tensor
from model_weights import (
    FP8_BLOCK, MXFP4_GROUP, fp8_elements, fp8_scales, mxfp4_blocks, mxfp4_scales,
)  # fmt: skip

PHI4 = dict(layers=40, hidden=5120, intermediate=17920, vocab=100352, heads=40, kv_heads=10)
PHI4_TENSORS = 243
PHI4_WEIGHTS = 14_659_507_200
TINY = dict(layers=2, hidden=256, intermediate=512, vocab=512, heads=4, kv_heads=2)


def matrices(prefix, **shapes):
    """BF16 `.weight`s by name, with the dots of the names as double underscores."""
    return [Tensor(f"{prefix}{n.replace('__', '.')}.weight", s) for n, s in shapes.items()]


def vector(name, size, dtype="BF16", likeness=""):
    return Tensor(name, (size,), dtype, likeness)


def norms(prefix, model, *names):
    return [vector(f"{prefix}{name}.weight", model.hidden) for name in names]


def fp8(prefix, **shapes):
    """F8_E4M3 `.weight`s, each with an F32 scale per block of 128 x 128 beside it."""
    tensors = []
    for matrix in matrices(prefix, **shapes):
        name, shape = matrix.name, matrix.shape
        blocks = tuple(-(-size // FP8_BLOCK) for size in shape)
        tensors.append(Tensor(name, shape, "F8_E4M3", matrix=matrix, pack=fp8_elements))
        scales = Tensor(name + "_scale_inv", blocks, "F32", matrix=matrix, pack=fp8_scales)
        tensors.append(scales)
    return tensors


def mxfp4(name, experts, rows, columns):
    """Blocks of 16 bytes for 32 weights, their scales, and the bias of the experts' outputs."""
    matrix = Tensor(name, (experts * rows, columns))
    groups = (experts, rows, columns // MXFP4_GROUP)
    return [
        Tensor(name + "_blocks", (*groups, MXFP4_GROUP // 2), "U8", matrix=matrix, pack=mxfp4_blocks),
        Tensor(name + "_scales", groups, "U8", matrix=matrix, pack=mxfp4_scales),
        Tensor(name + "_bias", (experts, rows), likeness="bias"),
    ]


def attention(prefix, model, make=matrices):
    wide, narrow = model.heads * model.head, model.kv_heads * model.head
    shapes = dict(q_proj=(wide, model.hidden), k_proj=(narrow, model.hidden))
    return make(prefix, **shapes, v_proj=(narrow, model.hidden), o_proj=(model.hidden, wide))


def gated(prefix, hidden, inner, names=("gate_proj", "up_proj", "down_proj"), make=matrices):
    """An MLP or an expert: two matrices in, one out."""
    gate, up, down = names
    return make(prefix, **{gate: (inner, hidden), up: (inner, hidden), down: (hidden, inner)})


def experts(prefix, model, inner, **how):
    return [t for e in range(model.experts) for t in gated(f"{prefix}{e}.", model.hidden, inner, **how)]


def causal(model, layer, norm="model.norm.weight", tied=False):
    """A model of such layers between embedding and head."""
    tensors = matrices("model.", embed_tokens=(model.vocab, model.hidden))
    for i in range(model.layers):
        tensors += layer(f"model.layers.{i}.", model, i)
    tensors.append(vector(norm, model.hidden, likeness="norm"))
    return tensors + ([] if tied else matrices("", lm_head=(model.vocab, model.hidden)))


def phi_tensors(model):
    """Phi3ForCausalLM: q, k and v are one matrix, gate and up are one."""
    head = model.hidden // model.heads
    qkv = (model.heads + 2 * model.kv_heads) * head

    def layer(prefix, model, _):
        hidden, inner = model.hidden, model.intermediate
        tensors = matrices(
            prefix,
            self_attn__o_proj=(hidden, model.heads * head),
            self_attn__qkv_proj=(qkv, hidden),
            mlp__gate_up_proj=(2 * inner, hidden),
            mlp__down_proj=(hidden, inner),
        )
        return tensors + norms(prefix, model, "input_layernorm", "post_attention_layernorm")

    return causal(model, layer)


def grok_tensors(model):
    """Grok1ModelForCausalLM: four norms per layer, named `scale`; the embedding is the head."""

    def layer(prefix, model, _):
        tensors = attention(prefix + "attn.", model)
        tensors += matrices(prefix, moe_block__gate=(model.experts, model.hidden))
        names = ("linear", "linear_v", "linear_1")
        tensors += experts(prefix + "moe_block.experts.", model, model.intermediate, names=names)
        parts = ("pre_attn", "post_attn", "pre_moe", "post_moe")
        return tensors + [
            vector(f"{prefix}{part}_norm.scale", model.hidden, likeness="norm") for part in parts
        ]

    return causal(model, layer, norm="model.norm.scale", tied=True)


def mixtral_tensors(model):
    def layer(prefix, model, _):
        moe = prefix + "block_sparse_moe."
        tensors = attention(prefix + "self_attn.", model)
        tensors += matrices(moe, gate=(model.experts, model.hidden))
        tensors += experts(moe + "experts.", model, model.intermediate, names=("w1", "w3", "w2"))
        return tensors + norms(prefix, model, "input_layernorm", "post_attention_layernorm")

    return causal(model, layer)


def qwen3_tensors(model):
    """Dense, or with experts if there are any; norms of the heads of queries and keys."""

    def layer(prefix, model, _):
        tensors = attention(prefix + "self_attn.", model)
        tensors += [vector(f"{prefix}self_attn.{n}_norm.weight", model.head) for n in "qk"]
        if model.experts:
            tensors += matrices(prefix, mlp__gate=(model.experts, model.hidden))
            tensors += experts(prefix + "mlp.experts.", model, model.intermediate)
        else:
            tensors += gated(prefix + "mlp.", model.hidden, model.intermediate)
        return tensors + norms(prefix, model, "input_layernorm", "post_attention_layernorm")

    return causal(model, layer)


def deepseek_tensors(model):
    """DeepSeek-V3: attention through low ranks, a dense layer, then layers of experts in FP8, and
    behind the last layer one more that predicts a token further on."""

    def layer(prefix, model, i):
        attn, rope, heads = prefix + "self_attn.", model.rope_head, model.heads
        tensors = fp8(
            attn,
            q_a_proj=(model.q_rank, model.hidden),
            q_b_proj=(heads * (model.head + rope), model.q_rank),
            kv_a_proj_with_mqa=(model.kv_rank + rope, model.hidden),
            kv_b_proj=(heads * 2 * model.head, model.kv_rank),
            o_proj=(model.hidden, heads * model.head),
        )
        tensors.append(vector(attn + "q_a_layernorm.weight", model.q_rank))
        tensors.append(vector(attn + "kv_a_layernorm.weight", model.kv_rank))
        mlp = prefix + "mlp."
        if i < model.dense_layers:
            tensors += gated(mlp, model.hidden, model.intermediate, make=fp8)
        else:
            tensors += matrices(mlp, gate=(model.experts, model.hidden))
            bias = mlp + "gate.e_score_correction_bias"
            tensors.append(vector(bias, model.experts, "F32", "bias"))
            tensors += experts(mlp + "experts.", model, model.expert_inner, make=fp8)
            tensors += gated(mlp + "shared_experts.", model.hidden, model.expert_inner, make=fp8)
        return tensors + norms(prefix, model, "input_layernorm", "post_attention_layernorm")

    last = f"model.layers.{model.layers}."
    wide = (model.vocab, model.hidden)
    further = matrices(last, embed_tokens=wide, eh_proj=(model.hidden, 2 * model.hidden))
    further += norms(last, model, "enorm", "hnorm", "shared_head.norm")
    further += matrices(last, shared_head__head=wide) + layer(last, model, model.layers)
    return causal(model, layer) + further


def gemma_tensors(model):
    """Gemma3ForConditionalGeneration: the embedding is the head; every norm in F32."""

    def norm(name, size=model.hidden):
        return vector(name + ".weight", size, "F32", "norm less 1")

    text = "language_model.model."
    tensors = matrices(text, embed_tokens=(model.vocab, model.hidden))
    for i in range(model.layers):
        prefix = f"{text}layers.{i}."
        tensors += attention(prefix + "self_attn.", model)
        tensors += [norm(f"{prefix}self_attn.{n}_norm", model.head) for n in "qk"]
        tensors += gated(prefix + "mlp.", model.hidden, model.intermediate)
        places = ("input", "post_attention", "pre_feedforward", "post_feedforward")
        tensors += [norm(f"{prefix}{place}_layernorm") for place in places]
    tensors.append(norm(text + "norm"))
    projector = "multi_modal_projector.mm_"
    tensors.append(Tensor(projector + "input_projection_weight", (model.vision, model.hidden)))
    tensors.append(norm(projector + "soft_emb_norm", model.vision))
    return tensors + siglip_tensors("vision_tower.vision_model.", model)


def siglip_tensors(root, model):
    """The vision tower of Gemma 3; everything has a bias."""
    wide, inner = model.vision, model.vision_inner

    def with_bias(name, *shape):
        return [Tensor(name + ".weight", shape), vector(name + ".bias", shape[0])]

    def norm(name):
        weight = vector(name + ".weight", wide, "F32", "norm")
        return [weight, vector(name + ".bias", wide, "F32")]

    positions = (model.image // model.patch) ** 2
    tensors = with_bias(root + "embeddings.patch_embedding", wide, 3, model.patch, model.patch)
    tensors += matrices(root, embeddings__position_embedding=(positions, wide))
    for i in range(model.vision_layers):
        prefix = f"{root}encoder.layers.{i}."
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            tensors += with_bias(f"{prefix}self_attn.{part}", wide, wide)
        tensors += with_bias(prefix + "mlp.fc1", inner, wide)
        tensors += with_bias(prefix + "mlp.fc2", wide, inner)
        tensors += norm(prefix + "layer_norm1") + norm(prefix + "layer_norm2")
    return tensors + norm(root + "post_layernorm")


def gpt_oss_tensors(model):
    """The experts in MXFP4, all of a layer in one tensor; attention with sinks and biases."""

    def layer(prefix, model, _):
        attn, mlp, hidden = prefix + "self_attn.", prefix + "mlp.", model.hidden
        projections = attention(attn, model)
        tensors = [vector(attn + "sinks", model.heads)]
        for t in projections:
            tensors += [t, vector(t.name.removesuffix("weight") + "bias", t.shape[0])]
        tensors += matrices(mlp, router=(model.experts, hidden))
        tensors.append(vector(mlp + "router.bias", model.experts))
        tensors += mxfp4(mlp + "experts.gate_up_proj", model.experts, 2 * model.intermediate, hidden)
        tensors += mxfp4(mlp + "experts.down_proj", model.experts, hidden, model.intermediate)
        return tensors + norms(prefix, model, "input_layernorm", "post_attention_layernorm")

    return causal(model, layer)


# What all of them have, and then what sets them apart.
SMALL = dict(
    layers=3, hidden=128, intermediate=256, vocab=512, heads=4, kv_heads=2, head=32, experts=0
)
FAMILIES = {
    "phi-4": (phi_tensors, PHI4),
    "grok-1": (grok_tensors, dict(experts=8)),
    "mixtral": (mixtral_tensors, dict(experts=8)),
    "qwen3": (qwen3_tensors, dict(hidden=256, intermediate=512, head=128)),
    "qwen3-moe": (qwen3_tensors, dict(intermediate=96, head=64, experts=16)),
    "deepseek-v3": (
        deepseek_tensors,
        dict(hidden=256, intermediate=512, kv_heads=4, head=64, rope_head=32, q_rank=128,
             kv_rank=128, experts=8, expert_inner=128, dense_layers=1),
    ),
    "gemma-3": (
        gemma_tensors,
        dict(layers=6, intermediate=512, head=64, vision=96, vision_inner=272, vision_layers=2,
             vision_heads=4, image=56, patch=14),
    ),
    "gpt-oss": (
        gpt_oss_tensors,
        dict(layers=4, hidden=288, intermediate=288, head=64, experts=8),
    ),
}  # fmt: skip


def small(family):
    """The sizes of a family other than phi-4."""
    return SimpleNamespace(**{**SMALL, **FAMILIES[family][1]})
