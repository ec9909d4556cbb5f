"""The Chinese notebooks differ from the English ones in their Markdown only, and none of it is out of date."""

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from chinese_edition import check, digest, faults, is_english, main, mark, sync, synced
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from opencc import OpenCC

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
CHINESE = sorted((NOTEBOOKS / "zh").glob("*.ipynb"))
CODE_BLOCK = "```python\nx = 1\n```"


def markdown(notebook: NotebookNode) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def test_the_chinese_edition_is_that_of_the_english_notebooks() -> None:
    assert check() == []
    assert len(CHINESE) >= 6
    assert main(["--check"]) == 0


# --- the check, on two small notebooks ------------------------------------------------------------


def english() -> NotebookNode:
    printed = new_output("stream", name="stdout", text="2\n")
    cells = [
        new_markdown_cell("# One", id="head"),
        new_code_cell("print(2)", id="code", execution_count=1, outputs=[printed], metadata={"tags": ["a"]}),
        new_markdown_cell(f"<details>\n\n{CODE_BLOCK}\n</details>", id="answer", metadata={"kept": True}),
    ]
    return new_notebook(cells=cells)


def chinese() -> NotebookNode:
    """The English notebook, translated."""
    notebook = english()
    for at, source in ((0, "# 一"), (2, f"<details>答案\n\n{CODE_BLOCK}\n</details>")):
        cell = notebook.cells[at]
        cell.metadata["translated_from"], cell.source = digest(cell.source), source
    return notebook


def test_nothing_is_said_of_a_whole_translation() -> None:
    assert list(faults(english(), chinese())) == []


def changed_code(e: NotebookNode, c: NotebookNode) -> None:
    c.cells[1].source += " "


def changed_output(e: NotebookNode, c: NotebookNode) -> None:
    c.cells[1].outputs[0].text = "3\n"


def other_tag(e: NotebookNode, c: NotebookNode) -> None:
    c.cells[1].metadata.tags = []


def run_again(e: NotebookNode, c: NotebookNode) -> None:
    e.cells[1].execution_count = 2


def english_rewritten(e: NotebookNode, c: NotebookNode) -> None:
    e.cells[0].source = "# One more"


def without_digest(e: NotebookNode, c: NotebookNode) -> None:
    del c.cells[0].metadata["translated_from"]


def english_sentence(e: NotebookNode, c: NotebookNode) -> None:
    c.cells[0].source += "这一格很长，" * 30 + "but one sentence of it is English."


def one_english_word(e: NotebookNode, c: NotebookNode) -> None:
    c.cells[0].source = "# One"


def other_solution(e: NotebookNode, c: NotebookNode) -> None:
    c.cells[2].source = c.cells[2].source.replace("x = 1", "x = 2")


def other_kernel(e: NotebookNode, c: NotebookNode) -> None:
    e.metadata["kernelspec"] = {"name": "python3"}


def turned_round(e: NotebookNode, c: NotebookNode) -> None:
    c.cells.reverse()


def one_too_many(e: NotebookNode, c: NotebookNode) -> None:
    c.cells.append(new_markdown_cell("多", id="more"))


@pytest.mark.parametrize(
    ("spoil", "cell", "says"),
    [
        (changed_code, "code", "is not the English code cell"),
        (changed_output, "code", "is not the English code cell"),
        (other_tag, "code", "is not the English code cell"),
        (run_again, "code", "is not the English code cell"),
        (english_rewritten, "head", "has another English text since it was translated"),
        (without_digest, "head", "is not translated"),
        (english_sentence, "head", "is not translated"),
        (one_english_word, "head", "is not translated"),
        (other_solution, "answer", "has other code blocks"),
        (other_kernel, "", "has other metadata"),
        (turned_round, "", "has other cells than the English notebook, or in another order"),
        (one_too_many, "", "has other cells than the English notebook, or in another order"),
    ],
)
def test_each_fault_is_named_alone_with_its_cell(
    spoil: Callable[[NotebookNode, NotebookNode], None], cell: str, says: str
) -> None:
    first, second = english(), chinese()
    spoil(first, second)
    ((found, fault),) = faults(first, second)
    assert found == cell
    assert fault.startswith(says)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_missing_cell_is_named(at: int) -> None:
    notebook = chinese()
    missing = notebook.cells.pop(at)
    _, (cell, fault) = faults(english(), notebook)
    assert cell == missing.id
    assert fault.startswith("is missing")


