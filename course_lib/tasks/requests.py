"""Requests without an answer: what a model is asked when it learns from answers of its own."""

from collections.abc import Sequence
from typing import NamedTuple, Self

from course_lib.instructions import Exchange, Instruction, joined
from course_lib.poems import Poem
from course_lib.prosody import split_lines
from course_lib.roles import Conversation, Message, asking
from course_lib.tasks.lottery import MIXED, WITH_TURN, Lottery

LONGEST = 16  # lines of a poem that is given; with its instruction it fills half of the context


class Request(NamedTuple):
    """A conversation that ends with a request, and what the answer must be."""

    prompt: Conversation
    instruction: Instruction
    given: str  # the title, the line or the poem that it is about
    before: str = ""  # the answer before this request: none of its lines may come again

    @classmethod
    def first(cls, instruction: Instruction, given: str, system: str = "") -> Self:
        """The first request of a conversation; without a `system` line, in the first wording of the instruction."""
        return cls(asking(system or instruction.wording, given), instruction, given)

    def then(self, answer: str, content: str, instruction: Instruction) -> "Request":
        """The request that follows when this one has its answer."""
        said = [Message(role="assistant", content=answer), Message(role="user", content=content)]
        return Request([*self.prompt, *said], instruction, self.given, before=answer)

    def obeyed(self, answer: str) -> bool:
        """Whether the answer does what was asked, and has no line of the one before it."""
        repeats = not set(split_lines(answer)).isdisjoint(split_lines(self.before))
        return not repeats and self.instruction.obeyed(Exchange(self.given, answer))


def requests(taught: Sequence[Instruction], poems: Sequence[Poem], plain: float = 0.2, seed: int = 0) -> list[Request]:
    """A request about each poem: with the probability `plain` a poem on its title, else anything that was taught.

    The poem need not be the answer, so every title can be asked for in every form. What `Lottery` holds out of training
    is held out here too: the last wordings, and two clauses in one request. Poems of more than 16 lines are left out.
    """
    short = [poem for poem in poems if len(poem.lines) <= LONGEST]
    lottery = RequestLottery(short, taught, seed)
    return [lottery.about(poem, lottery.random.random() < plain) for poem in short]


class RequestLottery(Lottery):
    """Draws requests from poems."""

    def about(self, poem: Poem, plain: bool) -> Request:
        """One request about this poem; with a clause or a second turn, it may be about another poem in the form."""
        fitting = self.sentences[:1] if plain else [i for i in self.sentences if i.given == "title" or i.can_use(poem)]
        (sentence,) = self.random.choices(fitting, [i.share for i in fitting])
        system = self.scene() + self.worded(sentence)
        if plain or sentence.given != "title" or sentence.name == MIXED:
            return Request.first(sentence, sentence.exchange(poem, self.random).given, system)
        in_form = self.in_form.get(sentence.label)
        other = self.random.choice(in_form or [poem])  # an acrostic has as many characters as the form has lines
        if clause := self.clause(other):
            exchange = clause.exchange(other, self.random)
            asked = joined(sentence, [clause.about(exchange.argument)])
            return Request.first(asked, exchange.given, system + self.worded(clause, exchange.argument))
        if in_form and self.turns and self.random.random() < WITH_TURN:
            return self.second(Request.first(sentence, other.title, system), other.text, poem.title)
        return Request.first(sentence, poem.title, system)

    def second(self, first: Request, answer: str, title: str) -> Request:
        """What is said after a poem: another one, one in another form, or one on this other title."""
        turn = self.random.choice(list(self.turns.values()))
        others = [i for i in self.sentences if i.label in self.in_form and i != first.instruction]
        form = self.random.choice(others or [first.instruction]) if turn.name == "another-form" else first.instruction
        argument = {"another-form": form.label, "next-title": title}.get(turn.name, "")
        later = first.then(answer, self.worded(turn, argument), form)
        return later._replace(given=title) if turn.name == "next-title" else later
