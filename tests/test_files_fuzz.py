"""Whatever lies in a file: it is read, or one line says what is wrong and names the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from course_lib.__main__ import main
from course_lib.checkpoints import Checkpoint, load_checkpoint, read_card, save_checkpoint
from course_lib.engine.machine import Machine
from course_lib.poems import Poem
from course_lib.recipes import finetuning
from course_lib.run_folder import RunFolder
from course_lib.training import Trainer, TrainingSettings

Damage = Callable[[bytes, Any], bytes]  # of the bytes that belong there, and of a source of choices

NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, -1, 1, 2**31, 2**63, 10**400, 1e300, 1e-300]))
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=9,
)


def any_bytes(_: bytes, choices: Any) -> bytes:
    return choices.draw(st.binary(max_size=200))


def other_bytes(true: bytes, choices: Any) -> bytes:
    """The bytes that belong there with a piece of them replaced."""
    start = choices.draw(st.integers(0, len(true)))
    end = choices.draw(st.integers(start, min(len(true), start + 40)))
    return true[:start] + choices.draw(st.binary(max_size=40)) + true[end:]


def any_json(_: bytes, choices: Any) -> bytes:
    return as_json(choices.draw(JSON))


def other_values(true: bytes, choices: Any) -> bytes:
    """The JSON that belongs there, line by line or as a whole, with a value of it replaced."""
    try:
        rows = [json.loads(true)]
    except ValueError:
        try:
            rows = [json.loads(line) for line in true.splitlines()]
        except ValueError:
            return other_bytes(true, choices)
    place: Any = rows
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = choices.draw(st.sampled_from(keys[:20]))
        if not isinstance(place[key], dict | list) or choices.draw(st.integers(0, 3)) == 0:
            place[key] = choices.draw(JSON)
            break
        place = place[key]
    return b"".join(as_json(row) + b"\n" for row in rows)


def as_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode()


DAMAGES = [any_bytes, other_bytes, any_json, other_values]


@pytest.fixture
def folder(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """A checkpoint without checksums: so its files are read, whatever is in them."""
    save_checkpoint(checkpoint, tmp_path / "saved", {"kind": "test", "steps": 3}, "# A story")
    (tmp_path / "saved" / "SHA256SUMS").rename(tmp_path / "sums")
    return tmp_path / "saved"


@pytest.fixture
def trainer(checkpoint: Checkpoint, poems: list[Poem]) -> Trainer:
    recipe = finetuning(checkpoint, poems * 3, batch_size=2)
    return Trainer(recipe, TrainingSettings(4, warmup_steps=1), Machine(torch.device("cpu"), torch.float32))


def one_line_or_none(act: Callable[[], object], name: str) -> None:
    """Fails unless `act` succeeds, or raises a ValueError of one line with this name in it."""
    said = name
    try:
        act()
    except ValueError as error:
        said = str(error)
    assert name in said
    assert len(said.splitlines()) == 1


def examples(count: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator for a test of `name` and `choices`, whose fixtures stay as they are from example to example."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        checked = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
        return settings(max_examples=count, suppress_health_check=checked)(given(choices=st.data())(test))

    return decorate


def check_checkpoint(folder: Path, name: str, choices: Any) -> None:
    original = folder.parent / "sums" if name == "SHA256SUMS" else folder / name
    true = original.read_bytes()
    damage = choices.draw(st.sampled_from(DAMAGES))
    (folder / name).write_bytes(damage(true, choices))
    try:
        act = read_card if name == "MODEL_CARD.md" else load_checkpoint
        one_line_or_none(lambda: act(folder), name)
    finally:
        (folder / name).unlink() if name == "SHA256SUMS" else (folder / name).write_bytes(true)


FILES = ["config.json", "tokenizer.json", "instructions.json", "SHA256SUMS", "MODEL_CARD.md"]


@pytest.mark.parametrize("name", FILES)
@examples(25)
def test_any_bytes_in_a_checkpoint(folder: Path, name: str, choices: Any) -> None:
    check_checkpoint(folder, name, choices)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
@examples(300)
def test_many_bytes_in_a_checkpoint(folder: Path, name: str, choices: Any) -> None:
    check_checkpoint(folder, name, choices)


def check_run(trainer: Trainer, path: Path, name: str, choices: Any) -> None:
    if not path.exists():
        list(RunFolder(path).run(trainer))
        shutil.copytree(path, path.with_name("true"))
    true = (path.with_name("true") / name).read_bytes()
    damage = choices.draw(st.sampled_from(DAMAGES))
    (path / name).write_bytes(damage(true, choices))
    try:
        for act in (partial(RunFolder(path).claim, trainer), RunFolder(path).reports):
            one_line_or_none(act, str(path))
    finally:
        shutil.rmtree(path)
        shutil.copytree(path.with_name("true"), path)


@pytest.mark.parametrize("name", ["run.json", "log.jsonl", "state.safetensors"])
@examples(25)
def test_any_bytes_in_a_run_folder(trainer: Trainer, tmp_path: Path, name: str, choices: Any) -> None:
    check_run(trainer, tmp_path / "run", name, choices)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run.json", "log.jsonl", "state.safetensors"])
@examples(300)
def test_many_bytes_in_a_run_folder(trainer: Trainer, tmp_path: Path, name: str, choices: Any) -> None:
    check_run(trainer, tmp_path / "run", name, choices)


@examples(25)
def test_any_bytes_as_a_file_of_titles(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], choices: Any
) -> None:
    check_titles(folder, tmp_path, capsys, choices)


@pytest.mark.slow
@examples(300)
def test_many_bytes_as_a_file_of_titles(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], choices: Any
) -> None:
    check_titles(folder, tmp_path, capsys, choices)


def check_titles(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], choices: Any) -> None:
    """A title that the model cannot read is refused by itself, so the file is named only if it is not text."""
    damage = choices.draw(st.sampled_from(DAMAGES))
    (tmp_path / "titles.txt").write_bytes(damage("江月\n山雨\n".encode(), choices))
    options = ["--titles", str(tmp_path / "titles.txt"), "--checkpoint", str(folder), "--max-new-tokens", "2", "--json"]
    capsys.readouterr()
    status = main(["write", *options])
    shown = capsys.readouterr()
    assert status in (0, 2)
    if status == 2:
        assert shown.err.splitlines()[-1].strip()
        assert "Traceback" not in shown.err
    for line in shown.out.splitlines():
        json.loads(line)
