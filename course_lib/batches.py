"""Ids to tensors: which tokens are learned, and how rows of unequal length share a batch.

`labels` stand at the same places as `input_ids`, with `IGNORE` where nothing is learned. The shift by one place (the
token at t is predicted at t - 1) happens once, in `course_lib.losses.next_tokens`.
"""

import copy
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.poems import Poem
from course_lib.roles import (
    END,
    RESPONSE,
    Conversation,
    Segment,
    message_segments,
    pretraining_text,
    room_for_response,
    spelled_out,
)
from course_lib.tokenizer import CharacterTokenizer

IGNORE = -100  # the label that PyTorch's cross entropy skips
Seed = int | None  # decides the order of each epoch; None: every epoch keeps the order of the data, for evaluation


class Batch(NamedTuple):
    """`B` rows of `T` tokens. Each tensor is (B, T)."""

    input_ids: Tensor  # int64
    labels: Tensor  # int64
    attention_mask: Tensor  # bool: False on padding
    position_ids: Tensor | None = None  # int64: they count from 0 in each example; None: each row is one text


class Example(NamedTuple):
    """One text to learn from: its ids, and as many labels."""

    input_ids: list[int]
    labels: list[int]


class Batches(Protocol):
    """A data set cut into batches of `batch_size` rows."""

    batch_size: int
    seed: Seed

    def __len__(self) -> int:
        """The number of batches in an epoch; all epochs have the same."""

    def to(self, device: torch.device) -> Self:
        """The same batches, with their tensors on `device`."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, beginning with number `start`."""


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
    return (a + b - 1) // b


def epoch_order(count: int, seed: Seed, epoch: int) -> Tensor:
    """The numbers 0 to `count` - 1 in the order of this epoch, (count,); with `seed=None` they always ascend."""
    if seed is None:
        return torch.arange(count)
    return torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(count))


class PlainTextBatches:
    """Poems joined end to end and cut into windows of `context` tokens, for pretraining.

    Each window begins with the last token of the one before it, so an epoch predicts each token exactly once.
    Each epoch joins the poems in a new order. Padding fills the last batch. Raises ValueError if there are no poems.
    """

    def __init__(
        self, poems: Sequence[Poem], tokenizer: CharacterTokenizer, *, context: int, batch_size: int, seed: Seed = 0
    ) -> None:
        if not poems:
            raise ValueError("there are no poems to make batches of")
        self.batch_size = batch_size
        self.seed = seed
        self.shape = (batch_size, context)
        self.pad_id = tokenizer.pad_id
        self.device = torch.device("cpu")
        self.poems = [np.array(tokenizer.encode(pretraining_text(p)), dtype=np.int16) for p in poems]
        self.windows = ceil_div(sum(map(len, self.poems)) - 1, context - 1)

    def __len__(self) -> int:
        return ceil_div(self.windows, self.batch_size)

    def to(self, device: torch.device) -> Self:
        """The same batches, made on `device`."""
        moved = copy.copy(self)
        moved.device = device
        return moved

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, (batch_size, context) each; their labels are the ids."""
        order = epoch_order(len(self.poems), self.seed, epoch).tolist()
        text = torch.from_numpy(np.concatenate([self.poems[i] for i in order])).to(self.device)
        rows, context = self.shape
        missing = self.windows * (context - 1) + 1 - len(text)
        windows = F.pad(text, (0, missing), value=self.pad_id).unfold(0, context, context - 1)  # (windows, context)
        for batch in windows.split(rows)[start:]:
            input_ids = F.pad(batch.long(), (0, 0, 0, rows - len(batch)), value=self.pad_id)
            is_text = input_ids != self.pad_id
            yield Batch(input_ids, input_ids.masked_fill(~is_text, IGNORE), is_text)


def make_example(tokenizer: CharacterTokenizer, segments: Sequence[Segment], context: int) -> Example:
    """The ids of the segments, with labels only on the responses and their end tokens.

    Ids beyond `context` are cut off, and the end token with them: a poem that was cut has not ended.
    Raises ValueError if nothing is left to learn: there is no response, or the prompt fills the context.
    """
    input_ids: list[int] = []
    labels: list[int] = []
    for token, text in segments:
        ids = tokenizer.encode_segments([(token, text)])
        unlearned = {RESPONSE: 1, END: 0}.get(token, len(ids))  # how many ids at the start have no label
        input_ids += ids
        labels += [IGNORE] * unlearned + ids[unlearned:]
    if all(label == IGNORE for label in labels[:context]):
        raise ValueError(f"nothing to learn within {context} tokens: {spelled_out(segments):.60}")
    return Example(input_ids[:context], labels[:context])


def pack(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Which examples share a row of `width` tokens: each goes to the row with the least room that is enough.

    Long examples are placed first, which leaves little padding (best-fit decreasing, Johnson 1974).
    Raises ValueError if an example is longer than a row.
    """
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(width + 1)]  # room left -> rows
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if lengths[i] > width:
            raise ValueError(f"example {i} has {lengths[i]} tokens, but a row has {width}")
        room = next((r for r in range(lengths[i], width + 1) if with_room[r]), None)
        if room is None:
            room = width
            with_room[room].append(len(rows))
            rows.append([])
        row = with_room[room].pop()
        rows[row].append(i)
        with_room[room - lengths[i]].append(row)
    return rows


