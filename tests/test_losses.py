"""What is predicted, what is learned, and how the losses are summed and averaged."""

import math
from collections.abc import Iterator

import pytest
import torch
from tiny import poem_batches
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.batches import IGNORE, Batch
from course_lib.checkpoints import Checkpoint
from course_lib.losses import (
    Loss,
    LossSums,
    count_targets,
    distillation_sums,
    loss_sums,
    mean_loss,
    next_tokens,
    row_sums,
    targets_of,
    token_losses,
    total,
)
from course_lib.poems import Poem

PAD = 0


class Oracle(nn.Module):
    """Is sure that token n is followed by n + 1. It has one weight, so that there is a gradient."""

    def __init__(self, vocab_size: int = 10) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.sureness = nn.Parameter(torch.tensor(30.0))

    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None) -> Tensor:
        return self.sureness * F.one_hot((input_ids + 1) % self.vocab_size, self.vocab_size).float()


def batch_of(*rows: list[int], labels: list[int] | None = None, positions: list[int] | None = None) -> Batch:
    """A batch of these rows of ids. Labels and positions are those of the only row."""
    ids = torch.tensor(rows)
    return Batch(
        ids,
        ids if labels is None else torch.tensor([labels]),
        ids != PAD,
        None if positions is None else torch.tensor([positions]),
    )


def counts_of(sums: LossSums) -> tuple[int, int]:
    return int(sums.response_count), int(sums.whole_count)


def losses_of(batch: Batch) -> tuple[Tensor, Tensor]:
    targets, _ = targets_of(batch)
    return token_losses(Oracle(), batch, targets), targets


# --- what is predicted ----------------------------------------------------------------------------


def test_next_tokens_moves_one_place() -> None:
    assert next_tokens(torch.tensor([[1, 2, 3]])).tolist() == [[2, 3, IGNORE]]


def test_the_token_at_t_is_predicted_at_t_minus_one() -> None:
    losses, targets = losses_of(batch_of([1, 2, 3, 4]))
    assert targets.tolist() == [[2, 3, 4, IGNORE]]
    assert losses.max() < 1e-6


def test_a_wrong_prediction_costs_what_it_should() -> None:
    losses, _ = losses_of(batch_of([1, 2, 5, 6]))
    assert losses[0].tolist() == pytest.approx([0, 30, 0, 0], abs=1e-4)


def test_padding_and_the_first_token_of_a_packed_example_are_not_predicted() -> None:
    packed = batch_of([7, 8, 3, 4, 5, PAD, PAD], positions=[0, 1, 0, 1, 2, 0, 0])
    losses, targets = losses_of(packed)
    assert targets.tolist() == [[8, IGNORE, 4, 5, IGNORE, IGNORE, IGNORE]]
    assert losses.sum() < 1e-6


def test_the_mask_says_what_is_padding_whatever_its_id() -> None:
    batch = batch_of([7, 8, 9, 9, 9])._replace(attention_mask=torch.tensor([[True, True, True, False, False]]))
    targets, is_learned = targets_of(batch)
    assert targets.tolist() == [[8, 9, IGNORE, IGNORE, IGNORE]]
    assert is_learned.tolist() == [[True, True, False, False, False]]
    assert batch.attention_mask.tolist() == [[True, True, True, False, False]]  # unchanged


# --- the sums -------------------------------------------------------------------------------------


def test_response_and_whole_sequence_are_summed_apart() -> None:
    wrong_prompt_right_response = batch_of([1, 5, 6, 7], labels=[IGNORE, IGNORE, 6, 7])
    sums = loss_sums(Oracle(), wrong_prompt_right_response)
    assert counts_of(sums) == (2, 3)
    assert sums.response.item() == pytest.approx(0, abs=1e-4)
    assert sums.whole.item() == pytest.approx(30, abs=1e-4)


def test_labels_that_copy_the_ids_count_no_first_token_of_a_packed_example() -> None:
    packed = batch_of([7, 8, 3, 4, 5], labels=[7, 8, 3, 4, 5], positions=[0, 1, 0, 1, 2])
    sums = loss_sums(Oracle(), packed)
    assert counts_of(sums) == (3, 3)


def test_the_sums_of_rows_add_up_to_those_of_the_batch() -> None:
    batch = batch_of([1, 2, 5, 6], [3, 4, 9, PAD], [1, PAD, PAD, PAD])
    rows = row_sums(Oracle(), batch)
    assert rows.whole.tolist() == pytest.approx([30, 30, 0], abs=1e-4)
    assert rows.whole_count.tolist() == [3, 2, 0]
    sums = LossSums(*(each.sum() for each in rows))
    torch.testing.assert_close(sums.stacked(), loss_sums(Oracle(), batch).stacked())


