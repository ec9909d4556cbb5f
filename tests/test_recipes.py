"""A recipe says what is learned from what."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import synthetic
from torch import Tensor

from course_lib.batches import InstructionBatches, PlainTextBatches
from course_lib.checkpoints import Checkpoint
from course_lib.engine import Machine
from course_lib.evaluation import held_out_loss
from course_lib.instructions import ALL, OLD_STYLE, POEM, Instruction
from course_lib.losses import distillation_sums
from course_lib.model import ModelConfig
from course_lib.poems import Poem
from course_lib.recipes import Recipe, conversing, distillation, finetuning, preference, pretraining, tang_weighted
from course_lib.roles import Conversation, asking, plain_conversations, pretraining_text
from course_lib.tasks import Pair
from course_lib.tokenizer import CharacterTokenizer
from course_lib.training import Trainer, TrainingSettings

MACHINE = Machine(torch.device("cpu"), torch.float32)

# 王之渙 and 李紳: in every anthology; one keeps the rules of tone, the other does not.
REGULATED = Poem("登鸛雀樓", "王之渙", ("白日依山盡，黃河入海流。", "欲窮千里目，更上一層樓。"))
IRREGULAR = Poem("憫農", "李紳", ("鋤禾日當午，汗滴禾下土。", "誰知盤中飧，粒粒皆辛苦。"))


@pytest.fixture
def base(poems: list[Poem]) -> Checkpoint:
    """An untrained base model."""
    tokenizer = CharacterTokenizer.train([pretraining_text(p) for p in poems], min_count=1)
    shape = ModelConfig(len(tokenizer), 32, 64, 2, 2, 64)
    return pretraining(poems, tokenizer, shape=shape).checkpoint


def weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in checkpoint.model.state_dict().items()}


def are_equal(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


def train(recipe: Recipe, steps: int) -> list[float]:
    """The loss of each step."""
    settings = TrainingSettings(steps, learning_rate=1e-2, warmup_steps=1)
    return [report.loss.response for report in Trainer(recipe, settings, MACHINE)]


# --- the two methods ------------------------------------------------------------------------------


def test_pretraining_reads_plain_text_from_weights_that_the_seed_decides(base: Checkpoint, poems: list[Poem]) -> None:
    shape = base.model.config
    recipe, same, other = (pretraining(poems, base.tokenizer, shape=shape, seed=seed) for seed in (3, 3, 4))
    assert isinstance(recipe.batches, PlainTextBatches)
    assert (recipe.kind, recipe.evaluation, recipe.batches.seed) == ("base", None, 3)
    assert recipe.checkpoint.instructions == ()
    assert are_equal(weights(recipe.checkpoint), weights(same.checkpoint))
    assert not are_equal(weights(recipe.checkpoint), weights(other.checkpoint))


def test_pretraining_can_go_on_from_a_checkpoint_and_leaves_it_as_it_was(base: Checkpoint, poems: list[Poem]) -> None:
    recipe = pretraining(poems, base.tokenizer, start=base, batch_size=2)
    before = weights(base)
    assert are_equal(weights(recipe.checkpoint), before)
    train(recipe, 3)
    assert not are_equal(weights(recipe.checkpoint), before)
    assert are_equal(weights(base), before)


def test_finetuning_trains_a_copy_that_knows_the_roles(base: Checkpoint, poems: list[Poem]) -> None:
    recipe = finetuning(base, poems, evaluation=poems[:1], batch_size=2)
    assert isinstance(recipe.batches, InstructionBatches)
    assert isinstance(recipe.evaluation, InstructionBatches)
    assert (recipe.kind, recipe.batches.seed, recipe.evaluation.seed) == ("instruction", 0, None)
    assert recipe.checkpoint.tokenizer.has_roles
    assert recipe.checkpoint.instructions == (POEM,)
    before = weights(base)
    once = train(recipe, 3)
    twice = finetuning(recipe.checkpoint, poems, batch_size=2)  # the roles are there already
    kept = weights(recipe.checkpoint)
    train(twice, 3)
    assert are_equal(weights(base), before)
    assert are_equal(weights(recipe.checkpoint), kept)
    assert once[-1] < once[0]


def test_examples_carry_the_instruction_that_each_poem_answers(base: Checkpoint) -> None:
    recipe = finetuning(base, [REGULATED, IRREGULAR], instructions=ALL)
    assert isinstance(recipe.batches, InstructionBatches)
    decode = recipe.checkpoint.tokenizer.decode
    unknown = "<UNK>"  # the tokenizer of these tests has few characters
    starts = [
        decode(example.input_ids, show_special_tokens=True).split("<INP>")[0].replace(unknown, "")
        for example in recipe.batches.examples
    ]
    expected = [
        decode(
            recipe.checkpoint.tokenizer.encode_segments([("<INS>", instruction.wording)]), show_special_tokens=True
        ).replace(unknown, "")
        for instruction in (POEM, OLD_STYLE)
    ]
    lengths = [
        len(e.input_ids) - 2 - len(p.title) - len(p.text) - 1
        for e, p in zip(recipe.batches.examples, (REGULATED, IRREGULAR), strict=True)
    ]
    assert starts == expected
    assert lengths == [len(POEM.wording) + 1, len(OLD_STYLE.wording) + 1]


def test_a_new_model_has_the_shape_of_the_course(base: Checkpoint, poems: list[Poem]) -> None:
    assert pretraining(poems, base.tokenizer).checkpoint.model.config == ModelConfig(len(base.tokenizer))


def test_tang_poems_are_read_more_often_than_song_poems(poems: list[Poem]) -> None:
    song = [replace(poem, dynasty="song") for poem in poems]
    assert tang_weighted([*song, *poems], 2) == [*poems, *poems, *song]
    assert tang_weighted(poems, 2) == poems


# --- how long it takes ----------------------------------------------------------------------------


def test_steps_are_counted_in_whole_batches(base: Checkpoint, poems: list[Poem]) -> None:
    recipe = finetuning(base, poems * 7, batch_size=1)
    batches = len(recipe.batches)
    assert batches > 4
    assert recipe.steps_per_epoch() == batches
    assert recipe.steps_per_epoch(accumulate=2) == math.ceil(batches / 2)
    assert recipe.steps_for(3) == 3 * batches
    assert recipe.steps_for(0.01) == 1
    assert recipe.steps_for(1.5, accumulate=2) == math.ceil(1.5 * math.ceil(batches / 2))


@pytest.mark.parametrize("epochs", [0, -1, math.nan, math.inf])
def test_a_number_of_epochs_that_has_no_end_or_no_beginning_is_refused(
    base: Checkpoint, poems: list[Poem], epochs: float
) -> None:
    with pytest.raises(ValueError, match=f"epochs is {epochs:g}, must be a number above 0"):
        finetuning(base, poems).steps_for(epochs)


# --- any conversations ----------------------------------------------------------------------------

TALKS: list[Conversation] = [
    [{"role": "user", "content": "江月"}, {"role": "assistant", "content": "山雨。"}],
    [{"role": "system", "content": "山"}, {"role": "user", "content": "雨"}, {"role": "assistant", "content": "開。"}],
]


def test_conversing_trains_a_copy_on_what_the_assistant_says(base: Checkpoint) -> None:
    own = Instruction("own", "自", ("山",))
    recipe = conversing(base, TALKS, evaluation=TALKS[:1], instructions=[own], batch_size=2, seed=3)
    assert isinstance(recipe.batches, InstructionBatches)
    assert isinstance(recipe.evaluation, InstructionBatches)
    assert (recipe.kind, recipe.batches.seed, recipe.evaluation.seed) == ("instruction", 3, None)
    assert (recipe.checkpoint.instructions, recipe.poems) == ((own,), ())
    assert [len(example.input_ids) for example in recipe.batches.examples] == [8, 8]
    assert len(recipe.evaluation.examples) == 1
    before = weights(base)
    losses = train(recipe, 4)
    assert losses[-1] < losses[0] - 0.5
    assert are_equal(weights(base), before)
    assert conversing(base, TALKS).evaluation is None


def test_finetuning_is_conversing_about_poems(base: Checkpoint, poems: list[Poem]) -> None:
    by_poems = finetuning(base, poems, instructions=ALL, batch_size=2)
    by_talks = conversing(base, plain_conversations(poems, ALL), instructions=ALL, poems=poems, batch_size=2)
    assert by_poems.identity == by_talks.identity
    assert by_poems.poems == by_talks.poems == poems
    ours, theirs = (recipe.batches for recipe in (by_poems, by_talks))
    assert isinstance(ours, InstructionBatches)
    assert isinstance(theirs, InstructionBatches)
    assert ours.examples == theirs.examples


def test_a_base_model_has_no_answers_to_prefer(base: Checkpoint) -> None:
    pairs = [Pair(asking(POEM.wording, "山"), "水", "月")]
    with pytest.raises(ValueError, match="a base model was taught no instruction"):
        preference(base, pairs)


def test_other_conversations_are_another_run(base: Checkpoint, poems: list[Poem]) -> None:
    identity = conversing(base, TALKS, poems=poems).identity
    assert identity == conversing(base, list(TALKS), poems=poems).identity
    changed: Conversation = [*TALKS[0][:1], {"role": "assistant", "content": "山月。"}]
    for other in ([changed, TALKS[1]], TALKS[::-1], TALKS[:1]):
        assert conversing(base, other, poems=poems).identity["sha256_of_poems"] != identity["sha256_of_poems"]
    assert conversing(base, TALKS, instructions=ALL).identity["instructions"] == "poem,old-style"


# --- which run it is ------------------------------------------------------------------------------


def test_the_identity_is_in_the_terms_of_the_command_line(base: Checkpoint, poems: list[Poem]) -> None:
    pretrained = pretraining(poems, base.tokenizer, shape=base.model.config, batch_size=2, seed=5).identity
    expected = {"kind": "base", "poems": 3, "dynasties": "tang", "batch_size": 2, "seed": 5}
    expected |= {"hidden_size": 32, "layers": 2, "context": 64}
    assert {key: pretrained[key] for key in expected} == expected
    assert "base" not in pretrained
    finetuned = finetuning(base, poems, instructions=ALL).identity
    assert (finetuned["kind"], finetuned["instructions"]) == ("instruction", "poem,old-style")
    assert len(finetuned["base"]) == 12


def recipes_of(base: Checkpoint, poems: list[Poem]) -> Iterator[tuple[Callable[..., Recipe], tuple[Any, ...]]]:
    yield finetuning, (base, poems)
    yield pretraining, (poems, base.tokenizer)


def test_the_same_data_have_the_same_identity_and_a_changed_character_another(
    base: Checkpoint, poems: list[Poem]
) -> None:
    changed = [replace(poems[0], title=poems[0].title[::-1]), *poems[1:]]
    for make, arguments in recipes_of(base, poems):
        again = make(*arguments).identity
        assert make(*arguments).identity == again
        for other in (changed, poems[::-1], poems[:2]):
            others = tuple(other if argument is poems else argument for argument in arguments)
            assert make(*others).identity["sha256_of_poems"] != again["sha256_of_poems"]


def test_other_first_weights_are_another_run(base: Checkpoint, poems: list[Poem]) -> None:
    def identities() -> list[object]:
        resumed = pretraining(poems, base.tokenizer, start=base)
        return [finetuning(base, poems).identity["base"], resumed.identity["base"]]

    before = identities()
    assert identities() == before
    with torch.no_grad():
        base.model.model.norm.weight[3] += 1e-3
    assert all(new != old for new, old in zip(identities(), before, strict=True))


# --- a teacher ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def teacher() -> Checkpoint:
    """A model of plain text, larger than the student, that has learned synthetic poems."""
    texts = [pretraining_text(poem) for poem in synthetic(60, 0)]
    tokenizer = CharacterTokenizer.train([*texts, POEM.wording], min_count=1)
    recipe = pretraining(synthetic(60, 0), tokenizer, shape=ModelConfig(len(tokenizer), 64, 128, 2, 2, 64))
    train(recipe, 40)
    return recipe.checkpoint


def student(teacher: Checkpoint, **changes: Any) -> Recipe:
    """A small model of the teacher's vocabulary, with the characters of the poems to learn."""
    shape = ModelConfig(len(teacher.tokenizer), 16, 64, 1, 2, 64)
    given: dict[str, Any] = {"shape": shape, "evaluation": synthetic(12, 1), "batch_size": 2} | changes
    return pretraining(synthetic(60, 0), teacher.tokenizer, **given)


