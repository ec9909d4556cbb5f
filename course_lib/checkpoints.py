"""A checkpoint folder on disk ↔ a model, its tokenizer, and the instructions it was taught.

    model.safetensors        the weights, 16 bits each, under the names of `LlamaForCausalLM`
    config.json              the model's shape
    tokenizer.json           the vocabulary
    tokenizer_config.json    the chat template and the special tokens, for `transformers`
    instructions.json        what the model can be asked for; a base model has no such file
    MODEL_CARD.md            what the model read, how it was trained, how well it does
    SHA256SUMS               checksums of the files above, for `sha256sum -c`

`transformers` opens such a folder, and `load_checkpoint` opens the folders that `transformers` and TRL save.
Nothing here unpickles anything.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
import yaml
from safetensors.torch import load_file, save_file

from course_lib.instructions import POEM, Instruction, find, from_rows, to_rows
from course_lib.model import ModelConfig, PoetryModel
from course_lib.roles import CHAT_TEMPLATE, END
from course_lib.tokenizer import PAD, UNK, CharacterTokenizer

Result = TypeVar("Result")

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
INSTRUCTIONS = "instructions.json"
CARD = "MODEL_CARD.md"
SUMS = "SHA256SUMS"

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


class CheckpointError(ValueError):
    """A checkpoint or run folder cannot be used. The message names the file, what it holds and what was expected."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model, the tokenizer that belongs to it, and the instructions it was taught (a base model: none)."""

    model: PoetryModel
    tokenizer: CharacterTokenizer
    instructions: tuple[Instruction, ...] = ()

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        return self.model.model.embed_tokens.weight.device

    def with_roles(self, instructions: Sequence[Instruction] = (POEM,)) -> Checkpoint:
        """A checkpoint to be taught `instructions`: a copy with role tokens and as many new rows in the embedding.

        If the role tokens are there already, the model is not copied.
        """
        if self.tokenizer.has_roles:
            return replace(self, instructions=tuple(instructions))
        tokenizer = self.tokenizer.copy()
        tokenizer.add_role_tokens()
        return Checkpoint(grow_embedding(self.model, len(tokenizer)), tokenizer, tuple(instructions))

    def instruction(self, name: str | None = None) -> Instruction:
        """The instruction with this name or label; without a name, the first one the model was taught.

        Raises:
            ValueError: the model was not taught this instruction.
        """
        if not self.instructions:
            raise ValueError("a base model was taught no instruction; it can only continue a text")
        return find(name, self.instructions) if name else self.instructions[0]


# --- saving ---------------------------------------------------------------------------------------


def save_checkpoint(checkpoint: Checkpoint, folder: Path, facts: Mapping[str, Any], story: str) -> None:
    """Write a checkpoint folder, with `facts` as the card's header and `story` as its text.

    All files are written beside the old ones and then moved, so an error while writing changes nothing.
    """
    weights = checkpoint.model.state_dict()
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as aside:
        new = Path(aside)
        half = {name: tensor.to(torch.float16).cpu().contiguous() for name, tensor in weights.items()}
        save_file(half, new / WEIGHTS, metadata={"format": "pt"})
        write_json(new / CONFIG, llama_config(checkpoint))
        checkpoint.tokenizer.save(new / TOKENIZER)
        write_json(new / TOKENIZER_CONFIG, tokenizer_config(checkpoint))
        if checkpoint.tokenizer.has_roles:
            write_json(new / INSTRUCTIONS, to_rows(checkpoint.instructions))
        names = (WEIGHTS, CONFIG, TOKENIZER, TOKENIZER_CONFIG, INSTRUCTIONS)
        sums = {name: sha256(new / name) for name in names if (new / name).exists()}
        (new / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))
        header = yaml.safe_dump({**facts, "sha256": sums[WEIGHTS]}, sort_keys=False, allow_unicode=True)
        (new / CARD).write_text(f"---\n{header}---\n\n{story.strip()}\n", encoding="utf-8")
        (folder / INSTRUCTIONS).unlink(missing_ok=True)  # an earlier model's
        for file in new.iterdir():
            os.replace(file, folder / file.name)


def llama_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """`config.json` as `transformers.LlamaConfig` expects it."""
    config, tokenizer = checkpoint.model.config, checkpoint.tokenizer
    others = {"num_key_value_heads": config.num_attention_heads, "torch_dtype": "float16"}
    tokens = {"bos_token_id": None, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
    return ARCHITECTURE | asdict(config) | others | tokens


def tokenizer_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """`tokenizer_config.json` as `transformers.PreTrainedTokenizerFast` expects it."""
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "unk_token": UNK,
        "eos_token": END,
        "model_max_length": checkpoint.model.config.max_position_embeddings,
        "clean_up_tokenization_spaces": False,
    }
    return settings | ({"chat_template": CHAT_TEMPLATE} if checkpoint.tokenizer.has_roles else {})