def test_an_untrained_model_is_as_unsure_as_can_be(checkpoint: Checkpoint, poems: list[Poem]) -> None:
    tokenizer = checkpoint.tokenizer
    (batch,) = poem_batches(poems, tokenizer, context=64, batch_size=3).epoch(0)
    sums = loss_sums(checkpoint.model, batch)
    assert (sums.response / sums.response_count).item() == pytest.approx(math.log(len(tokenizer)), abs=0.1)
    response_and_end = sum(len(p.text) + 1 for p in poems)
    assert sums.response_count.item() == response_and_end


def test_targets_are_counted_without_a_model(checkpoint: Checkpoint, poems: list[Poem]) -> None:
    batches = list(poem_batches(poems, checkpoint.tokenizer, context=64, batch_size=1).epoch(0))
    sums = total(loss_sums(checkpoint.model, batch) for batch in batches)
    assert len(batches) > 1
    assert tuple(map(int, count_targets(batches))) == counts_of(sums)
    assert tuple(map(int, count_targets([]))) == (0, 0)


def test_the_response_has_the_gradient_of_its_losses() -> None:
    oracle = Oracle()
    batch = batch_of([1, 2, 5, 6], labels=[IGNORE, IGNORE, 5, 6])
    (gradient,) = torch.autograd.grad(loss_sums(oracle, batch).response, [oracle.sureness])
    # One of the two learned targets is wrong. There, the loss grows as fast as the sureness.
    assert gradient.item() == pytest.approx(1, abs=1e-4)


# --- a teacher ------------------------------------------------------------------------------------


def test_a_student_learns_the_teachers_probabilities_where_the_labels_are() -> None:
    """The teacher finds 2 and 5 equally likely after each token; the student is sure of the next number."""
    batch = batch_of([1, 2, 5, 6, 7, PAD], labels=[IGNORE, IGNORE, 5, 6, 7, PAD])
    torn = torch.full((1, 6, 10), -1e4)
    torn[..., [2, 5]] = 0
    sums = distillation_sums(Oracle(), batch, lambda *_: torn)
    assert counts_of(sums) == (3, 4)
    # After 2 the student is sure of 3, after 5 of 6, after 6 of 7: each time the teacher's two tokens cost 30.
    assert sums.response.item() == pytest.approx(3 * 30, abs=1e-3)
    assert sums.whole.item() == pytest.approx(loss_sums(Oracle(), batch).whole.item(), abs=1e-3)
    assert not sums.whole.requires_grad


def test_a_teacher_that_is_sure_teaches_what_the_labels_do() -> None:
    batch, oracle, teacher = batch_of([1, 2, 5, 6]), Oracle(), Oracle()
    sure = 1e4 * F.one_hot(torch.tensor([[2, 5, 6, 0]]), 10).float()
    hard, soft = loss_sums(oracle, batch), distillation_sums(oracle, batch, lambda *_: sure)
    torch.testing.assert_close(soft.stacked(), hard.stacked())
    distillation_sums(oracle, batch, teacher).response.backward()
    assert teacher.sureness.grad is None
    assert oracle.sureness.grad is not None
    assert oracle.sureness.grad.item() == pytest.approx(0, abs=1e-6)  # the student knows already what it is taught


# --- the means ------------------------------------------------------------------------------------


def sums_of(*values: float) -> LossSums:
    return LossSums(*torch.tensor(values))


def test_means_divide_each_loss_by_its_own_count() -> None:
    assert sums_of(6, 2, 10, 4).means() == Loss(response=3, whole=2.5)


def test_each_token_counts_once_whatever_its_batch() -> None:
    long, short = sums_of(10, 10, 30, 30), sums_of(5, 1, 9, 3)
    assert mean_loss([long, short]) == Loss(15 / 11, 39 / 33)
    assert total([long, short]).stacked().tolist() == [15, 11, 39, 33]


def test_the_mean_loss_keeps_no_gradient() -> None:
    oracle = Oracle()
    seen = []

    def reading() -> Iterator[LossSums]:
        for _ in range(2):
            seen.append(loss_sums(oracle, batch_of([1, 2, 5, 6])))
            yield seen[-1]

    assert mean_loss(reading()).whole == pytest.approx(10, abs=1e-4)
    assert not any(sums.response.requires_grad for sums in seen)


def test_sums_can_be_stacked_and_taken_apart_again() -> None:
    oracle = Oracle()
    sums = loss_sums(oracle, batch_of([1, 2, 5, 6]))
    again = LossSums(*sums.stacked())
    assert again.means() == sums.means()
    expected = torch.autograd.grad(sums.response, [oracle.sureness], retain_graph=True)
    assert torch.autograd.grad(again.response, [oracle.sureness]) == expected
