"""A recipe says what is learned from what, and a new method is one function that returns one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.batches import Batch, InstructionBatches, PlainTextBatches
from course_lib.checkpoints import Checkpoint
from course_lib.engine import Machine
from course_lib.instructions import ALL, OLD_STYLE, POEM
from course_lib.losses import LossSums
from course_lib.model import ModelConfig
from course_lib.poems import Poem
from course_lib.recipes import Recipe, finetuning, pretraining, tang_weighted
from course_lib.roles import pretraining_text
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


# --- a new method ---------------------------------------------------------------------------------


def imitation(base: Checkpoint, poems: Sequence[Poem], teacher: Checkpoint) -> Recipe:
    """A method of one's own: the student learns the probabilities of a teacher, not the characters of the poems."""

    def loss(model: Callable[..., Tensor], batch: Batch) -> LossSums:
        with torch.no_grad():
            wanted = teacher.model(batch.input_ids).softmax(-1)
        losses = F.cross_entropy(model(batch.input_ids).flatten(0, 1), wanted.flatten(0, 1), reduction="none")
        learned = losses * batch.attention_mask.flatten()
        count = batch.attention_mask.sum()
        return LossSums(learned.sum(), count, learned.detach().sum(), count)

    def count(batches: Sequence[Batch]) -> tuple[int, int]:
        tokens = sum(int(batch.attention_mask.sum()) for batch in batches)
        return tokens, tokens

    plain = pretraining(poems, base.tokenizer, start=base, batch_size=2)
    return replace(plain, loss=loss, count=count, identity={**plain.identity, "method": "imitation"})


def test_a_method_with_a_loss_of_its_own_is_one_function(base: Checkpoint, poems: list[Poem]) -> None:
    teacher = pretraining(poems, base.tokenizer, start=base, batch_size=2)
    train(teacher, 30)
    recipe = imitation(base, poems, teacher.checkpoint)
    taught = weights(teacher.checkpoint)

    def distance() -> float:
        """How far the student's probabilities are from the teacher's, in nats (Kullback-Leibler divergence)."""
        batch = next(recipe.batches.epoch(0))
        with torch.no_grad():
            student, wanted = (
                c.model(batch.input_ids).log_softmax(-1) for c in (recipe.checkpoint, teacher.checkpoint)
            )
        return F.kl_div(student, wanted, log_target=True, reduction="none").sum(-1).mean().item()

    before = distance()
    losses = train(recipe, 10)
    assert len(losses) == 10
    assert losses[-1] < losses[0]
    assert distance() < before / 2
    assert are_equal(weights(teacher.checkpoint), taught)
