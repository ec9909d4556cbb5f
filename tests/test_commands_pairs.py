"""The commands of preference alignment: `pairs` writes pairs of a model's answers, and `prefer` learns from them."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import TINY_FINETUNE, log, synthetic
from torch.nn.modules.module import register_module_forward_pre_hook

from course_lib import paths, preferences
from course_lib.__main__ import main
from course_lib.checkpoints import CARD, WEIGHTS, Checkpoint, load_checkpoint, read_card, save_checkpoint, sha256
from course_lib.model import ModelConfig, PoetryModel
from course_lib.roles import pretraining_text
from course_lib.tasks import Pair, read_pairs
from course_lib.tokenizer import CharacterTokenizer

FEW = ["--titles", "8", "--candidates", "6", "--judge", "title", "--device", "cpu"]


@pytest.fixture(scope="module", autouse=True)
def _obedient() -> Iterator[None]:
    """An untrained model never does what it is asked: let all its answers pass, so that the titles decide."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preferences, "obeys", lambda *_: True)
        yield


@pytest.fixture(scope="module", autouse=True)
def model(home: Path) -> Path:
    """An untrained model that has roles, and a context with room for a pair. It lies where the shipped one would."""
    torch.manual_seed(0)
    tokenizer = CharacterTokenizer.train(map(pretraining_text, synthetic(60, 0)), min_count=1)
    base = Checkpoint(PoetryModel(ModelConfig(len(tokenizer), 32, 64, 1, 2, 512)), tokenizer)
    save_checkpoint(base, paths.BASE, {"kind": "base"}, "# For a test")
    save_checkpoint(base.with_roles(), paths.FINETUNED, {"kind": "instruction"}, "# For a test")
    return paths.FINETUNED


