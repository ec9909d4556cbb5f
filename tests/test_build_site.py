"""What the site is made from: links that work there, the other language, and a reference in the order of the README."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from build_site import build, collect, top_line, write_reference
from write_badges import Address

GITHUB = Address("github.com", "poet/course", "main")


TINY = {
    "README.md": "```\ncourse_lib/\n    paths.py  where things are\n```\n",
    "README.zh-CN.md": "",
    "LOG.md": "",
    "site/book/index.md": "# Start\n\n```{toctree}\n:glob:\n\nzh\ndocs/*\nreference/index\n```\n",
    "site/book/zh.md": "# 开始\n",
    "docs/other.md": "# Other\n\n## A part\n",
    "docs/page.md": """# Page

[a page](other.md#a-part) · [**the** README](../README.md) · [its start](../README.md#start)
· [中文](../README.zh-CN.md) · [a host](https://example.com/README.md) · [*the* log](../LOG.md#top)

Type `[the log](../LOG.md)`, or:

```
[the README](../README.md)
```
""",
}


@pytest.fixture
def tiny(repository: Path, tmp_path: Path) -> Path:
    """A repository with the settings of the site and very few pages. Its site goes into build/site."""
    folder = tmp_path / "tiny"
    shutil.copytree(repository / "site" / "book", folder / "site" / "book")
    for name, text in TINY.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    return folder


def links(html: str) -> dict[str, str]:
    """The words of the links in the text of a page -> where they lead."""
    article = html.partition("<article")[2].partition("</article>")[0]
    found = re.findall(r'<a class="reference [^>]*href="([^"]*)"[^>]*>(.*?)</a>', article, re.DOTALL)
    return {re.sub("<[^>]*>", "", words): to for to, words in found}


@pytest.mark.slow
@pytest.mark.parametrize("public", [False, True])
def test_links_lead_to_the_site_or_to_the_public_repository_and_code_stays(tiny: Path, public: bool) -> None:
    if public:
        for command in (
            ["init", "-q", "-b", "main"],
            ["remote", "add", "origin", "https://github.com/poet/course.git"],
        ):
            subprocess.run(["git", "-C", str(tiny), *command], check=True)
    out = tiny / "build" / "site"
    assert build(out, tiny) == 0
    page = (out / "docs/page.html").read_text("utf-8")
    to_log = {"the log": "https://github.com/poet/course/blob/main/LOG.md#top"} if public else {}
    assert links(page) == to_log | {
        "中文": "../zh.html",
        "a page": "other.html#a-part",
        "the README": "../index.html",
        "its start": "../index.html#start",
        "a host": "https://example.com/README.md",
    }
    assert "<em>the</em> log" in page
    assert '<span class="pre">[the</span> <span class="pre">log](../LOG.md)</span>' in page
    assert "[the README](../README.md)\n</pre>" in page


@pytest.mark.slow
def test_a_link_that_leads_nowhere_fails_the_build(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tiny / "docs" / "other.md").write_text("# Other\n\n## A part\n\n[nowhere](nothing.md)\n", "utf-8")
    assert build(tiny / "build" / "site", tiny) == 1
    assert "nothing.md" in capfd.readouterr().err


@pytest.mark.parametrize("taken", ["site", "site-source"])
def test_a_folder_with_something_else_in_it_is_not_emptied(tmp_path: Path, taken: str) -> None:
    old_site, own = tmp_path / "site" / "searchindex.js", tmp_path / taken / "diary.txt"
    for file in (old_site, own):
        file.parent.mkdir(exist_ok=True)
        file.touch()
    if taken == "site":
        old_site.unlink()
    with pytest.raises(SystemExit, match=f"{taken}: this folder is not from an earlier build"):
        build(tmp_path / "site", tmp_path)
    assert own.is_file()
    assert old_site.is_file() == (taken != "site")


@pytest.mark.parametrize(
    ("page", "other"),
    [
        ("index.md", "[中文](zh.md)"),
        ("zh.md", "[English](index.md)"),
        ("notebooks/01.ipynb", "[中文](zh/01.ipynb)"),
        ("notebooks/zh/01.ipynb", "[English](../01.ipynb)"),
        ("docs/set_up.md", "[中文](set_up.zh-CN.md)"),
        ("docs/set_up.zh-CN.md", "[English](set_up.md)"),
        ("docs/layout.md", "[中文](../zh.md)"),
        ("docs/glossary.md", "[中文](glossary.zh-CN.md)"),
    ],
)
def test_each_page_leads_to_the_other_language(tmp_path: Path, page: str, other: str) -> None:
    for name in ("notebooks/01.ipynb", "notebooks/zh/01.ipynb", "docs/set_up.md", "docs/set_up.zh-CN.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert top_line(page, tmp_path, None) == f"{{.top-line}}\n{other}"


def test_a_notebook_can_be_opened_where_the_repository_is_public(tmp_path: Path) -> None:
    line = top_line("notebooks/zh/05_generate.ipynb", tmp_path, GITHUB)
    hosts = ("mybinder.org/v2/gh", "colab.research.google.com/github", "codespaces.new")
    for host, link in zip(hosts, line.split(" · ")[1:], strict=True):
        assert link.startswith("[Open in ")
        assert f"](https://{host}/poet/course" in link
    assert "![" not in line  # a picture would come from another host
    assert "Open in" not in top_line("docs/set_up.md", tmp_path, GITHUB)
    elsewhere = top_line("notebooks/05_generate.ipynb", tmp_path, Address("git.example.org", "poet/course", "main"))
    assert elsewhere.count("Open in") == 1


README = """```
course_lib/
    a.py         first, with `names`
    room/        two modules
        b_c.py   one
    __main__.py  last
```
"""


def test_the_reference_has_a_page_for_each_line_of_the_tree(tmp_path: Path) -> None:
    write_reference(tmp_path, README)
    written = {path.relative_to(tmp_path).as_posix(): path.read_text("utf-8") for path in tmp_path.rglob("*.rst")}
    assert sorted(written) == ["__main__.rst", "a.rst", "index.rst", "room/b_c.rst", "room/index.rst"]
    modules = ["course_lib", "course_lib.a", "course_lib.room", "course_lib.room.b_c", "course_lib.__main__"]
    pages = [written[page] for page in ("index.rst", "a.rst", "room/index.rst", "room/b_c.rst", "__main__.rst")]
    for module, page in zip(modules, pages, strict=True):
        assert f".. automodule:: {module}\n" in page
    assert "   first, with `names`\n" in written["index.rst"]
    listed = [line.strip() for line in written["index.rst"].splitlines() if line.startswith("   /")]
    assert listed == ["/reference/a", "/reference/room/index", "/reference/__main__"]
    assert [":members:" in page for page in pages] == [False, True, False, True, True]
    assert written["__main__.rst"].startswith("\\_\\_main\\_\\_.py\n")


def test_the_chinese_pages_lead_to_a_glossary_in_chinese(repository: Path, tmp_path: Path) -> None:
    collect(tmp_path, repository, None)
    glossary = (tmp_path / "docs/glossary.zh-CN.md").read_text("utf-8")
    assert re.findall("^## .*", glossary, re.MULTILINE) == ["## 中文 → English", "## 诗律"]
    rows = [line for line in glossary.splitlines() if line.startswith("| ")]
    assert len(rows) > 90
    for row in rows:
        _, english, sentence, *_ = row.strip("| ").split(" | ")
        assert re.search("[一-龥]", sentence), row
        assert english.isascii(), row
    for page in (tmp_path / "zh.md", *tmp_path.glob("notebooks/zh/*.ipynb")):
        assert "docs/glossary.md" not in page.read_text("utf-8")
    assert "glossary.md#english" in (tmp_path / "notebooks/01_data_formatting.ipynb").read_text("utf-8")


def test_the_first_cell_of_a_notebook_is_left_out(repository: Path, tmp_path: Path) -> None:
    collect(tmp_path, repository, GITHUB)
    pages = [*tmp_path.glob("notebooks/*.ipynb"), *tmp_path.glob("notebooks/zh/*.ipynb")]
    assert len(pages) == len([*repository.glob("notebooks/*.ipynb"), *repository.glob("notebooks/zh/*.ipynb")])
    for page in pages:
        text = page.read_text("utf-8")
        assert "find_spec" not in text
        assert "下一格报错" not in text  # the Chinese paragraph on that cell
        assert "https://mybinder.org/v2/gh/poet/course" in text
        assert "badge_logo" not in text