# --- loading --------------------------------------------------------------------------------------


def load_checkpoint(folder: Path | str, device: torch.device | None = None) -> Checkpoint:
    """The checkpoint in `folder`, its weights in float32.

    A folder without instructions.json, as `transformers` saves it, was taught `POEM` if it has the role tokens.

    Raises:
        CheckpointError: a file is missing or damaged, or describes a model that this course cannot run.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; a checkpoint is a folder with {WEIGHTS} in it")
    check_sums(folder)
    config = read(folder / CONFIG, parse_config, "the configuration of a model of this course")
    tokenizer = read(folder / TOKENIZER, CharacterTokenizer.load, "a tokenizer of this course")
    if len(tokenizer) != config.vocab_size:
        raise CheckpointError(
            f"{folder / TOKENIZER}: {len(tokenizer)} tokens, but {CONFIG} says vocab_size {config.vocab_size}"
        )
    model = PoetryModel(config)
    read(folder / WEIGHTS, partial(load_weights, model), f"the weights that {CONFIG} describes")
    instructions: tuple[Instruction, ...] = (POEM,) if tokenizer.has_roles else ()
    if (folder / INSTRUCTIONS).is_file():
        instructions = read(folder / INSTRUCTIONS, lambda path: from_rows(read_json(path)), "a list of instructions")
    return Checkpoint(model.to(device or "cpu").eval(), tokenizer, instructions)


def read(path: Path, parse: Callable[[Path], Result], what: str) -> Result:
    """`parse(path)`, which should find `what` in the file.

    Raises:
        CheckpointError: there is no such file, or `parse` failed.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: not there; expected {what}")
    try:
        return parse(path)
    except Exception as error:  # the tokenizers library raises bare exceptions
        raise CheckpointError(f"{path}: not {what} ({error})") from error


def check_sums(folder: Path) -> None:
    """Compare every file with SHA256SUMS, if there is one."""
    sums = folder / SUMS
    for line in sums.read_text().splitlines() if sums.is_file() else ():
        expected, _, name = line.partition("  ")
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name}: not there, but listed in {SUMS}")
        if (found := sha256(folder / name)) != expected:
            raise CheckpointError(
                f"{folder / name}: damaged or changed; its SHA-256 is {found[:12]}…, {SUMS} says {expected[:12]}…"
            )


def parse_config(path: Path) -> ModelConfig:
    """The model's shape from a `config.json`. Fails on every key that may change the model in a way we do not have."""
    raw = read_json(path)
    raw |= raw.pop("rope_parameters", None) or {}  # where `transformers` 5 keeps rope_theta
    for field in fields(ModelConfig):
        value = raw.get(field.name)
        numbers = (int,) if field.type == "int" else (int, float)
        if type(value) not in numbers or not 0 < value < math.inf:
            raise ValueError(f"{field.name} is {value!r}, must be a number above 0 ({numbers[-1].__name__})")
    config = ModelConfig(**{field.name: raw[field.name] for field in fields(ModelConfig)})
    needed = ARCHITECTURE | asdict(config) | {"head_dim": config.head_dim, "rope_type": "default"}
    needed["num_key_value_heads"] = config.num_attention_heads
    for name, value in raw.items():
        if name in needed and value not in (needed[name], None):
            raise ValueError(f"{name} is {value!r}, must be {needed[name]!r}")
        if name not in needed.keys() | HARMLESS and value not in (None, False):
            raise ValueError(f"{name} is {value!r}, which is not supported")
    return config


def load_weights(model: PoetryModel, path: Path) -> None:
    """Load the weights into the model. The output matrix may be in the file too if it is the embedding."""
    weights = load_file(path)
    head = weights.pop("lm_head.weight", None)
    if head is not None and not torch.equal(head, weights.get("model.embed_tokens.weight", head[:0])):
        raise ValueError("lm_head.weight is not the embedding, but must be tied to it")
    if integers := [name for name, tensor in weights.items() if not tensor.is_floating_point()]:
        raise ValueError(f"{integers[0]} holds integers")
    model.load_state_dict(weights)


def read_card(folder: Path | str) -> dict[str, Any]:
    """The facts in the header of a checkpoint's model card.

    Raises:
        CheckpointError: there is no card, or it has no header.
    """

    def header(path: Path) -> dict[str, Any]:
        return yaml.safe_load(path.read_text(encoding="utf-8").split("---\n", 2)[1])

    return read(Path(folder) / CARD, header, "a model card with a header between two lines of ---")


# --- growing --------------------------------------------------------------------------------------


def grow_embedding(model: PoetryModel, vocab_size: int) -> PoetryModel:
    """A copy of the model with rows for new tokens; each new row is the mean of the old rows (Hewitt 2021).

    The mean makes a new token about as likely as an average one. A random row may be longer than all others;
    then its token would win, or lose, every prediction before the first training step.

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


# --- files ----------------------------------------------------------------------------------------


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