@pytest.mark.parametrize("spoil", [changed_code, changed_output, other_tag, run_again, other_kernel, turned_round])
def test_what_is_not_prose_is_mended_by_copying(spoil: Callable[[NotebookNode, NotebookNode], None]) -> None:
    first, second = english(), chinese()
    spoil(first, second)
    mended = synced(first, second)
    assert list(faults(first, mended)) == []
    assert markdown(mended) == markdown(chinese())


def test_copying_never_makes_an_old_translation_new() -> None:
    first, second = english(), chinese()
    first.cells[0].source = "# One more"
    first.cells.append(new_markdown_cell("A new cell.", id="new"))
    found = dict(faults(first, synced(first, second)))
    assert found.keys() == {"head", "new"}
    assert found["new"] == "is not translated"


def test_each_edition_has_a_first_code_cell_of_its_own() -> None:
    first, second = english(), chinese()
    for notebook, source in ((first, "print(2)"), (second, "print('二')")):
        notebook.cells[1].source, notebook.cells[1].metadata["tags"] = source, ["setup"]
    first.cells[1].execution_count = 7
    assert list(faults(first, second)) == []
    made = synced(first, second).cells[1]
    assert (made.source, made.execution_count) == ("print('二')", 7)


def test_badges_are_no_new_english_text() -> None:
    heading = "# One\n\nText."
    assert digest("# One\n\n[![Open in Colab](https://a/b.svg)](https://a/b)\n\nText.") == digest(heading)
    assert digest("# One\n\nTexts.") != digest(heading)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("模型给每个字打一个分，叫 **logit**。", False),
        ("`print(this is only code)` 是代码。", False),
        ("![图](a_picture_with_a_long_name.svg)", False),
        ("Shi 等，NeurIPS 2024，arXiv 2405.14394，说过这件事。", False),
        ("", True),
        ("So that is what a base model reads.", True),
        ("**Predict:** 猜", True),
    ],
)
def test_english_is_told_from_chinese_with_english_words(text: str, expected: bool) -> None:
    assert is_english(text) is expected


