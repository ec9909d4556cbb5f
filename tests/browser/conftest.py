"""A Chromium, and one JupyterLab for all tests, set up as `make lab` does, with a copy of the notebooks."""

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
    """Skip for want of something on this machine; fail where COURSE_BROWSER=required is set, as in .ci/run."""
    if os.environ.get("COURSE_BROWSER") == "required":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The system's own browser."""
    return next(filter(None, map(shutil.which, NAMES)), None) or lacking(f"no browser: none of {', '.join(NAMES)}")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Chromium without a window, for one module: as long as Playwright runs, no other event loop can."""
    arguments = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium, args=arguments, timeout=PATIENCE * 1000)


@pytest.fixture(scope="session")
def course(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the notebooks and of what they show, which a browser may save over."""
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
    """A font with Chinese characters: without one they are all the same empty box."""
    drawn = """text => { const c = document.createElement("canvas").getContext("2d"); c.font = "40px serif";
               c.fillText(text, 0, 80); return c.canvas.toDataURL(); }"""
    with window(browser) as page:
        if len({page.evaluate(drawn, character) for character in "春夜喜雨"}) < 4:
            lacking("no font with Chinese characters")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the pages go: `make pictures` sets it, and otherwise they are thrown away."""
    return Path(os.environ.get("COURSE_PICTURES") or tmp_path_factory.mktemp("pictures"))
