"""The loss in pieces is the loss: the same sums, the same gradients, and never all logits at once."""

import pytest
import torch

from course_lib import losses
from course_lib.batches import IGNORE, Batch, InstructionBatches
from course_lib.engine import chunked_loss
from course_lib.model import PoetryModel


@pytest.fixture(params=[1, 7, 64, 10_000], ids=lambda places: f"{places} places")
def places(request, monkeypatch):
    """Pieces of one place, pieces in which learned and unlearned places meet, and one piece for all."""
    monkeypatch.setattr(chunked_loss, "PLACES", request.param)


@pytest.fixture
def model(checkpoint) -> PoetryModel:
    """A model of its own, sure enough of itself that its losses differ from place to place."""
    torch.manual_seed(1)
    model = PoetryModel(checkpoint.model.config)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(20)
    return model


@pytest.fixture
def batch(checkpoint, poems) -> Batch:
    """Packed poems, and a row of padding."""
    (batch,) = InstructionBatches.from_poems(poems, checkpoint.tokenizer, context=64, batch_size=4).epoch(0)
    assert (batch.input_ids == checkpoint.tokenizer.pad_id).all(dim=1).any()
    return batch


def sums_and_gradients(module, model, batch, pad_id):
    model.zero_grad()
    sums = module.loss_sums(model, batch, pad_id)
    (sums[0] / sums[1]).backward()
    return sums.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.usefixtures("places")
def test_sums_and_gradients_are_those_of_the_definition(checkpoint, model, batch):
    pad = checkpoint.tokenizer.pad_id
    sums, gradients = sums_and_gradients(chunked_loss, model, batch, pad)
    expected, expected_gradients = sums_and_gradients(losses, model, batch, pad)
    assert 0 < sums[1] < sums[3]
    torch.testing.assert_close(sums, expected, rtol=1e-5, atol=0)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.usefixtures("places")
def test_without_a_gradient_the_sums_are_the_same(checkpoint, model, batch):
    pad = checkpoint.tokenizer.pad_id
    with torch.no_grad():
        sums = chunked_loss.loss_sums(model, batch, pad)
    assert not sums.requires_grad
    torch.testing.assert_close(sums, losses.loss_sums(model, batch, pad).detach(), rtol=1e-5, atol=0)


@pytest.mark.usefixtures("places")
def test_the_loss_of_each_token_is_that_of_the_definition(checkpoint, model, batch):
    targets, _ = losses.targets_of(batch, checkpoint.tokenizer.pad_id)
    found = chunked_loss.token_losses(model, batch, targets)
    assert not found.requires_grad
    torch.testing.assert_close(found, losses.token_losses(model, batch, targets).detach(), rtol=1e-5, atol=1e-5)


def test_a_batch_that_is_all_prompt_has_a_loss_and_teaches_nothing(checkpoint, model, batch):
    prompt = batch._replace(labels=torch.full_like(batch.labels, IGNORE))
    sums = chunked_loss.loss_sums(model, prompt, checkpoint.tokenizer.pad_id)
    assert sums[:2].tolist() == [0, 0]
    assert (sums[2:] > 0).all()
    sums[0].backward()
    assert all(not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_products_are_made_in_the_precision_of_autocast(checkpoint, model, batch, dtype):
    pad = checkpoint.tokenizer.pad_id
    with torch.autocast("cpu", dtype):
        sums, gradients = sums_and_gradients(chunked_loss, model, batch, pad)
        expected, expected_gradients = sums_and_gradients(losses, model, batch, pad)
    torch.testing.assert_close(sums, expected, rtol=1e-2, atol=0)
    assert not torch.equal(sums, sums_and_gradients(losses, model, batch, pad)[0])
    for name, gradient in gradients.items():
        assert gradient.dtype == torch.float32
        similarity = torch.cosine_similarity(gradient.flatten(), expected_gradients[name].flatten(), dim=0)
        assert similarity > 0.99, name


def test_no_tensor_is_as_large_as_all_logits(checkpoint, model, batch, monkeypatch):
    monkeypatch.setattr(chunked_loss, "PLACES", 48)  # more than the channels: the embedding is no larger
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.shape[-1:] == (len(checkpoint.tokenizer),):
                largest = max(largest, result.numel())
            return result

    with Watch():
        chunked_loss.loss_sums(model, batch, checkpoint.tokenizer.pad_id)[0].backward()
    assert largest == 48 * len(checkpoint.tokenizer)
