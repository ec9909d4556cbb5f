"""What is written is there as a whole or not at all, and by one process at a time."""

from __future__ import annotations

import errno
import importlib.util
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from course_lib.__main__ import main
from course_lib.checkpoints import Checkpoint, load_checkpoint, read_card, save_checkpoint
from course_lib.files import append_lines, claimed, finish, replacing
from course_lib.instructions import OLD_STYLE
from course_lib.model import ModelConfig, PoetryModel
from course_lib.poems import Poem, save_poems

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits, modes or signals")


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@contextmanager
def killed_at_move(number: int) -> Iterator[None]:
    """What a kill leaves: the process gets no further than the move of a file with this number, from 0."""
    moves: list[object] = []
    replace = os.replace

    def stop(*arguments: Any) -> None:
        if len(moves) == number:
            raise SystemExit
        moves.append(arguments)
        replace(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", stop)
        try:
            yield
        except SystemExit:
            return
    pytest.fail("there are fewer files to move")


@contextmanager
def full_disk(at: int) -> Iterator[None]:
    """No file can grow beyond `at` bytes."""
    import resource

    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at, allowed[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)


# --- all or none ----------------------------------------------------------------------------------


def write_both(folder: Path, text: str) -> None:
    with replacing(folder) as new:
        for name in ("a", "b"):
            (new / name).write_text(text)


def test_files_take_the_place_of_others_and_leave_the_rest(tmp_path: Path) -> None:
    (tmp_path / "readme").write_text("mine")
    write_both(tmp_path, "old")
    write_both(tmp_path, "new")
    assert content(tmp_path) == {"readme": "mine", "a": "new", "b": "new"}


def fail_to_write(folder: Path) -> None:
    with replacing(folder) as new:
        (new / "a").write_text("new")
        raise ValueError("out of ink")


def test_an_error_changes_nothing(tmp_path: Path) -> None:
    write_both(tmp_path, "old")
    with pytest.raises(OSError, match=r"not written; what was there is untouched \(out of ink\)"):
        fail_to_write(tmp_path)
    assert content(tmp_path) == {"a": "old", "b": "old"}


@pytest.mark.parametrize("number", [0, 1])
def test_a_kill_between_two_files_is_made_good(tmp_path: Path, number: int) -> None:
    write_both(tmp_path, "old")
    with killed_at_move(number):
        write_both(tmp_path, "new")
    finish(tmp_path)
    assert content(tmp_path) == {"a": "new", "b": "new"}
    with killed_at_move(number):
        write_both(tmp_path, "newer")
    write_both(tmp_path, "newest")  # the next one cleans up too
    assert content(tmp_path) == {"a": "newest", "b": "newest"}


@pytest.mark.parametrize("number", range(7))
def test_a_checkpoint_is_the_new_one_after_a_kill_between_any_two_files(
    checkpoint: Checkpoint, tmp_path: Path, number: int
) -> None:
    save_checkpoint(checkpoint, tmp_path, {"is": "old"}, "")
    taught = checkpoint.with_roles([OLD_STYLE])
    with killed_at_move(number):
        save_checkpoint(taught, tmp_path, {"is": "new"}, "")
    assert read_card(tmp_path)["is"] == "new"
    assert load_checkpoint(tmp_path).instructions == (OLD_STYLE,)


def test_a_base_model_keeps_no_instructions_of_another_after_a_kill(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path, {}, "")
    instructions = (tmp_path / "instructions.json").read_bytes()
    tokenizer = checkpoint.tokenizer.train(["山中一夜雨"], min_count=1)
    base = Checkpoint(PoetryModel(ModelConfig(len(tokenizer), 16, 16, 1, 2)), tokenizer)
    save_checkpoint(base, tmp_path, {}, "")
    (tmp_path / "instructions.json").write_bytes(instructions)  # a kill came before this one was deleted
    assert load_checkpoint(tmp_path).instructions == ()


# --- modes and full disks -------------------------------------------------------------------------


@POSIX
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_every_file_has_the_mode_of_a_new_file(checkpoint: Checkpoint, tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        save_checkpoint(checkpoint, tmp_path / "saved", {}, "")
        save_poems([Poem("山", "試筆", ("山中一夜雨。",))], tmp_path / "saved" / "poems.xz")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "saved").iterdir()}
    assert modes == dict.fromkeys(modes, mode)
    assert {"model.safetensors", "poems.xz"} <= modes.keys()


@POSIX
@pytest.mark.parametrize("at", [0, 500, 5_000, 50_000])
def test_a_full_disk_leaves_the_old_checkpoint(checkpoint: Checkpoint, tmp_path: Path, at: int) -> None:
    save_checkpoint(checkpoint, tmp_path / "saved", {"is": "old"}, "")
    with full_disk(at), pytest.raises(OSError, match=r"saved: not written; what was there is untouched \(.*too large"):
        save_checkpoint(checkpoint, tmp_path / "saved", {"is": "new"}, "")
    assert read_card(tmp_path / "saved")["is"] == "old"
    load_checkpoint(tmp_path / "saved")
    assert len(list((tmp_path / "saved").iterdir())) == 7


