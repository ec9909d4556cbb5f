"""Ids to tensors: which tokens are learned, and how rows of unequal length share a batch.

`labels` stand at the same place as `input_ids`, `IGNORE` where nothing is to be learned; the shift by one
(the token at t is predicted at t - 1) happens once, in `course_lib.losses.next_tokens`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from course_lib.poems import Poem
from course_lib.roles import END, RESPONSE, Instruct, Segment, example_segments, plainly, prompt_segments
from course_lib.tokenizer import CharacterTokenizer

IGNORE = -100  # what PyTorch's cross entropy skips


class Batch(NamedTuple):
    """`input_ids`, `labels` and `position_ids`, each (B, T) int64.

    `position_ids` count from 0 in every example of a row; None where each row is one text. `B` rows of
    `T` tokens, padding included.
    """

    input_ids: Tensor
    labels: Tensor
    position_ids: Tensor | None = None


class Example(NamedTuple):
    """One text to learn from: as many labels as ids."""

    input_ids: list[int]
    labels: list[int]


class Batches(Protocol):
    """A data set cut into batches, anew in each epoch, the same for the same seed."""

    def __len__(self) -> int:
        """Batches in an epoch, the same in every epoch."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from the `start`-th on."""


# --- pretraining ----------------------------------------------------------------------------------


def plain_text(poem: Poem) -> str:
    """A poem as the base model reads it: title, couplets one a row, a blank row."""
    return f"{poem.title}\n{poem.text}\n\n"


class PlainTextBatches:
    """Poems strung end to end and cut into windows of `context` tokens: what pretraining reads.

    A window repeats the last token of the one before it, so that each token is predicted exactly once
    in an epoch. The poems are strung in a new order in each epoch; the last batch is filled with padding.
    """

    def __init__(
        self,
        poems: Sequence[Poem],
        tokenizer: CharacterTokenizer,
        *,
        context: int,
        batch_size: int,
        seed: int | None = 0,
    ) -> None:
        """`seed=None` keeps the poems in order, as evaluation does.

        Raises:
            ValueError: there are no poems.
        """
        if not poems:
            raise ValueError("no poems to make batches of")
        self.context, self.batch_size, self.seed, self.pad_id = context, batch_size, seed, tokenizer.pad_id
        ids = [np.asarray(row, dtype=np.uint16) for row in (tokenizer.encode(plain_text(p)) for p in poems)]
        self.ids = np.concatenate(ids)
        self.starts = np.cumsum([0] + [len(row) for row in ids])
        self.windows = -(-(len(self.ids) - 1) // (context - 1))

    def __len__(self) -> int:
        return -(-self.windows // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Batches of (batch_size, context); nothing is learned on padding."""
        stream = self._strung(epoch)
        stride = self.context - 1
        for first in range(start * self.batch_size, len(self) * self.batch_size, self.batch_size):
            input_ids = torch.full((self.batch_size, self.context), self.pad_id)
            labels = torch.full_like(input_ids, IGNORE)
            for row, window in enumerate(range(first, min(first + self.batch_size, self.windows))):
                ids = torch.from_numpy(stream[window * stride : window * stride + self.context].astype(np.int64))
                input_ids[row, : len(ids)] = ids
                labels[row, : len(ids)] = ids
            yield Batch(input_ids, labels)

    def _strung(self, epoch: int) -> np.ndarray:
        """All ids, poem after poem, in this epoch's order."""
        if self.seed is None:
            return self.ids
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.starts) - 1)
        return np.concatenate([self.ids[self.starts[i] : self.starts[i + 1]] for i in order])


# --- fine-tuning ----------------------------------------------------------------------------------


def make_example(tokenizer: CharacterTokenizer, segments: Sequence[Segment], context: int) -> Example:
    """Ids, and labels on the response and its end mark alone.

    What exceeds `context` is cut off, the end mark with it: the model must not learn that a poem is over
    where merely our window is.

    Raises:
        ValueError: nothing is left to be learned, because there is no response or the prompt fills the context.
    """
    input_ids: list[int] = []
    labels: list[int] = []
    for segment in segments:
        mark, *text = tokenizer.encode_segments([segment])
        learned = segment[0] in (RESPONSE, END)
        input_ids += [mark, *text]
        labels += [mark if segment[0] == END else IGNORE, *(text if learned else [IGNORE] * len(text))]
    if all(label == IGNORE for label in labels[:context]):
        raise ValueError(f"nothing to learn within {context} tokens: {preview(segments)}")
    return Example(input_ids[:context], labels[:context])


