"""Conversations to train on: each begins with one poem, as the answer to a randomly chosen instruction.

    system      你是一位唐代詩人。請以此題作一首七言絕句，用「微」韻
    user        江上
    assistant   (the poem)
    user        再寫一首
    assistant   (another poem on that title)

A conversation is a list of messages, in the form that chat interfaces use.
"""

from collections import defaultdict
from collections.abc import Sequence
from random import Random

from course_lib.instructions import Instruction
from course_lib.poems import Poem
from course_lib.prosody import is_well_formed
from course_lib.roles import Conversation, Message, opening
from course_lib.tasks.many import is_mixed, verse_form

SCENES = (
    "你是一位唐代詩人。",
    "你是唐朝的詩人，只用詩回答。",
    "你住在長安，以詩會友。",
    "你是山中的隱士，能詩。",
    "你是教人作詩的先生。",
)
JOINED = {"rhyme", "acrostic", "another", "another-form", "next-title"}  # the clauses and turns that are drawn
MIXED = "mixed"  # the instruction for lines of different lengths
WITH_SCENE = 0.2  # the share of conversations that begin with one of these
WITH_RHYME, WITH_ACROSTIC = 0.3, 0.3  # the shares of requests for a poem that have the clause; none has both
WITH_SLIPS = 0.5  # the share of requests that lose characters, each one with this probability:
SLIP = 0.25
WITH_TURN = 0.5  # the share of requests for a poem, and of the answers after them, that another turn follows


def mixed_conversations(poems: Sequence[Poem], taught: Sequence[Instruction], seed: int = 0) -> list[Conversation]:
    """A conversation for each poem, about a randomly chosen instruction that it fits.

    Each instruction and each of its wordings is drawn, except for the last wording. A general request for a poem is
    answered by regulated verse, if other poems have an instruction of their own. A poem with lines of different
    lengths is an example of such verse alone; other poems that are not couplets of lines of five, or of seven, are left
    out. So an answer is well formed unless mixed lines were asked for. `seed` decides all draws. Raises ValueError if
    `taught` has a clause or a turn that `MANY` lacks.
    """
    if strange := [i.name for i in taught if i.kind != "sentence" and i.name not in JOINED]:
        raise ValueError(f"{', '.join(strange)}: only sentences can be added to those of MANY, no clause and no turn")
    mixed = any(each.name == MIXED for each in taught)
    usable = [poem for poem in poems if is_well_formed(poem.text) or (mixed and is_mixed(poem))]
    return Lottery(usable, taught, seed).conversations()


class Lottery:
    """Draws conversations from poems."""

    def __init__(self, poems: Sequence[Poem], taught: Sequence[Instruction], seed: int) -> None:
        self.random = Random(seed)
        self.poems = poems
        self.sentences = [i for i in taught if i.kind == "sentence"]
        self.clauses = {i.name: i for i in taught if i.kind == "clause"}
        self.turns = {i.name: i for i in taught if i.kind == "turn"}
        self.form_of = {poem: verse_form(poem.text) for poem in dict.fromkeys(poems)}
        self.on_title: dict[str, list[Poem]] = defaultdict(list)  # title → its poems
        self.in_form: dict[str, list[Poem]] = defaultdict(list)  # form → its poems
        for poem, form in self.form_of.items():
            self.on_title[poem.title].append(poem)
            self.in_form[form].append(poem)

    def conversations(self) -> list[Conversation]:
        """One conversation for each poem, in the order of the poems."""
        return [self.conversation(poem) for poem in self.poems if self.sentences_for(poem)]

    def sentences_for(self, poem: Poem) -> list[Instruction]:
        """The instructions that the poem can be an example of."""
        fitting = [i for i in self.sentences if i.can_use(poem)]
        names = {i.name for i in fitting}
        if MIXED in names:
            return [i for i in fitting if i.name in (MIXED, "title")]
        return [i for i in fitting if not (i.name == "poem" and "old-style" in names)]

    def conversation(self, poem: Poem) -> Conversation:
        """One conversation that begins with this poem."""
        fitting = self.sentences_for(poem)
        (instruction,) = self.random.choices(fitting, [i.share for i in fitting])
        exchange = instruction.exchange(poem, self.random)
        wording = self.worded(instruction)
        asks_for_poem = instruction.given == "title"
        clause = self.clause(poem) if asks_for_poem and instruction.name != MIXED else None
        if clause:
            exchange = clause.exchange(poem, self.random)
            wording += self.worded(clause, exchange.argument)
        messages = opening(self.scene() + wording, exchange)
        said = [poem]
        while asks_for_poem and not clause and self.random.random() < WITH_TURN and (turn := self.turn(said)):
            request, answer = turn
            messages += [Message(role="user", content=request), Message(role="assistant", content=answer.text)]
            said.append(answer)
        return messages

    def scene(self) -> str:
        """Now and then a sentence that sets the scene, else ""."""
        return self.random.choice(SCENES) if self.random.random() < WITH_SCENE else ""

    def worded(self, instruction: Instruction, argument: str = "") -> str:
        """One of the wordings that are taught. Half of the time it has lost some characters.

        So the model cannot know a request by one character of its wording, and new wordings are less strange to it.
        A label that the wording contains is kept: 押「東」韻 may lose 押, because it does not contain the label 押韻.
        """
        wording = self.random.choice(instruction.taught_wordings)
        if self.random.random() < WITH_SLIPS:
            label = instruction.label if instruction.label in wording else ""
            kept = {*label, "「", "」", "{", "}"}
            wording = "".join(c for c in wording if c in kept or self.random.random() > SLIP)
        return wording.replace("{}", argument)

    def clause(self, poem: Poem) -> Instruction | None:
        """A clause that the poem obeys, or None."""
        draw = self.random.random()
        name = "rhyme" if draw < WITH_RHYME else "acrostic" if draw < WITH_RHYME + WITH_ACROSTIC else ""
        clause = self.clauses.get(name)
        return clause if clause and clause.can_use(poem) else None

    def turn(self, said: Sequence[Poem]) -> tuple[str, Poem] | None:
        """What a person says after these poems, and another poem that answers it; None if there is no such poem."""
        form = self.form_of[said[-1]]
        others = [poem for poem in self.on_title[said[-1].title] if poem not in said and self.form_of[poem]]
        same = [poem for poem in others if self.form_of[poem] == form]
        other = [poem for poem in others if self.form_of[poem] != form]
        answers = {"another": same, "another-form": other, "next-title": self.in_form[form]}
        names = [name for name, found in answers.items() if found and name in self.turns]
        if not form or not names:
            return None
        name = self.random.choice(names)
        poem = self.random.choice(answers[name])
        argument = {"another-form": self.form_of[poem], "next-title": poem.title}.get(name, "")
        return None if poem in said else (self.worded(self.turns[name], argument), poem)
