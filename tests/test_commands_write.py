"""`python -m course_lib write`: to the terminal, to a file that is gone on with, and soon enough."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from course_lib import paths
from course_lib.__main__ import main
from course_lib.checkpoints import Checkpoint, save_checkpoint
from course_lib.files import claimed
from course_lib.generation import iter_poems
from course_lib.instructions import OLD_STYLE, POEM
from course_lib.model import PoetryModel
from course_lib.prosody import split_lines
from course_lib.sampling import GenerationSettings
from course_lib.tasks import MANY
from course_lib.titles import simplified

Capture = pytest.CaptureFixture[str]
TITLES = ["江月", "山雨", "夜雨江月", "花開"]


@pytest.fixture
def folder(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """The small checkpoint on disk, its weights as they come back from 16 bits."""
    save_checkpoint(checkpoint, tmp_path / "small", {"kind": "instruction"}, "# For a test")
    with torch.no_grad():
        for parameter in checkpoint.model.parameters():
            parameter.copy_(parameter.half())
    return tmp_path / "small"


def said(capsys: Capture, status: int, *arguments: object) -> tuple[str, str]:
    """What a command prints and notes, beginning with a clean slate."""
    capsys.readouterr()
    assert main(["write", *map(str, arguments)]) == status
    shown = capsys.readouterr()
    return shown.out, shown.err


@contextmanager
def at_model_call(number: int, action: Callable[[], object]) -> Iterator[None]:
    """Call `action` just before a model computes logits for that time."""
    calls = []

    def hook(module: torch.nn.Module, *_: object) -> None:
        if isinstance(module, PoetryModel):
            calls.append(module)
            if len(calls) == number:
                action()

    handle = register_module_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def poems(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


# --- to the terminal ------------------------------------------------------------------------------


def test_every_setting_reaches_the_poem(folder: Path, checkpoint: Checkpoint, capsys: Capture) -> None:
    plain = ["江月", "--checkpoint", folder]
    usual, _ = said(capsys, 0, *plain)
    for options, settings in (
        ("", GenerationSettings()),
        ("--seed 3", GenerationSettings(seed=3)),
        ("--temperature 2", GenerationSettings(temperature=2)),
        ("--top-p 0.2", GenerationSettings(top_p=0.2)),
        ("--top-k 2", GenerationSettings(top_k=2)),
        ("--min-p 0.99", GenerationSettings(min_p=0.99)),
        ("--presence-penalty 0", GenerationSettings(presence_penalty=0)),
        ("--max-new-tokens 5", GenerationSettings(max_new_tokens=5)),
    ):
        shown, _ = said(capsys, 0, *plain, *options.split())
        (written,) = list(iter_poems(checkpoint, ["江月"], settings))
        assert shown.rstrip("\n") == written.text.rstrip("\n")
        assert (shown == usual) == (options == "")


def test_a_line_is_repeated_only_if_it_may(checkpoint: Checkpoint, tmp_path: Path, capsys: Capture) -> None:
    embedding = checkpoint.model.model.embed_tokens.weight
    with torch.no_grad():
        for parameter in checkpoint.model.parameters():
            parameter.zero_()
        checkpoint.model.model.norm.weight.fill_(1)
        embedding.fill_(0.1)
        embedding[checkpoint.tokenizer.encode("山月，。")] = 1  # all it knows
    save_checkpoint(checkpoint, tmp_path / "monk", {"kind": "instruction"}, "# For a test")
    command = ["江月", "--checkpoint", tmp_path / "monk", "--max-new-tokens", 40]
    for penalty, repeated in ((0.001, False), (0, True)):
        lines = split_lines(said(capsys, 0, *command, "--presence-penalty", penalty)[0])
        assert (len(set(lines)) < len(lines)) == repeated


def test_temperature_0_takes_the_likeliest_characters_whatever_else_is_asked(
    folder: Path, checkpoint: Checkpoint, capsys: Capture
) -> None:
    command = ["江月", "--checkpoint", folder, "--temperature", 0]
    shown, _ = said(capsys, 0, *command)
    for options in ("--seed 5", "--top-k 3", "--presence-penalty 0"):
        assert said(capsys, 0, *command, *options.split())[0] == shown


def test_the_instruction_reaches_the_prompt(checkpoint: Checkpoint, tmp_path: Path, capsys: Capture) -> None:
    taught = checkpoint.with_roles([POEM, OLD_STYLE])
    save_checkpoint(taught, tmp_path / "taught", {}, "")
    with torch.no_grad():
        for parameter in checkpoint.model.parameters():
            parameter.copy_(parameter.half())
    command = ["江月", "--checkpoint", tmp_path / "taught", "--temperature", 2]
    asked = {"": POEM, "--instruction poem": POEM, "--instruction 古體詩": OLD_STYLE}
    for options, instruction in asked.items():
        for more in ([], ["--json"], ["--candidates", 3]):
            shown, _ = said(capsys, 0, *command, *options.split(), *more)
            text = json.loads(shown)["text"] if "--json" in more else shown
            candidates = 3 if more and more[0] == "--candidates" else 1
            settings = GenerationSettings(temperature=2)
            (written,) = list(iter_poems(taught, ["江月"], settings, instruction=instruction, candidates=candidates))
            assert text.rstrip("\n") == written.text.rstrip("\n")


def test_an_instruction_may_be_simplified_and_its_unknown_characters_are_named(
    checkpoint: Checkpoint, tmp_path: Path, capsys: Capture
) -> None:
    save_checkpoint(replace(checkpoint, instructions=MANY), tmp_path / "many", {}, "")
    command = ["江月", "--checkpoint", tmp_path / "many", "--instruction"]
    shown, noted = said(capsys, 0, *command, "acrostic=云从石上")
    assert "Read as acrostic=雲從石上: you typed Simplified" in noted
    assert "does not know 藏, 頭 and" in noted  # the small model lacks them
    assert said(capsys, 0, *command, "acrostic=雲從石上")[0] == shown
    assert "The model does not know 龘, 藏, 頭 and reads <UNK>" in said(capsys, 0, *command, "acrostic=龘")[1]
    assert "rhyme cannot be 'dog'" in said(capsys, 2, *command, "rhyme=dog")[1]


def test_a_simplified_label_of_ones_own_data_is_found(checkpoint: Checkpoint, tmp_path: Path, capsys: Capture) -> None:
    own = replace(POEM, name="own-1", label="1: 请把下面的话", wordings=("请把下面的话",))
    save_checkpoint(replace(checkpoint, instructions=(POEM, own)), tmp_path / "own", {}, "")
    command = ["江月", "--checkpoint", tmp_path / "own", "--instruction"]
    by_name, by_label = (said(capsys, 0, *command, asked) for asked in ("own-1", own.label))
    assert by_label == by_name
    assert "Read as" not in by_label[1]


def test_the_best_of_several_is_printed(folder: Path, checkpoint: Checkpoint, capsys: Capture) -> None:
    hot = GenerationSettings(temperature=1.5, seed=4)
    (best,) = list(iter_poems(checkpoint, ["江月"], hot, candidates=8))
    (first,) = list(iter_poems(checkpoint, ["江月"], hot))
    assert best.text != first.text
    command = ["江月", "--checkpoint", folder, "--temperature", 1.5, "--seed", 4, "--candidates", 8]
    shown, noted = said(capsys, 0, *command)
    assert shown == best.text + "\n"
    assert noted.endswith(f"after {len(best.text)} characters\n")
    shown, _ = said(capsys, 0, *command, "--json")
    assert json.loads(shown) == {
        "title": "江月",
        "seed": 4,
        "text": best.text,
        "ended": best.reason == "end",
        "reason": best.reason,
    }


def test_which_model_writes_is_said_unless_it_was_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "FINETUNED", folder)
    assert f"{folder} is used" in said(capsys, 0, "江月", "--max-new-tokens", 1)[1].splitlines()
    shutil.copytree(folder, tmp_path / "notebooks" / paths.OWN)
    assert f"{'notebooks' / paths.OWN} is used" in said(capsys, 0, "江月", "--max-new-tokens", 1)[1].splitlines()
    assert "is used" not in said(capsys, 0, "江月", "--max-new-tokens", 1, "--checkpoint", folder)[1]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--top-k -1", "top_k is -1, must be at least 0"),
        ("--min-p 2", "min_p is 2.0, must be at most 1"),
        ("--temperature 6", "temperature is 6.0, must be at most 5"),
        ("--titles nowhere.txt", "nowhere.txt: No such file or directory"),
        ("--titles empty.txt", "no title: name one or more, or a file of them with --titles"),
        ("--titles latin.txt", "latin.txt: not a text file in UTF-8"),
        ("--candidates 0 山", "'--candidates'"),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, options: str, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text("\n  \n")
    Path("latin.txt").write_bytes("Frühling\n".encode("latin-1"))
    shown, noted = said(capsys, 2, *options.split(), *([] if "titles" in options or "山" in options else ["山"]))
    assert shown == ""
    assert sentence in noted
    assert noted.count("\n") == 1


def test_simplified_characters_are_shown_at_the_terminal(folder: Path, checkpoint: Checkpoint, capsys: Capture) -> None:
    options = ["江東", "--checkpoint", folder, "--max-new-tokens", "30"]
    plain, noted = said(capsys, 0, *options)
    assert said(capsys, 0, *options, "--simplified") == (simplified(plain), noted)
    assert plain != simplified(plain)
    both = said(capsys, 0, *options, "山雲", "--simplified")[0]
    assert "《江东》" in both
    assert "《山云》" in both
    for data in (["--json"], ["--out", folder / "poems.jsonl"]):
        shown, refused = said(capsys, 2, *options, *data, "--simplified")
        assert (shown, refused) == ("", "--simplified is for the terminal: leave out --json and --out\n")


# --- to a file ------------------------------------------------------------------------------------


@pytest.fixture
def command(folder: Path, tmp_path: Path) -> list[object]:
    """Two poems on each of four titles, a file of them and one named besides, into a file."""
    (tmp_path / "titles.txt").write_text("\ufeff" + "\n\n".join(TITLES[1:]) + "\n山雨\n", encoding="utf-8")
    common = ["--checkpoint", folder, "--count", 2, "--max-new-tokens", 20]
    return [TITLES[0], "--titles", tmp_path / "titles.txt", "--out", tmp_path / "poems.jsonl", *common]


def test_the_folder_of_the_file_is_made_and_named(command: list[object], tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "new" / "folder" / "poems.jsonl"
    assert f"{out.parent}: a new folder" in said(capsys, 0, *command, "--out", out)[1]
    assert len(poems(out)) > 1
    assert "a new folder" not in said(capsys, 0, *command, "--out", out)[1]


def test_poems_go_to_a_file_as_they_would_to_the_terminal(
    command: list[object], checkpoint: Checkpoint, tmp_path: Path, capsys: Capture
) -> None:
    shown, noted = said(capsys, 0, *command)
    assert shown == ""
    assert noted == f"8 poems written to {tmp_path / 'poems.jsonl'}\n"
    made = poems(tmp_path / "poems.jsonl")
    assert [(p["title"], p["seed"]) for p in made] == [(t, s) for t in TITLES for s in (0, 1)]
    for seed in (0, 1):
        alone = list(iter_poems(checkpoint, TITLES, GenerationSettings(seed=seed, max_new_tokens=20)))
        assert [(p["text"], p["reason"]) for p in made if p["seed"] == seed] == [(w.text, w.reason) for w in alone]


def test_a_stopped_command_goes_on_where_it_was(command: list[object], tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "poems.jsonl"
    said(capsys, 0, *command)
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    for there in (b"".join(lines[:3]), b"".join(lines[:3]) + lines[3][:40], b"", lines[0][:5], lines[0][:-1]):
        out.write_bytes(there)
        _, noted = said(capsys, 0, *command)
        assert out.read_bytes() == whole
        old = there.count(b"\n")
        assert f"{8 - old} poems written" in noted
        assert (f"{old} were there" in noted) == (old > 0)


def test_what_is_there_is_not_written_again(command: list[object], tmp_path: Path, capsys: Capture) -> None:
    said(capsys, 0, *command)
    whole = (tmp_path / "poems.jsonl").read_bytes()
    with at_model_call(1, lambda: pytest.fail("written again")):
        assert "0 poems written" in said(capsys, 0, *command)[1]
    assert (tmp_path / "poems.jsonl").read_bytes() == whole


def test_a_kill_loses_a_batch_at_most(command: list[object], tmp_path: Path, capsys: Capture) -> None:
    """160 poems are written 64 at a time, each batch with at most 20 calls of the model."""

    def press() -> None:
        raise KeyboardInterrupt

    with at_model_call(41, press):
        said(capsys, 130, *command, "--count", 40)
    assert len(poems(tmp_path / "poems.jsonl")) == 128
    said(capsys, 0, *command, "--count", 40)
    assert len(poems(tmp_path / "poems.jsonl")) == 160


def test_two_commands_do_not_write_to_one_file(command: list[object], tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "poems.jsonl"
    with claimed(out):
        noted = said(capsys, 2, *command)[1]
    assert noted == f"{out}: another run or command is writing there; wait until it ends\n"
    assert not out.exists()
    said(capsys, 0, *command)
    assert len(poems(out)) == 8
    assert [path.name for path in tmp_path.glob("*.lock")] == []


def test_a_full_disk_names_the_file_and_loses_no_poem(command: list[object], tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "poems.jsonl"
    said(capsys, 0, *command)
    whole = out.read_bytes()
    out.write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) * 3 // 4, allowed[1]))
    try:
        assert said(capsys, 2, *command)[1].splitlines()[-1] == f"{out}: not written (File too large)"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
    said(capsys, 0, *command)
    assert out.read_bytes() == whole


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("江月\n", "line 1: not a poem of this command"),
        ("江月", "line 1: not a poem of this command"),  # without a newline: no poem cut short
        ('{"title": "江月"}\n', "line 1: not a poem of this command"),
        ("[1]\n", "line 1: not a poem of this command"),
        ("[" * 100_000 + "\n", "line 1: not a poem of this command"),
    ],
)
def test_a_file_of_something_else_is_left_alone(
    command: list[object], tmp_path: Path, capsys: Capture, content: str, sentence: str
) -> None:
    out = tmp_path / "poems.jsonl"
    out.write_text(content, encoding="utf-8")
    assert sentence in said(capsys, 2, *command)[1]
    assert out.read_text(encoding="utf-8") == content


def test_poems_made_in_another_way_are_not_mixed(
    command: list[object], checkpoint: Checkpoint, tmp_path: Path, capsys: Capture
) -> None:
    said(capsys, 0, *command)
    whole = (tmp_path / "poems.jsonl").read_bytes()
    assert "line 1: made with temperature 0.8;" in said(capsys, 2, *command, "--temperature", 1)[1]
    assert "line 1: made with candidates 1;" in said(capsys, 2, *command, "--candidates", 2)[1]
    with torch.no_grad():
        checkpoint.model.model.norm.weight.mul_(2)
    save_checkpoint(checkpoint, tmp_path / "small", {"kind": "instruction"}, "# Another")
    assert "line 1: made with weights " in said(capsys, 2, *command)[1]
    assert (tmp_path / "poems.jsonl").read_bytes() == whole


# --- how it begins --------------------------------------------------------------------------------


def python(script: str, repository: Path) -> str:
    """What a script prints in a Python of its own, with the package to be tested."""
    env = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_importing_the_package_loads_nothing_else(repository: Path) -> None:
    script = "import sys; before = set(sys.modules); import course_lib; print(*(sys.modules.keys() - before))"
    assert python(script, repository).split() == ["course_lib"]


@pytest.mark.slow
def test_writing_loads_nothing_it_does_not_need(repository: Path) -> None:
    script = (
        "import sys; from course_lib.__main__ import main; main(['write', '春夜喜雨', '--max-new-tokens', '2']); "
        "heavy = {'torch._dynamo', 'torch.distributed.fsdp', 'sympy', 'matplotlib', 'ipywidgets', 'transformers'}; "
        "print('loaded:', *sorted(heavy & sys.modules.keys()))"
    )
    assert python(script, repository).splitlines()[-1] == "loaded:"


@pytest.mark.slow
def test_the_first_character_comes_within_three_seconds_of_work(repository: Path, tmp_path: Path) -> None:
    """Processor time of a poem that stops after one character; most of it goes into importing PyTorch.

    On a machine so busy that this import takes more than a second, three times the import are allowed.
    """
    env = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}

    def work(*arguments: str) -> tuple[float, str]:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, *arguments]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout

    spent, printed = work("-m", "course_lib", "write", "春夜喜雨", "--max-new-tokens", "1")
    assert len(printed) == 2  # a character and the end of the line
    assert spent < 3 * max(1, work("-c", "import torch")[0])


def test_characters_are_printed_as_they_come(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    flushed: list[str] = []

    class Terminal:
        text = ""

        def write(self, text: str) -> int:
            self.text += text
            return len(text)

        def flush(self) -> None:
            flushed.append(self.text)

        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    assert main(["write", "江月", "--checkpoint", str(folder), "--max-new-tokens", "6"]) == 0
    assert [len(text) for text in flushed[:6]] == [1, 2, 3, 4, 5, 6]
