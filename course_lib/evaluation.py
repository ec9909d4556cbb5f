"""A checkpoint to a table of figures, all on poems it has never read.

ends by itself     the share of poems that the model ended, instead of being stopped at the limit
well formed        the share with lines of 5 or of 7 characters, in couplets, marked ，and 。in turn
response loss      nats per character of the poem and its end mark: the figure that tells
whole sequence     the same, the fixed instruction and the title counted too: always flattering
plain text         a base model's only loss: title and poem as it read them in pretraining
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from course_lib.batches import Batches, InstructionBatches, PlainTextBatches
from course_lib.checkpoints import Checkpoint
from course_lib.generation import GenerationSettings, Written, write_many
from course_lib.poems import Poem
from course_lib.training import Loss, mean_losses, sums_on

HAN = r"[\u3400-\u9fff\U00020000-\U0003ffff]"  # what `course_lib.poems.han` keeps
COUPLETS = {n: re.compile(rf"(?:{HAN}{{{n}}}，{HAN}{{{n}}}。\n?)+") for n in (5, 7)}


# --- one text -------------------------------------------------------------------------------------


def is_well_formed(text: str) -> bool:
    """Whether all lines have 5 characters, or all 7, in pairs, ，after the first and 。after the second.

    A new row may begin after a couplet, nowhere else.
    """
    return any(couplets.fullmatch(text.strip()) for couplets in COUPLETS.values())


def ended(written: Written) -> bool:
    """Whether the model ended the text itself."""
    return written.reason == "end"


# --- one checkpoint -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Shares in 0 … 1, and losses in nats per character, None where they do not apply."""

    poems: int  # the losses are means over these
    titles: int  # the shares are of these
    ended: float
    well_formed: float
    response_loss: float | None
    whole_loss: float | None
    plain_text_loss: float | None

    def as_dict(self) -> dict[str, Any]:
        """The figures by name, rounded to what is worth reading."""
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}

    def table(self) -> str:
        """The figures, one a row, for reading."""
        has_roles = self.plain_text_loss is None
        no_roles = "does not apply: this checkpoint knows no roles"
        no_plain = "does not apply: this checkpoint was taught to answer"
        nats = f"nats per character, {self.poems:,} poems"
        rows = [
            ("ends by itself", f"{self.ended:6.1%}  of {self.titles:,} titles"),
            ("well formed", f"{self.well_formed:6.1%}  of {self.titles:,} titles"),
            ("response loss", f"{self.response_loss:6.3f}  {nats}" if has_roles else no_roles),
            ("whole sequence", f"{self.whole_loss:6.3f}  {nats}" if has_roles else no_roles),
            ("plain text", no_plain if has_roles else f"{self.plain_text_loss:6.3f}  {nats}"),
        ]
        return "\n".join(f"{name:<16}{value}" for name, value in rows)


def evaluate(
    checkpoint: Checkpoint,
    poems: Sequence[Poem],
    *,
    titles: int = 200,
    settings: GenerationSettings | None = None,
    precision: torch.dtype = torch.float32,
    progress: Callable[[int], object] = lambda done: None,
) -> Evaluation:
    """All figures: losses on all `poems`, shares on the titles of the first so many of them.

    A base model gets the title and a newline as its prompt, and is stopped at `settings.max_new_tokens`.
    `progress` is told how many titles are done.

    Raises:
        ValueError: there are fewer poems than titles asked for, or none was asked for.
    """
    if not 0 < titles <= len(poems):
        raise ValueError(f"titles is {titles}, must lie in 1 … {len(poems)}, the number of poems")
    written = write_many(checkpoint, [p.title for p in poems[:titles]], settings, progress=progress)
    loss = held_out_loss(checkpoint, poems, precision)
    has_roles = checkpoint.tokenizer.has_roles
    return Evaluation(
        poems=len(poems),
        titles=titles,
        ended=sum(map(ended, written)) / titles,
        well_formed=sum(is_well_formed(w.text) for w in written) / titles,
        response_loss=loss.response if has_roles else None,
        whole_loss=loss.whole if has_roles else None,
        plain_text_loss=None if has_roles else loss.whole,
    )


def held_out_loss(
    checkpoint: Checkpoint,
    poems: Sequence[Poem],
    precision: torch.dtype = torch.float32,
    batch_size: int = 16,
) -> Loss:
    """The losses on `poems`: as instruction examples if the checkpoint knows roles, else as plain text.

    In plain text every character counts, title and newlines too, so both are the same. float32 by default,
    so that every machine gives the same figure.
    """
    model, tokenizer = checkpoint.model.eval(), checkpoint.tokenizer
    context = model.config.max_position_embeddings
    cut = InstructionBatches.from_poems if tokenizer.has_roles else PlainTextBatches
    batches: Batches = cut(poems, tokenizer, context=context, batch_size=batch_size, seed=None)
    device = model.model.embed_tokens.weight.device
    sums = partial(sums_on, device, precision, model, pad_id=tokenizer.pad_id)
    return mean_losses(sums, batches.epoch(0))


def unknown_share(checkpoint: Checkpoint, poems: Sequence[Poem]) -> float:
    """The share of characters, of titles and poems, that the vocabulary does not have."""
    rows = checkpoint.tokenizer.encode_many([p.title + p.text for p in poems])
    return sum(row.count(checkpoint.tokenizer.unk_id) for row in rows) / sum(map(len, rows))
