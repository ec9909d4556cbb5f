"""The command `chat`: a conversation in the terminal."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from typing import Annotated

import typer

from course_lib import paths
from course_lib.commands.options import Asked, Folder, asked_of, note, option
from course_lib.commands.write import show
from course_lib.language import say, sentences

COMMANDS = "the commands are /another, /clear and /quit"


def chat(
    checkpoint: Folder = None,
    instruction: Asked = None,
    system: Annotated[str | None, option(metavar="TEXT", help="Read this first, not the instruction.")] = None,
    seed: Annotated[int, option(help="The same conversation and seed give the same answers.")] = 0,
) -> None:
    """Talk to a model: each line that you type is a message.

    The first line is a title, or what else the instruction asks for. Later lines are free, such as 再寫一首. The answer
    appears character by character. Then a line on stderr says why it ended.

    /another answers the last message again, with the next seed. /clear begins a new conversation. /quit or Ctrl-D ends
    the program, and Ctrl-C an answer.
    """
    from course_lib.chat import Chat
    from course_lib.checkpoints import load_checkpoint
    from course_lib.engine.machine import choose_device

    folder = paths.own_or_shipped(checkpoint)
    opened = load_checkpoint(folder, choose_device(None))
    asked = asked_of(opened, instruction)
    if not checkpoint:
        note(say("{folder} is used", folder=folder))
    prompt = "> " if sys.stdin.isatty() else ""
    if prompt:
        note(sentences(say("type a {given};", given=say(asked.given)), say(COMMANDS)))
        with suppress(ImportError):  # `input` edits lines with it; Windows has none
            import_module("readline")
    talk = Chat(opened, asked, system, seed)
    try:
        while (typed := input(prompt).strip()) != "/quit":
            if typed == "/clear":
                talk = Chat(opened, asked, system, seed)
                continue
            try:
                if typed == "/another":
                    talk.again()
                elif typed.startswith("/"):
                    raise ValueError(f"{typed}: {say(COMMANDS)}")
                elif remark := talk.ask(typed):
                    note(remark)
                answer = talk.reply()
            except ValueError as error:
                note(str(error))
                continue
            if unread := len(talk.messages) - len(talk.heard):
                n = {"n": unread, "context": talk.context}
                note(say("the model no longer reads {n} of the messages: its context holds {context} characters", **n))
            with suppress(typer.Exit):  # Ctrl-C ends the answer, not the conversation
                show(answer)
            talk.answered(answer.text)
    except EOFError:
        print(end="\n" if prompt else "")
