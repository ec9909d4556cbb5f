"""`python -m course_lib chat`: each line is a message, from a pipe as from a terminal."""

import io
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from course_lib.__main__ import main
from course_lib.chat import Chat
from course_lib.checkpoints import Checkpoint, save_checkpoint
from course_lib.instructions import POEM, find
from course_lib.model import PoetryModel
from course_lib.tasks import MANY

Say = Callable[..., tuple[str, list[str]]]


@pytest.fixture
def taught(checkpoint: Checkpoint) -> Checkpoint:
    """The small model with 256 tokens of context, its weights as they come back from 16 bits."""
    model = PoetryModel(replace(checkpoint.model.config, max_position_embeddings=256)).eval()
    model.load_state_dict(checkpoint.model.state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())
    return Checkpoint(model, checkpoint.tokenizer, MANY)


@pytest.fixture
def folder(taught: Checkpoint, tmp_path: Path) -> Path:
    save_checkpoint(taught, tmp_path / "small", {"kind": "instruction"}, "# For a test")
    return tmp_path / "small"


@pytest.fixture
def say(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Types lines, and returns what was printed, and the notes."""

    def typed(lines: str, *options: object, status: int = 0) -> tuple[str, list[str]]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        assert main(["chat", "--checkpoint", str(folder), *map(str, options)]) == status
        shown = capsys.readouterr()
        return shown.out, shown.err.splitlines()

    return typed


def answers(chat: Chat, *lines: str) -> str:
    """What is printed of the answers to these messages; "/another" answers again."""
    printed = ""
    for line in lines:
        if line == "/another":
            chat.again()
        else:
            chat.ask(line)
        text = "".join(chat.reply())
        chat.answered(text)
        printed += text + "\n" * (not text.endswith("\n"))
    return printed


def test_each_line_is_a_message_and_the_conversation_goes_on(say: Say, taught: Checkpoint) -> None:
    lines = ["山雨", "再寫一首", "/another", "江月"]
    printed, notes = say("\n".join(lines))
    assert printed == answers(Chat(taught, POEM), *lines)
    assert sum(" characters" in note for note in notes) == 4
    assert say("/another\n")[0] == ""
    assert say("")[0] == ""


def test_the_options_reach_the_model(say: Say, taught: Checkpoint) -> None:
    asked = find("quatrain-7,rhyme=東", MANY)
    assert say("山雨", "--instruction", "quatrain-7,rhyme=東")[0] == answers(Chat(taught, asked), "山雨")
    assert say("山雨", "--instruction", "couplet")[0] == answers(Chat(taught, find("couplet", MANY)), "山雨")
    assert say("山雨", "--system", "山中")[0] == answers(Chat(taught, POEM, "山中"), "山雨")
    assert say("山雨", "--seed", 3)[0] == answers(Chat(taught, POEM, seed=3), "山雨")
    assert len({say("山雨", *options)[0] for options in ([], ["--system", "山中"], ["--seed", 3])}) == 3


def test_clear_begins_again_and_quit_ends(say: Say, taught: Checkpoint) -> None:
    printed, _ = say("山雨\n/another\n/clear\n江月\n/quit\n夜雨\n", "--seed", 2)
    assert printed == answers(Chat(taught, POEM, seed=2), "山雨", "/another") + answers(
        Chat(taught, POEM, seed=2), "江月"
    )


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("", "The title is blank."),
        ("spring", "There is no Chinese character"),
        ("/another", "There is no message to answer yet."),
        ("/exit", "/exit: the commands are /another, /clear and /quit"),
    ],
)
def test_what_cannot_be_answered_gets_a_line_and_the_next_message_an_answer(
    say: Say, taught: Checkpoint, line: str, sentence: str
) -> None:
    printed, notes = say(f"{line}\n山雨\n")
    assert printed == answers(Chat(taught, POEM), "山雨")
    assert sentence in notes[0]
    assert len(notes) == 2


def test_notes_say_what_was_changed_and_what_is_forgotten(say: Say) -> None:
    _, notes = say("山x雨\n" + "山\n" * 30)
    assert "Left out: x" in notes[0]
    forgotten = [note for note in notes if "no longer reads" in note]
    assert forgotten[0] == "the model no longer reads 2 of the messages: its context holds 256 characters"
    assert len(forgotten) < 30


def test_a_base_model_cannot_talk(checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(replace(checkpoint, instructions=()), tmp_path / "base", {}, "")
    assert main(["chat", "--checkpoint", str(tmp_path / "base")]) == 2
    assert "a base model was taught no instruction" in capsys.readouterr().err


def test_ctrl_c_ends_an_answer_and_not_the_conversation(say: Say, taught: Checkpoint) -> None:
    calls = []

    def press(module: torch.nn.Module, *_: object) -> None:
        calls.append(module)
        if isinstance(module, PoetryModel) and sum(isinstance(call, PoetryModel) for call in calls) == 4:
            raise KeyboardInterrupt

    handle = register_module_forward_pre_hook(press)
    try:
        printed, notes = say("山雨\n江月\n")
    finally:
        handle.remove()
    chat = Chat(taught, POEM)
    chat.ask("山雨")
    text = "".join(chat.reply())[:3]
    chat.answered(text)
    assert printed == f"{text}\n" + answers(chat, "江月")
    assert notes[0] == "stopped by you after 3 characters"


@pytest.mark.slow
def test_a_terminal_gets_a_prompt_and_ctrl_d_ends_the_line(folder: Path, repository: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "course_lib", "chat", "--checkpoint", str(folder)]
    env = {**os.environ, "PYTHONPATH": str(repository), "TERM": "dumb"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=env, text=True) as chat:
        os.close(theirs)
        shown = b""
        while not shown.endswith(b"> "):
            shown += os.read(ours, 1024)
        os.write(ours, "山雨\n".encode())
        shown = b""
        while not shown.endswith(b"> "):
            shown += os.read(ours, 1024)
        assert shown.decode().splitlines()[0] == "山雨"
        assert len(shown.decode().splitlines()) > 2
        os.write(ours, b"\x04")
        assert chat.wait(60) == 0
        assert os.read(ours, 1024).endswith(b"\n")
        assert chat.stderr
        assert chat.stderr.read().startswith("type a title; the commands are /another, /clear and /quit\n")
    os.close(ours)
