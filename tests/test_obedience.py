"""Whether a model does what it is asked: the questions, when an answer obeys, and the shares."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from course_lib.checkpoints import Checkpoint
from course_lib.evaluation import obedience
from course_lib.evaluation.metrics import Estimate
from course_lib.evaluation.obedience import WISHES, Obedience, Question, measure_obedience, obedience_table, questions
from course_lib.generation import Reason, WrittenPoem
from course_lib.instructions import ALL, POEM, Exchange, Instruction
from course_lib.poems import Poem, load_poems
from course_lib.prosody import han, split_lines
from course_lib.roles import Conversation
from course_lib.sampling import GenerationSettings
from course_lib.tasks import MANY, verse_form

TOWER = Poem("登鸛雀樓", "王之渙", ("白日依山盡，黃河入海流。", "欲窮千里目，更上一層樓。"))
LUTE = Poem("竹里館", "王維", ("獨坐幽篁裏，彈琴復長嘯。", "深林人不知，明月來相照。"))  # an oblique rhyme
SONG = Poem("江南", "", ("江南可采蓮，蓮葉何田田。", "魚戲蓮葉間。"))  # no couplets
LONG = Poem("長韻", "", TOWER.couplets * 20)
Shares = dict[str, tuple[float, float]]  # row → in the wording that was taught, in the other
ENDINGS: list[tuple[Reason, int]] = [("end", 1), ("length", 0)]
NAMED = {row.name: row for row in MANY}


def rows_of(poems: Sequence[Poem], taught: Sequence[Instruction] = MANY) -> dict[str, list[Question]]:
    asked = questions(taught, poems, 0)
    return {row: [question for question in asked if question.row == row] for row in dict.fromkeys(q.row for q in asked)}


# --- the questions --------------------------------------------------------------------------------


def test_a_poem_makes_questions_for_all_rows_and_joins_what_was_never_joined() -> None:
    rows = rows_of([TOWER])
    assert list(rows) == [
        *("old-style", "mixed", "quatrain-5", "quatrain-7", "regulated-5", "regulated-7"),
        *("continue", "couplet", "title", "name-form", "punctuate", "rhyme", "acrostic"),
        *("rhyme, acrostic", "form, rhyme, acrostic", "another", "another-form", "next-title", "acrostic of a wish"),
    ]
    assert rows["rhyme, acrostic"][0].request.prompt == [
        {"role": "system", "content": "請用以下題目寫一首詩，押「尤」韻，以「白黃欲更」藏頭"},
        {"role": "user", "content": "登鸛雀樓"},
    ]
    labels = [q.request.instruction.label for q in rows["form, rhyme, acrostic"]]
    assert labels == [f"{form}，押韻「尤」，藏頭「白黃欲更」" for form in ("五言絕句", "七言絕句")]
    assert (rows["punctuate"][0].request.given, rows["title"][0].request.given) == (han(TOWER.text), TOWER.text)
    assert [q.request.given for q in rows["acrostic of a wish"]] == list(WISHES)


def test_the_wording_is_the_first_or_the_one_that_was_not_taught() -> None:
    taught, held_out = (questions(MANY, [TOWER], wording) for wording in (0, -1))
    for question, other in zip(taught, held_out, strict=True):
        assert (question.row, question.request.given) == (other.row, other.request.given)
        asked, differently = (q.request.prompt[0]["content"] for q in (question, other))
        assert asked == question.request.instruction.wording != differently
        assert differently == other.request.instruction.wordings[-1]
    assert [q.turn[0] for q in taught if q.turn] == ["再寫一首", "改成七言絕句", "再以「登鸛雀樓」爲題寫一首"]
    assert [q.turn[0] for q in held_out if q.turn][:2] == ["請再來一首", "請改成一首七言絕句"]


def test_the_forms_and_titles_of_later_turns_change_from_poem_to_poem() -> None:
    rows = rows_of([TOWER, LUTE, SONG])
    forms = ["五言絕句", "七言絕句", "五言律詩", "七言律詩"]
    for row, later in (("another", forms[:3]), ("another-form", forms[1:]), ("next-title", forms[:3])):
        assert [q.request.instruction.label for q in rows[row]] == forms[:3]
        assert [q.turn and q.turn[1].label for q in rows[row]] == later
    assert [q.turn and q.turn[0][3:-6] for q in rows["next-title"]] == ["江南", "登鸛雀樓", "竹里館"]


def test_only_what_was_taught_is_asked() -> None:
    assert list(rows_of([TOWER], ALL)) == ["old-style"]
    assert rows_of([TOWER], [POEM]) == {}  # nothing that could be checked is asked


def test_poems_that_are_no_couplets_or_fill_the_context_are_not_given() -> None:
    assert {q.request.given for q in questions(MANY, [SONG, LONG], 0)} == {"江南", "長韻", *WISHES}
    asked = questions(MANY, [poem for poem in load_poems("test") if len(poem.text) > 100], -1)
    assert max(len(message["content"]) for question in asked for message in question.request.prompt) < 200


# --- the shares -----------------------------------------------------------------------------------


class Pupil:
    """Answers what the questions ask; `obeys` says whether it does, for a conversation."""

    def __init__(self, taught: Sequence[Instruction], poems: Sequence[Poem], obeys: Callable[[Conversation], bool]):
        asked = [*questions(taught, poems, 0), *questions(taught, poems, -1)]
        self.asked = {
            (str(q.request.prompt), content): q for q in asked for content in {"", q.turn[0] if q.turn else ""}
        }
        self.obeys = obeys
        real = [p.text for p in load_poems("validation")[:250]]
        parts = [part for p in poems for part in (p.title, p.couplets[1], f"{p.lines[1]}。\n{p.couplets[1]}", *p.lines)]
        wishes = [f"{a}月何人見，{b}花幾度開。\n{c}月何人見，{d}花幾度開。" for a, b, c, d in map(tuple, WISHES)]
        self.texts = [*(p.text for p in poems), *parts, *wishes, *real, *(verse_form(p.text) for p in poems)]

    def answers(self, _: object, talks: Sequence[Conversation], *_more: Any) -> list[str]:
        return [self.answer(talk) if self.obeys(talk) else "江。" for talk in talks]

    def answer(self, talk: Conversation) -> str:
        question = self.asked[str(talk[:2]), talk[3]["content"] if talk[2:] else ""]
        wanted = question.turn[1] if talk[2:] and question.turn else question.request.instruction
        before = set(split_lines(talk[2]["content"])) if talk[2:] else set()
        fitting = (text for text in self.texts if not before & set(split_lines(text)))
        return next(text for text in fitting if wanted.obeyed(Exchange(question.request.given, text)))


TAUGHT = [row for row in MANY if not row.name.endswith("-7")]  # so one poem can be all that is asked of it
POEMS = [TOWER, Poem("江月", "", TOWER.couplets)]


def both(row: Obedience) -> tuple[float, float]:
    assert row.held_out
    return row.taught.value, row.held_out.value


@pytest.fixture
def shares(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Shares]:
    """The shares that a pupil reaches who obeys in some conversations."""

    def measure(obeys: Callable[[Conversation], bool]) -> Shares:
        monkeypatch.setattr(obedience, "answers", Pupil(TAUGHT, POEMS, obeys).answers)
        found = measure_obedience(checkpoint.with_roles(TAUGHT), POEMS, count=2)
        return {row: both(shares) for row, shares in found.items()}

    return measure


def speaks(monkeypatch: pytest.MonkeyPatch, poem: WrittenPoem) -> list[tuple[Any, GenerationSettings]]:
    """Make the model answer everything with one poem. The list gets the prompts and the settings of each batch."""
    asked: list[tuple[Any, GenerationSettings]] = []

    def same(_: object, prompts: Any, settings: GenerationSettings, *_more: Any, **_named: Any) -> Any:
        asked.append((prompts, settings))
        return iter([poem] * len(prompts))

    monkeypatch.setattr(obedience, "iter_answers", same)
    return asked


def test_who_obeys_has_all_and_who_does_not_has_nothing(shares: Callable[..., Shares]) -> None:
    best, worst = shares(lambda _: True), shares(lambda _: False)
    assert list(best) == list(worst) == list(rows_of(POEMS, TAUGHT))
    assert (set(best.values()), set(worst.values())) == ({(1, 1)}, {(0, 0)})


def test_other_wordings_and_later_turns_are_counted(shares: Callable[..., Shares]) -> None:
    firsts = {q.request.prompt[0]["content"] for q in questions(TAUGHT, POEMS, 0)}
    assert set(shares(lambda talk: talk[0]["content"] in firsts).values()) == {(1, 0)}
    found = shares(lambda talk: len(talk) == 2)
    assert {row for row, share in found.items() if share == (0, 0)} == {"another", "another-form", "next-title"}
    assert set(found.values()) == {(0, 0), (1, 1)}


def test_an_answer_that_did_not_end_does_not_count(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    taught = checkpoint.with_roles([POEM, NAMED["quatrain-5"], NAMED["title"]])
    for reason, share in ENDINGS:
        asked = speaks(monkeypatch, WrittenPoem(TOWER.text, reason))
        found = measure_obedience(taught, [TOWER, LUTE, LONG], 2, GenerationSettings(seed=7))
        assert [found[row].taught.value for row in ("quatrain-5", "title")] == [share, 0]
        batches = {settings: len(prompts) for prompts, settings in asked if prompts}  # two titles, two wordings
        assert batches == {GenerationSettings(seed=7): 4, GenerationSettings(temperature=0, seed=7): 4}


def test_a_conversation_that_fills_the_context_is_not_asked(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model of these tests reads 64 tokens: a first answer of 49 leaves no room for the second."""
    asked = speaks(monkeypatch, WrittenPoem("\n".join(TOWER.couplets * 2), "end"))
    measure_obedience(checkpoint.with_roles([POEM, NAMED["quatrain-5"], NAMED["another"]]), [TOWER], 1)
    lengths = [len(prompt) for prompts, _ in asked for prompt in prompts]
    assert len(lengths) == 4  # two rows in two wordings
    assert max(lengths) < 64


