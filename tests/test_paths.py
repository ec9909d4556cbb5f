"""Where files are looked for, and how that is changed."""

import subprocess
import sys
from pathlib import Path

import pytest

from course_lib import paths


def test_the_assets_lie_beside_or_inside_the_package() -> None:
    assert paths.PACKAGE.name == "course_lib"
    assert paths.HOME in (paths.PACKAGE, paths.PACKAGE.parent)
    assert (paths.HOME / "assets" / "poems").is_dir()


def test_one_variable_moves_all_assets() -> None:
    program = "from course_lib import paths; print(paths.ASSETS, paths.BASE, paths.FINETUNED)"
    env = {"COURSE_LIB_ASSETS": "elsewhere", "PYTHONPATH": str(paths.PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    moved = Path("elsewhere")
    assert done.stdout.split() == [str(moved / p) for p in ("", "checkpoints/base", "checkpoints/finetuned")]


def test_a_variable_moves_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COURSE_LIB_CACHE", str(tmp_path))
    assert paths.cache_folder() == tmp_path
    monkeypatch.delenv("COURSE_LIB_CACHE")
    assert paths.cache_folder().name == "course_lib"


def test_your_own_model_comes_before_the_shipped_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert paths.own_or_shipped() == paths.FINETUNED
    paths.OWN.mkdir(parents=True)
    assert paths.own_or_shipped() == paths.FINETUNED  # a folder without weights does not count
    (paths.OWN / "model.safetensors").touch()
    assert paths.own_or_shipped() == paths.OWN
    assert paths.own_or_shipped(Path("chosen")) == Path("chosen")


def test_a_model_made_in_a_notebook_is_found_from_the_root_and_the_other_way_round(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for made, working in ((Path("notebooks"), Path()), (Path(), Path("notebooks"))):
        root = tmp_path / f"made-in-{made.name}"
        (root / "notebooks").mkdir(parents=True)
        (root / made / paths.OWN).mkdir(parents=True)
        monkeypatch.chdir(root / working)
        assert paths.own_or_shipped() == paths.FINETUNED
        (root / made / paths.OWN / "model.safetensors").touch()
        assert paths.own_or_shipped().resolve() == root / made / paths.OWN