def packed_tokens(examples: Sequence[Example], rows: Sequence[Sequence[int]], width: int, pad_id: int) -> Tensor:
    """The ids, labels and positions of rows of examples, (3, rows + 1, width) int16. The last row is all padding."""
    input_ids, labels = zip(*(examples[i] for row in rows for i in row), strict=True)
    positions = map(range, map(len, input_ids))
    used = torch.tensor([*(sum(len(examples[i].input_ids) for i in row) for row in rows), 0])
    is_token = torch.arange(width) < used[:, None]  # (rows + 1, width)
    parts = []
    for lists, padding in ((input_ids, pad_id), (labels, IGNORE), (positions, 0)):
        numbers = torch.from_numpy(np.fromiter(chain.from_iterable(lists), np.int16))
        parts.append(torch.full(is_token.shape, padding, dtype=torch.int16).masked_scatter_(is_token, numbers))
    return torch.stack(parts)


class InstructionBatches:
    """Examples packed into rows of `context` tokens with little padding. Examples do not see each other.

    With `together=2`, every two examples stand side by side in one row, as pairs must. Raises ValueError if there are
    no examples, or if one, or a pair, is longer than the context.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        pad_id: int,
        context: int,
        batch_size: int,
        seed: Seed = 0,
        together: int = 1,
    ) -> None:
        if not examples:
            raise ValueError("no examples to make batches of")
        self.batch_size = batch_size
        self.seed = seed
        self.shape = (batch_size, context)
        self.pad_id = pad_id
        self.examples = examples
        lengths = torch.tensor([len(e.input_ids) for e in examples]).view(-1, together).sum(1)
        groups = pack(lengths.tolist(), context)
        self.rows = [[together * group + i for group in row for i in range(together)] for row in groups]
        self.tokens = packed_tokens(examples, self.rows, context, pad_id)

    @classmethod
    def from_conversations(
        cls,
        conversations: Sequence[Conversation],
        tokenizer: CharacterTokenizer,
        *,
        context: int,
        batch_size: int,
        seed: Seed = 0,
    ) -> Self:
        """Each conversation as one example, in which the assistant's messages are learned.

        Leaves out conversations whose first answer begins beyond the context. Raises ValueError if none is left.
        """
        examples: dict[int, Example] = {}  # a conversation that comes several times is prepared once
        for conversation in conversations:
            text = message_segments(conversation)
            if id(conversation) not in examples and room_for_response(text, context) > 0:
                examples[id(conversation)] = make_example(tokenizer, text, context)
        prepared = [examples[id(each)] for each in conversations if id(each) in examples]
        return cls(prepared, pad_id=tokenizer.pad_id, context=context, batch_size=batch_size, seed=seed)

    def __len__(self) -> int:
        return ceil_div(len(self.rows), self.batch_size)

    @property
    def padding(self) -> float:
        """The share of padding among all tokens of an epoch."""
        return 1 - sum(len(e.input_ids) for e in self.examples) / (len(self.rows) * self.shape[1])

    def to(self, device: torch.device) -> Self:
        """The same batches, with their tensors on `device`."""
        moved = copy.copy(self)
        moved.tokens = self.tokens.to(device)
        return moved

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, (batch_size, context) each."""
        order = epoch_order(len(self.rows), self.seed, epoch)
        order = F.pad(order, (0, len(self) * self.batch_size - len(order)), value=-1)  # -1: the row that is all padding
        for rows in order.to(self.tokens.device).split(self.batch_size)[start:]:
            input_ids, labels, position_ids = self.tokens[:, rows].long()
            yield Batch(input_ids, labels, input_ids != self.pad_id, position_ids)
