"""The model that reads on gives the logits of the model that reads all anew."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from course_lib import inference
from course_lib.checkpoints import load_checkpoint
from course_lib.inference import CachedModel

WAYS = {"numpy": (np, False), "numpy and oneDNN": (np, True), "as on a GPU": (torch, False)}


@pytest.fixture(params=WAYS, autouse=True)
def library(request, monkeypatch):
    """All ways to compute."""
    library, onednn = WAYS[request.param]
    if onednn and not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(inference, "library_for", lambda device: library)
    monkeypatch.setattr(inference, "onednn_is_faster", lambda: onednn)
    monkeypatch.setattr(inference, "FEW", 2)


def read(cached: CachedModel, ids: torch.Tensor) -> torch.Tensor:
    logits = cached.read(ids.numpy())
    assert isinstance(logits, np.ndarray if cached.xp is np else torch.Tensor)
    return torch.as_tensor(logits)


def random_ids(*shape: int, size: int) -> torch.Tensor:
    return torch.randint(3, size, shape, generator=torch.Generator().manual_seed(3))


def far_from_the_start(model: torch.nn.Module) -> None:
    """Weights at which nothing cancels, norms and their order included."""
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)


@torch.inference_mode()
def test_logits_are_those_of_the_plain_model_up_to_the_end_of_the_context(checkpoint):
    model = checkpoint.model
    far_from_the_start(model)
    context = model.config.max_position_embeddings
    ids = random_ids(2, context, size=model.config.vocab_size)
    cached = CachedModel(model, [0, 0], context)
    logits = [read(cached, ids[:, :5])] + [read(cached, ids[:, i : i + 1]) for i in range(5, context)]
    plain = model(ids)[:, 4:]
    assert plain.std() > 1
    torch.testing.assert_close(torch.stack(logits, dim=1), plain, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_rows_of_unequal_length_do_not_see_their_padding_nor_each_other(checkpoint):
    model = checkpoint.model
    far_from_the_start(model)
    lengths = [3, 9, 1, 9]
    ids = random_ids(4, 30, size=model.config.vocab_size)
    cached = CachedModel(model, [9 - n for n in lengths], 30)
    prompts = torch.stack([F.pad(row[:n], (9 - n, 0)) for row, n in zip(ids, lengths, strict=True)])
    logits = read(cached, prompts)
    rows = [0, 1, 2, 3]
    for step in range(12):
        for i, row in enumerate(rows):
            plain = model(ids[row : row + 1, : lengths[row] + step])[0, -1]
            torch.testing.assert_close(logits[i], plain, atol=1e-5, rtol=1e-5)
        if step in (3, 5, 8):  # one leaves, the last takes its place: first, middle, last
            gone = {3: 0, 5: 1, 8: len(rows) - 1}[step]
            cached.drop(gone)
            rows[gone] = rows[-1]
            del rows[-1]
        logits = read(cached, torch.stack([ids[row, lengths[row] + step] for row in rows])[:, None])
    assert len(rows) == 1


@torch.inference_mode()
def test_the_shipped_model_differs_by_far_less_than_what_counts_as_doubt(repository):
    from course_lib.generation import DOUBT

    checkpoint = load_checkpoint(repository / "assets/checkpoints/finetuned")
    ids = random_ids(8, 40, size=checkpoint.model.config.vocab_size)
    plain = checkpoint.model(ids)
    cached = CachedModel(checkpoint.model, [0] * 8, 40)
    for i in range(40):
        logits = read(cached, ids[:, i : i + 1])
        off = (logits - plain[:, i]).abs()
        assert off.square().mean().sqrt() < 1e-5
        assert off.max() < DOUBT / 4  # up to half of DOUBT is allowed for


def exchange(model: torch.nn.Module) -> None:
    """Two tokens swap places, and no sum changes."""
    embedding = model.model.embed_tokens.weight
    embedding[:2] = embedding[:2].flip(0)


CHANGES = {
    "in place": far_from_the_start,
    "behind PyTorch's back": lambda model: [p.data.mul_(1.01) for p in model.parameters()],
    "loaded": lambda model: model.load_state_dict({n: p + 0.01 for n, p in model.state_dict().items()}),
    "two rows exchanged": exchange,
}


@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_weights_are_taken_as_they_are_at_the_time(checkpoint, change):
    model, one = checkpoint.model, torch.tensor([[5]])
    cached = CachedModel(model, [0], 1)
    before = read(cached, one)
    assert CachedModel(model, [0], 9).weights is cached.weights  # what did not change is not made again
    CHANGES[change](model)
    after = read(CachedModel(model, [0], 1), one)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, model(one)[:, -1], atol=1e-5, rtol=1e-5)


def test_weights_are_taken_anew_after_a_step_of_training(checkpoint):
    model, ids = checkpoint.model, torch.tensor([[5, 6, 7]])
    for optimizer in (torch.optim.AdamW(model.parameters(), fused=True), torch.optim.SGD(model.parameters())):
        before = CachedModel(model, [0], 3).weights
        model(ids).square().sum().backward()
        optimizer.step()
        assert CachedModel(model, [0], 3).weights is not before
