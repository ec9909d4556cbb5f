"""The command `preview`: what a model would learn from a file of conversations."""

from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from course_lib import paths
from course_lib.commands.options import note, option
from course_lib.commands.train import BASE
from course_lib.language import printable, say


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
    context = opened.context
    for number, conversation in enumerate(conversations[:show], start=1):
        print(f"--- {number} ---\n{printable(marked(conversation))}")
    found = survey(conversations, opened.tokenizer, context)
    if show:
        print("---")
    lengths = found.lengths
    n = {"count": len(conversations), "total": sum(lengths), "least": min(lengths), "most": max(lengths)}
    print(say("{count:,} conversations, {total:,} tokens", **n))
    print(say("length   {least} to {most} tokens, half have at most {median:g}", median=median(lengths), **n))
    if found.cut:
        cut = numbers(found.cut)
        note(say("longer than the {n} tokens that the model reads, so they are cut: {them}", n=context, them=cut))
    if found.unread:
        note(say("nothing is learned from them, because the answer begins later: {them}", them=numbers(found.unread)))
    if found.repeated:
        note(say("there a second time: {them}", them=numbers(found.repeated)))
    if found.unknown:
        often = "".join(list(found.unknown)[:40])
        note(say("the model does not know {n} of the characters: {them}", n=len(found.unknown), them=often))


def numbers(conversations: list[int]) -> str:
    """The numbers of conversations, as a sentence has them: "conversations 2, 5, 7 and 12 more"."""
    n = {"shown": ", ".join(map(str, conversations[:3])), "more": len(conversations) - 3}
    if conversations[3:]:
        return say("conversations {shown} and {more:,} more", **n)
    return say("conversations {shown}", **n) if conversations[1:] else say("conversation {shown}", **n)
