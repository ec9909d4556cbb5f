"""Does a model do what it is asked? A program can check form, rhyme and first characters, so obedience is a figure.

Each instruction is asked in a wording that was taught and in one that was not. Some requests join what was never
joined in training: a rhyme with an acrostic, with and without a named form.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from random import Random
from typing import Literal, NamedTuple

from course_lib.checkpoints import Checkpoint
from course_lib.evaluation.held_out import Progress
from course_lib.evaluation.metrics import Estimate, aligned, bootstrap_mean, cell
from course_lib.generation import iter_answers, settings_for
from course_lib.instructions import Instruction, joined
from course_lib.poems import Poem
from course_lib.prosody import is_well_formed
from course_lib.roles import Conversation, message_segments
from course_lib.sampling import GenerationSettings
from course_lib.tasks import FORMS, Request
from course_lib.tasks.many import heads, rhyme_of

IN_FOURS = (
    "生日快樂新年快樂人工智能天天向上心想事成萬事如意恭喜發財前程似錦一路平安身體健康"
    "花好月圓年年有餘學業進步世界和平早日康復百年好合春暖花開機器學習我愛中國畢業快樂"
)  # 生日快樂, happy birthday; 新年快樂, happy new year; 人工智能, artificial intelligence; …
WISHES = tuple(IN_FOURS[i : i + 4] for i in range(0, len(IN_FOURS), 4))  # as heads of acrostics, which no poet wrote
HEADS = 4  # characters of an acrostic


class Question(NamedTuple):
    """A question to the model, in the first wording of an instruction or in the last one.

    `turn` is what is said when it is answered, and the instruction that the second answer must obey.
    """

    row: str  # of the table
    request: Request
    wording: Literal[0, -1] = 0
    turn: tuple[str, Instruction] | None = None


class Obedience(NamedTuple):
    """The share of questions that were obeyed, in the first wording and in the last one, which was not taught.

    `held_out` is None if there is only one wording.
    """

    taught: Estimate
    held_out: Estimate | None


def questions(taught: Sequence[Instruction], poems: Sequence[Poem], wording: Literal[0, -1]) -> list[Question]:
    """All questions that the poems make, in one wording, and acrostics of the `WISHES`, which no poet wrote."""
    random = Random(0)
    if wording == -1:
        taught = [each for each in taught if len(each.wordings) > 1]
    named = {each.name: each for each in taught}
    sentences = [each for each in taught if each.kind == "sentence"]
    if not sentences:
        return []
    forms = [named[form.name] for form in FORMS if form.name in named]
    asked: list[Question] = []

    def ask(row: str, instruction: Instruction, given: str, turn: tuple[str, Instruction] | None = None) -> None:
        asked.append(Question(row, Request.first(instruction, given, instruction.wordings[wording]), wording, turn))

    for number, poem in enumerate(poems):
        can_be_given = is_well_formed(poem.text) and len(poem.lines) <= 16  # a longer one may fill the context
        for each in sentences:
            if each.given == "title" and each.fits:
                ask(each.name, each, poem.title)  # any title can be asked for in any form
            elif each.given in ("line", "poem") and can_be_given and each.can_use(poem):
                ask(each.name, each, each.exchange(poem, random).given)
        clauses = clauses_of(poem, named)
        for clause in clauses:
            ask(clause.name.partition("=")[0], joined(sentences[0], [clause]), poem.title)
        if len(clauses) == 2:
            ask("rhyme, acrostic", joined(sentences[0], clauses), poem.title)
            for form in [form for form in forms if form.name.startswith("quatrain")]:
                ask("form, rhyme, acrostic", joined(form, clauses), poem.title)
        if forms:
            before, after = (forms[(number + i) % len(forms)] for i in range(2))
            turns = {"another": ("", before), "another-form": (after.label, after)}
            turns["next-title"] = (poems[number - 1].title, before)
            for name in (name for name in turns if name in named):
                argument, obeyed = turns[name]
                ask(name, before, poem.title, (named[name].wordings[wording].replace("{}", argument), obeyed))
    for wish in WISHES if "acrostic" in named else ():
        ask("acrostic of a wish", joined(sentences[0], [named["acrostic"].about(wish)]), wish)
    return asked


def clauses_of(poem: Poem, named: Mapping[str, Instruction]) -> list[Instruction]:
    """The poem's rhyme and its first four characters as clauses, as far as the model was taught such clauses."""
    first = heads(poem.text)[:HEADS]
    arguments = {"rhyme": rhyme_of(poem), "acrostic": first if len(first) == HEADS else ""}
    return [named[name].about(argument) for name, argument in arguments.items() if name in named and argument]


def measure_obedience(
    checkpoint: Checkpoint,
    poems: Sequence[Poem],
    count: int = 100,
    settings: GenerationSettings | None = None,
    progress: Progress = lambda *_: None,
) -> dict[str, Obedience]:
    """How often the checkpoint obeys each instruction that a program can check: any poem is right for "poem" itself.

    It asks at most `count` questions for each row and wording. An answer counts if the model ended it and
    `Request.obeyed` says so; of two answers, the second.
    """
    settings = settings or GenerationSettings()
    asked: list[Question] = []
    for wording in (0, -1):
        rows: dict[str, list[Question]] = defaultdict(list)
        for question in questions(checkpoint.instructions, poems, wording):
            rows[question.row].append(question)
        asked += [question for row in rows.values() for question in row[:count]]
    asking = [question.request for question in asked]
    own_settings = [settings_for(request.instruction, settings) for request in asking]
    given = answers(checkpoint, [request.prompt for request in asking], own_settings, progress)
    later = [(i, *turn) for i, question in enumerate(asked) if (turn := question.turn)]
    for i, content, instruction in later:
        asking[i] = asking[i].then(given[i], content, instruction)
    second = answers(checkpoint, [asking[i].prompt for i, *_ in later], [settings] * len(later), progress)
    for (i, *_), answer in zip(later, second, strict=True):
        given[i] = answer
    obeyed: dict[tuple[str, int], list[bool]] = defaultdict(list)
    for question, request, answer in zip(asked, asking, given, strict=True):
        obeyed[question.row, question.wording].append(request.obeyed(answer))
    shares = {key: bootstrap_mean(values) or Estimate(0) for key, values in obeyed.items()}
    return {row: Obedience(share, shares.get((row, -1))) for (row, wording), share in shares.items() if wording == 0}


def answers(
    checkpoint: Checkpoint,
    talks: Sequence[Conversation],
    settings: Sequence[GenerationSettings],
    progress: Progress = lambda *_: None,
) -> list[str]:
    """The assistant's next message in each conversation; "" if the model did not end it, or has no room for it."""
    found = [""] * len(talks)
    prompts = [checkpoint.tokenizer.encode_segments(message_segments(talk, open_response=True)) for talk in talks]
    context = checkpoint.context
    for each in dict.fromkeys(settings):
        numbers = [i for i, own in enumerate(settings) if own == each and len(prompts[i]) < context]
        readable, seeds = [prompts[i] for i in numbers], [each.seed] * len(numbers)
        written = iter_answers(checkpoint, readable, each, seeds)
        for done, (i, poem) in enumerate(zip(numbers, written, strict=True), start=1):
            found[i] = poem.text if poem.reason == "end" else ""
            progress("asking", done, len(numbers))
    return found


def obedience_table(rows: Mapping[str, Obedience]) -> str:
    """The shares as a table of text, in percent with 95 % intervals."""
    head = ["obeys (%)", "a wording it was taught", "another wording"]
    return aligned([head, *([name, cell(row.taught, "%"), cell(row.held_out, "%")] for name, row in rows.items())])
