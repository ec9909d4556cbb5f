"""Figures of a checkpoint, against counting and summing by hand."""

import math
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib import evaluation
from course_lib.batches import InstructionBatches, plain_text
from course_lib.checkpoints import Checkpoint
from course_lib.evaluation import evaluate, held_out_loss, is_well_formed, unknown_share
from course_lib.generation import GenerationSettings, Written, write_many
from course_lib.model import PoetryModel
from course_lib.poems import Poem, load_poems
from course_lib.roles import END, RESPONSE, example_segments
from course_lib.tokenizer import CharacterTokenizer
from course_lib.training import Trainer, TrainingSettings

FIVE = "好雨知時節，當春乃發生。\n隨風潛入夜，潤物細無聲。"
SEVEN = "兩個黃鸝鳴翠柳，一行白鷺上青天。\n窗含西嶺千秋雪，門泊東吳萬里船。"


# --- form -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [FIVE, SEVEN, FIVE + "\n", FIVE.replace("\n", ""), FIVE.partition("\n")[0]])
def test_well_formed(text: str) -> None:
    assert is_well_formed(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "春夜喜雨",
        FIVE.partition("，")[0] + "。",  # one line
        FIVE + "\n野徑雲俱黑，",  # an odd number of lines
        FIVE + "\n野徑雲俱黑。",
        FIVE[:-1],  # no mark at the end
        FIVE.replace("，", "。"),
        FIVE.replace("。", "，"),
        FIVE.replace("節，", "節、"),
        FIVE.replace("生。", "生？"),
        FIVE.replace("好雨", "雨"),  # four characters
        FIVE.replace("好雨", "好好雨"),
        f"{FIVE}\n{SEVEN}",  # five, then seven
        "好雨知時節，一行白鷺上青天。",
        FIVE.replace("好", "A"),
        FIVE.replace("好", "1"),
        FIVE.replace("知", "\n"),  # a row that begins within a line
        FIVE.replace("，", "，\n"),
        FIVE.replace("\n", "\n\n"),
        FIVE + "<",
    ],
)
def test_ill_formed(text: str) -> None:
    assert not is_well_formed(text)


@given(st.integers(1, 8), st.sampled_from([4, 5, 6, 7, 8]), st.integers(0, 10**6))
def test_only_lines_of_five_or_seven_are_well_formed(couplets: int, length: int, seed: int) -> None:
    draw = random.Random(seed)
    line = lambda: "".join(chr(draw.randint(0x4E00, 0x9FA5)) for _ in range(length))  # noqa: E731
    rows = [f"{line()}，{line()}。" for _ in range(couplets)]
    assert is_well_formed("\n".join(rows)) == (length in (5, 7))


