"""transformers, 5 and 4: a model and its tokenizer, as a user loads them, and what it says."""

import torch
from measure.client import PROMPT, main, of_tensor, of_tensors
from transformers import AutoModelForCausalLM, AutoTokenizer


def load(directory):
    return AutoTokenizer.from_pretrained(directory), AutoModelForCausalLM.from_pretrained(directory)


def look(loaded):
    tokenizer, model = loaded
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    with torch.inference_mode():
        logits = model(ids).logits
        said = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False
        )
    return {**of_tensors(model.named_parameters()), "logits": of_tensor(logits), "text": said.tolist()}


if __name__ == "__main__":
    main("transformers", "from_pretrained: every parameter, logits, 8 tokens", load, look)
