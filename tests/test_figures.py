"""The drawings are up to date, well-formed and described, and fetch nothing. The figures in prose agree."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import nbformat
import page
import pytest
import results
import torch
from tiny import run

from course_lib.checkpoints import read_card
from course_lib.engine import Machine
from course_lib.schedule import schedule

SVG = "{http://www.w3.org/2000/svg}"
SCRIPTS = ["evaluation_figure.py", "generation_figure.py", "make_figures.py"]
ENGLISH = ["checkpoint.svg", "data_way.svg", "evaluation.svg", "generation.svg", "loop.svg", "mask.svg", "roles.svg"]
NAMES = [*ENGLISH, *(f"zh/{name}" for name in ENGLISH)]


def drawings(folder: Path) -> list[str]:
    """The drawings in this folder and in zh/, in order."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.svg"))


@pytest.mark.slow
def test_the_committed_drawings_are_what_the_scripts_draw(tmp_path: Path, repository: Path) -> None:
    """In a folder of copies: a drawing lies beside the script that draws it, or in zh/ there."""
    for script in SCRIPTS:
        shutil.copy(repository / "assets/figures" / script, tmp_path)
    for script in SCRIPTS:
        done = run([str(tmp_path / script)], repository)
        assert done.returncode == 0, done.stderr
    assert drawings(tmp_path) == NAMES
    stale = [
        name for name in NAMES if (tmp_path / name).read_bytes() != (repository / "assets/figures" / name).read_bytes()
    ]
    assert not stale, "run the scripts in assets/figures"


def test_every_script_and_drawing_is_looked_at_here(repository: Path) -> None:
    folder = repository / "assets/figures"
    assert sorted(path.name for path in folder.glob("*.py")) == SCRIPTS
    assert drawings(folder) == NAMES


@pytest.mark.parametrize("name", ENGLISH)
def test_a_chinese_drawing_says_in_chinese_what_the_english_one_says(name: str, repository: Path) -> None:
    """Both have the same texts at the same places. Code, in a monospaced font, is the same in both."""
    folder = repository / "assets/figures"
    english, chinese = ([*ElementTree.parse(folder / path).getroot().iter()] for path in (name, f"zh/{name}"))
    assert len(english) == len(chinese)
    for one, other in zip(english, chinese, strict=True):
        moved = {key for key in {*one.attrib, *other.attrib} if one.get(key) != other.get(key)}
        assert moved <= {"font-family", "font-style"}
        if "monospace" in one.get("font-family", ""):
            assert one.text == other.text
        elif not other.text and one.text:
            assert (name, one.get("font-style")) == ("roles.svg", "italic")  # Chinese needs no translation
        elif re.search("[A-Za-z]{2}", one.text or "") and one.text != "MLP":
            assert re.search("[一-龥]", other.text or ""), one.text
            assert not re.search("[A-Za-z]{2,} [A-Za-z]{2,}", other.text or "")


@pytest.mark.parametrize("name", NAMES)
def test_a_drawing_stays_on_its_sheet_and_describes_itself(name: str, repository: Path) -> None:
    root = ElementTree.parse(repository / "assets/figures" / name).getroot()
    texts = {part: root.findtext(f"{SVG}{part}") for part in ("title", "desc")}
    assert all(texts.values())
    assert len(texts["desc"] or "") > (40 if name.startswith("zh/") else 60)
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


