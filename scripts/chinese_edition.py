"""Keep the Chinese notebooks, in notebooks/zh/, in step with the English ones.

    python scripts/chinese_edition.py                            copies code cells and outputs from notebooks/
    python scripts/chinese_edition.py --check                    prints a line for each fault; fails if there is one
    python scripts/chinese_edition.py --translated NAME:CELL …   these cells are translations of today's English

Only the Markdown cells of the two editions differ, and the first code cell, which `make badges` writes. A Chinese cell
remembers the English from which it was translated: its metadata hold `translated_from`, the first 12 digits of the
SHA-256 of that text. So --check can tell which English cells have changed since. A changed cell is first translated
again, in JupyterLab, and then named with --translated.
"""

from __future__ import annotations

import copy
import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from run_notebooks import NOTEBOOKS
from write_badges import BADGES, SETUP

SOURCE = "translated_from"
CODE_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
NOT_PROSE = re.compile(r"```.*?```|`[^`\n]*`|\]\([^)]*\)|<[^<>\n]*>", re.DOTALL)  # code, the targets of links, tags
CHARACTER = re.compile(r"[\u4e00-\u9fff]")
WORD = re.compile(r"[A-Za-z]{2,}")
SENTENCE = re.compile(r"(?:[A-Za-z][\w'’-]*,? +){5}[A-Za-z]")  # six English words in a row
SYNC = "run scripts/chinese_edition.py"


def digest(english: str) -> str:
    """What `translated_from` says of an English Markdown cell. Badges, which `make badges` writes, do not count."""
    return hashlib.sha256(BADGES.sub(r"\1", english).encode()).hexdigest()[:12]


def is_english(text: str) -> bool:
    """Has this Markdown an English sentence, or fewer than two Chinese characters for each English word?"""
    prose = NOT_PROSE.sub(" ", text)
    return bool(SENTENCE.search(prose)) or len(CHARACTER.findall(prose)) < max(1, 2 * len(WORD.findall(prose)))


def is_own(cell: NotebookNode) -> bool:
    """Whether each edition has a cell of its own: prose, and the code cell that `make badges` writes."""
    return cell.cell_type == "markdown" or SETUP in cell.metadata.get("tags", [])


def by_id(notebook: NotebookNode) -> dict[str, NotebookNode]:
    """The cells of a notebook, in order."""
    return {cell.id: cell for cell in notebook.cells}


def synced(english: NotebookNode, chinese: NotebookNode) -> NotebookNode:
    """The English notebook with the Markdown of the Chinese one. What has no translation yet stays English."""
    translated = by_id(chinese)
    made = copy.deepcopy(english)
    for cell in made.cells:
        if is_own(cell) and cell.id in translated:
            cell.source, cell.metadata = translated[cell.id].source, translated[cell.id].metadata
    return made


def faults(english: NotebookNode, chinese: NotebookNode) -> Iterator[tuple[str, str]]:
    """Each fault of a Chinese notebook: the id of the cell, "" for the whole notebook; then what is wrong."""
    originals, cells = by_id(english), by_id(chinese)
    if list(originals) != list(cells):
        yield "", f"has other cells than the English notebook, or in another order: {SYNC}"
    if english.metadata != chinese.metadata or english.nbformat_minor != chinese.nbformat_minor:
        yield "", f"has other metadata than the English notebook: {SYNC}"
    for cell_id, original in originals.items():
        if (cell := cells.get(cell_id)) is None:
            yield cell_id, f"is missing: {SYNC}, and translate it"
        elif original.cell_type == "code":
            if cell != original and not is_own(original):
                yield cell_id, f"is not the English code cell with its outputs: {SYNC}"
        elif cell.cell_type != "markdown" or SOURCE not in cell.metadata or is_english(cell.source):
            yield cell_id, "is not translated"
        elif cell.metadata[SOURCE] != digest(original.source):
            yield cell_id, "has another English text since it was translated: translate it again"
        elif CODE_BLOCK.findall(cell.source) != CODE_BLOCK.findall(original.source):
            yield cell_id, "has other code blocks than the English cell"


def read(path: Path) -> NotebookNode:
    """The notebook at `path`; one without cells if there is none."""
    return nbformat.read(path, as_version=4) if path.is_file() else nbformat.v4.new_notebook()


def pairs(notebooks: Path) -> list[tuple[Path, Path]]:
    """The path of each English notebook, and the path of the Chinese one."""
    return [(path, path.parent / "zh" / path.name) for path in sorted(notebooks.glob("*.ipynb"))]


def check(notebooks: Path = NOTEBOOKS) -> list[str]:
    """A line for each fault of the Chinese edition. If it is about one cell, the line begins with NAME:CELL."""
    lines = []
    for path, other in pairs(notebooks):
        if other.is_file():
            lines += [f"{path.stem}{cell and ':' + cell} {fault}" for cell, fault in faults(read(path), read(other))]
        else:
            lines.append(f"{path.stem} has no Chinese notebook: {SYNC}, and translate it")
    names = {path.name for path, _ in pairs(notebooks)}
    strangers = [path for path in sorted((notebooks / "zh").glob("*.ipynb")) if path.name not in names]
    return lines + [f"{path.stem} has no English notebook: delete {path.name} in notebooks/zh/" for path in strangers]


def sync(notebooks: Path = NOTEBOOKS) -> None:
    """Copy code cells and outputs into the Chinese edition, and put its cells in the English order."""
    for path, other in pairs(notebooks):
        other.parent.mkdir(exist_ok=True)
        nbformat.write(synced(read(path), read(other)), other)


def mark(names: list[str], notebooks: Path = NOTEBOOKS) -> None:
    """Record that each Chinese cell, named NAME:CELL, is a translation of the English cell as it is now.

    Raises:
        ValueError: there is no such cell.
    """
    for name in names:
        stem, _, cell = name.partition(":")
        path = notebooks / "zh" / f"{stem}.ipynb"
        original, notebook = by_id(read(notebooks / path.name)).get(cell), read(path)
        translated = by_id(notebook).get(cell)
        if original is None or translated is None:
            raise ValueError(f"{name}: there is no such cell; --check prints names of cells")
        translated.metadata[SOURCE] = digest(original.source)
        nbformat.write(notebook, path)


def main(arguments: list[str], notebooks: Path = NOTEBOOKS) -> int:
    """Do what the first lines of this file say. Returns the exit status."""
    if arguments == ["--check"]:
        lines = check(notebooks)
        for line in lines:
            print(line, file=sys.stderr)
        return int(bool(lines))
    if arguments:
        if arguments[0] != "--translated":
            print(__doc__, file=sys.stderr)
            return 2
        mark(arguments[1:], notebooks)
    sync(notebooks)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
