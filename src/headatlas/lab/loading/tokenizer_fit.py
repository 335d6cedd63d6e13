"""Checks that a tokenizer belongs to a model: the model must have an embedding for every ordinary token."""

from typing import Any

from headatlas.lab.anatomy.anatomy import UnsafeModelError


def require(name: str, tokenizer: Any, model: Any) -> None:
    """Check that the model has embeddings for all ordinary tokens, BOS and EOS.

    Released models have more embeddings than tokens (padding to a round number). Some lack embeddings for a few added
    tokens (Gemma 3 1B: an image token; some Llama 2: padding). Text yields such a token only if it spells it out, which
    `Vocabulary.encode` refuses. An ordinary token without embedding can come from any text, so it means that the
    tokenizer is another model's.

    Raises:
        UnsafeModelError: if the tokenizer does not belong to the model.
    """
    size = model.get_input_embeddings().weight.shape[0]
    beyond = [id for id in ordinary(tokenizer) if id >= size]
    if beyond:
        raise UnsafeModelError(
            "tokenizer",
            f"the tokenizer of {name} gives ordinary tokens up to {max(beyond)}, and the model knows only {size} "
            "tokens: they do not belong together; put the model's own tokenizer into its folder",
        )
    for end, id in (("BOS", tokenizer.bos_token_id), ("EOS", tokenizer.eos_token_id)):
        if isinstance(id, int) and id >= size:
            raise UnsafeModelError(
                end,
                f"{end} of the tokenizer of {name} is {id}, and the model knows only {size} tokens: they do not belong "
                "together; put the model's own tokenizer into its folder",
            )


def without_embedding(tokenizer: Any, size: int) -> list[str]:
    """Added tokens whose ids lie beyond a model's `size` embeddings."""
    return [str(token) for id, token in sorted(_added(tokenizer).items()) if id >= size]


def ordinary(tokenizer: Any) -> list[int]:
    """The ids of all tokens except added ones."""
    added = _added(tokenizer)
    return [id for id in tokenizer.get_vocab().values() if id not in added]


def _added(tokenizer: Any) -> dict[int, Any]:
    found: dict[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    return found