@POSIX
def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path: Path) -> None:
    poems = [Poem("山", "試筆", ("山中一夜雨。",))]
    writes: dict[str, Callable[[Path], object]] = {
        "log.jsonl": lambda path: append_lines(path, ["12345678"]),
        "poems.xz": lambda path: save_poems(poems, path),
    }
    for name, write in writes.items():
        with full_disk(4), pytest.raises(OSError, match=f"{name}: not written.*File too large"):
            write(tmp_path / name)


# --- one at a time --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["folder", "file"])
def test_what_is_claimed_cannot_be_claimed_again(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with claimed(tmp_path / name):
        with pytest.raises(OSError, match=f"{name}: another run or command is writing there"), claimed(tmp_path / name):
            pass
        with pytest.raises(OSError, match="another run"), claimed(tmp_path / name):  # the refusal took nothing away
            pass
    with claimed(tmp_path / name):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


@POSIX
def test_a_file_of_two_names_is_claimed_once(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with claimed(tmp_path / "file"), pytest.raises(OSError, match="link: another run"), claimed(tmp_path / "link"):
        pass


@POSIX
def test_a_lock_that_its_last_owner_removes_meanwhile_is_no_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    calls: list[int] = []
    lock = fcntl.flock

    def flock(file: Any, how: int) -> None:
        if not calls:  # the last owner ends between our opening of the file and our locking of it
            (tmp_path / "file.lock").unlink()
        calls.append(how)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with claimed(tmp_path / "file"):
        assert len(calls) == 2
        with pytest.raises(OSError, match="another run"), claimed(tmp_path / "file"):
            pass
    assert list(tmp_path.iterdir()) == []


@POSIX
def test_of_many_threads_one_has_the_claim_at_a_time(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def claim_often(_: int) -> None:
        for _ in range(200):
            with suppress(OSError), claimed(tmp_path / "file"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(claim_often, range(4)))
    assert set(most) == {1}


def test_windows_locks_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module as Windows loads it, with a stand-in for `msvcrt`, which locks bytes of a file."""
    locked: set[int] = set()

    def locking(descriptor: int, mode: int, count: int) -> None:
        assert (mode, count) == (2, 1)
        if os.fstat(descriptor).st_ino in locked:
            raise OSError(errno.EACCES, "Permission denied")
        locked.add(os.fstat(descriptor).st_ino)

    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    spec = importlib.util.spec_from_file_location("windows_files", sys.modules["course_lib.files"].__file__)
    assert spec
    assert spec.loader
    windows = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "platform", "win32")
    spec.loader.exec_module(windows)
    with windows.claimed(tmp_path / "file"):
        assert len(locked) == 1
        with pytest.raises(OSError, match="another run or command"), windows.claimed(tmp_path / "file"):
            pass
    assert list(tmp_path.iterdir()) == []


# --- files that are none --------------------------------------------------------------------------


@POSIX
def test_titles_can_come_through_a_pipe_and_the_wait_is_told(
    checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(checkpoint, tmp_path / "small", {}, "")
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit((tmp_path / "pipe").write_text, "山雨\n\n江月\n")
        assert main(["write", "--titles", str(tmp_path / "pipe"), "--checkpoint", str(tmp_path / "small")]) == 0
        told.result()
    out, err = capsys.readouterr()
    assert out.count("《") == 2
    assert f"{tmp_path / 'pipe'}: a pipe; waiting for its titles" in err


@POSIX
@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
def test_a_device_has_no_titles(capsys: pytest.CaptureFixture[str], device: str) -> None:
    assert main(["write", "--titles", device]) == 2
    assert capsys.readouterr().err.strip().endswith(f"{device}: a device, not a file of titles")


@POSIX
@pytest.mark.slow
def test_the_claim_of_a_killed_process_ends_with_it(repository: Path, tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from course_lib.files import claimed\n"
        "with claimed(Path(sys.argv[1])): print('mine', flush=True); time.sleep(60)"
    )
    env = {**os.environ, "PYTHONPATH": str(repository)}
    command = [sys.executable, "-c", script, str(tmp_path / "file")]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(OSError, match="another run or command"), claimed(tmp_path / "file"):
            pass
        other.send_signal(signal.SIGKILL)
    with claimed(tmp_path / "file"):
        pass


def test_a_reader_waits_for_no_writer_but_says_so(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path, {"is": "old"}, "")
    with killed_at_move(3):
        save_checkpoint(checkpoint, tmp_path, {"is": "new"}, "")
    with claimed(tmp_path), pytest.raises(OSError, match="another run or command is writing there"):
        load_checkpoint(tmp_path)
