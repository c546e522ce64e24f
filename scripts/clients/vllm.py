"""vLLM on the processor: a model in its engine, and what it says."""

import os

# In this process, where the weights can be looked at and nothing is left behind; with 1 GiB of cache.
os.environ.update(
    VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_KVCACHE_SPACE="1", VLLM_NO_USAGE_STATS="1",
    VLLM_ALLOW_INSECURE_SERIALIZATION="1", TORCH_COMPILE_DISABLE="1",
)  # fmt: skip

from measure.client import PROMPT, main, of_tensors  # noqa: E402
from vllm import LLM, SamplingParams  # noqa: E402


def load(directory):
    return LLM(str(directory), enforce_eager=True, max_model_len=128, max_num_seqs=1)


def parameters(model):
    return of_tensors(model.named_parameters())


def look(engine):
    got = engine.apply_model(parameters)[0]
    said = engine.generate([PROMPT], SamplingParams(temperature=0, max_tokens=8, logprobs=5))[0].outputs[0]
    # The logarithms of the likeliest tokens' probabilities, every digit.
    chances = [{token: chance.logprob for token, chance in step.items()} for step in said.logprobs]
    return {**got, "tokens": list(said.token_ids), "logprobs": repr(chances)}


if __name__ == "__main__":
    main("vllm-cpu", "LLM: every parameter, 8 tokens and their logprobs", load, look)
