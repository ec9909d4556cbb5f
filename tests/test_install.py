"""The package works from a wheel, without its repository: a notebook that stands alone installs it like that."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROGRAM = """
import importlib, json, pkgutil
import course_lib
for module in pkgutil.walk_packages(course_lib.__path__, "course_lib."):
    importlib.import_module(module.name)
from course_lib import paths, poems
from course_lib.checkpoints import load_checkpoint
from course_lib.generation import GenerationSettings, write
written = write(load_checkpoint(paths.FINETUNED), poems.DEMO_TITLE, GenerationSettings(max_new_tokens=5))
counts = {split: len(poems.load_poems(split)) for split in ("validation", "test")}
print(json.dumps([course_lib.__file__, str(paths.ASSETS), counts, len(list(written)), paths.BASE.is_dir()]))
"""


@pytest.fixture(scope="module")
def site(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip installed the package from a wheel."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(repository / name, source)
    for name in ("course_lib", "assets"):
        shutil.copytree(repository / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    offline = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    asked = [sys.executable, "-m", "pip", "install", *offline, "--target", str(site), str(source)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return site


def test_an_installed_package_imports_every_module_and_finds_poems_and_checkpoints(site: Path, tmp_path: Path) -> None:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("COURSE")}
    asked, environment = [sys.executable, "-c", PROGRAM], clean | {"PYTHONPATH": str(site)}
    done = subprocess.run(asked, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    package, assets, counts, characters, base = json.loads(done.stdout)
    assert Path(package).parent == site / "course_lib"
    assert Path(assets) == site / "course_lib" / "assets"
    assert counts == {"validation": 1000, "test": 1000}
    assert (characters, base) == (5, True)
    assert list(tmp_path.iterdir()) == []


def files(folder: Path, pattern: str = "*") -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob(pattern) if path.is_file()}


def test_all_modules_and_assets_are_installed_and_nothing_else(site: Path, repository: Path) -> None:
    assert files(site / "course_lib", "*.py") == files(repository / "course_lib", "*.py")
    assert (site / "course_lib" / "py.typed").is_file()
    assets = files(repository / "assets")
    needed = {name for name in assets if not name.startswith(("figures/", "pictures/"))}
    assert files(site / "course_lib" / "assets") == needed < assets
    assert {path.name for path in site.iterdir() if path.suffix != ".dist-info"} == {"course_lib"}
