"""Every sentence that a learner meets is there in two languages, and in Chinese no English word is left over."""

import ast
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from html import unescape
from pathlib import Path
from string import Formatter
from textwrap import fill
from types import SimpleNamespace
from typing import Any, get_args
from unicodedata import east_asian_width

import ipywidgets as widgets
import pytest
import torch
import typer
from matplotlib.text import Text
from opencc import OpenCC

from course_lib import paths, show
from course_lib.__main__ import FRAME, app, framed, main, spaced
from course_lib.chat import Chat
from course_lib.checkpoints import Checkpoint
from course_lib.checks import verdict
from course_lib.checks.instructing import ACROSTICS
from course_lib.commands.chat import COMMANDS
from course_lib.commands.options import MISSING
from course_lib.commands.pairs import NO_PAIR
from course_lib.commands.progress import narrated
from course_lib.commands.write import ENDINGS, OTHER
from course_lib.engine.machine import Machine
from course_lib.evaluation.metrics import METRICS, Estimate, Evaluation, table_rows, text_table
from course_lib.evaluation.novelty import PoemIndex
from course_lib.evaluation.pairs import PairFigures
from course_lib.instructions import OLD_STYLE, POEM, Given, find
from course_lib.language import chinese, is_chinese, say, sentences
from course_lib.losses import Loss
from course_lib.poems import Poem, load_poems
from course_lib.prosody import RULES, Fault, scan
from course_lib.roles import within
from course_lib.show import plots
from course_lib.show.annotate import LEGEND, SIGNS, nearest_note, shape, signed_rows, sound
from course_lib.show.chat_box import BUTTONS, ChatBox, chat_html
from course_lib.show.choice_box import BUTTONS as CHOICES
from course_lib.show.choice_box import ChoiceBox, choice_html
from course_lib.show.title_box import STATES, TitleBox, poem_html
from course_lib.tasks import MANY, read_pairs
from course_lib.titles import read_title, simplified
from course_lib.tokenizer import CharacterTokenizer

PACKAGE = Path(show.__file__).parent.parent

SAYING = {"say", "caption", "exercise"}

# Sentences that stand in a table of the code, and the expressions by which `say` and `caption` are given one of them.
TABLES = {LEGEND, *RULES, *RULES.values(), *BUTTONS, *CHOICES}
TABLES |= {text for state in STATES.values() for text in state if text} | {t for m in METRICS.values() for t in m}
TABLES |= {*FRAME, "No such file or directory", "Is a directory", "Not a directory", "File exists", "Permission denied"}
TABLES |= {*ENDINGS.values(), OTHER, MISSING, NO_PAIR, COMMANDS, "user", "assistant", *get_args(Given)}
TABLES |= {*verdict.SIGNS, verdict.DOTS, verdict.NOTHING, *ACROSTICS}
FROM_TABLES = {"DOTS", "NOTHING", "self.state", "right", "hint"}
FROM_TABLES |= {
    "ENDINGS[reason]",
    "OTHER",
    "MISSING",
    "NO_PAIR",
    "message['role']",
    "COMMANDS",
    "asked.given",
    "words",
    "' '.join(paragraph.split())",
}
FROM_TABLES |= {"LEGEND", "RULES[rule]", "STATES[state][0]", "METRICS[name].label"}
FROM_TABLES |= {"english", "label", "unit", "question", "name", "meaning", "error.strerror"}


def help_of(item: Any) -> Iterator[str]:
    """The help of a command, its options and its subcommands: each paragraph, and each remark on an example."""
    for text in (getattr(item, name, None) for name in ("help", "epilog", "show_default")):
        for paragraph in text.split("\n\n") if isinstance(text, str) else ():
            remarks = re.findall("^\\w+:$|(?<=# ).*", paragraph, re.MULTILINE)
            one_line = " ".join(paragraph.split())
            yield from remarks or ([one_line] if " " in one_line or "/" not in one_line else [])  # no path
    for part in (*getattr(item, "params", ()), *getattr(item, "commands", {}).values()):
        yield from help_of(part)


