"""Pairs, their judges, the loss on them, and what a model learns from it."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from course_lib import paths
from course_lib.batches import IGNORE
from course_lib.checkpoints import Checkpoint, load_checkpoint
from course_lib.engine import Machine
from course_lib.evaluation import measure_pairs
from course_lib.generation import WrittenPoem
from course_lib.instructions import OLD_STYLE, POEM
from course_lib.losses import count_pairs, example_sums, loss_sums, mean_loss, preference_sums
from course_lib.model import PoetryModel
from course_lib.poems import Poem, load_poems
from course_lib.preferences import by_prosody, by_title, in_turn, iter_pairs, pairs_of
from course_lib.recipes import preference
from course_lib.recipes.preference import pair_batches, pair_examples
from course_lib.roles import asking, message_segments
from course_lib.tasks import MANY, Pair, Request, read_pairs, requests
from course_lib.training import Trainer, TrainingSettings

MACHINE = Machine(torch.device("cpu"), torch.float32)


def backwards(poems: list[Poem]) -> list[Pair]:
    """Each poem as the chosen answer to its title, and its characters in reverse as the rejected one."""
    return [Pair(asking(POEM.wording, p.title), p.text, p.text[::-1]) for p in poems]


@pytest.fixture
def checkpoint(checkpoint: Checkpoint) -> Checkpoint:
    """The small model, with a context that has room for a pair."""
    model = PoetryModel(replace(checkpoint.model.config, max_position_embeddings=128))
    model.load_state_dict(checkpoint.model.state_dict())
    return replace(checkpoint, model=model.eval())


@pytest.fixture(scope="module")
def shipped() -> Checkpoint:
    return load_checkpoint(paths.FINETUNED)


def scaled(checkpoint: Checkpoint, by: float = 0.98) -> PoetryModel:
    """The model with all weights multiplied: a reference that finds other texts likely."""
    model = copy.deepcopy(checkpoint.model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(by)
    return model


def mean_preference(checkpoint: Checkpoint, reference: PoetryModel, pairs: list[Pair], **settings: Any) -> float:
    """The mean loss on the pairs, in one batch."""
    (batch,) = pair_batches(pairs, checkpoint, batch_size=len(pairs)).epoch(0)
    with torch.no_grad():
        return preference_sums(checkpoint.model, batch, reference, **settings).means().response


# --- the loss -------------------------------------------------------------------------------------

# What the DPOTrainer of trl 1.16.0 gives for the pairs of six test poems, one pair in a batch (`evaluate()`, float32).
# `benchmarks/preference.py` computes them again.
TRL = {"sigmoid": 0.1827338, "sigmoid_norm": 0.6779602, "sft": 3.2235339}
OURS: dict[str, dict[str, Any]] = {
    "sigmoid": {"anchor": 0.0},
    "sigmoid_norm": {"anchor": 0.0, "per_token": True},
    "sft": {"beta": 0.0, "anchor": 1.0},  # beta 0 adds log 2
}


@pytest.mark.parametrize("kind", TRL)
def test_the_loss_is_that_of_trl(kind: str, shipped: Checkpoint) -> None:
    pairs = backwards(load_poems("test")[:6])
    reference = scaled(shipped)
    ours = mean_preference(shipped, reference, pairs, **OURS[kind]) - (math.log(2) if kind == "sft" else 0)
    assert ours == pytest.approx(TRL[kind], abs=1e-5)


def test_the_loss_spelled_out_for_one_pair(checkpoint: Checkpoint, poems: list[Poem]) -> None:
    """Each answer is read by itself, without packing; the losses are added up character by character."""
    pair = backwards(poems[:1])[0]
    reference = scaled(checkpoint, 0.9)
    ids = checkpoint.tokenizer.encode_segments(message_segments(pair.prompt, open_response=True))

    def log_probability(model: PoetryModel, answer: str) -> tuple[float, int]:
        whole = [*ids, *checkpoint.tokenizer.encode(answer), checkpoint.tokenizer.eos_id]
        with torch.no_grad():
            logits = model(torch.tensor([whole]))[0].log_softmax(-1)
        places = range(len(ids) - 1, len(whole) - 1)
        return sum(logits[place, whole[place + 1]].item() for place in places), len(places)

    (chosen, length), (rejected, other) = (log_probability(checkpoint.model, text) for text in pair[1:])
    before = [log_probability(reference, text)[0] for text in pair[1:]]
    gains = (chosen - before[0], rejected - before[1])
    plain = -math.log(1 / (1 + math.exp(-0.3 * (gains[0] - gains[1])))) - 0.2 * chosen / length
    assert mean_preference(checkpoint, reference, [pair], beta=0.3, anchor=0.2) == pytest.approx(plain, rel=1e-4)
    per_token = -math.log(1 / (1 + math.exp(-3 * (gains[0] / length - gains[1] / other))))
    found = mean_preference(checkpoint, reference, [pair], beta=3, anchor=0, per_token=True)
    assert found == pytest.approx(per_token, rel=1e-4)


def test_the_loss_against_itself_is_log_2_and_pulls_the_two_answers_apart(
    checkpoint: Checkpoint, poems: list[Poem]
) -> None:
    (batch,) = pair_batches(backwards(poems[:2]), checkpoint, batch_size=2).epoch(0)
    model = copy.deepcopy(checkpoint.model)
    sums = preference_sums(model, batch, checkpoint.model, anchor=0)
    assert sums.means().response == pytest.approx(math.log(2))
    sums.response.backward()
    with torch.no_grad():
        for weight in model.parameters():
            weight.sub_(weight.grad if weight.grad is not None else 0, alpha=0.1)
    figures = measure_pairs(model, checkpoint.model, [batch])
    assert figures.margin > 0
    assert figures.chosen > figures.rejected


def test_sums_and_counts_know_pairs_from_padding(checkpoint: Checkpoint, poems: list[Poem]) -> None:
    pairs = backwards(poems[:3])
    batches = list(pair_batches(pairs, checkpoint, batch_size=2).epoch(0))  # with a row that is all padding, perhaps
    learned, predicted = count_pairs(batches)
    assert int(learned) == 3
    sums = [preference_sums(checkpoint.model, batch, checkpoint.model) for batch in batches]
    assert sum(int(each.response_count) for each in sums) == 3
    assert sum(int(each.whole_count) for each in sums) == int(predicted)
    assert mean_loss(sums).whole == pytest.approx(mean_loss([loss_sums(checkpoint.model, b) for b in batches]).whole)
    for batch in batches:
        lengths = example_sums(torch.ones(batch.input_ids.shape), batch)
        assert lengths.sum() == batch.attention_mask.sum()
        assert (lengths > 0).all()


# --- pairs ----------------------------------------------------------------------------------------


def test_a_pair_is_two_examples_in_one_row_with_the_answers_and_their_ends_to_learn(
    checkpoint: Checkpoint, poems: list[Poem]
) -> None:
    pairs, context = backwards(poems), checkpoint.model.config.max_position_embeddings
    tokenizer = checkpoint.tokenizer
    chosen, rejected = pair_examples(pairs[:1], tokenizer, context)
    for example, answer in ((chosen, pairs[0].chosen), (rejected, pairs[0].rejected)):
        learned = [label for label in example.labels if label != IGNORE]
        assert learned == [*tokenizer.encode(answer), tokenizer.eos_id]
        assert example.input_ids[-len(learned) :] == learned
    assert chosen.input_ids[: -len(learned)] == rejected.input_ids[: -len(learned)]
    batches = pair_batches(pairs, checkpoint, batch_size=2)
    assert all(row[0::2] == [i - 1 for i in row[1::2]] and row[0] % 2 == 0 for row in batches.rows)
    assert sorted(i for row in batches.rows for i in row) == list(range(len(batches.examples)))


def test_pairs_longer_than_the_context_are_left_out(checkpoint: Checkpoint, poems: list[Poem]) -> None:
    context = checkpoint.model.config.max_position_embeddings
    long = Pair(backwards(poems[:1])[0].prompt, "山" * context, "水")
    assert pair_examples([long], checkpoint.tokenizer, context) == []
    assert len(pair_examples([long, *backwards(poems[:1])], checkpoint.tokenizer, context)) == 2
    with pytest.raises(ValueError, match="no examples"):
        pair_batches([long], checkpoint)


def test_a_file_gives_back_the_pairs_that_were_written_and_names_a_wrong_line(
    tmp_path: Path, poems: list[Poem]
) -> None:
    pairs, file = backwards(poems[:3]), tmp_path / "pairs.jsonl"
    file.write_text("\n".join(pair.as_json(question=n) for n, pair in enumerate(pairs)) + "\n\n", encoding="utf-8")
    assert read_pairs(file) == pairs
    row = json.loads(pairs[0].as_json())
    assert row["chosen"] == [{"role": "assistant", "content": poems[0].text}]
    user = {"role": "user", "content": "山"}
    wrong: list[tuple[Any, str]] = [
        ({**row, "rejected": row["chosen"]}, "the same"),
        ({**row, "prompt": []}, 'a line has a "prompt"'),
        ({**row, "chosen": [user]}, "must be the assistant's"),
        ({**row, "chosen": "山"}, 'a line has a "prompt"'),
        ({**row, "prompt": [{"role": "poet", "content": "山"}]}, "poet"),
        (["山"], 'a line has a "prompt"'),
        ({"prompt": row["prompt"], "chosen": row["chosen"]}, 'a line has a "prompt"'),
    ]
    for value, message in wrong:
        file.write_text(f"{pairs[0].as_json()}\n{json.dumps(value, ensure_ascii=False)}\n", encoding="utf-8")
        with pytest.raises(ValueError, match=f"line 2: .*{message}"):
            read_pairs(file)
    file.write_text("\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no pair"):
        read_pairs(file)


# --- judges ---------------------------------------------------------------------------------------

# 王之渙: faultless; the second has another rhyme word, the third a fault of tone besides, the fourth is not couplets.
FAULTLESS = "白日依山盡，黃河入海流。\n欲窮千里目，更上一層樓。"
UNRHYMED = "白日依山盡，黃河入海流。\n欲窮千里目，更上一層山。"
FAULTY = "白日依山盡，黃河入海流。\n欲窮千山樓，更上一層山。"
PROSE = "白日依山盡"


def by(judge: Callable[..., Any], request: Request, *texts: str) -> list[str]:
    """The texts from the best to the worst."""
    answers = [WrittenPoem(text, "end") for text in texts]
    scores = judge(request, answers)
    return [texts[i] for i in sorted(range(len(texts)), key=lambda i: scores[i], reverse=True)]


def test_the_prosody_asks_for_form_then_rhyme_then_tones() -> None:
    plain = Request.first(POEM, "登鸛雀樓")
    assert by(by_prosody, plain, PROSE, FAULTY, UNRHYMED, FAULTLESS) == [FAULTLESS, UNRHYMED, FAULTY, PROSE]
    cut, ended = by_prosody(plain, [WrittenPoem(FAULTLESS, "length"), WrittenPoem(UNRHYMED, "end")])
    assert cut < ended, "a poem that the model has not ended is the worse one"


def test_old_style_verse_need_not_keep_the_rules_and_any_obedient_poem_is_as_good() -> None:
    old = Request.first(OLD_STYLE, "登鸛雀樓")
    regulated, free, freer = by_prosody(old, [WrittenPoem(text, "end") for text in (FAULTLESS, UNRHYMED, FAULTY)])
    assert regulated < free == freer


def test_answers_that_do_not_do_what_was_asked_are_equally_bad() -> None:
    """Else a model that fails at an instruction would learn from its best failures."""
    form = Request.first(MANY[3], "登鸛雀樓")
    assert form.instruction.name == "quatrain-5"
    faultless, *failures = by_prosody(form, [WrittenPoem(text, "end") for text in (FAULTLESS, FAULTY, UNRHYMED, PROSE)])
    assert all(failure == failures[0] < faultless for failure in failures)
    assert pairs_of(form, [WrittenPoem(text, "end") for text in (FAULTY, PROSE)], by_prosody) == []


@pytest.mark.slow
def test_the_title_judge_prefers_the_poem_under_whose_title_it_is_likelier(shipped: Checkpoint) -> None:
    poems = [poem for poem in load_poems("test") if len(poem.lines) == 4][:12]
    judge = by_title(shipped, [poem.title for poem in load_poems("validation")])
    wins = 0
    for poem, other in zip(poems[::2], poems[1::2], strict=True):
        own, strange = judge(Request.first(POEM, poem.title), [WrittenPoem(p.text, "end") for p in (poem, other)])
        wins += own > strange
    assert wins >= 5, f"{wins} of 6 poets' poems fit their own title better than another poem does"
    poem = poems[0]
    ended, cut = judge(Request.first(POEM, poem.title), [WrittenPoem(poem.text, r) for r in ("end", "length")])
    assert cut < ended, "a poem that the model has not ended is the worse one"


@pytest.mark.slow
def test_the_title_judge_has_no_opinion_on_an_answer_that_has_no_title(shipped: Checkpoint) -> None:
    couplet = next(row for row in MANY if row.name == "couplet")
    judge = by_title(shipped, [poem.title for poem in load_poems("validation")])
    above = "白日依山盡"
    obedient, other, short = judge(
        Request.first(couplet, above), [WrittenPoem(text, "end") for text in ("黃河入海流", "紅雲出水流", "黃河")]
    )
    assert obedient == other > short


def test_a_second_judge_decides_where_the_first_sees_no_difference() -> None:
    def by_length(_: Request, answers: Sequence[WrittenPoem]) -> list[tuple[int]]:
        return [(len(answer.text),) for answer in answers]

    def by_first_character(_: Request, answers: Sequence[WrittenPoem]) -> list[tuple[str]]:
        return [(answer.text[0],) for answer in answers]

    request = Request.first(POEM, "山")
    assert by(in_turn(by_length, by_first_character), request, "ab", "c", "bb", "d") == ["bb", "ab", "d", "c"]
    assert by(in_turn(by_first_character, by_length), request, "ab", "c", "bb", "d") == ["d", "c", "bb", "ab"]


# --- a model's own pairs --------------------------------------------------------------------------


def test_the_best_answers_are_paired_with_the_worst() -> None:
    request = Request.first(POEM, "山")
    texts = ["一", "一二三四", "一二", "一二三", "一二三四五", "四五六"]

    def longest(_: Request, answers: Sequence[WrittenPoem]) -> list[int]:
        return [len(answer.text) for answer in answers]

    answers = [WrittenPoem(text, "end") for text in texts]
    three = pairs_of(request, answers, longest)
    assert [(pair.chosen, pair.rejected) for pair in three] == [("一二三四五", "一"), ("一二三四", "一二")]
    assert three[0].prompt == request.prompt
    assert pairs_of(request, answers, longest, most=1) == three[:1]
    assert pairs_of(request, answers[:1] * 8, longest) == []


@pytest.mark.slow
def test_pairs_are_made_of_a_models_own_answers_in_any_batch(shipped: Checkpoint) -> None:
    asked = requests(shipped.instructions, load_poems("validation")[:4], plain=1)
    judged: list[list[str]] = []

    def longest(request: Request, answers: Sequence[WrittenPoem]) -> list[int]:
        judged.append([answer.text for answer in answers])
        return [len(answer.text) for answer in answers]

    found = list(iter_pairs(shipped, asked, longest, candidates=4, batch_size=16))
    assert any(found)
    for request, pairs, texts in zip(asked, found, judged, strict=True):
        assert len(texts) == 4
        assert len(pairs) <= 2
        for pair in pairs:
            assert pair.prompt == request.prompt
            assert {pair.chosen, pair.rejected} <= set(texts)
            assert len(pair.chosen) > len(pair.rejected)
    again = list(iter_pairs(shipped, asked, longest, candidates=4, batch_size=4))
    assert again == found


# --- the recipe -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_training_prefers_the_chosen_answers_of_unseen_pairs_and_leaves_the_start_as_it_was(
    shipped: Checkpoint,
) -> None:
    """Poems against their own characters in reverse: a difference that a few steps can teach."""
    poems = [poem for poem in load_poems("train") if len(poem.lines) == 4][:20]
    pairs, held_out = backwards(poems[:14]), backwards(poems[14:])
    before = {name: weight.clone() for name, weight in shipped.model.state_dict().items()}
    recipe = preference(shipped, pairs, evaluation=held_out, batch_size=4, parent=paths.FINETUNED)
    assert (recipe.kind, recipe.parent, recipe.checkpoint.instructions) == (
        "preference",
        paths.FINETUNED,
        shipped.instructions,
    )
    trainer = Trainer(recipe, TrainingSettings(4, learning_rate=2e-4, warmup_steps=1, evaluate_every=4), MACHINE)
    first = trainer.evaluate()
    *_, last = trainer
    assert first
    assert last.evaluation
    assert last.evaluation.response < first.response
    figures = measure_pairs(recipe.checkpoint.model, shipped.model, pair_batches(held_out, shipped).epoch(0))
    assert figures.accuracy > 0.8
    assert figures.margin > 0.5
    assert figures.distance > 0
    assert all(torch.equal(weight, before[name]) for name, weight in shipped.model.state_dict().items())


def test_the_figures_of_a_model_that_has_not_moved_are_zero(shipped: Checkpoint) -> None:
    batches = pair_batches(backwards(load_poems("test")[:4]), shipped).epoch(0)
    assert measure_pairs(shipped.model, shipped.model, batches) == pytest.approx((0, 0, 0, 0, 0), abs=1e-6)


def test_the_distance_is_the_divergence_of_the_two_models_on_the_answers(
    checkpoint: Checkpoint, poems: list[Poem]
) -> None:
    pair, other = backwards(poems[:1])[0], scaled(checkpoint, 0.9)
    (batch,) = pair_batches([pair], checkpoint, batch_size=1).epoch(0)
    expected = []
    for example in pair_examples([pair], checkpoint.tokenizer, checkpoint.model.config.max_position_embeddings):
        with torch.no_grad():
            now, before = (m(torch.tensor([example.input_ids]))[0].log_softmax(-1) for m in (other, checkpoint.model))
        places = [i - 1 for i, label in enumerate(example.labels) if label != IGNORE]
        expected += F.kl_div(before[places], now[places], log_target=True, reduction="none").sum(-1).tolist()
    assert measure_pairs(other, checkpoint.model, [batch]).distance == pytest.approx(
        sum(expected) / len(expected), rel=1e-3
    )


@pytest.mark.parametrize(
    "change", [{"beta": 0.2}, {"anchor": 0.0}, {"per_token": True}, {"seed": 1}, {"batch_size": 3}]
)
def test_a_run_with_another_setting_is_another_run(
    change: dict[str, Any], checkpoint: Checkpoint, poems: list[Poem]
) -> None:
    pairs = backwards(poems[:3])
    recipe, same, other = (preference(checkpoint, pairs, **each) for each in ({}, {}, change))
    assert recipe.identity == same.identity
    assert recipe.identity != other.identity
    assert recipe.identity != preference(checkpoint, pairs[:2]).identity
