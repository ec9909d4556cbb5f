"""Figures of a checkpoint, against counting and summing by hand."""

import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.batches import InstructionBatches, plain_text
from course_lib.checkpoints import Checkpoint
from course_lib.evaluation import compare as evaluation
from course_lib.evaluation.compare import (
    compare,
    evaluate,
    held_out_loss,
    judge,
    loss_rows,
    passes,
    shuffled,
    sounding,
    unknown_share,
)
from course_lib.evaluation.metrics import MEASURES, Evaluation, Figure, mean_figure, side_by_side, table_rows
from course_lib.evaluation.novelty import Library
from course_lib.evaluation.title_fit import listening, log_likelihoods
from course_lib.generation import GenerationSettings, Written, prompt_ids, write_many
from course_lib.model import PoetryModel
from course_lib.poems import Poem, han, is_well_formed, load_poems
from course_lib.prosody import alternates, tones
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


# --- intervals ------------------------------------------------------------------------------------


def test_a_figure_is_the_ratio_of_sums() -> None:
    assert mean_figure([1, 0, 1, 1]).value == 0.75
    assert mean_figure([3, 1], [4, 8]).value == 1 / 3
    assert mean_figure([True] * 5) == Figure(1.0, (1.0, 1.0))
    assert mean_figure([2, 3], [0, 0]) is None
    assert mean_figure([]) is None


def test_intervals_are_as_wide_as_theory_says() -> None:
    """A share p of n: p ± 1.96 √(p(1-p)/n)."""
    found = mean_figure([1] * 120 + [0] * 280)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 400)
    assert found.interval == pytest.approx((0.3 - half, 0.3 + half), abs=0.006)
    assert mean_figure([1] * 120 + [0] * 280) == found


def test_nine_of_ten_intervals_hold_the_truth() -> None:
    """Means of 60 numbers, drawn 200 times; at 95 %, fewer than 180 hits would come once in some thousand tries."""
    draw = random.Random(0)
    held = 0
    for _ in range(200):
        interval = mean_figure([draw.gauss(5, 2) for _ in range(60)]).interval
        assert interval
        held += interval[0] < 5 < interval[1]
    assert 180 <= held < 200


def test_lines_are_weighed_not_poems() -> None:
    """Ratios are of sums: a long poem counts for more, and resamples without a line are passed over."""
    found = mean_figure([0, 9], [1, 9])
    assert found.value == 0.9
    assert found.interval == (0.0, 1.0)
    assert mean_figure([0, 5], [0, 5]).value == 1


# --- texts ----------------------------------------------------------------------------------------

LIBRARY = Library([Poem("春望", "杜甫", ("國破山河在，城春草木深。",))])


def test_texts_are_judged() -> None:
    texts = [
        Written(FIVE, "end"),  # rhymes, without fault
        Written(FIVE.replace("無聲", "無光"), "end"),  # does not rhyme
        Written("國破山河在，城春草木深。\n國破山河在，城春草木新。", "end"),  # a line twice, and two lines copied
        Written(FIVE + "\n\n春望\n國破山河在，", "length"),  # a base model's: what follows the blank row is not judged
    ]
    stopped = [*texts[:-1], Written(FIVE + "\n\n", "stopped")]
    assert judge(stopped, LIBRARY) == judge(texts, LIBRARY)
    found = {name: figure.value for name, figure in judge(texts, LIBRARY).items()}
    assert found.pop("longest_run") == 10 / 4
    assert found.pop("alternating") == 1
    assert found == {
        "ended": 0.75,
        "well_formed": 0.75,
        "repeats_a_line": 0.25,
        "rhymes": 0.5,
        "rhymes_in_form": 0.5,
        "alternating_in_form": 1.0,
        "regulated": 0.75,
        "copies_a_line": 0.25,
        "distinct_2": found["distinct_2"],
    }


def test_some_figures_are_of_those_alone_that_have_the_form() -> None:
    """Four lines; two of them, one of which does not alternate; and four, one of them too short to."""
    two = "好雨知月節，當春乃發生。"
    assert not alternates(tones(two[:5]))
    texts = [Written(t, "end") for t in (FIVE, two, FIVE.replace("好雨", "雨"))]
    found = {name: figure.value for name, figure in judge(texts, LIBRARY).items()}
    assert (found["rhymes"], found["rhymes_in_form"]) == (2 / 3, 1)
    assert (found["alternating"], found["alternating_in_form"]) == (8 / 10, 1)


