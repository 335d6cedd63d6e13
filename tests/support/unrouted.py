"""Families that the lab cannot measure: their attention goes through no registry."""

from collections.abc import Callable

import transformers

UNROUTED: dict[str, Callable[[], transformers.PretrainedConfig]] = {
    "xglm": lambda: transformers.XGLMConfig(vocab_size=300, d_model=32, num_layers=2, attention_heads=4, ffn_dim=64),
    "rwkv": lambda: transformers.RwkvConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32, context_length=64
    ),
    "openai-gpt": lambda: transformers.OpenAIGPTConfig(vocab_size=300, n_embd=32, n_layer=2, n_head=4),
}
