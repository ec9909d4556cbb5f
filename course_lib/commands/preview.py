"""The command `preview`: what a model would learn from a file of conversations."""

from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from course_lib import paths
from course_lib.commands.options import note, option, printable
from course_lib.commands.train import BASE


def preview(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Conversations, as JSON lines.")],
    base: Annotated[Path | None, option(metavar="DIR", help="The model to train.", show_default=BASE)] = None,
    show: Annotated[int, option(min=0, help="How many conversations to show.")] = 3,
) -> None:
    """Show what a model would learn from a file of your own, before you train on it.

    A line of the file has "messages", or "instruction", "input" and "output". If a line has another form, its number is
    named, and the exit status is 2. The text in 【 】 is what the model learns to write.
    """
    from course_lib.checkpoints import load_checkpoint
    from course_lib.tasks import marked, read_conversations, survey

    conversations = read_conversations(file)
    opened = load_checkpoint(base or paths.BASE).with_roles()
    context = opened.model.config.max_position_embeddings
    for number, conversation in enumerate(conversations[:show], start=1):
        print(f"--- {number} ---\n{printable(marked(conversation))}")
    found = survey(conversations, opened.tokenizer, context)
    if show:
        print("---")
    print(f"{len(conversations):,} conversations, {sum(found.lengths):,} tokens")
    print(f"length   {min(found.lengths)} to {max(found.lengths)} tokens, half have at most {median(found.lengths):g}")
    if found.cut:
        note(f"longer than the {context} tokens that the model reads, so they are cut: {numbers(found.cut)}")
    if found.unread:
        note(f"nothing is learned from them, because the answer begins later: {numbers(found.unread)}")
    if found.repeated:
        note(f"there a second time: {numbers(found.repeated)}")
    if found.unknown:
        often = list(found.unknown)[:40]
        note(f"the model does not know {len(found.unknown)} of the characters: {''.join(often)}")


def numbers(conversations: list[int]) -> str:
    """The numbers of conversations, as a sentence has them: "conversations 2, 5, 7 and 12 more"."""
    shown = ", ".join(map(str, conversations[:3]))
    more = f" and {len(conversations) - 3:,} more" if conversations[3:] else ""
    return f"conversation{'s' if conversations[1:] else ''} {shown}{more}"