@pytest.mark.parametrize(
    ("text", "fails"),
    [
        (FIVE, set()),
        (FIVE[:-1], {"well formed"}),
        (FIVE.replace("無聲", "無光"), {"rhymes"}),
        (FIVE.replace("隨風", "隨雨"), {"tones without fault"}),
        ("國破山河在，城邊草木深。\n白頭搔更短，渾欲不勝簪。", {"no line copied"}),
    ],
)
def test_one_poem_passes_or_fails_as_many_are_judged(text: str, fails: set[str]) -> None:
    found = passes(text, LIBRARY)
    assert {question for question, passed in found.items() if not passed} == fails
    assert len(found) == 5


def test_a_line_that_comes_twice_fails() -> None:
    assert not passes(f"{FIVE}\n{FIVE}", LIBRARY)["no line comes twice"]


def test_no_text_at_all() -> None:
    found = judge([Written("", "length")], LIBRARY)
    assert found["rhymes"].value == found["ended"].value == found["longest_run"].value == 0
    assert "alternating" not in found


def test_shuffled_poems_have_the_same_characters_and_marks(poems: list[Poem]) -> None:
    for poem in poems:
        text = shuffled(poem).text
        assert sorted(text) == sorted(poem.text)
        assert [i for i, c in enumerate(text) if not han(c)] == [i for i, c in enumerate(poem.text) if not han(c)]
        assert text != poem.text
        assert shuffled(poem) == shuffled(poem) != shuffled(poem, seed=1)


def test_candidates_are_chosen_by_their_sound() -> None:
    better, worse = Written(FIVE, "end", -4.0), Written(FIVE.replace("無聲", "無光"), "end", -1.0)
    assert max([worse, better], key=sounding) == better
    assert max([replace(better, reason="length"), worse], key=sounding) == worse
    assert sounding(better) > sounding(replace(better, log_likelihood=-5.0))


# --- titles ---------------------------------------------------------------------------------------


def test_likelihood_by_hand(checkpoint: Checkpoint, poems: list[Poem]) -> None:
    """Padded to one batch, and each alone; with roles and without."""
    for judge_ in (checkpoint, without_roles(checkpoint, poems)):
        pairs = [(p.title, q.text) for p in poems for q in poems]
        found = log_likelihoods(judge_, pairs).tolist()
        for (title, text), likely in zip(pairs, found, strict=True):
            ids = prompt_ids(judge_.tokenizer, title) + judge_.tokenizer.encode(text)
            costs = nats(judge_, ids)[-len(text) :]
            assert likely == pytest.approx(-sum(costs) / len(text), abs=1e-5)
        assert log_likelihoods(judge_, [("山", "")]).tolist() == [0]


def test_what_exceeds_the_context_is_not_looked_at(checkpoint: Checkpoint) -> None:
    ids = prompt_ids(checkpoint.tokenizer, "山")
    room = checkpoint.model.config.max_position_embeddings - len(ids)
    long, cut = log_likelihoods(checkpoint, [("山", "山雨" * 50), ("山", ("山雨" * 50)[:room])]).tolist()
    assert long == pytest.approx(cut, abs=1e-6)


