"""Slow and plain versions of what the evaluation computes, for comparison."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch

from course_lib.checkpoints import Checkpoint
from course_lib.model import PoetryModel
from course_lib.poems import Poem
from course_lib.roles import pretraining_text
from course_lib.tokenizer import CharacterTokenizer

FIVE = "好雨知時節，當春乃發生。\n隨風潛入夜，潤物細無聲。"


def nats(checkpoint: Checkpoint, ids: list[int]) -> list[float]:
    """The loss of each token but the first: one forward pass for one text, without packing and padding."""
    with torch.no_grad():
        log_p = checkpoint.model(torch.tensor([ids]))[0].log_softmax(-1)
    return [-log_p[t, token].item() for t, token in enumerate(ids[1:])]


def base_model(checkpoint: Checkpoint, poems: Sequence[Poem]) -> Checkpoint:
    """A model of the same shape that was taught nothing, with a vocabulary for `poems`."""
    tokenizer = CharacterTokenizer.train((pretraining_text(p) for p in poems), min_count=1)
    torch.manual_seed(0)
    config = replace(checkpoint.model.config, vocab_size=len(tokenizer))
    return Checkpoint(PoetryModel(config).eval(), tokenizer)


def with_more(poems: Sequence[Poem]) -> list[Poem]:
    """The poems and others: enough to compare a title with 15 others."""
    signs = "山中一夜雨樹上幾聲鶯水向門前去"
    return [*poems, *(Poem(f"{a}{b}", "", (f"{a}月何人見，{b}花幾度開。",)) for a, b in pairwise(signs))]
