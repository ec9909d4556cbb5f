"""The model that reads on gives the logits of the model that reads all anew."""

import pytest
import torch
from torch.nn import functional as F

from course_lib import inference
from course_lib.checkpoints import load_checkpoint
from course_lib.inference import CachedModel


@pytest.fixture(params=[True, False], ids=["oneDNN", "any machine"], autouse=True)
def onednn(request, monkeypatch):
    """Both ways to multiply."""
    if request.param and not inference.ONEDNN:
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(inference, "ONEDNN", request.param)


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
    cached = CachedModel(model, torch.zeros(2, dtype=torch.int64), context)
    read = [cached.read(ids[:, :5])] + [cached.read(ids[:, i : i + 1]) for i in range(5, context)]
    plain = model(ids)[:, 4:]
    assert plain.std() > 1
    torch.testing.assert_close(torch.stack(read, dim=1), plain, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_rows_of_unequal_length_do_not_see_their_padding_nor_each_other(checkpoint):
    model = checkpoint.model
    far_from_the_start(model)
    lengths = [3, 9, 1, 9]
    ids = random_ids(4, 30, size=model.config.vocab_size)
    cached = CachedModel(model, torch.tensor([9 - n for n in lengths]), 30)
    prompts = torch.stack([F.pad(row[:n], (9 - n, 0)) for row, n in zip(ids, lengths, strict=True)])
    logits = cached.read(prompts)
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
        logits = cached.read(torch.stack([ids[row, lengths[row] + step] for row in rows])[:, None])
    assert len(rows) == 1


@torch.inference_mode()
def test_the_shipped_model_differs_by_far_less_than_what_counts_as_doubt(repository):
    from course_lib.generation import DOUBT

    checkpoint = load_checkpoint(repository / "assets/checkpoints/finetuned")
    ids = random_ids(8, 40, size=checkpoint.model.config.vocab_size)
    plain = checkpoint.model(ids)
    cached = CachedModel(checkpoint.model, torch.zeros(8, dtype=torch.int64), 40)
    for i in range(40):
        logits = cached.read(ids[:, i : i + 1])
        off = (logits - plain[:, i]).abs()
        assert off.square().mean().sqrt() < 1e-5
        assert off.max() < DOUBT / 4  # up to half of DOUBT is allowed for


@torch.inference_mode()
def test_weights_are_taken_as_they_are_at_the_time(checkpoint):
    model, one = checkpoint.model, torch.tensor([[5]])
    nobody = torch.zeros(1, dtype=torch.int64)
    before = CachedModel(model, nobody, 1).read(one)
    far_from_the_start(model)
    after = CachedModel(model, nobody, 1).read(one)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, model(one)[:, -1], atol=1e-5, rtol=1e-5)