def test_a_poem_that_says_its_title_prefers_it(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """With likelihoods we set, gains and wins are what we reckon by hand."""
    pool = [a + b for a in ("山", "江上", "夜", "雨中") for b in ("月", "雲水", "花間行", "水")]
    asked = []

    def likelihoods(_: Checkpoint, pairs: list[tuple[str, str]], __: torch.dtype) -> torch.Tensor:
        asked.append(pairs)
        return torch.tensor([likely(*pair) for pair in pairs])

    def likely(title: str, text: str) -> float:
        """0.5 above the mean of the others under its own title, or below it; two others differ, and keep that mean."""
        own, better = pool[texts.index(text)], {"甲": 0.5, "乙乙": -0.5, "": 0.0}
        others = [other for other in pool if other != own]
        spread = {own: better[text], others[3]: 0.25, others[7]: -0.25}
        return -2.5 + spread.get(title, 0.0)

    monkeypatch.setattr("course_lib.listening.log_likelihoods", likelihoods)
    texts = ["乙乙", "", "甲"]
    found = listening(checkpoint, pool[:3], texts, pool, batch_size=9)
    assert found["own_title_gain"].value == pytest.approx((-0.5 + 0 + 0.5) / 3)
    assert found["own_title_wins"].value == pytest.approx(1 / 3)
    pairs = [pair for batch in asked for pair in batch]
    assert sorted(pairs) == sorted((title, text) for title in pool for text in texts)  # each text under 16 titles
    assert [len(batch) for batch in asked] == [9] * 5 + [3]
    lengths = [len(title + text) for title, text in pairs]
    assert lengths == sorted(lengths)  # those of a batch are alike
    assert listening(checkpoint, pool[:3], texts, pool, seed=1) == found


def test_equally_likely_is_no_win(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("course_lib.listening.log_likelihoods", lambda _, pairs, __: torch.zeros(len(pairs)))
    pool = [str(i) for i in range(16)]
    assert listening(checkpoint, ["0"], ["山"], pool)["own_title_wins"].value == 0


def test_an_untrained_model_listens_to_no_title(checkpoint: Checkpoint) -> None:
    """Its own title wins about once in 16: chance."""
    draw = random.Random(0)
    signs = "山中一夜雨樹上幾聲水向門前去雲從石生江月何人見花度開"
    titles = ["".join(draw.sample(signs, 3)) for _ in range(200)]
    texts = ["".join(draw.sample(signs, 10)) for _ in range(200)]
    found = listening(checkpoint, titles, texts, titles)
    assert 0 < found["own_title_wins"].value < 0.15
    assert abs(found["own_title_gain"].value) < 0.02


def test_too_few_titles(checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match=r"14 titles beside '0', at least 15"):
        listening(checkpoint, ["0"], ["山"], [str(i) for i in range(15)])


# --- the whole ------------------------------------------------------------------------------------


@pytest.fixture
def more(poems: list[Poem]) -> list[Poem]:
    """Enough poems for a title to be told from 15 others."""
    signs = "山中一夜雨樹上幾聲鶯水向門前去"
    return [
        *poems,
        *(Poem(f"{a}{b}", "", (f"{a}月何人見，{b}花幾度開。",)) for a, b in pairwise(signs)),
    ]


def test_shares_are_counted(checkpoint: Checkpoint, more: list[Poem], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended and well formed are two things: a poem may be either without the other."""
    told = [Written(FIVE, "end"), Written(FIVE, "length"), Written(SEVEN[:-1], "end"), Written(FIVE, "end")]
    asked: list[str] = []
    stops: list[object] = []

    def write_these(_: Checkpoint, titles: list[str], __: object, **how: object) -> list[Written]:
        assert (how["candidates"], how["score"]) == (3, sounding)
        asked.extend(titles)
        stops.append(how["stop"])
        return told

    monkeypatch.setattr(evaluation, "write_many", write_these)
    found = evaluate(checkpoint, more, titles=4, candidates=3, library=LIBRARY)
    assert asked == [p.title for p in more[:4]]
    assert (found["ended"], found["well_formed"], found.titles, found.poems) == (0.75, 0.75, 4, len(more))
    assert found["rhymes"] == 1
    evaluate(without_roles(checkpoint, more), more, titles=4, candidates=3, library=LIBRARY)
    assert stops == ["", "\n\n"]  # a base model would go on to the next title, and to the next


def test_what_does_not_apply_is_left_out(checkpoint: Checkpoint, poems: list[Poem], more: list[Poem]) -> None:
    settings = GenerationSettings(max_new_tokens=5)
    done: list[tuple[str, int, int]] = []
    how = {"settings": settings, "library": LIBRARY}
    taught = evaluate(checkpoint, poems, titles=3, **how, progress=lambda *told: done.append(told))
    base = evaluate(without_roles(checkpoint, more), more, titles=2, **how)
    assert ("writing", 3, 3) in done
    assert done[-1] == ("taking the loss", 3, 3)
    assert not any("titles" in stage for stage, *_ in done)  # three are too few to compare with
    assert "own_title_wins" not in taught.figures
    assert MEASURES.keys() - base.figures.keys() == {
        "response_loss",
        "whole_loss",
        "rhymes_in_form",
        "alternating_in_form",
    }
    assert (taught["response_loss"], taught["whole_loss"]) == pytest.approx(held_out_loss(checkpoint, poems))
    assert taught.as_dict()["plain_text_loss"] is None
    assert base.as_dict()["response_loss"] is None
    assert base["plain_text_loss"] > math.log(2)
    assert "plain text" not in taught.table()
    assert f"{taught['response_loss']:.3f} [" in taught.table()
    written = write_many(checkpoint, [p.title for p in poems], settings)
    assert taught["ended"] == sum(w.reason == "end" for w in written) / 3


def test_the_loss_lies_in_its_interval(checkpoint: Checkpoint, more: list[Poem]) -> None:
    found = evaluation.losses(checkpoint, more * 8)
    for figure in found.values():
        assert figure.interval
        assert figure.interval[0] < figure.value < figure.interval[1]


def test_side_by_side(checkpoint: Checkpoint, more: list[Poem]) -> None:
    base = without_roles(checkpoint, more)
    how = {"titles": 4, "settings": GenerationSettings(max_new_tokens=12), "library": LIBRARY}
    found = compare(checkpoint, more, base=base, candidates=2, **how)
    assert list(found) == ["base", "fine-tuned", "best of 2", "real poems", "shuffled"]
    assert found["base"] == evaluate(base, more, **how)
    assert found["fine-tuned"] == evaluate(checkpoint, more, **how)
    assert found["best of 2"]["response_loss"] == found["fine-tuned"]["response_loss"]
    assert found["real poems"]["well_formed"] == 1
    assert "own_title_wins" in found["real poems"].figures.keys() - found["shuffled"].figures.keys()
    told: list[tuple[str, int, int]] = []
    assert compare(checkpoint, more, base=base, candidates=2, **how, progress=lambda *t: told.append(t)) == found
    for name in ("base", "fine-tuned", "best of 2", "real poems"):
        assert told.count((f"{name}: writing", 4, 4)) == (name != "real poems")
    assert told.count(("real poems: reading under 16 titles", 4, 4)) == 1
    told.clear()
    alone = compare(base, more, base=base, **how, progress=lambda *t: told.append(t))
    assert list(alone) == ["base", "real poems", "shuffled"]
    assert told.count(("base: writing", 4, 4)) == 1


TWO = {
    "one": Evaluation({"ended": Figure(0.5, (0.25, 0.75)), "response_loss": Figure(3.81234)}, 4),
    "two": Evaluation({"ended": Figure(1.0), "rhymes": Figure(0.25), "longest_run": Figure(3.456, (3, 4))}, 4),
}


def test_a_table_has_every_figure_in_its_column() -> None:
    head, *rows = side_by_side(TWO).splitlines()
    places = [head.index("one"), head.index("two")]
    cells = [[row[a:b].strip() for a, b in pairwise([0, *places, None])] for row in rows]
    assert [" ".join(label.split()) for label, *_ in cells] == [
        "Follows ends by itself (%)",
        "Sounds rhymes (%)",
        "Own work longest shared run (characters)",
        "Loss response (nats/char.)",
    ]
    assert [one for _, one, _ in cells] == ["50.0 [25.0, 75.0]", "", "", "3.812"]
    assert [two for _, _, two in cells] == ["100.0", "25.0", "3.46 [3.00, 4.00]", ""]


def test_a_question_is_named_once_above_all_its_figures() -> None:
    every = {"all": Evaluation(dict.fromkeys(MEASURES, Figure(0.5)), 1)}
    rows = table_rows(every)
    assert len(rows) == len(MEASURES)
    assert [question for question, *_ in rows if question] == ["Follows", "Sounds", "Listens", "Own work", "Loss"]
    assert [label for _, label, _ in rows] == [f"{label} ({unit})" for label, unit, _ in MEASURES.values()]
    assert table_rows(every, "Listens") == rows[8:10]
    assert table_rows(every, "Beauty") == []


def test_losses_tell_how_far_they_are(checkpoint: Checkpoint, more: list[Poem]) -> None:
    done: list[tuple[str, int, int]] = []
    loss_rows(checkpoint, more, batch_size=1, progress=lambda *told: done.append(told))
    counts = [count for _, count, _ in done]
    assert len(done) > 1
    assert counts == sorted(counts)
    assert counts[-1] == len(more)
    assert {(stage, total) for stage, _, total in done} == {("taking the loss", len(more))}


@pytest.mark.parametrize("titles", [0, -1, 4])
def test_titles_out_of_range(checkpoint: Checkpoint, poems: list[Poem], titles: int) -> None:
    for function in (evaluate, compare):
        with pytest.raises(ValueError, match=r"titles is .*1 … 3"):
            function(checkpoint, poems, titles=titles)
