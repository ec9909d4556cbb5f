"""The decoder against an independent one, and against itself."""

import pytest
import torch
from transformers import LlamaForCausalLM

from course_lib.batches import InstructionBatches
from course_lib.checkpoints import load_checkpoint, save_checkpoint
from course_lib.losses import loss_sums
from course_lib.model import ModelConfig, PoetryModel
from course_lib.poems import Poem


@pytest.fixture
def ids(checkpoint) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(3, checkpoint.model.config.vocab_size, (3, 40), generator=generator)


@torch.inference_mode()
def test_transformers_gives_the_same_logits_for_the_same_folder(checkpoint, ids, tmp_path):
    torch.manual_seed(2)
    for parameter in checkpoint.model.parameters():  # far from the start, where nothing cancels
        parameter.add_(torch.randn_like(parameter), alpha=0.3)
    save_checkpoint(checkpoint, tmp_path, {}, "")
    ours = load_checkpoint(tmp_path).model(ids)
    theirs = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)(ids).logits
    assert ours.std() > 1
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_no_token_sees_what_comes_after_it(checkpoint, ids):
    changed = ids.clone()
    changed[:, 20:] = changed[:, 20:].flip(1)
    before, after = checkpoint.model(ids), checkpoint.model(changed)
    assert torch.equal(before[:, :20], after[:, :20])
    assert not torch.allclose(before[:, 21:], after[:, 21:])


@torch.inference_mode()
def test_packed_examples_do_not_see_each_other(checkpoint, ids):
    positions = torch.cat((torch.arange(15), torch.arange(25))).expand(3, -1)
    packed = checkpoint.model(ids, positions)
    alone = torch.cat((checkpoint.model(ids[:, :15]), checkpoint.model(ids[:, 15:])), dim=1)
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-5)
    changed = ids.clone()
    changed[:, :15] = changed[:, :15].flip(1)
    assert torch.equal(packed[:, 15:], checkpoint.model(changed, positions)[:, 15:])


@torch.inference_mode()
def test_packed_and_unpacked_losses_agree(checkpoint, poems):
    model, pad_id = checkpoint.model, checkpoint.tokenizer.pad_id
    short = [Poem(p.title, p.author, p.couplets[:1]) for p in poems]

    def rows_and_sums(context: int) -> tuple[int, torch.Tensor]:
        batches = InstructionBatches.from_poems(short, checkpoint.tokenizer, context=context, batch_size=1)
        return len(batches), torch.stack([loss_sums(model, batch, pad_id) for batch in batches.epoch(0)]).sum(0)

    unpacked_rows, unpacked = rows_and_sums(context=32)
    packed_rows, packed = rows_and_sums(context=64)
    assert (unpacked_rows, packed_rows) == (3, 2)
    torch.testing.assert_close(unpacked, packed, atol=0, rtol=1e-5)


def test_a_row_longer_than_the_context_is_refused(checkpoint):
    with pytest.raises(ValueError, match="65 tokens in a row, the model's context is 64"):
        checkpoint.model(torch.zeros(1, 65, dtype=torch.int64))


def test_a_shape_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="does not split into 3 heads"):
        ModelConfig(vocab_size=10, hidden_size=32, num_attention_heads=3)


def test_the_embedding_is_tied(checkpoint):
    model: PoetryModel = checkpoint.model
    assert not any("lm_head" in name for name in model.state_dict())
    with torch.no_grad():
        model.model.embed_tokens.weight[7] = 0
        assert (model(torch.tensor([[5]]))[..., 7] == 0).all()
