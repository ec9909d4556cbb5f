"""Any code page, closed streams, odd numbers and output files: a sentence or the work done, never a traceback."""

import inspect
import io
import json
import os
import shlex
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from course_lib import paths
from course_lib.__main__ import app, main
from course_lib.checkpoints import Checkpoint, save_checkpoint

ENCODINGS = ["utf-8", "utf-16", "cp1252", "gbk", "big5", "shift_jis", "ascii"]
COMMANDS = {c.name or c.callback.__name__.replace("_", "-"): c.callback for c in app.registered_commands if c.callback}


@pytest.fixture
def folder(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    save_checkpoint(checkpoint, tmp_path / "small", {"kind": "instruction"}, "# For a test")
    return tmp_path / "small"


class Streams:
    """Two streams in an encoding, as a terminal or a pipe of that code page would give them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
        self.encoding = encoding
        self.raw = {name: io.BytesIO() for name in ("stdout", "stderr")}
        self.text = {name: io.TextIOWrapper(raw, encoding, write_through=True) for name, raw in self.raw.items()}
        for name, stream in self.text.items():
            monkeypatch.setattr(sys, name, stream)

    def read(self, name: str) -> str:
        return self.raw[name].getvalue().decode(self.encoding)


# --- code pages -----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_is_json_in_every_code_page(folder: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    command = ["write", "江月☃🌙", "--checkpoint", str(folder), "--max-new-tokens", "20", "--json"]
    with monkeypatch.context() as patched:
        usual = Streams(patched, "utf-8")
        assert main(command) == 0
    streams = Streams(monkeypatch, encoding)
    assert main(command) == 0
    assert json.loads(streams.read("stdout")) == json.loads(usual.read("stdout"))
    assert "Left out: " in streams.read("stderr")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_poems_help_and_refusals_are_shown_in_every_code_page(
    folder: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    streams = Streams(monkeypatch, encoding)
    assert main(["write", "江月", "山雨", "--checkpoint", str(folder), "--max-new-tokens", "20"]) == 0
    assert {"《山雨》", json.dumps("《山雨》")[1:-1]} & set(streams.read("stdout").splitlines())
    assert main(["write", "江月", "--checkpoint", "\udce6沒有🌙"]) == 2
    assert "U+DCE6" in streams.read("stderr")
    if encoding != "ascii":  # typer itself writes help in UTF-8 there
        assert main(["--help"]) == 0
        assert "Examples:" in streams.read("stdout")


def test_a_character_that_cannot_be_shown_is_an_escape(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(monkeypatch, "ascii")
    assert main(["write", "江月", "山雨", "--checkpoint", str(folder), "--max-new-tokens", "1"]) == 0
    assert streams.read("stdout").startswith("\\u300a\\u6c5f\\u6708\\u300b\n\\u")


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_into_80_columns(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*name.split(), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    wide = [line for line in lines if sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in line) > 80]
    assert wide == []


# --- what is not a number, and what is not to be shown --------------------------------------------

FLOATS = [
    (name, (parameter.annotation.__metadata__[0].param_decls or [f"--{parameter.name.replace('_', '-')}"])[0])
    for name, command in COMMANDS.items()
    for parameter in inspect.signature(command, eval_str=True).parameters.values()
    if getattr(parameter.annotation, "__origin__", None) is float
]


def test_there_are_options_with_a_decimal_point() -> None:
    assert {("write", "--temperature"), ("finetune", "--epochs"), ("pretrain", "--save-every")} <= set(FLOATS)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
@pytest.mark.parametrize(("command", "name"), FLOATS)
def test_a_number_that_is_none_is_refused_by_the_name_of_its_option(
    command: str, name: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, *(["山"] if command == "write" else []), f"{name}={value}"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"Invalid value for '{name}'" in shown.err
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["山\x1b[31m雨\x07☃"],
        ["\x1b[31m"],
        ["山", "--checkpoint", "no\x1b[31m\nfolder"],
        ["山", "--instruction", "\x9b31m"],
        ["山", "--device", "\x1b]0;x\x07"],
        ["山", "--titles", "no\x1b[31mfile"],
        ["山", "--\x1b[31m"],
    ],
)
def test_control_characters_are_never_echoed(
    arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["write", "--checkpoint", str(folder), "--max-new-tokens", "3", *arguments])
    shown = capsys.readouterr()
    assert shown.err
    assert [c for c in shown.out + shown.err if unicodedata.category(c) == "Cc" and c != "\n"] == []


# --- closed streams, closed pipes and full disks --------------------------------------------------


def shell(line: str, repository: Path) -> tuple[int, str]:
    """The status of a command in bash, with `course` for this program, and all that it shows."""
    course = f"{sys.executable} -m course_lib"
    script = f'course() {{ {course} "$@"; }}\nset -o pipefail\n{line}'
    env = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=120, check=False)
    shown = done.stdout + done.stderr
    assert "Traceback" not in shown
    assert "Exception ignored" not in shown
    return done.returncode, shown


WRITE = f"course write 春雨 --checkpoint {shlex.quote(str(paths.FINETUNED))} --max-new-tokens 3"
ENDED = "stopped at the limit, after 3 characters\n"
FULL = "No space left on device\n"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="this system has no bash")
@pytest.mark.parametrize(
    ("line", "status", "end"),
    [
        ("course --help >&-", 0, ""),
        ("course nonsense 2>&-", 2, ""),
        ("course --help <&- >&- 2>&-", 0, ""),
        (f"{WRITE} >&-", 0, ENDED),
        (f"{WRITE} <&- >&- 2>&-", 0, ""),
        ("course --help | true", 141, ""),
        (f"{WRITE} --json --count 50 | head -1 | cut -c 1-8", 141, '{"title"\n'),
        (f"{WRITE} 2>&1 | true", 141, ""),
    ],
)
def test_a_closed_stream_is_no_fault(line: str, status: int, end: str, repository: Path) -> None:
    found, shown = shell(line, repository)
    assert found == status
    assert shown.endswith(end) if end else shown == ""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("line", ["course --help >/dev/full", f"{WRITE} --json >/dev/full"])
def test_a_full_disk_is_a_sentence(line: str, repository: Path) -> None:
    status, shown = shell(line, repository)
    assert status == 2
    assert shown.endswith(FULL)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_leaves_no_place_to_say_so(repository: Path) -> None:
    assert shell("course nonsense 2>/dev/full", repository) == (2, "")


# --- output files that are none -------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with a name")
def test_an_output_that_is_no_plain_file_is_refused_at_once(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for out in (tmp_path, tmp_path / "pipe", Path(os.devnull)):
        assert main(["write", "江月", "--checkpoint", str(folder), "--out", str(out)]) == 2
        assert capsys.readouterr().err.startswith(f"{out}: no plain file")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="this system has no /dev/stdout")
def test_output_to_dev_stdout_never_hangs(repository: Path, tmp_path: Path) -> None:
    status, shown = shell(f"{WRITE} --out /dev/stdout | cat", repository)
    assert status == 2
    assert "/dev/stdout: no plain file" in shown
    assert shell(f"{WRITE} --out /dev/stdout >{tmp_path}/poems.jsonl", repository)[0] == 0
    assert json.loads((tmp_path / "poems.jsonl").read_text("utf-8"))["title"] == "春雨"
