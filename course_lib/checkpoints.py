"""A folder on disk ↔ a model and its tokenizer, in the files `transformers` reads; and training state.

    model.safetensors        the weights, 16 bits each, under `LlamaForCausalLM`'s names
    config.json              the model's shape
    tokenizer.json           the vocabulary
    tokenizer_config.json    the chat template, and which tokens are special
    MODEL_CARD.md            what it read, how it was trained, what it scores
    SHA256SUMS               tells a damaged file; `sha256sum -c` reads it

Nothing here unpickles anything.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from course_lib.model import ModelConfig, PoetryModel
from course_lib.roles import CHAT_TEMPLATE, END
from course_lib.tokenizer import PAD, UNK, CharacterTokenizer

if TYPE_CHECKING:
    from course_lib.training import Trainer

WEIGHTS, CONFIG, TOKENIZER, TOKENIZER_CONFIG = (
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
CARD, SUMS = "MODEL_CARD.md", "SHA256SUMS"


class CheckpointError(ValueError):
    """A checkpoint folder that cannot be used; the message names the file, what was expected and what was found."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model and the tokenizer that belongs to it."""

    model: PoetryModel
    tokenizer: CharacterTokenizer

    def with_roles(self) -> Checkpoint:
        """This checkpoint with the role tokens added and the embedding grown; itself if it has them."""
        if self.tokenizer.has_roles:
            return self
        tokenizer = self.tokenizer.copy()
        tokenizer.add_role_tokens()
        return Checkpoint(grow_embedding(self.model, len(tokenizer)), tokenizer)


# --- saving ---------------------------------------------------------------------------------------


def save_checkpoint(checkpoint: Checkpoint, folder: Path, facts: Mapping[str, Any], story: str) -> None:
    """Write a checkpoint folder: 16-bit weights, `facts` as the card's header, `story` as its text."""
    folder.mkdir(parents=True, exist_ok=True)
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    half = {name: tensor.to(torch.float16).cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(half, folder / WEIGHTS, metadata={"format": "pt"})
    write_json(folder / CONFIG, llama_config(model.config, tokenizer))
    tokenizer.save(folder / TOKENIZER)
    write_json(folder / TOKENIZER_CONFIG, tokenizer_config(tokenizer, model.config))
    sums = {name: sha256(folder / name) for name in (WEIGHTS, CONFIG, TOKENIZER, TOKENIZER_CONFIG)}
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))
    header = yaml.safe_dump({**facts, "sha256": sums[WEIGHTS]}, sort_keys=False, allow_unicode=True)
    (folder / CARD).write_text(f"---\n{header}---\n\n{story.strip()}\n", encoding="utf-8")


def llama_config(config: ModelConfig, tokenizer: CharacterTokenizer) -> dict[str, Any]:
    """`config.json` as `transformers.LlamaConfig` expects it."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_attention_heads,
        "max_position_embeddings": config.max_position_embeddings,
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.rms_norm_eps,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
    }


def tokenizer_config(tokenizer: CharacterTokenizer, config: ModelConfig) -> dict[str, Any]:
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


# --- loading --------------------------------------------------------------------------------------


def load_checkpoint(folder: Path | str, device: torch.device | None = None) -> Checkpoint:
    """The model, in float32, and its tokenizer.

    Raises:
        CheckpointError: a file is missing, damaged, or belongs to another kind of model.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; a checkpoint is a folder with {WEIGHTS} in it")
    for name in (WEIGHTS, CONFIG, TOKENIZER):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name}: not there; a checkpoint has {WEIGHTS}, {CONFIG} and {TOKENIZER}")
    check_sums(folder)
    config = read_config(folder / CONFIG)
    try:
        tokenizer = CharacterTokenizer.load(folder / TOKENIZER)
    except Exception as error:  # the tokenizers library raises bare exceptions; KeyError is ours
        raise CheckpointError(f"{folder / TOKENIZER}: not a tokenizer of this course ({error})") from error
    if len(tokenizer) != config.vocab_size:
        raise CheckpointError(
            f"{folder / TOKENIZER}: {len(tokenizer)} tokens, but {CONFIG} says vocab_size {config.vocab_size}"
        )
    model = PoetryModel(config)
    model.load_state_dict(read_weights(folder / WEIGHTS, model))
    return Checkpoint(model.to(device or "cpu").eval(), tokenizer)


