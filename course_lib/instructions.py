"""What a model can be asked to do: one `Instruction` for each request.

Training data, prompts, the command line, the boxes, the model card and the evaluation all read the same object. A
checkpoint keeps those that it was taught in `instructions.json`. Notebook 4 teaches `POEM`; `tasks.many` has more.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from random import Random
from typing import Literal, NamedTuple

from course_lib.language import say
from course_lib.poems import Poem
from course_lib.prosody import han, is_well_formed, scan

Kind = Literal["sentence", "clause", "turn"]
Given = Literal["title", "line", "poem", "text"]


class Exchange(NamedTuple):
    """One request and one answer: what the user gives, what the model writes, and the argument of the instruction."""

    given: str  # a title, a line or a poem
    answer: str
    argument: str = ""  # what stands in place of {} in the wording


def title_and_poem(poem: Poem, random: Random) -> Exchange:
    """The exchange that most instructions ask for: a title is given, and the poem is the answer."""
    return Exchange(poem.title, poem.text)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One request that a model is taught. Its name or its label chooses it.

    A `kind` of "sentence" is an instruction by itself. A "clause" is joined to a sentence: "…，押「東」韻". A "turn" is
    what a person says later in a conversation: 再寫一首. In all of them, {} marks the place of an argument.
    """

    name: str  # for the command line: "old-style"
    label: str  # for readers: "古體詩"
    wordings: tuple[str, ...]  # the sentences that make the request
    fits: Callable[[Poem], bool] | None = None  # is this poem an example of it? None: every poem is
    exchange: Callable[[Poem, Random], Exchange] = title_and_poem  # the example that a poem makes
    check: Callable[[Exchange], bool] | None = None  # whether an answer obeys; None: if it is a poem that fits
    given: Given = "title"  # what the user gives; "text": anything
    one_answer: bool = False  # only one answer is right, so the likeliest characters are taken
    kind: Kind = "sentence"
    arguments: Callable[[], str] | None = None  # the characters of which its argument is one; None: any text
    share: float = field(default=1.0, compare=False)  # how often it is taught, compared with the others that fit

    @property
    def wording(self) -> str:
        """The first wording, which is used in prompts."""
        return self.wordings[0]

    @property
    def taught_wordings(self) -> tuple[str, ...]:
        """The wordings to train on: all but the last, which tests if a model understands. The only one is taught."""
        return self.wordings[:-1] or self.wordings

    def can_use(self, poem: Poem) -> bool:
        """Whether the poem can be an example."""
        return self.fits is None or self.fits(poem)

    def obeyed(self, exchange: Exchange) -> bool:
        """Whether the answer does what was asked. It does not say whether the model ended the answer by itself."""
        if self.check:
            return self.check(exchange)
        poem = Poem(exchange.given, "", tuple(exchange.answer.split("\n")))
        return is_well_formed(exchange.answer) and self.can_use(poem)

    def about(self, argument: str) -> "Instruction":
        """The instruction with this argument in its wordings: rhyme=東.

        Raises ValueError if it takes no argument, or not this one.
        """
        if not argument and "{}" not in self.wording:
            return self
        if "{}" not in self.wording:
            raise ValueError(say("instruction {it} takes no argument: {it}", it=self.name))
        if not argument:
            raise ValueError(say("instruction {it} takes an argument: {it}=…", it=self.name))
        if self.arguments and argument not in tuple(known := self.arguments()):
            raise ValueError(say("{of} cannot be {it!r}. Choose from {all}.", of=self.name, it=argument, all=known))
        if han(argument) != argument:
            raise ValueError(say("{it!r} may hold Chinese characters only, such as 春夏秋冬.", it=argument))
        wordings = tuple(wording.replace("{}", argument) for wording in self.wordings)
        filled = replace(self, name=f"{self.name}={argument}", label=f"{self.label}「{argument}」", wordings=wordings)
        return replace(filled, check=lambda exchange: self.obeyed(exchange._replace(argument=argument)))


def joined(sentence: Instruction, clauses: Sequence[Instruction]) -> Instruction:
    """A sentence with clauses, as one instruction: 請用以下題目寫一首七言絕句，押「東」韻. All of it must be obeyed.

    It has two wordings, made of the first and of the last of each part. Raises ValueError if the parts are not a
    sentence to a title and clauses.
    """
    if not clauses:
        return sentence
    parts = (sentence, *clauses)
    if sentence.given != "title" or sentence.kind != "sentence" or any(each.kind != "clause" for each in clauses):
        names = ", ".join(part.name for part in parts)
        raise ValueError(say("{names}: only clauses can be added, and only to poems on titles", names=names))
    return replace(
        sentence,
        name=",".join(part.name for part in parts),
        label="，".join(part.label for part in parts),
        wordings=tuple("".join(part.wordings[i] for part in parts) for i in (0, -1)),
        check=lambda exchange: all(part.obeyed(exchange) for part in parts),
    )


cached_scan = lru_cache(maxsize=4096)(scan)  # many instructions ask about the same poem


def is_old_style(poem: Poem) -> bool:
    """Whether a poem is not regulated verse (近體詩): it does not rhyme, or breaks a rule of form or tone."""
    scansion = cached_scan(poem.text)
    return not (scansion.rhymes and scansion.regulated)


POEM = Instruction("poem", "詩", ("請用以下題目寫一首詩",))  # "Please write a poem on the following title"
OLD_STYLE = Instruction("old-style", "古體詩", ("請用以下題目寫一首古體詩",), is_old_style)  # "… an old-style poem …"
ALL = (POEM, OLD_STYLE)


def answered_by(poem: Poem, taught: Sequence[Instruction]) -> Instruction:
    """The instruction that `poem` answers: the last of `taught` that it fits. List special ones after general ones.

    Raises ValueError if the poem fits none of them.
    """
    for instruction in reversed(taught):
        if instruction.can_use(poem):
            return instruction
    raise ValueError(f"{poem.title} answers none of these instructions: {choices(taught)}; add 'poem', which fits all")


def find(name: str, among: Sequence[Instruction]) -> Instruction:
    """The instruction with this name or label; "quatrain-7,rhyme=東" joins several, and gives one an argument.

    A clause by itself is joined to the first instruction. Raises a ValueError that lists the choices if there is no
    such instruction, or if the parts cannot be joined.
    """
    parts = []
    for part in name.replace("，", ",").split(","):
        asked, _, argument = part.strip().partition("=")
        found = next((i for i in among if asked in (i.name, i.label)), None)
        if found is None or found.kind == "turn":
            raise ValueError(say("there is no instruction {it!r}; choose one of: {all}", it=asked, all=choices(among)))
        parts.append(found.about(argument))
    if parts[0].kind == "clause":
        parts.insert(0, among[0])
    return joined(parts[0], parts[1:])


def choices(instructions: Iterable[Instruction]) -> str:
    """Names and labels for a message: "poem (詩), rhyme=… (押韻)"."""
    offered = (each for each in instructions if each.kind != "turn")
    return ", ".join(f"{i.name}{'=…' if '{}' in i.wording else ''} ({i.label})" for i in offered)