TABLES |= {*help_of(typer.main.get_command(app))}
TABLES |= {*re.findall(r"^[a-z-]+:.*## (.*)$", (PACKAGE.parent / "Makefile").read_text("utf-8"), re.MULTILINE)}


@pytest.fixture
def in_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_LANG", "zh")


# --- which language -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [("zh", True), ("zh-CN", True), ("zh_CN.UTF-8", True), ("ZH", True), ("en", False), ("C", False), ("", False)],
)
def test_the_variable_chooses_the_language(chosen: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_LANG", chosen)
    assert is_chinese() is expected
    assert say("the end mark") == ("结束符" if expected else "the end mark")


def test_without_the_variable_the_folder_of_the_chinese_notebooks_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COURSE_LANG", raising=False)
    (folder := tmp_path / "notebooks" / "zh").mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert is_chinese()
    monkeypatch.setenv("COURSE_LANG", "")
    assert is_chinese()
    monkeypatch.setenv("COURSE_LANG", "en")
    assert not is_chinese()
    monkeypatch.delenv("COURSE_LANG")
    for other in (folder.parent, tmp_path):
        monkeypatch.chdir(other)
        assert not is_chinese()


@pytest.mark.skipif(os.name == "nt", reason="Windows does not delete a folder in use")
def test_in_a_folder_that_was_deleted_the_language_is_english(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COURSE_LANG", raising=False)
    (folder := tmp_path / "gone").mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert not is_chinese()


def test_values_are_filled_in_and_may_hold_braces(monkeypatch: pytest.MonkeyPatch) -> None:
    for language, expected in (("en", "At the end, not {so}"), ("zh", "At the end, not {so}")):
        monkeypatch.setenv("COURSE_LANG", language)
        assert say("{place} not {so}", place="At the end,", so="{so}") == expected  # nobody translated this
        assert say("{count} characters", count=3) == {"en": "3 characters", "zh": "3 字"}[language]


@pytest.mark.usefixtures("in_chinese")
def test_the_table_is_that_of_the_code_wherever_the_assets_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "ASSETS", tmp_path)
    chinese.cache_clear()
    assert say("Stop") == "停"


def test_only_english_has_a_space_between_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_LANG", "en")
    assert sentences("One.", "", "Two.") == "One. Two."
    monkeypatch.setenv("COURSE_LANG", "zh")
    assert sentences("一。", "", "二。") == "一。二。"
    assert sentences() == ""


# --- the table ------------------------------------------------------------------------------------


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """The calls of `say`, and of functions that say their first argument, in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and isinstance(node.func, ast.Name) and node.func.id in SAYING:
            yield node


def said(tree: ast.AST) -> tuple[set[str], set[str]]:
    """What a module says: the literals, and the expressions that are none."""
    first = [call.args[0] for call in calls(tree)]
    literals = {node.value for node in first if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return literals, {ast.unparse(node) for node in first if not isinstance(node, ast.Constant)}


def modules() -> dict[str, ast.Module]:
    """The modules of the package, and the notebook and the settings of `make app`."""
    found = {p.relative_to(PACKAGE).as_posix(): ast.parse(p.read_text("utf-8")) for p in sorted(PACKAGE.rglob("*.py"))}
    cells = json.loads((PACKAGE.parent / "app" / "poem.ipynb").read_text("utf-8"))["cells"]
    assert {cell["cell_type"] for cell in cells} == {"code"}
    found["app"] = ast.parse("\n".join("".join(cell["source"]) for cell in cells))
    return found | {"voila": ast.parse((PACKAGE.parent / "app" / "voila.py").read_text("utf-8"))}


def drawing_texts() -> set[str]:
    """The texts in the scripts of the drawings. Names of modules and code among them stay English."""
    trees = [ast.parse(path.read_text("utf-8")) for path in (PACKAGE.parent / "assets/figures").glob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_every_sentence_has_a_translation_and_every_translation_its_sentence() -> None:
    literals = set().union(*(said(tree)[0] for tree in modules().values()))
    assert len(literals) > 70
    drawings = drawing_texts() & chinese().keys()  # tests/test_figures.py finds one that has no translation
    assert len(drawings) > 100
    assert literals | TABLES | drawings == chinese().keys()


def test_what_is_said_is_a_literal_or_from_a_known_table() -> None:
    assert set().union(*(said(tree)[1] for tree in modules().values())) == FROM_TABLES


def test_the_scan_finds_literals_and_other_expressions() -> None:
    tree = ast.parse(
        "x = say('One {a}', a=1) + f'{caption(two)}' + say(f'three {x}') + other('four') + caption('five')"
    )
    assert said(tree) == ({"One {a}", "five"}, {"f'three {x}'", "two"})


def names(sentence: str) -> set[tuple[str | None, ...]]:
    """The placeholders of a sentence, with their formats."""
    return {tuple(how) for _, *how in Formatter().parse(sentence) if how[0] is not None}


def traditional(text: str) -> list[str]:
    """The characters that a Simplified text does not have. What the model reads or writes stands in 「」."""
    prose = re.sub("「[^」]*」", "", text)
    return [old for old, new in zip(prose, OpenCC("t2s").convert(prose), strict=True) if old != new]


ALIKE = {
    ", ",
    "%",
    "Top-p",
    "no",
    "nats",
    "{rhymes}.",
    "{it}: {said}",
    "{kind} ({name})",
}  # they have no Chinese character in Chinese either
ENGLISH = re.compile("[A-Za-z]{2,}")
KEPT = {"nat", "logit", "top", "Top", "log", "beta", "MLP", "SHA", "Jupyter"}  # words that Chinese readers use too
KEPT |= {"Python", "Voil", "JupyterLab", "README", "JSON", "ONNX", "onnxruntime", "UTF", "GPU", "Ctrl", "stderr", "npm"}
KEPT |= {"venv", "VS", "Code", "GB", "Binder", "Colab", "IPython"}
KEPT |= {"INS", "INP", "RES", "EOS", "UNK", "None", "True", "False", "mlp", "notebook", "Shift", "Enter"}
VALUES = "all quick lint poem old-style many tang song float32 auto cuda mps cpu"  # of options
KEPT |= {*ENGLISH.findall(VALUES)}
CODE = re.compile('{.*?}|「.*?」|`.*?`|[a-z]+(_[a-z]+)+|--[a-z-]+|/[a-z]+|"[a-z]+"|[\\w-]+(\\.|/)[\\w./]+|python .*')


@pytest.mark.parametrize("english", sorted({*chinese()}))
def test_a_translation_is_simplified_chinese_with_the_same_values_and_the_same_end(english: str) -> None:
    translation = chinese()[english]
    assert names(translation) == names(english)
    assert traditional(translation) == []
    assert bool(re.search("[一-龥]", translation)) is (english not in ALIKE)
    assert {*ENGLISH.findall(CODE.sub("", translation))} <= KEPT
    assert translation.endswith("。") is english.endswith((".", "。")) or english == "nats/char."
    signs = set("○●◐△▶◆■✗↵·\n%")
    assert signs & {*translation} == signs & {*english}


def test_traditional_prose_is_found_and_quotations_are_not() -> None:
    assert traditional("例如「當春乃發生」，題目") == ["題"]


# --- no sentence stands beside `say` --------------------------------------------------------------

SENTENCE = re.compile("[A-Za-z]{2,},? [a-z]{2,}")  # two words
MARKUP = re.compile(r"<|[\w-]:[^\s]|[\w-]=|\d(em|px)\b|serif")  # of HTML, CSS and the names of fonts
NO_SENTENCE = {"title box", "chat box", "choice box", "outside upper center", "row wrap"}  # threads, layouts
NO_SENTENCE |= {"not slow", "ruff check", "ruff format --check"}  # commands


def plain(tree: ast.AST) -> list[str]:
    """The English in a module that is not said: no docstring, no markup, and no message of an error but a refusal."""
    nodes = [*ast.walk(tree)]
    apart: set[ast.AST] = {node.value for node in nodes if isinstance(node, ast.Expr)}  # a docstring is one
    raised = [node for node in nodes if isinstance(node, ast.Raise)]
    errors = [node for node in raised if not re.search("raise (Refusal|Judged)", ast.unparse(node))]
    for other in [*calls(tree), *errors]:
        apart.update(ast.walk(other))
    texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and n not in apart]
    found = [t for t in texts if isinstance(t, str) and SENTENCE.search(t) and not MARKUP.search(t)]
    return [text for text in found if text not in TABLES | NO_SENTENCE]


MET = [file for file in modules() if file.startswith(("app", "show/", "checks/", "commands/"))]


@pytest.mark.parametrize("file", MET)
def test_no_sentence_of_the_boxes_figures_checks_and_commands_is_left_out(file: str) -> None:
    assert plain(modules()[file]) == []


def test_a_sentence_that_is_left_out_is_found() -> None:
    tree = ast.parse('''"""Doc string here."""
x = say("this is") + f"{x} of them all" + "a: b c"
raise E("not this")
raise Refusal("but this")''')
    assert plain(tree) == ["but this", " of them all"]


@pytest.mark.usefixtures("in_chinese")
@pytest.mark.parametrize("command", ["", *typer.main.get_command(app).commands])  # type: ignore[attr-defined]
def test_help_is_chinese_and_fits_into_80_columns(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*command.split(), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("用法：python -m course_lib")
    assert [line for line in lines if columns(line) > 80] == []
    assert [line for line in lines if re.search(r"^\s*[，。：；、）」】]|[（「【]$|\u200b|\u2060", line)] == []
    prose = re.sub(r"<.*?>|`.*?`|  python .*", "", "\n".join(lines[1:]))
    assert not SENTENCE.search(prose)


@pytest.mark.usefixtures("in_chinese")
@pytest.mark.parametrize(
    "command",
    [
        "write --candidate 3",
        "prefer",
        "prefer a b",
        "poem",
        "write --count x",
        "write --count 0",
        "pairs --plain 2",
        "write --temperature x",
        "write --temperature nan",
        "write --device",
        "write --json=3",
        "pairs --judge x",
        "writ",
        "write --coun 3",
    ],
)
def test_a_usage_error_is_chinese(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.split()) == 2
    shown = capsys.readouterr().err
    assert shown.endswith(" --help`）\n")
    assert {*ENGLISH.findall(re.sub("`.*?`|'.*?'|--[a-z-]+|nan", "", shown))} <= {"b"}
    assert not re.search(r"[():?]|[.] |[一-龥]\d", re.sub("`.*?`", "", shown))  # no mark of half a width


@pytest.mark.usefixtures("in_chinese")
def test_what_was_typed_stays_as_it_is_in_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["a (b)?"]) == 2
    assert capsys.readouterr().err.startswith("没有这个命令：'a (b)?'（见 ")


@pytest.mark.usefixtures("in_chinese")
@pytest.mark.parametrize("file", [None, "{a}"])
def test_an_error_of_the_system_is_chinese(
    file: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise PermissionError(13, "Permission denied", file)

    monkeypatch.setattr(typer.main, "get_command", fail)
    assert main([]) == 2
    assert capsys.readouterr().err == ("{a}：没有权限\n" if file else "没有权限\n")


@pytest.mark.usefixtures("in_chinese")
@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("write 春 --device foo", "这台机器上没有设备 'foo'，只有 "),
        ("write 春 --temperature -1", "temperature 是 -1.0，不能小于 0"),
        ("pretrain --learning-rate 2", "learning_rate 是 2.0，不能大于 1"),
        ("pretrain --patience 2 --evaluate-every 0", "`patience` 是 2，可是 `evaluate_every` 是 0"),
        ("pretrain --dynasties ming", "'ming' 的诗没有 'train' 这一部分"),
        ("write spring", "spring：题目里没有汉字"),
        ("write 春 --instruction rhyme", "这个模型没学过指令 'rhyme'，它学过的有：poem"),
        ("write 春 --instruction poem=东", "指令 poem 后面不带参数"),
        ("average no --out {tmp}", "no/MODEL_CARD.md：没有这个文件；这里需要：模型卡"),
        ("prefer no.jsonl", "no.jsonl：没有这个文件或文件夹"),
        ("preview {tmp}", "：这是文件夹，不是文件"),
    ],
)
def test_a_refusal_is_chinese(command: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command.format(tmp=tmp_path).split()) == 2
    assert says in capsys.readouterr().err


@pytest.mark.usefixtures("in_chinese")
def test_a_clause_that_means_nothing_is_refused_in_chinese() -> None:
    with pytest.raises(ValueError, match="rhyme不能是 'dog'，可以选：「東冬江支"):
        find("rhyme=dog", MANY)
    with pytest.raises(ValueError, match="'abc' 只能由汉字组成"):
        find("acrostic=abc", MANY)
    with pytest.raises(ValueError, match="title, rhyme=東：只有押韵、藏头这类要求可以附加"):
        find("title,rhyme=東", MANY)


@pytest.mark.usefixtures("in_chinese")
def test_the_form_in_a_sentence_on_a_poem_is_simplified() -> None:
    assert "「五言绝句」" in shape(TOWER, scan(TOWER))


def columns(line: str) -> int:
    return sum(1 + (east_asian_width(c) in "WF") for c in line)


def test_chinese_lines_break_anywhere_but_at_a_mark_or_a_space_after_a_wide_character() -> None:
    text = "诗写完了，就停。用 --json 时（只在这时），打印「行」和 JSON。"
    assert framed(fill(spaced(text), 99)) == text
    for width in range(10, 40):
        lines = framed(fill(spaced(text), width)).split("\n")
        assert max(map(columns, lines)) <= width + 1  # the space behind the last character is dropped
        assert [line for line in lines if re.search("^[，。：；、）」】]|[（「【]$|用$", line)] == []
        assert width - min(map(columns, lines[:-1])) < 9  # lines are filled as far as the marks allow


# --- what a learner sees in Chinese ---------------------------------------------------------------

VERSE = "白日依山盡，黃河入海流。\n欲窮千里目，更上海西流。"
INDEX = PoemIndex([Poem("登鸛雀樓", "王之渙", ("白日依山盡，黃河入海流。",)), Poem("無名", "", ("江月何人見。",))])
SHOWN = {"Top", "nat", "INS", "INP", "RES", "EOS", "UNK", "PAD", "Jupyter", "Shift", "Enter"}


def left_over(html: str) -> set[str]:
    """The English words that a reader sees, also in the tooltips."""
    seen = re.sub("<[^>]*>", " ", html) + " ".join(re.findall(' title="([^"]*)"', html))
    return {*ENGLISH.findall(unescape(seen))} - SHOWN


def texts(widget: Any) -> Iterator[str]:
    """What stands on a widget and on those inside it."""
    yield from (str(getattr(widget, name, "")) for name in ("description", "placeholder"))
    yield from (name for name, _ in getattr(widget, "options", ()))
    yield widget.value if isinstance(widget, widgets.HTML) else ""
    for child in getattr(widget, "children", ()):
        yield from texts(child)


@pytest.mark.usefixtures("in_chinese")
def test_the_marks_of_a_verdict_and_of_a_tooltip_are_chinese() -> None:
    shown = verdict.Verdict("not attempted", "<b>")
    assert repr(shown) == "还没做：<b>"
    assert "<b>○ 还没做</b>：&lt;b&gt;</div>" in shown._repr_html_()
    broken = scan(TOWER)._replace(tone_faults=(Fault("opposition", 0, 4), Fault("three level tones", 0, 4)))
    assert re.findall('title="(.*?)"', str(signed_rows(TOWER, broken))) == ["失对；三平尾"]


@pytest.mark.usefixtures("in_chinese")
def test_the_progress_of_a_run_is_chinese(capsys: pytest.CaptureFixture[str]) -> None:
    report = SimpleNamespace(step=50, loss=Loss(3.5, 3.6), seconds=1.0, tokens_per_second=2973.0, evaluation=None)
    machine = Machine(torch.device("cpu"), torch.float32, compiled=True)
    trainer = SimpleNamespace(machine=machine, settings=SimpleNamespace(steps=100))
    folder = SimpleNamespace(steps_taken=lambda: 0)
    for made, compiles in ((machine, True), (replace(machine, compiled=False), False)):
        trainer.machine = made
        assert [*narrated([report], trainer, folder, measure=False)] == [report]  # type: ignore[list-item, arg-type]
        first, *others = capsys.readouterr().err.splitlines()
        assert re.match(r"设备 cpu（\d+ 个线程），矩阵乘法用 float32，", first)
        assert ["编译" in line for line in others] == [True, False][1 - compiles :]
        assert others[-1] == "第 50 步，共 100 步：损失 3.500；2,973 词元/秒，还要 0 分钟"


@pytest.mark.usefixtures("in_chinese")
def test_the_title_box_is_chinese(checkpoint: Checkpoint) -> None:
    box = TitleBox(replace(checkpoint, instructions=(POEM, OLD_STYLE)))
    shown = [text for text in [*texts(box), repr(box)] if text]
    assert {"题目", "写", "换一首", "停"} <= {*shown}
    assert len(shown) > 9
    assert left_over(" ".join(shown)) == set()


@pytest.mark.usefixtures("in_chinese")
@pytest.mark.parametrize("state", STATES)
def test_the_page_of_a_poem_is_chinese(state: Any) -> None:
    for text in (VERSE, VERSE + "\n", "白", "白日依山盡，黃河入海流。", "白日依山。\n海西"):
        origin = nearest_note(INDEX.nearest(text)) if state == "end" else ""
        page = poem_html("登鸛雀樓", text, state, read_title("x", None).message if state == "refused" else "", origin)  # type: ignore[arg-type]
        assert left_over(page) == set()
    assert STATES[state][0] not in page


@pytest.mark.usefixtures("in_chinese")
def test_the_chat_box_is_chinese(checkpoint: Checkpoint) -> None:
    box = ChatBox(replace(checkpoint, instructions=MANY))
    assert {"发送", "停", "换一首", "清空", "系统消息", "消息"} <= {*texts(box)}
    assert left_over(" ".join([*texts(box), repr(box)])) == set()
    chat = Chat(checkpoint, POEM)
    for _ in range(3):
        chat.ask("江月")
        chat.reply()
        chat.answered("水" * 20)
    assert "已读不到" in (page := chat_html(chat, "end"))
    assert set(re.findall('<div lang="([^"]*)" style="[^"]*">(?:用户|助手)', page)) == {"zh-Hans"}
    assert left_over(page) == set()
    box.message.value = ""
    box.send()
    assert "消息是空的。" in box.page.value or "题目是空的。" in box.page.value


@pytest.mark.usefixtures("in_chinese")
def test_the_choice_box_is_chinese_and_its_buttons_still_choose(checkpoint: Checkpoint, tmp_path: Path) -> None:
    file = tmp_path / "選.jsonl"
    box = ChoiceBox(checkpoint, file, ["山雨", "江月", "夜雨"])
    assert {"写", "左边好", "右边好", "都不选"} <= {*texts(box)}
    for name, kept in ((CHOICES[0], 0), (CHOICES[1], 1), (CHOICES[2], 2), (CHOICES[3], 2)):
        assert left_over(" ".join([*texts(box), repr(box)])) == {"jsonl"}
        before = re.sub("<rt.*?</rt>|<[^>]*>|\\s|\xa0", "", box.page.value)
        box.buttons[name].click()
        box.wait()
        assert box.count == kept
        if kept and name != CHOICES[3]:
            pair = read_pairs(file)[-1]
            left, right = (before.index("".join(text.split())) for text in (pair.chosen, pair.rejected))
            assert (left < right) is (name == CHOICES[1])


# --- Simplified characters ------------------------------------------------------------------------

TOWER = "白日依山盡，黃河入海流。\n欲窮千里目，更上一層樓。"


def signs_and_text(page: str) -> tuple[list[str], str]:
    """The signs beside the characters of a page, and the page without them."""
    return re.findall("<rt.*?</rt>", page), re.sub("<rt.*?</rt>|<[^>]*>|\\s", "", page)


def test_poems_keep_their_length_in_simplified_characters() -> None:
    assert simplified("乾坤與乾雨") == "乾坤与干雨"
    for poem in load_poems("validation"):
        assert len(simplified(poem.title + poem.text)) == len(poem.title + poem.text)


@pytest.mark.usefixtures("in_chinese")
def test_simplified_pages_have_the_signs_and_the_words_of_the_traditional_ones() -> None:
    origin = nearest_note(INDEX.nearest(TOWER))
    for draw in (
        partial(poem_html, "登鸛雀樓", TOWER, "end", "", origin),
        partial(choice_html, "登鸛雀樓", [TOWER, TOWER.replace("流", "風").replace("樓", "東")], "end", ""),
    ):
        (signs, text), (same, simple) = signs_and_text(draw()), signs_and_text(draw(script=simplified))
        assert signs == same != []
        assert text != simple == simplified(text)
        assert "zh-Hans" not in draw()
        assert "zh-Hant" not in draw(script=simplified)


@pytest.mark.usefixtures("in_chinese")
def test_the_boxes_show_simplified_characters_and_read_traditional_ones(checkpoint: Checkpoint, tmp_path: Path) -> None:
    titles, chats = TitleBox(checkpoint, pace=0), ChatBox(checkpoint, pace=0)
    choices = ChoiceBox(checkpoint, tmp_path / "選.jsonl", ["江開", "山"])
    titles.title.value = chats.message.value = "江開"
    for begin, box in ((titles.write, titles), (chats.send, chats), (choices.write, choices)):
        assert {"字形", "繁体", "简体"} <= {*texts(box)}
        begin()
        box.wait()
        assert "開" in box.page.value
        box.script.value = simplified
        assert "江开" in signs_and_text(box.page.value)[1]
        box.script.value = str
        assert "开" not in box.page.value
        box.script.value = simplified
    assert "開" not in titles.page.value
    seen, read = chats.page.value.split("模型读到的")
    assert "開" not in seen
    assert "開" in read
    choices.buttons[CHOICES[1]].click()
    choices.wait()
    assert read_pairs(tmp_path / "選.jsonl")[0].prompt[-1]["content"] == "江開"


def test_english_readers_are_offered_no_simplified_characters(checkpoint: Checkpoint, tmp_path: Path) -> None:
    for box in (TitleBox(checkpoint), ChatBox(checkpoint), ChoiceBox(checkpoint, tmp_path / "選.jsonl", ["山"])):
        assert "Characters" not in {*texts(box)}


@pytest.mark.usefixtures("in_chinese")
def test_a_conversation_refuses_in_chinese(checkpoint: Checkpoint) -> None:
    chat = Chat(checkpoint, POEM, "江龘")
    with pytest.raises(ValueError, match="还没有可以回答的消息"):
        chat.again()
    assert chat.ask("江月").startswith("系统消息里：模型不认识「龘」")
    chat.answered("水")
    with pytest.raises(ValueError, match="太长了"):
        chat.ask("江" * 60)
    with pytest.raises(ValueError, match="对话还是太长了：最多 3 个字"):
        within(chat.messages, 3)


@pytest.mark.usefixtures("in_chinese")
@pytest.mark.parametrize(
    "typed",
    ["", "spring", "<RES>", "春" * 61, "春<EOS>雨", "静夜思", "⻩⻥", "云", "春﨎", "﨎", "春a b c d e f g h i"],
)
def test_the_notes_on_a_title_are_chinese(typed: str, shipped_tokenizer: CharacterTokenizer) -> None:
    found = read_title(typed, shipped_tokenizer)
    assert re.search("[一-龥]", found.message)
    assert "。 " not in found.message
    assert left_over(re.sub("<|>", "", found.message)) == set()


@pytest.mark.usefixtures("in_chinese")
@pytest.mark.parametrize("text", ["", "江月何人見。", VERSE, VERSE.replace("目", "山").replace("千", "平")])
def test_marked_poems_are_chinese(text: str) -> None:
    assert left_over(show.scanned("登鸛雀樓", text, "王之渙")) == set()
    assert left_over(show.side_by_side("春", text, INDEX.nearest(text))) == set()
    assert not ENGLISH.search(shape(text, scan(text)) + sound(scan(text)))
    assert all(sign in say(LEGEND) for sign in SIGNS.values())


@pytest.mark.usefixtures("in_chinese")
def test_a_mask_is_chinese() -> None:
    assert left_over(show.mask(["<RES>", "春", "<EOS>"], [-100, 7, 2])) == set()


EVERY = {"all": Evaluation(dict.fromkeys(METRICS, Estimate(0.5, (0.4, 0.6))), 1)}


@pytest.mark.usefixtures("in_chinese")
def test_the_table_of_metrics_is_chinese_and_its_columns_stay_columns() -> None:
    for row in table_rows(EVERY):
        assert not {*ENGLISH.findall("".join(row))} - {"nat"}
    assert [row[0] for row in table_rows(EVERY, "Own work")] == ["自己写的", "", ""]  # asked for by its English name
    head, *rows = text_table(EVERY).splitlines()
    start = head.index("all")  # the head has no Chinese
    labels = [row[: re.search(r"[\d.]+ \[", row).start()] for row in rows]  # type: ignore[union-attr]
    assert {len(label) + len(re.findall("[一-龥，、]", label)) for label in labels} == {start}  # Chinese is two wide


def drawn(picture: plots.Picture) -> str:
    return " ".join(text.get_text() for text in picture.figure.findobj(Text))


@pytest.fixture
def pictures() -> Any:
    """Draws every figure anew."""
    figures = PairFigures(*[0.5] * len(PairFigures._fields))
    return lambda: [
        plots.loss_figure([], Loss(4.0, 5.0)),
        plots.comparison_figure({"春": EVERY["all"]}, [name for name in METRICS if METRICS[name].unit == "%"]),
        plots.preference_figure([(0, figures), (1, figures)]),
    ]


@pytest.mark.usefixtures("in_chinese")
def test_figures_are_chinese_where_there_is_a_font_and_english_where_there_is_none(
    pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "chinese_font", lambda: "DejaVu Sans")
    for picture in pictures():
        assert not {*ENGLISH.findall(drawn(picture))} - {"nat"}
    monkeypatch.setattr(plots, "chinese_font", lambda: "")
    for picture in pictures():
        assert not re.search("[一-龥]", drawn(picture).replace("春", ""))


@pytest.mark.usefixtures("in_chinese")
@pytest.mark.filterwarnings("error")  # a character that no font has is a warning
def test_every_character_of_a_figure_is_drawn(pictures: Any) -> None:
    if not plots.chinese_font():
        pytest.skip("no Chinese font")
    for picture in pictures():
        assert picture._repr_png_()
