"""diffusers: a pipeline with its transformer, VAE and scheduler, and the picture that it makes.

    diffusers.py MODEL_DIR RESULT [MODEL_DIR RESULT...]
    diffusers.py --make MODEL_DIR        a small pipeline with random weights
"""

import sys

import torch
from diffusers import (
    AutoencoderKL, DDIMScheduler, DiffusionPipeline, DiTPipeline, DiTTransformer2DModel,
)  # fmt: skip
from measure.client import digest, main, of_tensors


def make(directory):
    torch.manual_seed(9)
    transformer = DiTTransformer2DModel(
        num_attention_heads=8, attention_head_dim=64, in_channels=4, out_channels=8, num_layers=8,
        sample_size=16, patch_size=2,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(64, 128), layers_per_block=1, latent_channels=4, norm_num_groups=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    # As they are initialised, the transformer's last layers are zero and would hide all others.
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    DiTPipeline(transformer.bfloat16(), vae.bfloat16(), DDIMScheduler()).save_pretrained(
        directory, max_shard_size="20MB"
    )


def load(directory):
    return DiffusionPipeline.from_pretrained(directory, torch_dtype=torch.bfloat16)


def look(pipeline):
    got = {}
    for part in ("transformer", "vae"):
        got |= of_tensors((f"{part}.{n}", t) for n, t in getattr(pipeline, part).named_parameters())
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline(
        class_labels=[207], num_inference_steps=2, generator=torch.manual_seed(1), output_type="np"
    ).images
    return {**got, "picture": f"{picture.shape} {digest(picture.tobytes())}"}


if __name__ == "__main__":
    if sys.argv[1] == "--make":
        make(sys.argv[2])
    else:
        main("diffusers", "DiffusionPipeline: every parameter, a picture", load, look)