def distance(checkpoint: Checkpoint, teacher: Checkpoint) -> float:
    """Cross entropy between the student's probabilities and the teacher's on unread poems, in nats per token."""
    (batch,) = pretraining(synthetic(12, 1), teacher.tokenizer, start=teacher).batches.epoch(0)
    with torch.no_grad():
        return distillation_sums(checkpoint.model, batch, teacher.model).means().response


def test_a_student_comes_nearer_to_its_teacher_than_one_that_learns_the_characters(teacher: Checkpoint) -> None:
    taught = weights(teacher)
    self_taught, distilled = student(teacher), distillation(student(teacher), teacher)
    assert are_equal(weights(self_taught.checkpoint), weights(distilled.checkpoint))
    before = distance(distilled.checkpoint, teacher)
    for recipe in (self_taught, distilled):
        train(recipe, 60)
    found = [distance(recipe.checkpoint, teacher) for recipe in (self_taught, distilled)]
    assert found[1] < found[0] - 0.02
    assert found[1] < before - 0.5
    assert are_equal(weights(teacher), taught)


def test_a_student_is_evaluated_on_the_characters(teacher: Checkpoint) -> None:
    recipe = distillation(student(teacher), teacher)
    trainer = Trainer(recipe, TrainingSettings(2), MACHINE)
    evaluation = trainer.evaluate()
    assert evaluation
    assert evaluation == pytest.approx(held_out_loss(recipe.checkpoint, synthetic(12, 1)), abs=1e-5)
    report = next(iter(trainer))
    assert report.loss.response != report.loss.whole  # the teacher's probabilities, and the characters