def test_an_untrained_model_obeys_nothing(checkpoint: Checkpoint) -> None:
    done: list[tuple[str, int, int]] = []
    settings = GenerationSettings(max_new_tokens=3)
    found = measure_obedience(checkpoint.with_roles(MANY), [TOWER], 2, settings, lambda *report: done.append(report))
    assert set(map(both, found.values())) == {(0, 0)}
    assert (done[0][:2], done[-1][1]) == (("asking", 1), done[-1][2])


def test_the_table_has_both_wordings() -> None:
    rows = {"rhyme": Obedience(Estimate(0.5, (0.4, 0.6)), Estimate(0.25, (0.1, 0.3)))}
    assert " ".join(obedience_table(rows).split()[-7:]) == "rhyme 50 [40, 60] 25 [10, 30]"


def test_an_instruction_with_one_wording_has_no_other_figure(checkpoint: Checkpoint) -> None:
    found = measure_obedience(checkpoint.with_roles(ALL), [TOWER], 1, GenerationSettings(max_new_tokens=3))
    assert [(name, row.held_out) for name, row in found.items()] == [("old-style", None)]
    assert measure_obedience(checkpoint.with_roles([POEM]), [TOWER], 1) == {}
    assert obedience_table(found).split()[-4:] == ["old-style", "0", "[0,", "0]"]