def rows(file: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(file).read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def written() -> Path:
    assert main(["pairs", *FEW, "--out", "pairs.jsonl"]) == 0
    return Path("pairs.jsonl")


def test_pairs_are_about_training_poems_and_in_the_form_that_trl_reads(written: Path) -> None:
    pairs = read_pairs(written)
    assert 8 < len(pairs) <= 24, "a request makes up to three pairs"
    titles = {poem.title for poem in synthetic(60, 0)}
    assert {pair.prompt[-1]["content"] for pair in pairs} <= titles
    assert {tuple(row) for row in rows("pairs.jsonl")} == {("prompt", "chosen", "rejected", "question", "made_with")}


@pytest.mark.parametrize("kept", [0, 0.3, 0.8])
def test_a_stopped_command_goes_on_and_writes_the_same_pairs(
    kept: float, written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = written.read_bytes()
    cut = Path(f"cut{kept}.jsonl")
    cut.write_bytes(whole[: int(kept * len(whole))])
    assert main(["pairs", *FEW, "--out", str(cut)]) == 0
    assert cut.read_bytes() == whole
    assert ("and went on" in capsys.readouterr().err) == (kept > 0)


@pytest.mark.parametrize(
    ("content", "arguments", "says"),
    [
        ("a diary\n", [], "line 1: not a pair of this command; name another file"),
        ("a diary", [], "line 1: not a pair of this command; name another file"),
        ('{"prompt": [], "question": 1}\n', [], "line 1: not a pair"),
        (None, ["--seed", "1"], "name another file, or the same settings"),
        (None, ["--judge", "prosody"], "name another file, or the same settings"),
        (None, ["--titles", "3"], "name another file, or the same settings"),
        (None, ["--candidates", "4"], "name another file, or the same settings"),
    ],
)
def test_a_file_of_something_else_is_refused_and_stays_as_it_is(
    content: str | None, arguments: list[str], says: str, written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path("other.jsonl")
    file.write_text(written.read_text("utf-8") if content is None else content, "utf-8")
    before = file.read_bytes()
    assert main(["pairs", *FEW, "--out", str(file), *arguments]) == 2
    assert says in capsys.readouterr().err
    assert file.read_bytes() == before


def test_a_base_model_has_no_answers_to_pair(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pairs", *FEW, "--checkpoint", str(paths.BASE), "--out", "none.jsonl"]) == 2
    assert "was taught no instruction" in capsys.readouterr().err
    assert not Path("none.jsonl").exists()


def test_prefer_trains_measures_and_goes_on_after_a_stop(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The chosen answers are the poets' poems, the rejected ones their characters in reverse."""
    asked = [(poem.title, poem.text) for poem in synthetic(60, 0)][:20]
    pairs = [Pair([{"role": "user", "content": title}], text, text[::-1]) for title, text in asked]
    Path("own.jsonl").write_text("".join(pair.as_json() + "\n" for pair in pairs), "utf-8")
    arguments = ["prefer", "own.jsonl", *TINY_FINETUNE, "--learning-rate", "1e-2", "--evaluate-every", "1"]
    assert main([*arguments, "--epochs", "1", "--decay-fraction", "0", "--run-folder", "runs/a", "--out", "a"]) == 0
    assert main([*arguments, "--epochs", "2", "--decay-fraction", "0", "--run-folder", "runs/a", "--out", "a"]) == 0
    assert main([*arguments, "--epochs", "2", "--decay-fraction", "0", "--run-folder", "runs/b", "--out", "b"]) == 0
    assert log("runs/a") == log("runs/b")
    first, *_, last = log("runs/b")
    assert last["loss"]["response"] < first["loss"]["response"]
    card = read_card("a")
    assert card["kind"] == "preference"
    assert card["parent"]["name"] == model.name
    assert {name: card["settings"][name] for name in ("pairs", "beta", "anchor", "per_token")} == {
        "pairs": 18,
        "beta": 0.1,
        "anchor": 0.5,
        "per_token": False,
    }
    assert card["test"]["ended"] is not None
    assert load_checkpoint(Path("a")).instructions == load_checkpoint(model).instructions
    assert "Rounds of writing and learning: 1. Pairs in all: 18." in Path("a/MODEL_CARD.md").read_text("utf-8")
    shown = capsys.readouterr().err
    assert "now the model is measured" in shown
    assert f"{model} is used" in shown
    assert f"validation loss {last['evaluation']['response']:.3f} for a pair, with the anchor\n" in shown
    assert main([*arguments, "--base", "a", "--no-measure", "--run-folder", "runs/a2", "--out", "a2"]) == 0
    second, printed = read_card("a2"), capsys.readouterr()
    assert not re.search("now the model is measured|is used|written with", printed.err)
    assert f"validation loss {second['losses']['validation_response']:.4f} nats per character" in printed.out
    assert "Rounds of writing and learning: 2. Pairs in all: 36." in Path("a2/MODEL_CARD.md").read_text("utf-8")
    assert second["parent"] == card["parent"], "the model from before all rounds"
    assert second["steps"] == card["steps"] + 1
    assert "test" not in second
    for order in ([str(model), "a2"], ["a2", str(model)]):
        assert main(["average", *order, "--out", "mean"]) == 0
        mean = read_card("mean")
        assert (mean["kind"], mean["rounds"], mean["parent"]) == ("preference", 2, card["parent"])
        text = Path("mean/MODEL_CARD.md").read_text("utf-8")
        assert "A mean of 2 models" in text
        assert "An average of" not in text
    assert main(["average", str(model), "a2", "b", "--out", "mean-of-three"]) == 0
    text = Path("mean-of-three/MODEL_CARD.md").read_text("utf-8")
    assert "A mean of 3 models" in text
    assert "Rounds of writing and learning: 3. Pairs in all: 54." in text
    assert main([*arguments, "--base", "mean", "--no-measure", "--run-folder", "runs/a3", "--out", "a3"]) == 0
    assert read_card("a3")["rounds"] == 1, "a new chain of rounds"
    assert read_card("a3")["parent"]["name"] == "mean"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "山", "chosen": "水", "rejected": "月"}, "own2.jsonl, line 1: a line has"),
        (Pair([{"role": "user", "content": "山"}], "水" * 600, "月"), "no examples"),
    ],
)
def test_prefer_refuses_what_it_cannot_learn_from(row: object, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = row.as_json() if isinstance(row, Pair) else json.dumps(row)
    Path("own2.jsonl").write_text(f"{line}\n", "utf-8")
    assert main(["prefer", "own2.jsonl", *TINY_FINETUNE, "--run-folder", "runs/c", "--out", "c"]) == 2
    assert says in capsys.readouterr().err


def test_prefer_takes_the_pairs_of_another_model_only_for_a_model_that_is_named(
    model: Path, written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*TINY_FINETUNE, "--no-measure", "--run-folder", "runs/other", "--out", "other"]
    own = sha256(model / WEIGHTS)[:12]
    lines = written.read_text("utf-8").splitlines(keepends=True)[:2]
    Path("others.jsonl").write_text("".join(lines).replace(own, "0123456789ab"), "utf-8")
    told = f"others.jsonl: written with the weights 0123456789ab, not with those of {model} ({own}); name the folder"
    capsys.readouterr()
    assert main(["prefer", "others.jsonl", *arguments]) == 2
    assert capsys.readouterr().err.startswith(told)
    assert not Path("other").exists()
    assert main(["prefer", "others.jsonl", *arguments, "--base", str(model)]) == 0
    assert told in capsys.readouterr().err
    Path("mine.jsonl").write_text("".join(lines), "utf-8")
    assert main(["prefer", "mine.jsonl", *arguments, "--run-folder", "runs/mine"]) == 0
    assert "written with" not in capsys.readouterr().err


def test_an_average_without_a_card_is_refused_before_anything_is_measured(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(model, tmp_path / "bare")
    (tmp_path / "bare" / CARD).unlink()
    calls = []
    with register_module_forward_pre_hook(lambda module, _: calls.append(module)):
        assert main(["average", str(model), str(tmp_path / "bare"), "--out", "mean2"]) == 2
    assert "MODEL_CARD.md: not there" in capsys.readouterr().err
    assert calls == []


def test_prefer_has_no_options_that_would_do_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--teacher", "--dynasties", "--poems"):
        assert main(["prefer", "own.jsonl", option, "x"]) == 2
        assert "No such option" in capsys.readouterr().err