def test_a_teacher_that_was_taught_instructions_teaches_them(teacher: Checkpoint) -> None:
    tuned = finetuning(teacher, synthetic(60, 0), batch_size=2)
    train(tuned, 20)
    recipe = distillation(finetuning(student(teacher).checkpoint, synthetic(60, 0), batch_size=2), tuned.checkpoint)
    losses = train(recipe, 20)
    assert losses[-1] < losses[0] - 0.5


def test_another_teacher_is_another_run(teacher: Checkpoint) -> None:
    hard = student(teacher)
    soft = distillation(hard, teacher)
    assert {**soft.identity, "teacher": None} == {**hard.identity, "teacher": None}
    other = replace(teacher, model=student(teacher, shape=teacher.model.config).checkpoint.model)
    assert len({soft.identity["teacher"], distillation(hard, other).identity["teacher"]}) == 2


def test_a_teacher_must_read_what_the_student_reads(teacher: Checkpoint, base: Checkpoint, tmp_path: Path) -> None:
    short = student(teacher, shape=replace(teacher.model.config, max_position_embeddings=32)).checkpoint
    tuned = teacher.with_roles()
    for recipe, other, says in (
        (student(teacher), base, "another vocabulary"),
        (student(teacher), tuned, "another vocabulary and other instructions"),
        (finetuning(teacher, synthetic(9, 0)), replace(tuned, instructions=(OLD_STYLE,)), "other instructions"),
        (student(teacher), short, "a shorter context"),
    ):
        with pytest.raises(ValueError, match=f"^this model cannot be the teacher: it has {says} than the student$"):
            distillation(recipe, other)
    assert distillation(student(teacher, shape=short.model.config), teacher, tmp_path).teacher == tmp_path
