"""The drawings: up to date, well-formed, with a description, and with nothing fetched from elsewhere."""

import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tiny import run

SVG = "{http://www.w3.org/2000/svg}"
SCRIPTS = ["evaluation_figure.py", "generation_figure.py", "make_figures.py"]
NAMES = ["checkpoint.svg", "data_way.svg", "evaluation.svg", "generation.svg", "loop.svg", "mask.svg", "roles.svg"]


@pytest.mark.slow
def test_the_committed_drawings_are_what_the_scripts_draw(tmp_path: Path, repository: Path) -> None:
    """In a folder of copies: a drawing lies beside the script that draws it."""
    for script in SCRIPTS:
        shutil.copy(repository / "assets/figures" / script, tmp_path)
    for script in SCRIPTS:
        done = run([str(tmp_path / script)], repository)
        assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.glob("*.svg")) == NAMES
    stale = [
        name for name in NAMES if (tmp_path / name).read_bytes() != (repository / "assets/figures" / name).read_bytes()
    ]
    assert not stale, "run the scripts in assets/figures"


def test_every_script_and_drawing_is_looked_at_here(repository: Path) -> None:
    folder = repository / "assets/figures"
    assert sorted(path.name for path in folder.glob("*.py")) == SCRIPTS
    assert sorted(path.name for path in folder.glob("*.svg")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_drawing_stays_on_its_sheet_and_describes_itself(name: str, repository: Path) -> None:
    root = ElementTree.parse(repository / "assets/figures" / name).getroot()
    texts = {part: root.findtext(f"{SVG}{part}") for part in ("title", "desc")}
    assert all(texts.values())
    assert len(texts["desc"] or "") > 60
    sheet = root.find(f"{SVG}rect")
    assert sheet is not None  # the paper comes first, so that the page's own colour never shows through
    width, height = (float(root.get(side, 0)) for side in ("width", "height"))
    assert (sheet.get("width"), sheet.get("height")) == (f"{width - 2:g}", f"{height - 2:g}")
    for text in root.iter(f"{SVG}text"):
        assert 0 < float(text.get("x", -1)) < width
        assert 0 < float(text.get("y", -1)) < height
        assert float(text.get("font-size", 0)) >= 12  # legible at the width of a notebook
        assert re.search(r"serif$|monospace$", text.get("font-family", ""))


@pytest.mark.parametrize("name", NAMES)
def test_a_drawing_fetches_and_runs_nothing(name: str, repository: Path) -> None:
    svg = (repository / "assets/figures" / name).read_text(encoding="utf-8")
    addresses = set(re.findall(r"https?://[^\"' >]+", svg))
    assert addresses == {"http://www.w3.org/2000/svg"}  # the name of the format
    assert not re.search(r"<script|<image|href|@import|\bon\w+=", svg)