def read_config(path: Path) -> ModelConfig:
    """The model's shape from a `config.json`.

    Raises:
        CheckpointError: it is not JSON, or describes a model this course cannot run.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        fields = {name: raw[name] for name in ModelConfig.__dataclass_fields__}
        config = ModelConfig(**fields)
    except KeyError as error:
        raise CheckpointError(f"{path}: no {error} in it; expected the configuration of a Llama model") from error
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: not a model's configuration ({error})") from error
    expected = {
        "model_type": "llama",
        "num_key_value_heads": config.num_attention_heads,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
    }
    for name, value in expected.items():
        if raw.get(name) != value:
            raise CheckpointError(f"{path}: {name} is {raw.get(name)!r}, this course's model needs {value!r}")
    return config


def read_weights(path: Path, model: PoetryModel) -> dict[str, Tensor]:
    """The weights in float32, each of the name and shape the model has.

    Raises:
        CheckpointError: the file is damaged, or a tensor is missing, superfluous or of another shape.
    """
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged or cut short ({error})") from error
    wanted = model.state_dict()
    if wrong := sorted(wanted.keys() ^ found.keys()):
        where = "is missing" if wrong[0] in wanted else "is not part of this model"
        raise CheckpointError(f"{path}: tensor {wrong[0]!r} {where} ({len(wrong)} names differ)")
    for name, tensor in wanted.items():
        if tensor.shape != found[name].shape:
            raise CheckpointError(
                f"{path}: {name} is {tuple(found[name].shape)}, {CONFIG} asks for {tuple(tensor.shape)}"
            )
    return {name: tensor.float() for name, tensor in found.items()}


def check_sums(folder: Path) -> None:
    """Compare every file with SHA256SUMS, if there is one.

    Raises:
        CheckpointError: a file is not the one that was saved.
    """
    sums = folder / SUMS
    for line in sums.read_text().splitlines() if sums.is_file() else ():
        expected, _, name = line.partition("  ")
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name}: not there, but listed in {SUMS}")
        if (found := sha256(folder / name)) != expected:
            raise CheckpointError(
                f"{folder / name}: damaged or changed; its SHA-256 is {found[:12]}…, {SUMS} says {expected[:12]}…"
            )


def read_card(folder: Path | str) -> dict[str, Any]:
    """The facts at the head of a checkpoint's model card.

    Raises:
        CheckpointError: there is no card, or it has no header.
    """
    path = Path(folder) / CARD
    if not path.is_file():
        raise CheckpointError(f"{path}: not there")
    _, mark, rest = path.read_text(encoding="utf-8").partition("---\n")
    header, end, _ = rest.partition("\n---\n")
    if not (mark and end):
        raise CheckpointError(f"{path}: no header between two lines of ---")
    return yaml.safe_load(header)


# --- growing --------------------------------------------------------------------------------------


def grow_embedding(model: PoetryModel, vocab_size: int) -> PoetryModel:
    """A model with rows for new tokens, each the mean of the old rows (Hewitt 2021); the old model is left as it was.

    The mean makes a new token about as likely as an average one. Random rows may be longer than all others
    and so win, or lose, every prediction before a single step was taken.

    Raises:
        ValueError: the vocabulary would shrink.
    """
    old = model.model.embed_tokens.weight
    if vocab_size < len(old):
        raise ValueError(f"the model has {len(old)} tokens, {vocab_size} are fewer")
    grown = PoetryModel(replace(model.config, vocab_size=vocab_size)).to(old.device)
    state = model.state_dict()
    new_rows = old.detach().mean(dim=0).expand(vocab_size - len(old), -1)
    state["model.embed_tokens.weight"] = torch.cat((old.detach(), new_rows))
    grown.load_state_dict(state)
    return grown


# --- training state -------------------------------------------------------------------------------


def save_training_state(trainer: Trainer, path: Path) -> None:
    """Write a trainer's state in one safetensors file: to the side first, then renamed.

    Of several processes all must call this, and the main one writes.

    Raises:
        CheckpointError: it could not be written; what was saved before is still there.
    """
    tensors, numbers = trainer.state()
    if not trainer.world.is_main:
        return
    aside = path.with_suffix(".part")
    try:
        save_file({k: v.contiguous() for k, v in tensors.items()}, aside, metadata={"state": json.dumps(numbers)})
        os.replace(aside, path)
    except (OSError, SafetensorError) as error:
        aside.unlink(missing_ok=True)
        raise CheckpointError(f"{path}: could not be written, what was saved before is untouched ({error})") from error


def load_training_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_training_state` wrote, for `Trainer.load_state`.

    Raises:
        CheckpointError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, json.loads(file.metadata()["state"])
    except (SafetensorError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: not a training state, or damaged ({error})") from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
