"""The files of `transformers`: what `config.json` and `tokenizer_config.json` hold, and which weights a model may have.

To `transformers` our model is a `LlamaForCausalLM`. So `transformers` opens the checkpoints of the course, and the
course opens those of `transformers`. Llama has options that our model lacks: a file that uses one raises an error.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from course_lib.model import ModelConfig, PoetryModel
from course_lib.roles import CHAT_TEMPLATE, END
from course_lib.tokenizer import PAD, UNK, CharacterTokenizer

# What config.json says of every model of this course, besides its shape.
ARCHITECTURE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": True,
}
# Other keys of config.json that do not change what the model computes.
HARMLESS = {
    *("attention_dropout", "bos_token_id", "dtype", "eos_token_id", "initializer_range", "pad_token_id"),
    *("pretraining_tp", "torch_dtype", "transformers_version", "use_cache", "_name_or_path"),
}


def llama_config(config: ModelConfig, tokenizer: CharacterTokenizer) -> dict[str, Any]:
    """`config.json` as `transformers.LlamaConfig` expects it."""
    others = {"num_key_value_heads": config.num_attention_heads, "torch_dtype": "float16"}
    tokens = {"bos_token_id": None, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
    return ARCHITECTURE | asdict(config) | others | tokens


def tokenizer_config(config: ModelConfig, tokenizer: CharacterTokenizer) -> dict[str, Any]:
    """`tokenizer_config.json` as `transformers.PreTrainedTokenizerFast` expects it."""
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "unk_token": UNK,
        "eos_token": END,
        "model_max_length": config.max_position_embeddings,
        "clean_up_tokenization_spaces": False,
    }
    return settings | ({"chat_template": CHAT_TEMPLATE} if tokenizer.has_roles else {})


def parse_config(content: Mapping[str, Any]) -> ModelConfig:
    """The model's shape from the content of a `config.json`.

    A key that is not known here must be empty or False, because it may change what the model computes. Raises
    ValueError if a size is missing or absurd, or a key asks for something that our model does not have.
    """
    raw = dict(content)
    raw |= raw.pop("rope_parameters", None) or {}  # where `transformers` 5 keeps rope_theta
    for field in fields(ModelConfig):
        value: Any = raw.get(field.name)
        numbers, low, high = ((int,), 0, 2**20) if field.type is int else ((int, float), 1e-30, 1e30)
        if type(value) not in numbers or not low < value < high:
            said = f"must be a number above 0 and below {high:,} ({numbers[-1].__name__})"
            raise ValueError(f"{field.name} is {value!r}, {said}")
    config = ModelConfig(**{field.name: raw[field.name] for field in fields(ModelConfig)})
    needed = ARCHITECTURE | asdict(config) | {"head_dim": config.head_dim, "rope_type": "default"}
    needed["num_key_value_heads"] = config.num_attention_heads
    for name, value in raw.items():
        if name in needed and value not in (needed[name], None):
            raise ValueError(f"{name} is {value!r}, must be {needed[name]!r}")
        if name not in needed.keys() | HARMLESS and value not in (None, False):
            raise ValueError(f"{name} is {value!r}, which is not supported")
    return config


def load_model(config: ModelConfig, path: Path) -> PoetryModel:
    """A model of this shape with the weights of this file, in float32.

    The file may also hold the output matrix, if it equals the embedding. Raises ValueError or RuntimeError if the
    weights do not fit the shape, or are no numbers.
    """
    weights = load_file(path)
    head = weights.pop("lm_head.weight", None)
    if head is not None and not torch.equal(head, weights.get("model.embed_tokens.weight", head[:0])):
        raise ValueError("lm_head.weight is not the embedding, but must be tied to it")
    if integers := [name for name, tensor in weights.items() if not tensor.is_floating_point()]:
        raise ValueError(f"{integers[0]} holds integers")
    weights = {name: tensor.float() for name, tensor in weights.items()}
    check_finite(weights)
    size, mlp = config.hidden_size, config.intermediate_size
    described = config.num_hidden_layers * (4 * size**2 + 3 * size * mlp + 2 * size) + (config.vocab_size + 1) * size
    found = sum(tensor.numel() for tensor in weights.values())
    if described > 2 * found:  # a model of a wrong size could take all memory
        raise ValueError(f"it has {found:,} weights, not {described:,}")
    model = PoetryModel(config)
    model.load_state_dict(weights)
    return model


def check_finite(weights: Mapping[str, Tensor]) -> None:
    """Raise ValueError if a weight is not a number, or infinite."""
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} holds a number that is none (nan or infinite)")
