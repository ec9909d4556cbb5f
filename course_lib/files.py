"""Files that are whole after a kill at any moment; a file or folder that only one process writes."""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


@contextmanager
def replacing(folder: Path, name: str = "") -> Iterator[Path]:
    """A context with a new folder, whose files move to `folder` at the end: all of them, or after an error none.

    If a kill interrupts the moving, `finish` completes it. Raises OSError, which names the folder or the file `name` in
    it, if something cannot be written, or if another process writes there at the moment.
    """
    aside = folder / ".part"
    folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder), naming(folder / name, "; what was there is untouched"):
        move(folder / ".new", folder)
        shutil.rmtree(aside, ignore_errors=True)  # a killed process may have left one
        aside.mkdir()
        try:
            yield aside
            aside.rename(folder / ".new")  # from now on the new files count
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        move(folder / ".new", folder)


def finish(folder: Path) -> None:
    """Complete what a killed `replacing` has begun. Every reader of such a folder calls this first."""
    if (folder / ".new").is_dir():
        with claimed(folder):
            move(folder / ".new", folder)


def move(source: Path, target: Path) -> None:
    """Move the files of a folder to another, with the mode that new files have here. Then delete the folder."""
    for file in source.glob("*"):
        file.chmod(source.stat().st_mode & 0o666)  # safetensors lets nobody else read its files
        os.replace(file, target / file.name)
    shutil.rmtree(source, ignore_errors=True)


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Add lines to a text file. A kill may cut the last one short. Raises OSError, which names the file."""
    with naming(path), path.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """A context in which no other process can claim this file or folder. A claim ends with its process.

    Raises OSError if another process has claimed it.
    """
    lock = path / ".lock" if path.is_dir() else Path(f"{path.resolve()}.lock")
    held = False
    while not held:
        with lock.open("w") as file:
            try:
                if sys.platform == "win32":
                    msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                else:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:
                raise OSError(f"{path}: another run or command is writing there; wait until it ends") from error
            except OSError:  # a file system without locks
                pass
            with suppress(FileNotFoundError):  # the last owner may have removed this file before it was locked
                held = os.path.samestat(os.fstat(file.fileno()), lock.stat())
            if held:
                try:
                    yield
                finally:
                    with suppress(OSError):  # Windows cannot remove an open file
                        lock.unlink()


@contextmanager
def naming(path: Path, note: str = "") -> Iterator[None]:
    """A context that turns every error into an OSError whose message names `path`, then `note`.

    The error of a full disk names no file, and libraries raise errors of their own kinds.
    """
    try:
        yield
    except Exception as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"{path}: not written{note} ({reason})") from error
