"""Make `benchmarks/README.md` from the results, and put their figures into the tables of the course's README.

python benchmarks/page.py
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results import date_of, load

PAGE = Path(__file__).resolve().parent / "README.md"
README = PAGE.parent.parent / "README.md"

INTRODUCTION = """\
# Benchmarks

What the course is measured by, and today's figures. `python benchmarks/page.py` makes this page from `results/*.json`,
and fills the tables of the [README](../README.md): do not edit them. [LOG.md](LOG.md) has the experiments: what was
tried, what came of it, and what was decided.

A figure in **bold** misses its bar. The head of a column names the machine and the day. *Recorded* figures were copied
from an older page; they were not saved by a script.

## The machines

| | |
|---|---|
| A | 2 cores of an AMD EPYC with AVX-512, 24 GiB, fast bfloat16 products; PyTorch 2.13.0 (CPU) |
| B | 2 cores without AVX-512; float32 products do 76 GFLOP/s on one core, bfloat16 products 0.3 |

Other machines are named in the head of their column. All are shared and noisy: compare figures within a column.
"""

HOW_TO = """\
## How to measure

Stop all other programs first. `python -m pip install --editable ".[bench]" --constraint constraints.txt` installs what
the scripts compare the course with. Each script prints its figures. `--save NAME` also writes them to
`results/NAME.json`, with the date, the machine and the versions. NAME begins with the name of the script, as in
`generate-b`; each such file becomes a column.
"""


@dataclass(frozen=True)
class Row:
    """A figure: its label, its place in a result (keys, separated by slashes), its unit, and its bar if it has one."""

    label: str
    place: str
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def bar(self) -> str:
        """The bar as the page shows it, "" without one."""
        if self.at_least is not None:
            return f"≥ {shown(self.at_least, self.unit, exact=True)}"
        return "" if self.at_most is None else f"≤ {shown(self.at_most, self.unit, exact=True)}"

    def cell(self, figures: Mapping[str, Any]) -> str:
        """The figure as the page shows it, "" if this result does not have it."""
        value = at(figures, self.place)
        if value is None:
            return ""
        group, _, name = self.place.rpartition("/")
        interval = at(figures, f"{group}/intervals/{name}")
        text = shown(value, self.unit)
        if interval:
            text += f" [{', '.join(shown(end, self.unit).removesuffix(f' {self.unit}') for end in interval)}]"
        missed = (self.at_least is not None and value < self.at_least) or (
            self.at_most is not None and value > self.at_most
        )
        return f"**{text}**" if missed else text


@dataclass(frozen=True)
class Section:
    """A table: rows of figures, and a column for each result whose name begins with `script`."""

    title: str
    script: str
    command: str
    rows: tuple[Row, ...]

    def markdown(self, results: Mapping[str, Mapping[str, Any]]) -> str:
        """The heading, the command and the table."""
        columns = [result for name, result in results.items() if name.partition("-")[0] == self.script]
        heads = [head(result) for result in columns] or ["not measured yet"]
        lines = [f"## {self.title}", "", f"`{self.command}`", "", f"| | bar | {' | '.join(heads)} |"]
        lines.append("|---|---:|" + "---:|" * len(heads))
        for row in self.rows:
            cells = [row.cell(result["figures"]) for result in columns] or [""]
            if any(cells) or row.bar or not columns:
                lines.append(f"| {row.label} | {row.bar} | {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"


def head(result: Mapping[str, Any]) -> str:
    """The head of a column: the machine and the day."""
    return f"{result['machine']}, {'' if 'date' in result else 'recorded '}{date_of(result)}"


def at(figures: Mapping[str, Any], place: str) -> Any:
    """The value at `place`, None if there is none."""
    found: Any = figures
    for key in place.split("/"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def shown(value: float, unit: str, exact: bool = False) -> str:
    """A figure with its unit: 46.0 %, 1.5 ×, 8:47, 1,060. An exact one has no zeros at its end: 46 %."""
    if unit == "m:s":
        return f"{round(value) // 60}:{round(value) % 60:02d}"
    if unit == "%":
        value *= 100
    digits = {"": 0, "GB": 2, "nats": 3}.get(unit, 1)
    return (f"{value:,.10g}" if exact else f"{value:,.{digits}f}") + f" {unit}".rstrip()


NOTEBOOKS = tuple(int(path.name[:2]) for path in sorted((README.parent / "notebooks").glob("[0-9]*.ipynb")))
MEMORY = [result["figures"]["peak_gb"] for name, result in load().items() if name.startswith("memory-")]
MEASURED = sorted({number for peaks in MEMORY for number in peaks})  # the notebooks whose memory was measured

# The requests that a program can check: what they ask for, and the bar of the instructed model.
OBEYED = {
    "quatrain-5": ("五言絕句, without fault", 0.97),
    "quatrain-7": ("七言絕句, without fault", 0.97),
    "regulated-5": ("五言律詩, without fault", 0.97),
    "regulated-7": ("七言律詩, without fault", 0.97),
    "old-style": ("古體詩", 0.97),
    "rhyme": ("a rhyme group", 0.85),
    "acrostic": ("an acrostic of four characters", 0.97),
    "acrostic of a wish": ("… of a modern wish", 0.93),
    "rhyme, acrostic": ("both, never joined in training", 0.6),
    "form, rhyme, acrostic": ("both, in a named form", 0.6),
    "continue": ("the rest of a poem", None),
    "couplet": ("the second line of a couplet", 0.85),
    "title": ("a title", None),
    "name-form": ("the name of the form", 0.98),
    "punctuate": ("punctuation", 0.95),
    "another": ("another poem", 0.9),
    "another-form": ("… in another form", 0.9),
    "next-title": ("… on another title", 0.9),
}


def obedience_rows(name: str, label: str, bar: float | None) -> tuple[Row, ...]:
    """The rows of one request: the instructed model, in another wording; the aligned model."""
    place = "obedience/{}/" + name
    return (
        Row(label, place.format("instructed"), "%", at_least=bar),
        Row("… in a wording that was not taught", place.format("instructed") + ", another wording", "%"),
        Row("… by the aligned checkpoint", place.format("aligned"), "%"),
    )


SECTIONS = (
    Section(
        "Writing poems",
        "generate",
        "python benchmarks/generate.py --save",
        (
            Row("one title, tokens/s", "tokens_per_second/1"),
            Row("… × `transformers` at its best in float32", "times/float32/1", "×", at_least=1.5),
            Row("… × `transformers` at its best in any type", "times/any/1", "×"),
            Row("sixteen titles at once, tokens/s", "tokens_per_second/16"),
            Row("… × `transformers` at its best in float32", "times/float32/16", "×", at_least=2),
            Row("… × `transformers` at its best in any type", "times/any/16", "×"),
            Row("sixty-four titles at once, tokens/s", "tokens_per_second/64"),
            Row("… × `transformers` at its best in float32", "times/float32/64", "×", at_least=3),
            Row("… × `transformers` at its best in any type", "times/any/64", "×"),
            Row("first character after", "first_character_ms", "ms", at_most=20),
            Row("1,000 test titles take", "seconds_for_1000_titles", "s", at_most=25),
        ),
    ),
    Section(
        "Fine-tuning",
        "finetune",
        "python benchmarks/finetune.py --save",
        (
            Row("the course, compiled, tokens/s", "contenders/ours, compiled/tokens_per_second"),
            Row("the course, not compiled, tokens/s", "contenders/ours, not compiled/tokens_per_second"),
            Row("× the best of the others", "times_the_best", "×", at_least=1.3),
            Row("× `SFTTrainer` as it comes", "times/SFTTrainer as it comes", "×", at_least=10),
            Row("× `SFTTrainer` at its best", "times/SFTTrainer at its best", "×"),
            Row("× the same, compiled", "times/SFTTrainer at its best, compiled", "×"),
            Row("× `transformers`, padded to 256", "times/transformers, padded to 256", "×"),
            Row("× `transformers`, dense rows", "times/transformers, dense", "×"),
            Row("× the same, compiled", "times/transformers, dense, compiled", "×"),
            Row("time of a step, × that of its own products", "times_its_products", "×", at_most=1.7),
            Row("most memory held, not compiled", "contenders/ours, not compiled/peak_gb", "GB", at_most=1.2),
        ),
    ),
    Section(
        "On a GPU",
        "gpu",
        "python benchmarks/gpu.py --save",
        (
            Row("bf16 products of 4096 × 4096, TFLOP/s", "products/bf16/4096"),
            Row("fine-tuning, AdamW, tokens/s", "finetuning/adamw/tokens_per_second", at_least=1_500_000),
            Row("… Muon beside AdamW", "finetuning/muon_share", "%", at_least=0.85),
            Row("pretraining, AdamW, tokens/s", "pretraining/adamw/tokens_per_second", at_least=2_000_000),
            Row("… Muon beside AdamW", "pretraining/muon_share", "%", at_least=0.85),
            Row("92 M parameters, tokens/s", "large/tokens_per_second"),
            Row("… share of the speed of a large product", "large/share_of_products", "%", at_least=0.35),
            Row("all Tang poems prepared in", "seconds_to_prepare", "s", at_most=3),
            Row("notebook 4, the long run after compiling", "notebook_4/seconds", "s", at_most=30),
            Row("… the same on a T4, an estimate", "notebook_4/t4_estimated_seconds", "m:s", at_most=900),
        ),
    ),
    Section(
        "The poems of the shipped checkpoint",
        "quality",
        "python benchmarks/quality.py --save",
        (
            Row("ends by itself", "fine-tuned/ended", "%", at_least=0.995),
            Row("well formed", "fine-tuned/well_formed", "%", at_least=0.97),
            Row("has a character of no Tang training poem", "fine-tuned/strange", "%", at_most=0.01),
            Row("rhymes", "fine-tuned/rhymes", "%", at_least=0.8),
            Row("… of the best of eight", "best of 8/rhymes", "%", at_least=0.98),
            Row("lines alternate", "fine-tuned/alternating", "%", at_least=0.96),
            Row("tones without fault", "fine-tuned/regulated", "%", at_least=0.88),
            Row("own title wins, of 16", "fine-tuned/own_title_wins", "%", at_least=0.9),
            Row("copies a line", "fine-tuned/copies_a_line", "%", at_most=0.03),
            Row("response loss, 1,000 test poems", "fine-tuned/response_loss", "nats", at_most=3.57),
            Row("`evaluate`, 200 titles, by the clock", "seconds_for_200_titles", "m:s", at_most=120),
        ),
    ),
    Section(
        "The poems of the aligned checkpoint",
        "quality",
        "python benchmarks/quality.py --save",
        (
            Row("ends by itself", "aligned/ended", "%", at_least=0.995),
            Row("well formed", "aligned/well_formed", "%", at_least=0.99),
            Row("has a character of no Tang training poem", "aligned/strange", "%", at_most=0.01),
            Row("rhymes", "aligned/rhymes", "%", at_least=0.9),
            Row("lines alternate", "aligned/alternating", "%", at_least=0.96),
            Row("tones without fault", "aligned/regulated", "%", at_least=0.93),
            Row("own title wins, of 16", "aligned/own_title_wins", "%", at_least=0.9),
            Row("copies a line", "aligned/copies_a_line", "%", at_most=0.03),
            Row("distinct bigrams", "aligned/distinct_2", "%"),
            Row("… of the instructed checkpoint, before", "instructed/distinct_2", "%"),
            Row("response loss, 1,000 test poems", "aligned/response_loss", "nats"),
            Row("… of the instructed checkpoint, before", "instructed/response_loss", "nats"),
        ),
    ),
    Section(
        "What the instructed and the aligned checkpoint obey",
        "quality",
        "python benchmarks/quality.py --save",
        (
            *(row for name, bars in OBEYED.items() for row in obedience_rows(name, *bars)),
            Row("`evaluate --obedience`, 100 of each kind, by the clock", "seconds_of_obedience", "m:s", at_most=180),
        ),
    ),
    Section(
        "Minutes of the notebooks",
        "notebooks",
        "python scripts/run_notebooks.py --save notebooks-a",
        tuple(Row(f"notebook {number}", f"minutes/{number}", "min") for number in NOTEBOOKS),
    ),
    Section(
        "Memory of the notebooks",
        "memory",
        "python scripts/measure_memory.py --save memory-a",
        tuple(Row(f"notebook {number}", f"peak_gb/{number}", "GB", at_most=1.5) for number in MEASURED),
    ),
    Section(
        "Time of the tests",
        "tests",
        "make quick, make test",
        (
            Row("`make quick`", "seconds_of_make_quick", "m:s", at_most=120),
            Row("`make test`", "seconds_of_make_test", "m:s", at_most=540),
        ),
    ),
)


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(section.markdown(results) for section in SECTIONS), HOW_TO])


# --- the tables of the README ---------------------------------------------------------------------

COLUMNS = ("base", "fine-tuned", "best of 8", "aligned", "real poems")
SHARES = {
    "ends by itself": "ended",
    "well formed": "well_formed",
    "has a character that no Tang training poem has": "strange",
    "rhymes": "rhymes",
    "lines alternate between level and oblique tones": "alternating",
    "tones without fault": "regulated",
    "likelier under its own title than under 15 others": "own_title_wins",
    "has a line copied from a Tang training poem": "copies_a_line",
}  # the label of a row → the figure that it shows
MINUTES = re.compile(r"^(\| \[(\d+) · .*\| )[\d.]*( \|)$", re.MULTILINE)


def readme(text: str, results: Mapping[str, Mapping[str, Any]]) -> str:
    """The README `text` with the figures of these results in its tables: minutes of notebooks, shares of poems.

    Raises:
        ValueError: a table lacks a row, or a notebook was not measured.
    """
    minutes, quality = results["notebooks-a"]["figures"]["minutes"], results["quality-a"]["figures"]
    if (listed := {number for _, number, _ in MINUTES.findall(text)}) != minutes.keys():
        raise ValueError(f"its table has the notebooks {listed}, results/notebooks-a.json has {set(minutes)}")
    text = MINUTES.sub(lambda row: f"{row[1]}{minutes[row[2]]:.1f}{row[3]}", text)
    for label, figure in SHARES.items():
        cells = " | ".join(f"{round(100 * quality[column][figure], 1):g} %" for column in COLUMNS)
        text, count = re.subn(rf"^\| {label} \|.*", f"| {label} | {cells} |", text, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"it has {count} rows {label!r}")
    return text


if __name__ == "__main__":
    PAGE.write_text(page(load()), "utf-8", newline="\n")
    README.write_text(readme(README.read_text("utf-8"), load()), "utf-8", newline="\n")
