"""Figures on disk: `benchmarks/results/NAME.json`, one file for each run of a benchmark."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import platform
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "results"
PACKAGES = ("torch", "numpy", "transformers", "trl")


def save(name: str, figures: Mapping[str, Any], machine: str, folder: Path = FOLDER) -> Path:
    """Write the figures, with the date, the command, the machine and the versions. Returns the path of the file."""
    script = Path(sys.argv[0]).resolve()
    installed = {found.name for found in importlib.metadata.distributions()}
    result = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": shlex.join(["python", f"{script.parent.name}/{script.name}", *sys.argv[1:]]),
        "machine": machine,
        "versions": {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in PACKAGES if package in installed},
        },
        "figures": figures,
    }
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(result, ensure_ascii=False, indent=2) + "\n", "utf-8", newline="\n")
    return path


def load(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """All results by name, in the order of their dates."""
    found = {path.stem: json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")}
    return dict(sorted(found.items(), key=lambda item: (date_of(item[1]), item[0])))


def date_of(result: Mapping[str, Any]) -> str:
    """The day of a measurement, as 2026-11-26. `recorded` marks figures that were copied from an older page."""
    return str(result.get("date") or result["recorded"])


def add_save_option(parser: argparse.ArgumentParser, name: str) -> None:
    """Add `--save [NAME]`; the attribute is None without the option."""
    text = f"write the figures to benchmarks/results/NAME.json (default: {name}); then run benchmarks/page.py"
    parser.add_argument("--save", nargs="?", const=name, metavar="NAME", help=text)