def test_well_formed_agrees_with_the_lines_of_real_poems() -> None:
    """A poem is well formed if its lines, as `Poem` cuts them, are, and its marks are ，and 。in turn."""
    count = 0
    for poem in load_poems("test"):
        lines = poem.lines
        even = len(lines) % 2 == 0 and {len(line) for line in lines} in ({5}, {7})
        marks = [c for c in poem.text if c in "，。？！；：、"]
        expected = even and marks == ["，", "。"] * (len(lines) // 2)
        assert is_well_formed(poem.text) == expected, poem
        count += expected
    assert 500 < count < 1000  # most are, by no means all


# --- losses ---------------------------------------------------------------------------------------


def nats(checkpoint: Checkpoint, ids: list[int]) -> list[float]:
    """What each token but the first costs, one forward pass a text, no packing and no padding."""
    with torch.no_grad():
        log_p = checkpoint.model(torch.tensor([ids]))[0].log_softmax(-1)
    return [-log_p[t, token].item() for t, token in enumerate(ids[1:])]


def without_roles(checkpoint: Checkpoint, poems: list[Poem]) -> Checkpoint:
    """A base model of the same shape, for the same poems."""
    tokenizer = CharacterTokenizer.train((plain_text(p) for p in poems), min_count=1)
    torch.manual_seed(0)
    config = replace(checkpoint.model.config, vocab_size=len(tokenizer))
    return Checkpoint(PoetryModel(config).eval(), tokenizer)


def test_response_and_whole_loss_by_hand(checkpoint: Checkpoint, poems: list[Poem]) -> None:
    response, whole = [], []
    for poem in poems:
        segments = example_segments(poem)
        costs = nats(checkpoint, checkpoint.tokenizer.encode_segments(segments))
        whole += costs
        learned = len(dict(segments)[RESPONSE]) + len([END])
        response += costs[-learned:]
    loss = held_out_loss(checkpoint, poems)
    assert loss.response == pytest.approx(sum(response) / len(response), abs=1e-5)
    assert loss.whole == pytest.approx(sum(whole) / len(whole), abs=1e-5)
    assert loss.response != pytest.approx(loss.whole, abs=1e-3)


def test_plain_text_loss_by_hand(checkpoint: Checkpoint, poems: list[Poem]) -> None:
    base = without_roles(checkpoint, poems)
    ids = base.tokenizer.encode("".join(map(plain_text, poems)))
    context = base.model.config.max_position_embeddings
    costs = [c for at in range(0, len(ids) - 1, context - 1) for c in nats(base, ids[at : at + context])]
    assert len(costs) == len(ids) - 1 > context  # more than one window
    loss = held_out_loss(base, poems, batch_size=2)
    assert loss.whole == loss.response == pytest.approx(sum(costs) / len(costs), abs=1e-5)


def test_the_trainer_reports_the_same_loss(checkpoint: Checkpoint, poems: list[Poem]) -> None:
    context = checkpoint.model.config.max_position_embeddings
    batches = InstructionBatches.from_poems(poems, checkpoint.tokenizer, context=context, batch_size=2, seed=None)
    trainer = Trainer(
        checkpoint.model,
        batches,
        TrainingSettings(steps=1),
        pad_id=checkpoint.tokenizer.pad_id,
        evaluation=batches,
        precision=torch.float32,
    )
    seen = trainer.evaluate()
    assert seen is not None
    assert seen == pytest.approx(held_out_loss(checkpoint, poems), abs=1e-5)


def test_unknown_share(checkpoint: Checkpoint) -> None:
    assert unknown_share(checkpoint, [Poem("山雨", "", ("山中一夜雨，樹上幾聲☃。",))]) == pytest.approx(1 / 14)


# --- the whole ------------------------------------------------------------------------------------


def test_shares_are_counted(checkpoint: Checkpoint, poems: list[Poem], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended and well formed are two things: a poem may be either without the other."""
    told = [Written(FIVE, "end"), Written(FIVE, "length"), Written(SEVEN[:-1], "end"), Written(FIVE, "end")]
    asked: list[str] = []

    def write_these(_: Checkpoint, titles: list[str], *__: object, **___: object) -> list[Written]:
        asked.extend(titles)
        return told

    monkeypatch.setattr(evaluation, "write_many", write_these)
    more = [*poems, Poem("第四", "", ("江月何人見，江花幾度開。",)), Poem("第五", "", ("江月何人見。",))]
    found = evaluate(checkpoint, more, titles=4)
    assert asked == [p.title for p in more[:4]]
    assert (found.ended, found.well_formed, found.titles, found.poems) == (0.75, 0.75, 4, 5)


def test_what_does_not_apply_is_said(checkpoint: Checkpoint, poems: list[Poem]) -> None:
    settings = GenerationSettings(max_new_tokens=5)
    done: list[int] = []
    taught = evaluate(checkpoint, poems, titles=3, settings=settings, progress=done.append)
    base = evaluate(without_roles(checkpoint, poems), poems, titles=2, settings=settings)
    assert done == [3]
    assert taught.plain_text_loss is None
    assert (taught.response_loss, taught.whole_loss) == pytest.approx(held_out_loss(checkpoint, poems))
    assert base.response_loss is base.whole_loss is None
    assert base.plain_text_loss is not None
    assert base.plain_text_loss > math.log(2)
    assert taught.table().count("does not apply") == 1
    assert base.table().count("does not apply") == 2
    assert f"{taught.response_loss:.3f}" in taught.table()
    written = write_many(checkpoint, [p.title for p in poems], settings)
    assert taught.ended == sum(w.reason == "end" for w in written) / 3


@pytest.mark.parametrize("titles", [0, -1, 4])
def test_titles_out_of_range(checkpoint: Checkpoint, poems: list[Poem], titles: int) -> None:
    with pytest.raises(ValueError, match=r"titles is .*1 … 3"):
        evaluate(checkpoint, poems, titles=titles)
