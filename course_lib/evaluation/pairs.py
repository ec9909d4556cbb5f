"""What has a model learned from pairs? Compared with its reference, on pairs that it has not been trained on."""

from collections.abc import Iterable
from typing import NamedTuple

import torch

from course_lib.batches import Batch
from course_lib.losses import example_sums, targets_of
from course_lib.model import PoetryModel, evaluating


class PairFigures(NamedTuple):
    """Means over pairs. The gain of an answer is how much likelier it is than for the reference model, in nats."""

    accuracy: float  # the share of pairs whose chosen answer gained more than the rejected one
    margin: float  # the gain of the chosen answer less that of the rejected one
    chosen: float  # the gain of the chosen answer
    rejected: float
    distance: float  # the Kullback-Leibler divergence of the model from the reference, in nats per token of the answers


@torch.no_grad()
def measure_pairs(model: PoetryModel, reference: PoetryModel, batches: Iterable[Batch]) -> PairFigures:
    """The figures of `model` on the pairs in these batches, which `recipes.preference.pair_batches` makes.

    The batches and both models are on the same device.
    """
    gains, divergences = [], []
    for batch in batches:
        targets, is_learned = targets_of(batch)
        with evaluating(model), evaluating(reference):
            logits, before = (
                m(batch.input_ids, batch.position_ids).float().log_softmax(-1) for m in (model, reference)
            )
        picked = targets.clamp(min=0)[..., None]
        gain = (logits - before).gather(-1, picked)[..., 0]
        gains.append(example_sums(gain * is_learned, batch).view(-1, 2))
        divergences.append((logits.exp() * (logits - before)).sum(-1)[is_learned])
    chosen, rejected = torch.cat(gains).T
    margins = chosen - rejected
    means = [(margins > 0).float(), margins, chosen, rejected, torch.cat(divergences)]
    return PairFigures(*(values.mean().item() for values in means))
