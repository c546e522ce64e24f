"""sentence-transformers: embeddings of a model that it takes as it is, mean over the tokens."""

from measure.client import PROMPT, digest, main, of_tensors
from sentence_transformers import SentenceTransformer


def look(model):
    embeddings = model.encode([PROMPT, "Another text."])
    return {**of_tensors(model.named_parameters()), "embeddings": digest(embeddings.tobytes())}


if __name__ == "__main__":
    main(
        "sentence-transformers", "SentenceTransformer: every parameter, embeddings",
        lambda directory: SentenceTransformer(str(directory), device="cpu"), look,
    )  # fmt: skip
