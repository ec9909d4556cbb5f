"""The loss in pieces is the loss: the same sums, the same gradients, and never all logits at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from tiny import poem_batches
from torch.utils._python_dispatch import TorchDispatchMode

from course_lib import losses
from course_lib.batches import IGNORE, Batch
from course_lib.checkpoints import Checkpoint
from course_lib.engine import chunked_loss
from course_lib.engine.machine import try_compile
from course_lib.losses import LossFunction, LossSums
from course_lib.model import PoetryModel
from course_lib.poems import Poem

# Pieces of one position, pieces in which learned and other positions meet, and one piece for all.
each_size = pytest.mark.parametrize("piece", [1, 7, 64, 10_000])


@pytest.fixture
def model(checkpoint: Checkpoint) -> PoetryModel:
    """A model with large weights, so that its losses differ from position to position."""
    torch.manual_seed(1)
    model = PoetryModel(checkpoint.model.config)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(20)
    return model


@pytest.fixture
def batch(checkpoint: Checkpoint, poems: list[Poem]) -> Batch:
    """Packed poems, and a row of padding."""
    (batch,) = poem_batches(poems, checkpoint.tokenizer, context=64, batch_size=4).epoch(0)
    assert not batch.attention_mask.any(dim=1).all()
    return batch


def with_gradients(
    loss_sums: LossFunction, model: PoetryModel, batch: Batch
) -> tuple[LossSums, dict[str, torch.Tensor]]:
    """The sums, and the gradient of the mean for each weight."""
    model.zero_grad()
    sums = loss_sums(model, batch)
    (sums.response / sums.response_count).backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    return LossSums(*(part.detach() for part in sums)), gradients


def assert_close(found: LossSums, expected: LossSums, rtol: float = 1e-5) -> None:
    for part, other in zip(found, expected, strict=True):
        torch.testing.assert_close(part, other, rtol=rtol, atol=0, check_dtype=False)


@each_size
@pytest.mark.parametrize("multiple", [1, 8])  # a CPU does not pad the vocabulary, a GPU does
def test_sums_and_gradients_are_those_of_the_definition(
    piece: int, multiple: int, model: PoetryModel, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model.config.vocab_size % 8
    monkeypatch.setattr(chunked_loss, "multiple_for", lambda _: multiple)
    sums, gradients = with_gradients(partial(chunked_loss.loss_sums, piece=piece), model, batch)
    expected, expected_gradients = with_gradients(losses.loss_sums, model, batch)
    assert 0 < sums.response_count < sums.whole_count
    assert_close(sums, expected)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-4, atol=1e-6, msg=name)


@each_size
def test_without_a_gradient_the_sums_are_the_same(piece: int, model: PoetryModel, batch: Batch) -> None:
    with torch.no_grad():
        sums = chunked_loss.loss_sums(model, batch, piece)
        expected = losses.loss_sums(model, batch)
    assert not sums.response.requires_grad
    assert_close(sums, expected)


@each_size
def test_the_loss_of_each_token_is_that_of_the_definition(piece: int, model: PoetryModel, batch: Batch) -> None:
    targets, _ = losses.targets_of(batch)
    expected = losses.token_losses(model, batch, targets)
    hidden = model.model(batch.input_ids, batch.position_ids)
    weight = model.model.embed_tokens.weight
    found = chunked_loss.losses_of(hidden, weight, targets, piece)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    flat = chunked_loss.losses_of(hidden.flatten(0, 1), weight, targets.flatten(), piece)
    assert torch.equal(flat, found.flatten())


@each_size
def test_the_sums_of_each_row_are_those_of_the_definition(piece: int, model: PoetryModel, batch: Batch) -> None:
    found = chunked_loss.row_sums(model, batch, piece)
    assert [(part.shape, part.requires_grad) for part in found] == [((4,), False)] * 4
    with torch.no_grad():
        assert_close(found, losses.row_sums(model, batch))


def test_only_the_response_has_a_gradient(model: PoetryModel, batch: Batch) -> None:
    sums = chunked_loss.loss_sums(model, batch)
    model.zero_grad()
    (sums.response + 5 * sums.whole).backward()
    both = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    model.zero_grad()
    chunked_loss.loss_sums(model, batch).response.backward()
    alone = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert all(map(torch.equal, both, alone))


def test_a_batch_that_is_all_prompt_has_a_loss_and_teaches_nothing(model: PoetryModel, batch: Batch) -> None:
    prompt = batch._replace(labels=torch.full_like(batch.labels, IGNORE))
    sums = chunked_loss.loss_sums(model, prompt)
    assert (sums.response.item(), sums.response_count.item()) == (0, 0)
    assert sums.whole > 0
    assert sums.whole_count > 0
    sums.response.backward()
    assert all(weight.grad is None or not weight.grad.any() for weight in model.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_products_are_in_the_precision_of_autocast(dtype: torch.dtype, model: PoetryModel, batch: Batch) -> None:
    with torch.autocast("cpu", dtype):
        sums, gradients = with_gradients(chunked_loss.loss_sums, model, batch)
        expected, expected_gradients = with_gradients(losses.loss_sums, model, batch)
    assert_close(sums, expected, rtol=1e-2)
    assert sums.response != with_gradients(losses.loss_sums, model, batch)[0].response
    for name, gradient in gradients.items():
        assert gradient.dtype == torch.float32
        similarity = torch.cosine_similarity(gradient.flatten(), expected_gradients[name].flatten(), dim=0)
        assert similarity > 0.99, name


def largest_with_a_logit_for_each_token(vocabulary: int, run: Callable[[], object]) -> int:
    """How many elements the largest tensor has whose last dimension is the vocabulary."""
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.shape[-1:] == (vocabulary,):
                largest = max(largest, result.numel())
            return result

    with Watch():  # type: ignore[no-untyped-call]
        run()
    return largest


def test_no_tensor_is_as_large_as_all_logits(checkpoint: Checkpoint, model: PoetryModel, batch: Batch) -> None:
    vocabulary = len(checkpoint.tokenizer)
    piece = 48  # more than the channels: the embedding is no larger

    def step(loss_sums: LossFunction) -> None:
        loss_sums(model, batch).response.backward()

    chunked = partial(step, partial(chunked_loss.loss_sums, piece=piece))
    assert largest_with_a_logit_for_each_token(vocabulary, chunked) == piece * vocabulary
    all_at_once = largest_with_a_logit_for_each_token(vocabulary, partial(step, losses.loss_sums))
    assert all_at_once == batch.input_ids.numel() * vocabulary


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="there is no C++ compiler")
def test_in_a_compiled_model_the_pieces_are_compiled_too_and_agree(model: PoetryModel, batch: Batch) -> None:
    def profiled(called: Callable[..., torch.Tensor]) -> tuple[LossSums, dict[str, torch.Tensor], set[str]]:
        sums = partial(chunked_loss.loss_sums, piece=64)
        with_gradients(lambda _, batch: sums(called, batch), model, batch)  # compiles
        with torch.profiler.profile() as profile:
            found, gradients = with_gradients(lambda _, batch: sums(called, batch), model, batch)
        return found, gradients, {event.name for event in profile.events() or ()}

    expected, expected_gradients, operations = profiled(model)
    assert "aten::_log_softmax" in operations
    found, gradients, operations = profiled(try_compile(model))
    assert "aten::_log_softmax" not in operations
    assert "aten::mm" in operations
    assert_close(found, expected)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-4, atol=1e-6, msg=name)
