"""Weights in formats that transformers does not read: how to know them, and what to do with them."""

from pathlib import Path

# Files of other formats: glob pattern, description, and what to do. The first pattern that matches is reported.
_FOREIGN = (
    (
        "consolidated*.pth",
        "weights in the layout of Meta's own code ({file})",
        "convert them with transformers' convert_llama_weights_to_hf.py, or take the repository that ends in -hf",
    ),
    (
        "consolidated*.safetensors",
        "weights in the layout of Mistral's own code ({file})",
        "take the files that transformers reads: config.json and model*.safetensors",
    ),
    (
        "*.nemo",
        "a NeMo archive ({file})",
        "convert it to Hugging Face format with the scripts that come with NeMo",
    ),
    (
        "flax_model*.msgpack",
        "Flax weights ({file})",
        "convert them with transformers 4: AutoModelForCausalLM.from_pretrained(folder, from_flax=True)"
        ".save_pretrained(NEW)",
    ),
    (
        "tf_model*.h5",
        "TensorFlow weights ({file})",
        "convert them with transformers 4: AutoModelForCausalLM.from_pretrained(folder, from_tf=True)"
        ".save_pretrained(NEW)",
    ),
    ("*.npz", "arrays of another library ({file})", "save the model with save_pretrained of transformers"),
    ("*.onnx", "an ONNX graph ({file})", "take the model that it was exported from"),
    ("model_index.json", "a pipeline of diffusers", "give a language model; its text encoder is none"),
    *(
        (
            pattern,
            "a checkpoint of torch ({file})",
            "load it with the code that trained it, and save the model with save_pretrained",
        )
        for pattern in ("*.pth", "*.pt", "*.ckpt", "*.bin")
    ),
    (
        "*.safetensors",
        "weights of another name ({file})",
        "save the model with save_pretrained, which writes config.json and model.safetensors",
    ),
)


def other_weights(folder: Path) -> str | None:
    """Weights in a format transformers does not read, and how to convert them; None if there are none."""
    for pattern, what, advice in _FOREIGN:
        if files := sorted(folder.glob(pattern)):
            return f"{what.format(file=files[0].name)}; {advice.format(file=files[0].name)}"
    return None
