"""The decoder against an independent one, and against itself with its cache."""

from pathlib import Path

import pytest
import torch
from tiny import poem_batches
from torch import nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from course_lib.batches import PlainTextBatches
from course_lib.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from course_lib.losses import loss_sums, mean_loss
from course_lib.model import MLP, Attention, KVCache, ModelConfig, PoetryModel, evaluating
from course_lib.poems import Poem, load_poems

CPU = torch.device("cpu")


@pytest.fixture
def ids(checkpoint: Checkpoint) -> torch.Tensor:
    return random_ids(3, 40, size=checkpoint.model.config.vocab_size)


def random_ids(*shape: int, size: int) -> torch.Tensor:
    return torch.randint(3, size, shape, generator=torch.Generator().manual_seed(1))


def far_from_the_start(model: PoetryModel) -> PoetryModel:
    """The model with weights at which nothing cancels, norms included."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return model


# --- the decoder ----------------------------------------------------------------------------------


@torch.inference_mode()
def test_transformers_gives_the_same_logits_for_the_same_folder(
    checkpoint: Checkpoint, ids: torch.Tensor, tmp_path: Path
) -> None:
    far_from_the_start(checkpoint.model)
    save_checkpoint(checkpoint, tmp_path, {}, "")
    ours = load_checkpoint(tmp_path).model(ids)
    theirs = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)(ids).logits
    assert ours.std() > 1
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_no_token_sees_what_comes_after_it(checkpoint: Checkpoint, ids: torch.Tensor) -> None:
    changed = ids.clone()
    changed[:, 20:] = changed[:, 20:].flip(1)
    before, after = checkpoint.model(ids), checkpoint.model(changed)
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.allclose(before[:, 21:], after[:, 21:])


@torch.inference_mode()
def test_packed_examples_do_not_see_each_other(checkpoint: Checkpoint, ids: torch.Tensor) -> None:
    positions = torch.cat((torch.arange(15), torch.arange(25))).expand(3, -1)
    packed = checkpoint.model(ids, positions)
    alone = torch.cat((checkpoint.model(ids[:, :15]), checkpoint.model(ids[:, 15:])), dim=1)
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-5)
    changed = ids.clone()
    changed[:, :15] = changed[:, :15].flip(1)
    assert torch.equal(packed[:, 15:], checkpoint.model(changed, positions)[:, 15:])


@torch.inference_mode()
def test_packed_and_unpacked_losses_agree(checkpoint: Checkpoint, poems: list[Poem]) -> None:
    short = [Poem(p.title, p.author, p.couplets[:1]) for p in poems]

    def rows_and_loss(context: int) -> tuple[int, tuple[float, float]]:
        batches = poem_batches(short, checkpoint.tokenizer, context=context, batch_size=1)
        return len(batches), mean_loss(loss_sums(checkpoint.model, batch) for batch in batches.epoch(0))

    unpacked_rows, unpacked = rows_and_loss(context=32)
    packed_rows, packed = rows_and_loss(context=64)
    assert (unpacked_rows, packed_rows) == (3, 2)
    assert packed == pytest.approx(unpacked, rel=1e-5)


def test_a_row_longer_than_the_context_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match="a row has 65 tokens, but the model's context is 64"):
        checkpoint.model(torch.zeros(1, 65, dtype=torch.int64))


def test_a_shape_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="does not split into 3 heads"):
        ModelConfig(vocab_size=10, hidden_size=32, num_attention_heads=3)


def test_the_default_size_is_that_of_the_shipped_models_and_others_keep_its_proportions() -> None:
    assert ModelConfig.sized(9) == ModelConfig(9)
    assert [ModelConfig.sized(9, hidden_size=size).intermediate_size for size in (16, 512, 768)] == [64, 1408, 2048]
    assert [ModelConfig.sized(9, hidden_size=size).num_attention_heads for size in (16, 256, 512, 768)] == [4, 4, 8, 12]


def test_the_embedding_is_tied(checkpoint: Checkpoint) -> None:
    model = checkpoint.model
    assert not any("lm_head" in name for name in model.state_dict())
    with torch.no_grad():
        model.model.embed_tokens.weight[7] = 0
        assert (model(torch.tensor([[5]]))[..., 7] == 0).all()


def test_evaluation_mode_lasts_as_long_as_its_block(checkpoint: Checkpoint) -> None:
    model = checkpoint.model.train()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert all(module.training for module in model.modules())
    with evaluating(model.eval()):
        pass
    assert not model.training


# --- the key/value cache --------------------------------------------------------------------------


@torch.inference_mode()
def test_cached_logits_are_those_of_the_plain_model_up_to_the_end_of_the_context(checkpoint: Checkpoint) -> None:
    model = far_from_the_start(checkpoint.model)
    context = model.config.max_position_embeddings
    ids = random_ids(2, context, size=model.config.vocab_size)
    cache = KVCache(model.config, [0, 0], context, CPU)
    logits = [model(ids[:, :5], cache=cache)] + [model(ids[:, i : i + 1], cache=cache) for i in range(5, context)]
    plain = model(ids)
    assert plain.std() > 1
    torch.testing.assert_close(torch.cat(logits, dim=1), plain, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_rows_of_unequal_length_see_neither_their_padding_nor_each_other(checkpoint: Checkpoint) -> None:
    model = far_from_the_start(checkpoint.model)
    lengths = [3, 9, 1, 9]
    ids = random_ids(4, 30, size=model.config.vocab_size)
    cache = KVCache(model.config, [9 - n for n in lengths], 30, CPU)
    new = torch.stack([F.pad(row[:n], (9 - n, 0)) for row, n in zip(ids, lengths, strict=True)])
    rows = [0, 1, 2, 3]
    for step in range(12):
        logits = model(new, cache=cache)[:, -1]
        for own, row in zip(logits, rows, strict=True):
            plain = model(ids[row : row + 1, : lengths[row] + step])[0, -1]
            torch.testing.assert_close(own, plain, atol=1e-5, rtol=1e-5)
        if step in (3, 5, 8):  # one row leaves: the first, a middle one, the last
            gone = {3: 0, 5: 1, 8: len(rows) - 1}[step]
            del rows[gone]
            cache.keep(torch.tensor([i for i in range(len(rows) + 1) if i != gone]))
        new = torch.stack([ids[row, lengths[row] + step] for row in rows])[:, None]
    assert len(rows) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["base", "finetuned"])
@torch.inference_mode()
def test_cached_logits_of_the_shipped_models_are_those_of_the_plain_model(repository: Path, name: str) -> None:
    checkpoint = load_checkpoint(repository / "assets/checkpoints" / name)
    config, tokenizer = checkpoint.model.config, checkpoint.tokenizer
    text = PlainTextBatches(load_poems("test")[:100], tokenizer, context=256, batch_size=2, seed=None)
    ids = next(text.epoch(0)).input_ids
    cache = KVCache(config, [0, 0], config.max_position_embeddings, CPU)
    logits = torch.cat([checkpoint.model(ids[:, i : i + 1], cache=cache) for i in range(ids.shape[1])], dim=1)
    plain = checkpoint.model(ids)
    assert (logits - plain).abs().max() < 1e-5 * plain.abs().max()  # logits reach 25: 1e-5 of the largest
    torch.testing.assert_close(logits.softmax(-1), plain.softmax(-1), atol=1e-5, rtol=0)


# --- dropout --------------------------------------------------------------------------------------


def test_dropout_is_noise_while_training_and_nothing_else(checkpoint: Checkpoint, ids: torch.Tensor) -> None:
    model = checkpoint.model
    exact, names = model(ids), list(model.state_dict())
    model.train()
    assert torch.equal(model(ids), exact)  # unless asked for, there is none
    model.set_dropout(0.2)
    torch.manual_seed(0)
    noisy = model(ids)
    assert not torch.allclose(noisy, exact, atol=1e-3)
    assert not torch.allclose(noisy, model(ids), atol=1e-3)
    torch.manual_seed(0)
    assert torch.equal(noisy, model(ids))
    assert torch.equal(model.eval()(ids), exact)
    assert list(model.state_dict()) == names


def test_dropout_follows_the_embedding_the_attention_and_the_mlp(checkpoint: Checkpoint, ids: torch.Tensor) -> None:
    model = checkpoint.model.train()
    model.set_dropout(0.3)
    made: list[torch.Tensor] = []
    dropped: list[torch.Tensor] = []
    zeros: list[float] = []

    def keep(module: nn.Module, read: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(module, nn.Dropout):
            dropped.append(read[0])
            zeros.append((output == 0).float().mean().item())
        elif isinstance(module, nn.Embedding | Attention | MLP):
            made.append(output)

    for module in model.modules():
        module.register_forward_hook(keep)
    model(ids)
    assert len(made) == 1 + 2 * model.config.num_hidden_layers
    assert all(mine is its for mine, its in zip(dropped, made, strict=True))
    assert zeros == pytest.approx([0.3] * len(made), abs=0.05)
