"""What a model can be asked to do: one `Instruction` for each request.

Training data, prompts, the command line, the title box and the model card all read the same object. A checkpoint
keeps those that it was taught in `instructions.json`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from course_lib.poems import Poem
from course_lib.prosody import scan


@dataclass(frozen=True, slots=True)
class Instruction:
    """One request that a model is taught. Its name or its label chooses it."""

    name: str  # for the command line: "old-style"
    label: str  # for readers: "古體詩"
    wordings: tuple[str, ...]  # the sentences that make the request
    fits: Callable[[Poem], bool] | None = None  # whether a poem answers it; None: every poem does

    @property
    def wording(self) -> str:
        """The first wording, which is used in prompts."""
        return self.wordings[0]


def is_old_style(poem: Poem) -> bool:
    """Whether a poem is not regulated verse (近體詩): it does not rhyme, or breaks a rule of form or tone."""
    scansion = scan(poem.text)
    return not (scansion.rhymes and scansion.regulated)


POEM = Instruction("poem", "詩", ("請用以下題目寫一首詩",))  # "Please write a poem on the following title"
OLD_STYLE = Instruction("old-style", "古體詩", ("請用以下題目寫一首古體詩",), is_old_style)  # "… an old-style poem …"
ALL = (POEM, OLD_STYLE)


def answered_by(poem: Poem, taught: Sequence[Instruction]) -> Instruction:
    """The instruction that `poem` answers: the last of `taught` that it fits. List special ones after general ones.

    Raises ValueError if the poem fits none of them.
    """
    for instruction in reversed(taught):
        if instruction.fits is None or instruction.fits(poem):
            return instruction
    raise ValueError(f"{poem.title} answers none of these instructions: {choices(taught)}; add 'poem', which fits all")


def find(name: str, among: Sequence[Instruction]) -> Instruction:
    """The instruction with this name or label. Raises a ValueError that lists the choices if there is none."""
    for instruction in among:
        if name in (instruction.name, instruction.label):
            return instruction
    raise ValueError(f"there is no instruction {name!r}; choose one of: {choices(among)}")


def choices(instructions: Iterable[Instruction]) -> str:
    """Names and labels for a message: "poem (詩), old-style (古體詩)"."""
    return ", ".join(f"{i.name} ({i.label})" for i in instructions)


def to_rows(instructions: Iterable[Instruction]) -> list[dict[str, Any]]:
    """The instructions as JSON values, for `instructions.json`. `fits` is left out."""
    return [{"name": i.name, "label": i.label, "wordings": list(i.wordings)} for i in instructions]


def from_rows(rows: Any) -> tuple[Instruction, ...]:
    """The instructions of an `instructions.json`. `fits` comes from the instruction of that name in `ALL`.

    Raises ValueError if the rows do not have the form that `to_rows` gives them.
    """
    fits = {i.name: i.fits for i in ALL}
    taught = []
    for row in rows if isinstance(rows, list) else [rows]:
        match row:
            case {"name": str(name), "label": str(label), "wordings": [str(), *others] as wordings} if all(
                isinstance(wording, str) for wording in others
            ):
                taught.append(Instruction(name, label, tuple(wordings), fits.get(name)))
            case _:
                raise ValueError(f"an instruction has a name, a label and a list of wordings; this one is {row!r}")
    return tuple(taught)
