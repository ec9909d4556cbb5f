"""What runs before a commit and after a push calls make, on the versions that pyproject.toml names."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
MATRIX = re.compile(r"\$\{\{ matrix\.(\w+) \}\}")


def load(path: Path) -> dict[str, Any]:
    # BaseLoader: YAML 1.1 would read the key `on` as true.
    return yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader)


def targets() -> set[str]:
    return set(re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)[0].split())


@pytest.mark.slow
def test_workflows_follow_the_schema() -> None:
    assert [path.stem for path in WORKFLOWS] == ["pages", "test", "weekly"]
    asked = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    done = subprocess.run([*asked, *map(str, WORKFLOWS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_make_and_nothing_else(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["on"].get("schedule") or path.stem == "pages"  # the site changes only with a push
    for job in workflow["jobs"].values():
        commands = [step["run"] for step in job["steps"] if "run" in step]
        matrix = job.get("strategy", {}).get("matrix", {})
        told = [c for command in commands for c in (MATRIX.sub(v, command) for v in matrix.get("target", [""]))]
        assert told
        assert {command.removeprefix("make ") for command in told} <= targets()
        assert set(MATRIX.findall(yaml.dump(job))) <= matrix.keys()
        known = set(re.findall(r"^(\w+) \?=", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
        assert job["env"].keys() <= known


def test_the_tests_run_on_every_system_and_at_both_ends_of_what_is_supported() -> None:
    matrix = load(ROOT / ".github/workflows/test.yml")["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert [matrix["python"][0], matrix["python"][-1]] == [named[0], named[-1]]
    assert PROJECT["requires-python"] == f">={named[0]}"
    torch = next(Requirement(line).specifier for line in PROJECT["dependencies"] if line.startswith("torch"))
    (lowest,) = torch
    oldest, newest = (SpecifierSet(entry["torch"]) for entry in matrix["include"])
    assert oldest == SpecifierSet(f"=={lowest.version}.0")
    assert newest == torch


def test_the_quick_tests_come_first() -> None:
    jobs = load(ROOT / ".github/workflows/test.yml")["jobs"]
    assert jobs["quick"]["steps"][-1]["run"] == "make quick"
    assert jobs["test"]["needs"] == "quick"
    assert jobs["test"]["steps"][-1]["run"] == "make test"


def test_the_default_branch_alone_is_published_with_the_page_that_writes_poems() -> None:
    workflow = load(ROOT / ".github/workflows/pages.yml")
    assert set(workflow["on"]) == {"push", "workflow_dispatch"}
    (job,) = workflow["jobs"].values()
    assert job["if"] == "github.ref == format('refs/heads/{0}', github.event.repository.default_branch)"
    assert job["permissions"] == {"contents": "read", "pages": "write", "id-token": "write"}
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make poem-page", "make site"]
    upload, publish = job["steps"][-2:]
    assert upload["uses"].startswith("actions/upload-pages-artifact@")
    assert upload["with"] == {"path": "build/site"}
    assert publish["uses"].startswith("actions/deploy-pages@")


def test_a_commit_is_checked_by_make(tmp_path: Path) -> None:
    config = ROOT / ".pre-commit-config.yaml"
    asked = [sys.executable, "-m", "pre_commit", "validate-config", str(config)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    hooks = [hook for repository in load(config)["repos"] for hook in repository["hooks"]]
    assert [hook["entry"] for hook in hooks] == ["make lint", "make hygiene"]
    assert {hook["entry"].removeprefix("make ") for hook in hooks} <= targets()
    assert all(hook["language"] == "system" and hook["pass_filenames"] == "false" for hook in hooks)