def length(segments: Sequence[Segment]) -> int:
    """How many tokens they are: one for each mark, one for each character."""
    return sum(1 + len(text) for _, text in segments)


def preview(segments: Sequence[Segment]) -> str:
    """The beginning of an example, for an error message."""
    text = "".join(mark + text for mark, text in segments)
    return text if len(text) <= 60 else text[:60] + "…"


def pack(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Which examples share a row of `width` tokens: each goes where the least room is left (best fit).

    Long ones are placed first, which leaves little padding (Johnson 1974).

    Raises:
        ValueError: an example is longer than a row.
    """
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(width + 1)]  # room left -> rows
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if lengths[i] > width:
            raise ValueError(f"example {i} has {lengths[i]} tokens, a row {width}")
        room = next((r for r in range(lengths[i], width + 1) if with_room[r]), None)
        if room is None:
            rows.append([])
            row, room = len(rows) - 1, width
        else:
            row = with_room[room].pop()
        rows[row].append(i)
        with_room[room - lengths[i]].append(row)
    return rows


class InstructionBatches:
    """Examples packed into rows of `context` tokens, with almost no padding; they do not see each other."""

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        pad_id: int,
        context: int,
        batch_size: int,
        seed: int | None = 0,
    ) -> None:
        """`batch_size` counts rows. `seed=None` keeps the order, as evaluation does.

        Raises:
            ValueError: there are no examples, or one is longer than the context.
        """
        if not examples:
            raise ValueError("no examples to make batches of")
        self.examples, self.pad_id, self.context = examples, pad_id, context
        self.batch_size, self.seed = batch_size, seed
        self.rows = pack([len(e.input_ids) for e in examples], context)

    @classmethod
    def from_poems(
        cls,
        poems: Sequence[Poem],
        tokenizer: CharacterTokenizer,
        *,
        context: int,
        batch_size: int,
        seed: int | None = 0,
        instruct: Instruct = plainly,
    ) -> InstructionBatches:
        """The poems as instruction examples; one whose title alone fills the context is left out.

        `instruct` gives the instruction that a poem answers.
        """
        asked = {poem: instruct(poem) for poem in dict.fromkeys(poems)}  # each once, however often it is to be read
        made = {
            poem: make_example(tokenizer, example_segments(poem, text), context)
            for poem, text in asked.items()
            if length(prompt_segments(poem.title, text)) < context
        }
        examples = [made[poem] for poem in poems if poem in made]
        return cls(examples, pad_id=tokenizer.pad_id, context=context, batch_size=batch_size, seed=seed)

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    @property
    def padding(self) -> float:
        """The share of padding among all tokens of an epoch."""
        return 1 - sum(len(e.input_ids) for e in self.examples) / (len(self.rows) * self.context)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Batches of (batch_size, context), the rows in a new order in each epoch."""
        order = np.arange(len(self.rows))
        if self.seed is not None:
            order = np.random.default_rng((self.seed, epoch)).permutation(order)
        for first in range(start * self.batch_size, len(order), self.batch_size):
            yield self._batch([self.rows[i] for i in order[first : first + self.batch_size]])

    def _batch(self, rows: Sequence[Sequence[int]]) -> Batch:
        shape = (self.batch_size, self.context)
        batch = Batch(torch.full(shape, self.pad_id), torch.full(shape, IGNORE), torch.zeros(shape, dtype=torch.int64))
        assert batch.position_ids is not None
        for r, row in enumerate(rows):
            at = 0
            for example in (self.examples[i] for i in row):
                here = slice(at, at := at + len(example.input_ids))
                batch.input_ids[r, here] = torch.tensor(example.input_ids)
                batch.labels[r, here] = torch.tensor(example.labels)
                batch.position_ids[r, here] = torch.arange(len(example.input_ids))
        return batch
