"""What the site is made from: links that work there, the other language, and a reference in the order of the README."""

from pathlib import Path

import pytest
from build_site import collect, relinked, top_line, write_reference
from write_badges import Address

GITHUB = Address("github.com", "poet/course", "main")


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("notebooks/01_data_formatting.ipynb", "[next](02_role_tokens.ipynb)", "[next](02_role_tokens.ipynb)"),
        ("notebooks/06_evaluate.ipynb", "[it](../README.md)", "[it](../index.md)"),
        ("docs/set_up.md", "[it](../README.md#start)", "[it](../index.md#start)"),
        ("notebooks/zh/06_evaluate.ipynb", "[它](../../README.zh-CN.md)", "[它](../../zh.md)"),
        ("docs/set_up.md", "[below](#fonts)", "[below](#fonts)"),
        ("docs/set_up.md", "[a host](https://example.com/README.md)", "[a host](https://example.com/README.md)"),
        ("docs/set_up.md", "[nowhere](nothing.md)", "[nowhere](nothing.md)"),
        ("zh.md", "![图](assets/pictures/title_box.png)", "![图](assets/pictures/title_box.png)"),
    ],
)
def test_a_link_leads_to_the_same_page_on_the_site(repository: Path, page: str, link: str, expected: str) -> None:
    assert relinked(f"See {link}.", page, repository, None) == f"See {expected}."


def test_a_file_that_the_site_lacks_is_linked_to_in_the_repository_if_it_is_public(repository: Path) -> None:
    text = "See [the log](LOG.md#top)."
    assert relinked(text, "benchmarks/README.md", repository, None) == "See the log."
    public = "https://github.com/poet/course/blob/main/benchmarks/LOG.md#top"
    assert relinked(text, "benchmarks/README.md", repository, GITHUB) == f"See [the log]({public})."


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


def test_the_first_cell_of_a_notebook_is_left_out(repository: Path, tmp_path: Path) -> None:
    collect(tmp_path, repository, GITHUB)
    pages = [*tmp_path.glob("notebooks/*.ipynb"), *tmp_path.glob("notebooks/zh/*.ipynb")]
    assert len(pages) == len([*repository.glob("notebooks/*.ipynb"), *repository.glob("notebooks/zh/*.ipynb")])
    for page in pages:
        text = page.read_text("utf-8")
        assert "find_spec" not in text
        assert "https://mybinder.org/v2/gh/poet/course" in text
        assert "badge_logo" not in text
