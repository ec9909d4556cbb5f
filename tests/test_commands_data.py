"""The commands for a file of your own: `preview` shows what would be learned, and `finetune --data` learns it."""

import json
from pathlib import Path

import pytest
import torch
from tiny import TINY_FINETUNE, synthetic

from course_lib import paths
from course_lib.__main__ import main
from course_lib.checkpoints import Checkpoint, load_checkpoint, read_card, save_checkpoint
from course_lib.generation import reply
from course_lib.model import ModelConfig, PoetryModel
from course_lib.roles import Conversation, pretraining_text
from course_lib.sampling import GenerationSettings
from course_lib.tokenizer import CharacterTokenizer

ROWS: list[object] = [
    {"messages": [{"role": "user", "content": "山雨"}, {"role": "assistant", "content": "江月。"}]},
    *({"instruction": "以「山」答", "input": f"江{word}", "output": "山中見山。"} for word in "月花門"),
]


@pytest.fixture(scope="module", autouse=True)
def base(home: Path) -> Path:
    """An untrained base model that knows the characters of the poems in `home`."""
    torch.manual_seed(0)
    tokenizer = CharacterTokenizer.train(map(pretraining_text, synthetic(60, 0)), min_count=1)
    shape = ModelConfig(len(tokenizer), 32, 64, 1, 2, 64)
    save_checkpoint(Checkpoint(PoetryModel(shape), tokenizer), paths.BASE, {"kind": "base"}, "# For a test")
    return paths.BASE


def mine(*rows: object) -> str:
    """A file of these rows."""
    Path("mine.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return "mine.jsonl"


# --- preview --------------------------------------------------------------------------------------


def test_preview_marks_what_is_learned_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preview", mine(*ROWS), "--show", "2"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "--- 1 ---",
        "<INP>山雨<RES>【江月。<EOS>】",
        "--- 2 ---",
        "<INS>以「山」答<INP>江月<RES>【山中見山。<EOS>】",
        "---",
        "4 conversations, 56 tokens",
        "length   8 to 16 tokens, half have at most 16",
    ]
    assert shown.err == "the model does not know 2 of the characters: 以答\n".replace("以答", shown.err[-3:-1])
    assert set(shown.err[-3:-1]) == {"以", "答"}


def test_preview_names_what_is_cut_and_what_comes_twice(capsys: pytest.CaptureFixture[str]) -> None:
    long = {"instruction": "山" * 50, "output": "江" * 20}
    assert main(["preview", mine(ROWS[0], long, ROWS[0], *[ROWS[0]] * 3), "--show", "0"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[0] == "6 conversations, 113 tokens"
    assert shown.err.splitlines() == [
        "longer than the 64 tokens that the model reads, so they are cut: conversation 2",
        "there a second time: conversations 3, 4, 5 and 1 more",
    ]


def test_preview_reads_another_model(checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(checkpoint, Path("other"), {}, "")
    assert main(["preview", mine({"instruction": "樹上", "output": "鶯"}), "--base", "other"]) == 0
    assert capsys.readouterr().err == ""


OTHER_FORM = 'a line has "messages" (a list), or "instruction", "output" and perhaps "input" (texts)'


@pytest.mark.parametrize("command", [["preview"], ["finetune", "--steps", "2", *TINY_FINETUNE, "--data"]])
def test_a_file_that_teaches_nothing_is_refused_with_its_line(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for rows, says in (
        (
            [ROWS[0], {"output": "江"}],
            f"mine.jsonl, line 2: {OTHER_FORM}\n",
        ),
        ([], "mine.jsonl: no conversation is in it\n"),
    ):
        assert main([*command, mine(*rows)]) == 2
        assert capsys.readouterr().err.endswith(says)
    assert main([*command, "nowhere.jsonl"]) == 2
    assert capsys.readouterr().err.endswith("nowhere.jsonl: No such file or directory\n")


# --- finetune --data ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def taught() -> Checkpoint:
    """The base model after forty steps on the rows."""
    arguments = ["--data", mine(*ROWS), "--steps", "40", "--run-folder", "runs/taught", "--out", "taught"]
    assert main(["finetune", *arguments, *TINY_FINETUNE, "--learning-rate", "1e-2"]) == 0
    return load_checkpoint(Path("taught"))


def talk(system: str, user: str) -> Conversation:
    asked: Conversation = [{"role": "user", "content": user}]
    return [{"role": "system", "content": system}, *asked] if system else asked


@pytest.mark.slow
def test_a_model_learns_the_answers_of_the_file(taught: Checkpoint) -> None:
    for system, user, answer in (("", "山雨", "江月。"), ("以「山」答", "江花", "山中見山。")):
        stream = reply(taught, talk(system, user), GenerationSettings(temperature=0))
        assert ("".join(stream), stream.reason) == (answer, "end")
    assert read_card("taught")["kind"] == "instruction"


@pytest.mark.slow
def test_the_system_lines_are_stored_and_write_asks_with_them(
    taught: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [(row.name, row.wordings) for row in taught.instructions] == [("own-1", ("以「山」答",)), ("own-2", ("",))]
    settings = GenerationSettings(temperature=2, seed=3)
    answers = ["".join(reply(taught, talk(system, "江月"), settings)) for system in ("以「山」答", "")]
    assert answers[0] != answers[1]
    for chosen, answer in zip(([], ["--instruction", "own-2"]), answers, strict=True):
        capsys.readouterr()
        options = ["--checkpoint", "taught", "--seed", "3", "--temperature", "2", "--json", *chosen]
        assert main(["write", "江月", *options]) == 0
        assert json.loads(capsys.readouterr().out)["text"] == answer


def test_preview_prints_no_control_character(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preview", mine({"instruction": "a\x1b[2J", "output": "鶯"})]) == 0
    assert "<INP>aU+001B[2J<RES>【鶯<EOS>】" in capsys.readouterr().out


def test_preview_names_conversations_from_which_nothing_is_learned(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["preview", mine(ROWS[0], {"instruction": "江" * 300, "output": "鶯"})]) == 0
    assert "because the answer begins later: conversation 2\n" in capsys.readouterr().err


def test_data_and_instructions_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    for chosen in (["--instructions", "many"], ["--poems", "5"], ["--dynasties", "song"], ["--tang-times", "3"]):
        assert main(["finetune", "--data", mine(*ROWS), *chosen]) == 2
        assert "leave out options that choose poems or instructions" in capsys.readouterr().err
