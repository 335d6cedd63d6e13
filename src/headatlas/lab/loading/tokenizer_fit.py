"""Whether a tokenizer belongs to a model: every token that it can give must be one that the model knows."""

from typing import Any

from headatlas.lab.anatomy.anatomy import UnsafeModelError


def require(name: str, tokenizer: Any, model: Any) -> None:
    """See that ordinary text, and what stands at its ends, gives tokens that the model has embeddings of.

    Released models have more embeddings than tokens (rows to fill up a round number), and some have a few added tokens
    without embeddings (Gemma 3 1B: one for pictures; some Llama 2: one for padding), which no text gives unless it
    spells them out, and `Vocabulary.encode` refuses then. Ordinary tokens without embeddings are another matter: any
    text may give them, so the tokenizer is that of another model.

    Raises:
        UnsafeModelError: where it does not belong to the model.
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
    """Added tokens that a model of so many embeddings does not know."""
    return [str(token) for id, token in sorted(_added(tokenizer).items()) if id >= size]


def ordinary(tokenizer: Any) -> list[int]:
    """The ids of all tokens but the added ones."""
    added = _added(tokenizer)
    return [id for id in tokenizer.get_vocab().values() if id not in added]


def _added(tokenizer: Any) -> dict[int, Any]:
    found: dict[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    return found
