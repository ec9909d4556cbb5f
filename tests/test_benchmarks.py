"""The page of figures is made from the results, and the log of experiments keeps its form."""

import json
import math
import re
from pathlib import Path

import gpu
import page
import pytest
import results
import torch
from page import Row, Section

from course_lib.engine.machine import Machine
from course_lib.model import ModelConfig, PoetryModel

LOG = Path(page.__file__).parent / "LOG.md"
HEADING = re.compile(r"(\d{4}-\d\d-\d\d) (\S.*) \((kept|dropped|no difference|kept, then \w+)\)")
PARTS = ["Question", "Did", "Result", "Decision"]


def test_the_page_is_what_the_script_makes() -> None:
    assert page.PAGE.read_text("utf-8") == page.page(results.load()), "run `python benchmarks/page.py`"


def test_every_result_has_a_column_and_says_where_and_when_it_was_measured() -> None:
    scripts = {section.script for section in page.SECTIONS}
    for name, result in results.load().items():
        assert name.partition("-")[0] in scripts
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", results.date_of(result))
        assert result.keys() - {"date", "recorded"} == {"command", "machine", "versions", "figures"}


def test_every_figure_of_the_page_is_in_some_result() -> None:
    found = results.load()
    for section in page.SECTIONS:
        figures = [r["figures"] for name, r in found.items() if name.partition("-")[0] == section.script]
        missing = [row.label for row in section.rows if not any(row.cell(f) for f in figures)]
        assert not figures or missing == []


@pytest.mark.parametrize(
    ("row", "cell"),
    [
        (Row("", "a/speed"), "1,060"),
        (Row("", "a/speed", at_least=1060), "1,060"),
        (Row("", "a/speed", at_least=1061), "**1,060**"),
        (Row("", "a/share", "%", at_most=0.5), "46.0 % [40.0, 52.5]"),
        (Row("", "a/share", "%", at_most=0.4), "**46.0 % [40.0, 52.5]**"),
        (Row("", "a/speed", "m:s", at_most=1061), "17:40"),
        (Row("", "a/nothing", "×"), ""),
        (Row("", "nothing/at/all", "×", at_least=1), ""),
    ],
)
def test_a_figure_is_shown_with_its_unit_and_in_bold_if_it_misses_its_bar(row: Row, cell: str) -> None:
    assert row.cell({"a": {"speed": 1060.4, "share": 0.46, "intervals": {"share": [0.4, 0.525]}}}) == cell


def test_each_result_of_a_script_is_a_column() -> None:
    section = Section("Speed", "run", "python run.py", (Row("speed", "speed", "×", at_least=1.5),))
    there = {
        "run": {"date": "2026-01-02", "machine": "A", "figures": {"speed": 2}},
        "run-b": {"recorded": "2026-01-01", "machine": "B", "figures": {"speed": 1}},
        "other": {"date": "2026-01-02", "machine": "A", "figures": {"speed": 3}},
    }
    assert section.markdown(there).splitlines()[4:] == [
        "| | bar | A, 2026-01-02 | B, recorded 2026-01-01 |",
        "|---|---:|---:|---:|",
        "| speed | ≥ 1.5 × | 2.0 × | **1.0 ×** |",
    ]
    assert section.markdown({}).splitlines()[-1] == "| speed | ≥ 1.5 × |  |"


def test_a_result_is_saved_with_its_command_its_machine_and_the_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["somewhere/run.py", "--save", "run of 1"])
    path = results.save("run", {"speed": 2.0}, "a processor", tmp_path / "results")
    saved = json.loads(path.read_text("utf-8"))
    assert saved["command"] == "python somewhere/run.py --save 'run of 1'"
    assert (saved["machine"], saved["figures"]) == ("a processor", {"speed": 2.0})
    assert {"python", "torch"} <= saved["versions"].keys()
    assert results.load(path.parent) == {"run": saved}


# --- on a GPU -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_benchmark_for_a_gpu_runs_on_a_cpu_and_has_every_figure_of_the_page() -> None:
    machine = Machine(torch.device("cpu"), torch.bfloat16)
    figures = dict(gpu.measure(machine, gpu.plan_for(machine, small=True)))
    (section,) = (section for section in page.SECTIONS if section.script == "gpu")
    assert [row.place for row in section.rows if page.at(figures, row.place) is None] == ["products/bf16/4096"]
    assert figures["difference_of_losses"] == 0
    assert figures["finetuning"]["muon"]["tokens_per_second"] > 0
    table = [line for name, found in figures.items() for line in gpu.lines(name, found)]
    assert len(table) == 15
    assert all(line.count("|") == 4 for line in table)


def test_the_estimate_for_a_card_adds_the_time_of_products_and_of_memory() -> None:
    config = ModelConfig(500, 32, 64, 2)
    parameters = sum(weight.numel() for weight in PoetryModel(config).parameters())
    products = gpu.Card("", flops=1e12, reached=0.25, bytes_per_second=math.inf)
    memory = gpu.Card("", flops=math.inf, reached=1, bytes_per_second=1e9)
    both = gpu.Card("", flops=1e12, reached=0.25, bytes_per_second=1e9)
    speeds = [gpu.estimated_tokens_per_second(config, card) for card in (products, memory, both)]
    assert speeds[0] == pytest.approx(0.25e12 / (6 * parameters))
    assert speeds[1] == pytest.approx(1e9 / (2 * (2 * 6 * (20 * 32 + 8 * 64) + 8 * 500)))
    assert 1 / speeds[2] == pytest.approx(1 / speeds[0] + 1 / speeds[1])


# --- the log --------------------------------------------------------------------------------------


def entries() -> dict[str, str]:
    """Heading → text."""
    _, *parts = re.split(r"^## ", LOG.read_text("utf-8"), flags=re.MULTILINE)
    return dict(part.split("\n", maxsplit=1) for part in parts)


def test_each_entry_of_the_log_has_a_date_a_verdict_and_four_parts_and_the_newest_comes_first() -> None:
    dates = []
    for heading, text in entries().items():
        found = HEADING.fullmatch(heading)
        assert found, heading
        dates.append(found[1])
        assert re.findall(r"^- \*\*(\w+)\.\*\*", text, re.MULTILINE) == PARTS, heading
    assert dates == sorted(dates, reverse=True)
    assert len(dates) > 30


def test_a_reference_to_the_log_names_an_entry(repository: Path) -> None:
    entry = re.compile("|".join(re.escape(found[2]) for heading in entries() if (found := HEADING.fullmatch(heading))))
    named = re.findall(r"(?:see|See|led to|for) \*([^*]+)\*", LOG.read_text("utf-8"))
    assert named
    for path in (repository / "course_lib").rglob("*.py"):
        _, *references = " ".join(path.read_text("utf-8").split()).split("`benchmarks/LOG.md`")
        assert all(reference.startswith(": ") for reference in references), f"{path.name} does not say which entry"
        named += [reference.removeprefix(": ") for reference in references]
    assert [name[:60] for name in named if not entry.match(name)] == []
