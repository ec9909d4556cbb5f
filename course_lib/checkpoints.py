"""A checkpoint folder on disk ↔ a model, its tokenizer, and the instructions it was taught.

model.safetensors        the weights, 16 bits each, under the names of `LlamaForCausalLM`
config.json              the model's shape
tokenizer.json           the vocabulary
tokenizer_config.json    the chat template and the special tokens, for `transformers`
instructions.json        what the model can be asked for; a base model has no such file
MODEL_CARD.md            what the model read, how it was trained, how well it does
SHA256SUMS               checksums of these files except the card, for `sha256sum -c`

`transformers` opens such a folder, and `load_checkpoint` opens those that `transformers` saves. Nothing is unpickled.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from safetensors.torch import save_file

from course_lib.engine.llama_format import check_finite, llama_config, load_model, parse_config, tokenizer_config
from course_lib.files import finish, replacing
from course_lib.instructions import POEM, Instruction, find
from course_lib.language import say
from course_lib.model import PoetryModel
from course_lib.tasks import from_rows, to_rows
from course_lib.tokenizer import CharacterTokenizer

Result = TypeVar("Result")

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
INSTRUCTIONS = "instructions.json"
CARD = "MODEL_CARD.md"
SUMS = "SHA256SUMS"


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

    @property
    def context(self) -> int:
        """How many tokens the model sees at once."""
        return self.model.config.max_position_embeddings

    def with_roles(self, instructions: Sequence[Instruction] = (POEM,)) -> "Checkpoint":
        """A copy that can be taught `instructions`: it has the role tokens, and an embedding row for each of them.

        If the role tokens are there already, the model is not copied.
        """
        if self.tokenizer.has_roles:
            return replace(self, instructions=tuple(instructions))
        tokenizer = self.tokenizer.copy()
        tokenizer.add_role_tokens()
        return Checkpoint(grow_embedding(self.model, len(tokenizer)), tokenizer, tuple(instructions))

    def instruction(self, name: str | None = None) -> Instruction:
        """The instruction with this name or label; without a name, the first one the model was taught.

        Raises ValueError if the model was not taught this instruction.
        """
        if not self.instructions:
            raise ValueError(say("a base model was taught no instruction; it can only continue a text"))
        return find(name, self.instructions) if name else self.instructions[0]


def grow_embedding(model: PoetryModel, vocab_size: int) -> PoetryModel:
    """A copy of the model with rows for new tokens; each new row is the mean of the old rows (Hewitt 2021).

    The mean makes a new token about as likely as an average one. With a random row it might win, or lose, every
    prediction before the first training step. Raises ValueError if the vocabulary would shrink.
    """
    old = model.model.embed_tokens.weight.detach()
    if vocab_size < len(old):
        raise ValueError(f"the model has {len(old)} tokens, {vocab_size} are fewer")
    grown = PoetryModel(replace(model.config, vocab_size=vocab_size)).to(old.device)
    new_rows = old.mean(dim=0).expand(vocab_size - len(old), -1)
    grown.load_state_dict(model.state_dict() | {"model.embed_tokens.weight": torch.cat((old, new_rows))})
    return grown


def average(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """A checkpoint whose weights are the means of those of `checkpoints`: a model soup (Wortsman et al. 2022).

    All must have been trained from the same weights; otherwise the means are of no use. Raises ValueError if they
    differ in shape, vocabulary or instructions.
    """
    first, *others = checkpoints
    for other in others:
        same = {
            "shape": first.model.config == other.model.config,
            "vocabulary": first.tokenizer.backend.get_vocab() == other.tokenizer.backend.get_vocab(),
            "instructions": first.instructions == other.instructions,
        }
        if different := [part for part, is_same in same.items() if not is_same]:
            raise ValueError(f"models of different {different[0]} have no average")
    states = [checkpoint.model.state_dict() for checkpoint in checkpoints]
    model = PoetryModel(first.model.config).to(first.device)
    model.load_state_dict({name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]})
    return replace(first, model=model.eval())


def save_checkpoint(checkpoint: Checkpoint, folder: Path, facts: Mapping[str, Any], story: str) -> None:
    """Write a checkpoint folder, with `facts` as the card's header and `story` as its text.

    After an error or a kill at any moment, `load_checkpoint` finds the old checkpoint or the new one. Raises OSError if
    the folder cannot be written, or if a weight is not a number in 16 bits.
    """
    model = checkpoint.model
    tokenizer = checkpoint.tokenizer
    with replacing(folder) as new:
        half = {name: tensor.half().cpu().contiguous() for name, tensor in model.state_dict().items()}
        check_finite(half)
        save_file(half, new / WEIGHTS, metadata={"format": "pt"})
        write_json(new / CONFIG, llama_config(model.config, tokenizer))
        tokenizer.save(new / TOKENIZER)
        write_json(new / TOKENIZER_CONFIG, tokenizer_config(model.config, tokenizer))
        if tokenizer.has_roles:
            write_json(new / INSTRUCTIONS, to_rows(checkpoint.instructions))
        sums = {file.name: sha256(file) for file in sorted(new.iterdir())}
        (new / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))
        header = yaml.safe_dump({**facts, "sha256": sums[WEIGHTS]}, sort_keys=False, allow_unicode=True)
        (new / CARD).write_text(f"---\n{header}---\n\n{story.strip()}\n", encoding="utf-8")
    if not tokenizer.has_roles:
        (folder / INSTRUCTIONS).unlink(missing_ok=True)  # an earlier model's


def load_checkpoint(folder: Path | str, device: torch.device | None = None) -> Checkpoint:
    """The checkpoint in `folder`, its weights in float32.

    `transformers` saves no instructions.json. Then a model with role tokens counts as taught `POEM`. Raises
    CheckpointError if a file is missing or damaged, or describes a model that this course cannot run.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(say("{it}: no such folder; a checkpoint has {file} in it", it=folder, file=WEIGHTS))
    sums = read(folder / SUMS, read_sums, say("a list of checksums")) if (folder / SUMS).is_file() else {}
    for name, expected in sums.items():
        if (found := read(folder / name, sha256, say("a file that {it} lists", it=SUMS))) != expected:
            n = {"it": folder / name, "found": found[:12], "file": SUMS, "said": expected[:12]}
            raise CheckpointError(say("{it}: damaged or changed; its SHA-256 is {found}…, {file} says {said}…", **n))
    what = say("the configuration of a model of this course")
    config = read(folder / CONFIG, lambda path: parse_config(read_json(path)), what)
    tokenizer = read(folder / TOKENIZER, CharacterTokenizer.load, say("a tokenizer of this course"))
    if sorted(tokenizer.backend.get_vocab().values()) != list(range(size := config.vocab_size)):
        n = {"it": folder / TOKENIZER, "n": len(tokenizer), "file": CONFIG, "size": size, "to": size - 1}
        raise CheckpointError(say("{it}: {n} tokens; {file} says vocab_size {size}, so the ids must be 0 to {to}", **n))
    model = read(folder / WEIGHTS, partial(load_model, config), say("the weights that {it} describes", it=CONFIG))
    instructions: tuple[Instruction, ...] = (POEM,) if tokenizer.has_roles else ()
    if instructions and (folder / INSTRUCTIONS).is_file():  # an older model's may lie there when a save was killed
        what = say("a list of instructions")
        instructions = read(folder / INSTRUCTIONS, lambda path: from_rows(read_json(path)), what)
    return Checkpoint(model.to(device or "cpu").eval(), tokenizer, instructions)