# --- figures in prose: README, notebooks, cards and benchmarks agree ------------------------------

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
SET_UP = ("docs/set_up.md", "docs/set_up.zh-CN.md")
PAGES = [*(ROOT / name for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", *SET_UP)), *NOTEBOOKS]
RESULTS = results.load()
MODELS = ("base", "finetuned", "instructed", "aligned")
BASE, FINETUNED, INSTRUCTED, ALIGNED = (read_card(ROOT / "assets/checkpoints" / name) for name in MODELS)
WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MINUTES = re.compile(r"\| \*\*Minutes\*\* \| (.+) to run on a 2-core CPU\b[^|\d]*(\d+) to read\b[^|\d]*\|")
DURATION = re.compile(
    rf"(?<!up to )\b(?:[\d.]+|(?<!half )an?|half an?|{'|'.join(WORDS)}) (?:seconds|minutes?|hours?)\b"
)

Claim = tuple[str, str, tuple[object, ...]]  # a page, a pattern in its text, and what the groups of the pattern are


def prose(path: Path) -> str:
    """The text of a page, or that of the Markdown cells of a notebook."""
    if path.suffix != ".ipynb":
        return path.read_text("utf-8")
    return "\n\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")


def saved(kind: str, place: str, gpu: bool = False) -> list[float]:
    """This figure in all results of a kind that have it: those of CPUs, or those of GPUs."""
    results = [r for name, r in RESULTS.items() if name.partition("-")[0] == kind and ("NVIDIA" in r["machine"]) == gpu]
    return [value for r in results if (value := page.at(r["figures"], place)) is not None]


def bar(title: str, label: str) -> float:
    """The highest value that the benchmarks allow for a figure."""
    (row,) = (row for section in page.SECTIONS if section.title == title for row in section.rows if row.label == label)
    assert row.at_most
    return row.at_most


def to_run(number: str) -> str:
    """The minutes of a notebook in words, from all machines: "under 1", "about 1", "about 5 to 6"."""
    measured = saved("notebooks", f"minutes/{number}")
    if not measured:
        return "(unknown: save its minutes with scripts/run_notebooks.py)"
    low, high = round(min(measured)), round(max(measured))
    return "under 1" if high < 1 else f"about {low}" if low == high else f"about {low} to {high}"


@pytest.fixture
def texts() -> dict[str, str]:
    return {path.name: prose(path) for path in PAGES}


@pytest.fixture
def claims(texts: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> list[Claim]:
    """The figures that the pages name, and where they come from."""
    monkeypatch.delenv("COURSE_FAST", raising=False)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: SimpleNamespace(total_memory=80e9))
    fast, slow, gpu = (
        schedule(Machine(torch.device(name), precision))
        for name, precision in (("cpu", torch.bfloat16), ("cpu", torch.float32), ("cuda", torch.bfloat16))
    )
    counts = json.loads((ROOT / "assets/poems/counts.json").read_text("utf-8"))["tang"]
    read = sum(BASE["data"][dynasty]["poems"] for dynasty in ("tang", "song"))
    quality = RESULTS["quality-a"]["figures"]
    quick, memory = bar("Time of the tests", "`make quick`") / 60, bar("Memory of the notebooks", "notebook 4")
    tests = [round(extreme(saved("tests", "seconds_of_make_test")) / 60) for extreme in (min, max)]
    reading = [int(found[2]) for path in NOTEBOOKS if (found := MINUTES.search(texts[path.name]))]
    readme = "README.md"
    return [
        *((path.name, MINUTES.pattern, (to_run(path.name[:2].lstrip("0")), None)) for path in NOTEBOOKS),
        (
            "04_finetune.ipynb",
            r"takes about (\d+) seconds before the first step",
            (round(saved("finetune", "contenders/ours, compiled/first_step_seconds")[0] / 10) * 10,),
        ),
        (readme, r"has read ([\d,]+) poems of the Tang and Song", (f"{round(read, -5):,}",)),
        (readme, r"you read for (\w+)\s+hours", (WORDS[round(sum(reading) / 60)],)),
        (readme, r"([\d.]+) GB of free memory", (f"{memory + 0.5:g}",)),
        (readme, r"fast tests, in under (\w+) minutes", (WORDS[int(quick)],)),
        ("CONTRIBUTING.md", r"less than (\w+) minutes", (WORDS[int(quick)],)),
        (readme, r"in (\d+) to (\d+) minutes on two cores", tuple(tests)),
        ("CONTRIBUTING.md", r"takes (\d+) to (\d+) minutes", tuple(tests)),
        ("set_up.md", r"notebook 4 needs ([\d.]+) GB", (memory,)),
        ("set_up.zh-CN.md", r"第 4 篇需要 ([\d.]+) GB", (memory,)),
        (readme, r"trains there on ([\d,]+) poems", (f"{fast.poems:,}",)),
        (readme, r"it trains\s+on ([\d,]+) poems", (f"{slow.poems:,}",)),
        (readme, r"poems and takes ([\d.]+) minutes", (max(saved("notebooks", "minutes/4")),)),
        (readme, r"An H200 takes ([\d.]+) minutes", tuple(saved("notebooks", "minutes/4", gpu=True))),
        (
            readme,
            r"trains on all ([\d,]+) poems, up to (\w+) times",
            (f"{counts['training poems']:,}", WORDS[gpu.epochs]),
        ),
        (readme, r"evaluate --titles (\d+)` made", (quality["fine-tuned"]["titles"],)),
        (
            readme,
            r"\| read \| (\d+) M tokens of Tang and Song \| ([\d.]+) M tokens of instructions, in (\w+) runs \|",
            (
                round(BASE["tokens_seen"] / 1e6),
                f"{FINETUNED['tokens_seen'] / 1e6:.1f}",
                WORDS[len(FINETUNED["average_of"])],
            ),
        ),
        (
            readme,
            r"\| training time \| (\d+) minutes on an H200, and (\d+) for its teacher \| (\d+) minutes on one CPU",
            (round(BASE["minutes"]), round(BASE["teacher"]["minutes"]), round(FINETUNED["minutes"])),
        ),
        (
            readme,
            r"\| loss on ([\d,]+) unseen Tang poems, every character, nats \| ([\d.]+) \| \| \| \|",
            (f"{BASE['losses']['validation_poems']:,}", f"{BASE['losses']['validation']:.3f}"),
        ),
        (
            readme,
            r"\| loss on the response, ([\d,]+) test poems, nats \| \| ([\d.]+) \| \| ([\d.]+) \|",
            (
                f"{quality['fine-tuned']['poems']:,}",
                *(f"{quality[name]['response_loss']:.3f}" for name in ("fine-tuned", "aligned")),
            ),
        ),
        (
            readme,
            r"(\d+) M tokens of many instructions, then ([\d,]+) pairs in (\d+) rounds",
            (round(INSTRUCTED["tokens_seen"] / 1e6), f"{ALIGNED['settings']['pairs']:,}", ALIGNED["rounds"]),
        ),
        (
            readme,
            r"([\d.]+) minutes on an H200, then (\d+) on one CPU core",
            (f"{INSTRUCTED['minutes']:.1f}", round(ALIGNED["minutes"] - INSTRUCTED["minutes"])),
        ),
        ("README.zh-CN.md", r"([\d.]+) GB 空闲内存", (f"{memory + 0.5:g}",)),
        ("README.zh-CN.md", r"两核要 (\d+) 到 (\d+) 分钟", tuple(tests)),
        ("README.zh-CN.md", r"evaluate --titles (\d+)` 得到", (quality["fine-tuned"]["titles"],)),
        (readme, r"(\d+) % of their poems are not regulated", (round(100 - 100 * quality["real poems"]["regulated"]),)),
    ]


def heading(path: Path) -> str:
    """The title of a notebook."""
    return prose(path).splitlines()[0].removeprefix("# ")


TITLES = {path.name: heading(path) for path in NOTEBOOKS}
CHINESE_TITLES = {f"zh/{path.name}": heading(path.parent / "zh" / path.name) for path in NOTEBOOKS}


def measured_in(readme: str) -> list[list[str]]:
    """The figures in the two tables of a README: the minutes of each notebook, and each row of shares."""
    minutes = re.findall(r"^\| \[.*\| ([\d.]+) \|$", readme, re.MULTILINE)
    shares = re.findall(r"^\| [^|]+((?:\| [\d.]+ ?% ){5})\|$", readme, re.MULTILINE)
    return [minutes, *(re.findall(r"[\d.]+", row) for row in shares)]


def wrong(texts: dict[str, str], claims: list[Claim]) -> list[str]:
    """A line for each figure that is not what it should be."""
    lines = []
    for name, pattern, expected in claims:
        found = [match.groups() for match in re.finditer(pattern, texts[name])]
        wanted = [tuple(f if e is None else str(e) for f, e in zip(found[0], expected, strict=True))] if found else []
        if found != wanted or not found:
            lines.append(f"{name}: {pattern!r} finds {found}, should find {expected}")
    readme = texts["README.md"]
    try:
        if page.readme(readme, RESULTS) != readme:
            lines.append("README.md: run `python benchmarks/page.py`")
    except ValueError as error:
        lines.append(f"README.md: {error}")
    for name, titles in (("README.md", TITLES), ("README.zh-CN.md", CHINESE_TITLES)):
        rows = re.findall(r"^\| \[(\d+ · .*?)\]\(notebooks/(.*?)\)", texts[name], re.MULTILINE)
        if (listed := dict(map(reversed, rows))) != titles:
            lines.append(f"{name} lists {listed}, the notebooks are {titles}")
    if (there := measured_in(texts["README.zh-CN.md"])) != (here := measured_in(readme)):
        lines.append(f"README.zh-CN.md has {there}, README.md has {here}")
    return lines


def test_the_pages_name_the_figures_that_were_measured(texts: dict[str, str], claims: list[Claim]) -> None:
    assert wrong(texts, claims) == []


def test_no_figure_can_be_changed_unnoticed(texts: dict[str, str], claims: list[Claim]) -> None:
    """Each number in a table of README, and each that a claim finds, is changed once, alone."""
    places = []
    for name, pattern, expected in claims:
        match = re.search(pattern, texts[name])
        assert match, f"{name} has no {pattern!r}"
        places += [(name, match.span(group + 1)) for group, value in enumerate(expected) if value is not None]
    for name in ("README.md", "README.zh-CN.md"):
        for row in re.finditer(r"^\| (?!notebook |base model|.*<br>).*[^-:|\s].*\|$", texts[name], re.MULTILINE):
            start = row.start()
            places += [(name, (start + m.start(), start + m.end())) for m in re.finditer(r"\d[\d.,]*", row[0])]
    assert len(places) > 150
    before = wrong(texts, claims)
    for name, (start, end) in places:
        text = texts[name]
        changed = wrong(texts | {name: f"{text[:start]}77{text[end:]}"}, claims)
        assert changed != before, f"{name}: {text[start - 30 : end + 10]!r}"


def test_a_notebook_names_no_minutes_that_are_not_measured(texts: dict[str, str], claims: list[Claim]) -> None:
    """A bound, as "up to 20 seconds", is no figure."""
    for path in NOTEBOOKS:
        text = texts[path.name]
        for name, pattern, _ in claims:
            text = re.sub(pattern, "", text) if name == path.name else text
        assert DURATION.findall(text) == [], f"{path.name} names a time; add it to `claims`"


def test_the_card_and_the_benchmarks_tell_the_same_of_the_shipped_model() -> None:
    """The card has 200 titles, the benchmark 500: each share of the card lies in the interval of the benchmark."""
    test, measured = FINETUNED["test"], RESULTS["quality-a"]["figures"]["fine-tuned"]
    assert test["response_loss"] == measured["response_loss"]
    shares = ["well_formed", "rhymes", "alternating", "regulated", "own_title_wins", "copies_a_line", "strange"]
    for name in shares:
        low, high = measured["intervals"][name]
        assert low <= test[name] <= high, name