def test_the_files_are_checked_copied_and_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nbformat.write(english(), tmp_path / "one.ipynb")
    assert check(tmp_path) == ["one has no Chinese notebook: run scripts/chinese_edition.py, and translate it"]

    assert main([], tmp_path) == 0
    copied = nbformat.read(tmp_path / "zh" / "one.ipynb", as_version=4)
    assert copied == english()
    assert check(tmp_path) == ["one:head is not translated", "one:answer is not translated"]

    for cell, source in zip(copied.cells, (c.source for c in chinese().cells), strict=True):
        cell.source = source
    nbformat.write(copied, tmp_path / "zh" / "one.ipynb")
    assert main(["--translated", "one:head", "one:answer"], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    assert nbformat.read(tmp_path / "zh" / "one.ipynb", as_version=4) == chinese()

    (tmp_path / "one.ipynb").rename(tmp_path / "two.ipynb")
    capsys.readouterr()
    assert main(["--check"], tmp_path) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2
    sync(tmp_path)
    assert check(tmp_path)[-1].startswith("one has no English notebook: delete")


def test_a_wrong_word_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nbformat.write(english(), tmp_path / "one.ipynb")
    assert main(["--chek"], tmp_path) == 2
    assert not (tmp_path / "zh").exists()
    assert "--check" in capsys.readouterr().err
    with pytest.raises(ValueError, match="one:nothing: there is no such cell"):
        mark(["one:nothing"], tmp_path)


# --- the prose ------------------------------------------------------------------------------------

# What the model reads is in Traditional characters: it stands in 「」, in 《》, in code, or in a quotation.
QUOTED = re.compile(r"```.*?```|`[^`\n]*`|「[^」]*」|《[^》]*》|^>.*$|\]\([^)]*\)", re.DOTALL | re.MULTILINE)


def traditional(text: str) -> list[str]:
    """The characters of the prose that a Simplified text does not have."""
    prose = QUOTED.sub("", text)
    return [old for old, new in zip(prose, OpenCC("t2s").convert(prose), strict=True) if old != new]


@pytest.mark.parametrize("path", CHINESE, ids=lambda path: path.stem)
def test_the_prose_is_in_simplified_characters(path: Path) -> None:
    assert [found for text in markdown(nbformat.read(path, as_version=4)) for found in traditional(text)] == []


def test_traditional_prose_is_found_and_quotations_are_not() -> None:
    assert traditional("第一句是「疑是地上霜」，題在《長恨歌》。\n\n> 花落知多少，處處聞啼鳥。\n\n`長`") == ["題"]


@pytest.mark.parametrize("path", CHINESE, ids=lambda path: path.stem)
def test_links_between_notebooks_stay_in_the_chinese_edition(path: Path) -> None:
    text = "\n".join(markdown(nbformat.read(path, as_version=4)))
    assert {link for link in re.findall(r"\]\(([^)]*\.ipynb)[^)]*\)", text) if "/" in link} == set()


def test_the_chinese_readme_lists_the_notebooks_and_quotes_the_english_readme(repository: Path) -> None:
    chinese, english = ((repository / name).read_text("utf-8") for name in ("README.zh-CN.md", "README.md"))
    titles = {path.name: markdown(nbformat.read(path, as_version=4))[0].partition("\n")[0] for path in CHINESE}
    listed = re.findall(r"^\| \[(.*?)\]\(notebooks/zh/(.*?)\)", chinese, re.MULTILINE)
    assert {name: f"# {title}" for title, name in listed} == titles
    poems = "".join(re.findall(r"^.*<br>.*$", chinese, re.MULTILINE))
    verses = re.findall(r"[\u4e00-\u9fff]+，[\u4e00-\u9fff]+。", poems)
    commands = re.findall(r"^(?:make|python -m|py) .*?(?=  +#|$)", chinese, re.MULTILINE)
    assert (len(verses), len(commands)) == (9, 17)
    missing = [text for text in verses + commands if text.removesuffix(" COURSE_LANG=zh") not in english]
    simplified = "--checkpoint assets/checkpoints/instructed --instruction 七言绝句,rhyme=东"
    assert missing == [f"python -m course_lib write 春夜喜雨 {simplified}"]  # only readers of Chinese type Simplified
    assert traditional(chinese.replace(poems, "")) == []


# --- the glossary ---------------------------------------------------------------------------------


def running_text(path: Path) -> str:
    """The prose of a notebook without its first cell, headings, pictures, bold type and the links to the next one."""
    text = "\n".join(markdown(nbformat.read(path, as_version=4))[1:])
    text = re.sub(r"\[([^\]]*)\]\([^)]*glossary[^)]*\)", r"\1", text)
    return re.sub(r"^#.*$|!?\[[^\]]*\]\([^)]*\)|\*", "", text, flags=re.MULTILINE)


def table(glossary: str, heading: str) -> list[list[str]]:
    section = glossary.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [[part.strip() for part in line.strip("|").split(" | ")] for line in section.strip().splitlines()[2:]]


def test_the_glossary_has_every_term_both_ways_and_each_term_is_explained_where_it_is_first_used(
    repository: Path,
) -> None:
    glossary = (repository / "docs" / "glossary.md").read_text("utf-8")
    from_english, from_chinese = table(glossary, "English → 中文"), table(glossary, "中文 → English")
    assert len(from_chinese) > 60
    assert {(en, zh, link.replace("/notebooks/", "/notebooks/zh/")) for en, zh, _, link in from_english} == {
        (en, zh, link) for zh, en, _, link in from_chinese
    }
    assert [en for en, *_ in from_english] == sorted((en for en, *_ in from_english), key=str.lower)
    prose = {path.name: running_text(path) for path in CHINESE}
    whole = "\n".join(prose.values())
    wrong = []
    for zh, en, _, link in from_chinese:
        first, explained = prose[link.rpartition("/")[2].rstrip(")")], zh if zh == en else f"{zh}（{en}"
        if explained not in first:
            wrong.append(f"{explained} does not stand in {link}")
        elif zh != en and whole.count(explained) > 1:
            wrong.append(f"{zh} is explained twice")
        elif len(zh) > 2 and whole.index(zh) != whole.index(explained):
            at = whole.index(zh)
            wrong.append(f"{zh} is used before it is explained: {whole[max(0, at - 20) : at + 20]!r}")
    assert wrong == []
