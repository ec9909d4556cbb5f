"""A Chromium, and one JupyterLab for all tests, started as `make lab` does, with a copy of the notebooks."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from pages import PATIENCE, serving, window
from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def lacking(what: str) -> NoReturn:
    """Skip the test because this machine lacks something. With COURSE_BROWSER=required, as in .ci/run, it fails."""
    if os.environ.get("COURSE_BROWSER") == "required":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the system's browser."""
    return next(filter(None, map(shutil.which, NAMES)), None) or lacking(f"no browser: none of {', '.join(NAMES)}")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A headless Chromium for one module. No other event loop can run while Playwright does."""
    arguments = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium, args=arguments, timeout=PATIENCE * 1000)


@pytest.fixture(scope="session")
def course(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the notebooks and their pictures, so that a browser may save them."""
    folder = tmp_path_factory.mktemp("course")
    shutil.copytree(repository / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns("checkpoints"))
    for part in ("figures", "pictures"):
        shutil.copytree(repository / "assets" / part, folder / "assets" / part)
    return folder


@pytest.fixture(scope="session")
def lab(chromium: str, course: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab that shows the course."""
    options = (f"--ServerApp.root_dir={course}", "--LabApp.expose_app_in_browser=True")
    with serving("lab", *options, folder=tmp_path_factory.mktemp("lab"), COURSE_FAST="1") as address:
        yield address


@pytest.fixture
def glyphs(browser: Browser) -> None:
    """Skips the test if no font has Chinese characters; then all of them are the same empty box."""
    drawn = """text => { const c = document.createElement("canvas").getContext("2d"); c.font = "40px serif";
               c.fillText(text, 0, 80); return c.canvas.toDataURL(); }"""
    with window(browser) as page:
        if len({page.evaluate(drawn, character) for character in "春夜喜雨"}) < 4:
            lacking("no font with Chinese characters")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for pictures of the pages. `make pictures` sets it; otherwise the pictures are thrown away."""
    return Path(os.environ.get("COURSE_PICTURES") or tmp_path_factory.mktemp("pictures"))