def read(path: Path, parse: Callable[[Path], Result], what: str) -> Result:
    """`parse(path)`, which should find `what` in the file.

    Raises CheckpointError, with a message of one line, if there is no such file, or if `parse` fails.
    """
    finish(path.parent)
    if not path.is_file():
        raise CheckpointError(say("{path}: not there; expected {what}", path=path, what=what))
    try:
        return parse(path)
    except Exception as error:  # the tokenizers library raises bare exceptions
        why = " ".join(str(error).split())[:400]
        raise CheckpointError(say("{path}: not {what} ({why})", path=path, what=what, why=why)) from error


def read_card(folder: Path | str) -> dict[str, Any]:
    """The facts in the header of a checkpoint's model card.

    Raises CheckpointError if there is no card, or if it has no header.
    """

    def parse(path: Path) -> dict[str, Any]:
        facts = yaml.safe_load(path.read_text("utf-8").split("---\n", 2)[1])
        if not isinstance(facts, dict):
            raise ValueError("its header is no table of facts")
        return facts

    return read(Path(folder) / CARD, parse, say("a model card with a header between two lines of ---"))


def read_sums(path: Path) -> dict[str, str]:
    """The checksums that a file lists, by the names of the files; it has the form that `sha256sum` reads.

    Raises ValueError if a line has another form.
    """
    sums = {}
    for line in path.read_text("utf-8").splitlines():
        if found := re.fullmatch(r"([0-9a-fA-F]{64}) [ *](.+)", line):
            sums[found[2]] = found[1].lower()
        elif line.strip() and not line.startswith("#"):
            raise ValueError(f"a line is no checksum and name: {line[:80]!r}")
    return sums


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
