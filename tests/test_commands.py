"""The command line: one clear line for what cannot be done, and runs that a kill does not change."""

import json
import re
import shutil
import signal
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from tiny import TINY, TINY_FINETUNE, in_step, log, run
from torch.optim.optimizer import register_optimizer_step_post_hook

from course_lib import paths
from course_lib.__main__ import main
from course_lib.checkpoints import Checkpoint, load_checkpoint, read_card, save_checkpoint, sha256
from course_lib.evaluation import evaluate, held_out_loss
from course_lib.instructions import OLD_STYLE, POEM
from course_lib.poems import load_poems
from course_lib.tasks import MANY


@pytest.fixture
def ending(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """A checkpoint that soon ends: all characters are equally likely, the end token somewhat more."""
    with torch.no_grad():
        for parameter in checkpoint.model.model.layers.parameters():
            parameter.zero_()
        rows = checkpoint.model.model.embed_tokens.weight
        rows.zero_()
        rows[:, 0] = 1
        rows[checkpoint.tokenizer.eos_id, 0] = 1.3
    save_checkpoint(checkpoint, tmp_path / "ending", {"kind": "instruction"}, "# For a test")
    return tmp_path / "ending"


# --- refusals -------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a refused command says."""
    capsys.readouterr()
    assert main(arguments) == 2
    shown = capsys.readouterr()
    lines = [line for line in shown.err.splitlines() if not line.startswith("device ")]
    assert shown.out == ""
    assert len(lines) == 1, shown.err
    assert "Traceback" not in shown.err
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("writ 春", r"No such command 'writ'"),
        ("write", r"no title: name one or more, or a file of them with --titles"),
        ("write 春 --nope", r"No such option.*--nope"),
        ("write 春 --seed many", r"'--seed'.*integer"),
        ("write 春 --count 0", r"'--count'"),
        ("write 春 --temperature -1", r"temperature is -1.0, must be at least 0"),
        ("write 春 --top-p 0", r"top_p is 0.0, must be above 0"),
        ("write 春 --max-new-tokens 0", r"max_new_tokens is 0"),
        ("write 春 --device tpu", r"no device 'tpu'.*it has .*cpu"),
        ("write 春 --checkpoint nowhere", r"nowhere: no such folder"),
        ("write 春 --checkpoint .", r"config.json: not there; expected the configuration of a model"),
        ("write 春", r"finetuned: no such folder"),
        ("evaluate-loss --split foo", r"'--split'.*train.*validation.*test"),
        ("evaluate-loss --precision fp8", r"'--precision'.*auto.*bf16.*fp16.*float32"),
        ("evaluate --titles 0", r"'--titles'"),
        ("pretrain --steps 0", r"steps is 0, must be at least 1"),
        ("pretrain --learning-rate 7", r"learning_rate is 7.0"),
        ("pretrain --dropout 1", r"dropout is 1.0, must be at most 0.99"),
        ("pretrain --weight-decay -1", r"'--weight-decay'"),
        ("pretrain --patience 2 --evaluate-every 0", r"patience is 2, but evaluate_every is 0"),
        ("pretrain --teacher nowhere", r"nowhere: no such folder"),
        ("pretrain --optimizer sgd", r"'--optimizer'.*muon.*adamw"),
        ("pretrain --hidden-size 9", r"hidden_size 9 does not split"),
        ("pretrain --dynasties ming", r"no split 'train' of 'ming' poems"),
        ("pretrain --dynasties song", r"song-train.jsonl.xz is missing: run `python scripts/build_corpus.py`"),
        ("pretrain --out afile/below", r"afile/below: cannot be a folder, because .*afile is a file"),
        ("pretrain --run-folder afile", r"afile: cannot be a folder"),
        ("finetune --epochs 0", r"--epochs is 0, must be above 0"),
        ("finetune --steps 0", r"steps is 0"),
        ("finetune --base nowhere", r"nowhere: no such folder"),
        ("finetune --instructions limerick", r"no instruction 'limerick'; choose one of: poem \(詩\), old-style"),
        ("finetune --instructions limerick", r"old-style \(古體詩\); or many, by itself"),
        ("finetune --instructions poem,", r"no instruction ''"),
    ],
)
def test_one_line_and_status_2(home: Path, capsys: pytest.CaptureFixture[str], arguments: str, says: str) -> None:
    (home / "afile").touch()
    assert re.search(says, refused(capsys, *arguments.split()))
    assert not (home / "checkpoints").exists()


@pytest.mark.parametrize("title", ["", "  ", "\u3000", "\n"])
def test_blank_titles_are_refused(base: Path, capsys: pytest.CaptureFixture[str], title: str) -> None:
    assert "title is blank" in refused(capsys, "write", "春", title, "--checkpoint", str(base))


@pytest.mark.parametrize(("title", "says"), [("山" * 100, "100 characters"), ("spring", "no Chinese character")])
def test_titles_of_no_use_are_refused(base: Path, capsys: pytest.CaptureFixture[str], title: str, says: str) -> None:
    """Before anything is written, also for the titles beside them."""
    said = refused(capsys, "write", "山", title, "--checkpoint", str(base))
    assert said.startswith(f"{title}: ")
    assert says in said


def test_more_titles_than_poems(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "titles is 999" in refused(capsys, "evaluate", "--checkpoint", str(base), "--titles", "999")


@pytest.mark.parametrize("command", ["write 春 --checkpoint", "evaluate-loss --checkpoint", "finetune --base"])
def test_damaged_checkpoints_are_refused(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """By every command in the same way; `test_checkpoints` has all kinds of damage."""
    folder = tmp_path / "damaged"
    shutil.copytree(base, folder)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-100] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert "model.safetensors: damaged or changed" in refused(capsys, *command.split(), str(folder))


def test_an_instruction_that_was_not_taught_is_refused(
    base: Path, ending: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["write", "山", "--instruction", "古體詩", "--checkpoint"]
    assert "no instruction '古體詩'; choose one of: poem (詩)" in refused(capsys, *asked, str(ending))
    assert "a base model was taught no instruction" in refused(capsys, *asked, str(base))
    asked = ["evaluate", "--titles", "2", "--instruction", "old-style", "--checkpoint"]
    assert "no instruction 'old-style'" in refused(capsys, *asked, str(ending))


def test_a_damaged_poem_file_is_refused(
    base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(paths.ASSETS / "poems", tmp_path / "poems")
    (tmp_path / "poems/tang-test.jsonl.xz").write_bytes(b"no xz")
    monkeypatch.setattr(paths, "ASSETS", tmp_path)
    said = refused(capsys, "evaluate-loss", "--split", "test", "--checkpoint", str(base))
    assert "tang-test.jsonl.xz is damaged" in said


def test_a_loss_that_is_no_number_is_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def spoil(optimizer: torch.optim.Optimizer, *_: object) -> None:
        for group in optimizer.param_groups:
            for weight in group["params"]:
                weight.detach().fill_(torch.nan)

    handle = register_optimizer_step_post_hook(spoil)
    try:
        told = refused(capsys, "pretrain", *TINY, "--run-folder", "runs/nan")
    finally:
        handle.remove()
    assert "the loss of step 2 is nan: try a lower learning rate" in told


# --- a run on disk --------------------------------------------------------------------------------

DIES_IN_STEP_13 = """
import os, shutil, signal, sys
from pathlib import Path
from course_lib.__main__ import main
from tiny import in_step

state = Path("runs/killed/state.safetensors")
keep = lambda: shutil.copy(state, state.with_name("after-step-10"))
with in_step(11, keep), in_step(13, lambda: os.kill(os.getpid(), signal.SIGKILL)):
    main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_run_goes_on_with_the_same_losses(base: Path, repository: Path) -> None:
    command = ["pretrain", *TINY, "--run-folder", "runs/killed", "--out", "checkpoints/killed"]
    done = run(["-c", DIES_IN_STEP_13, *command], repository)
    assert done.returncode == -signal.SIGKILL, done.stderr
    Path("runs/killed/after-step-10").replace("runs/killed/state.safetensors")
    assert len(log("runs/killed")) == 12  # two steps further than what was saved
    assert not Path("checkpoints/killed").exists()
    assert main(command) == 0
    assert log("runs/killed") == log("runs/whole")
    assert sha256(Path("checkpoints/killed/model.safetensors")) == sha256(base / "model.safetensors")


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_saves_and_says_how_to_go_on(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pressed in the middle of a step, between the gradients and the weights."""
    command = ["pretrain", *TINY, "--run-folder", "runs/pressed", "--out", "checkpoints/pressed"]
    with in_step(7, press):
        assert main(command) == 130
    shown = capsys.readouterr().err
    assert "stopped after step 7 of 16; to go on from runs/pressed, repeat the command" in shown
    assert len(log("runs/pressed")) == 7
    assert not Path("checkpoints/pressed").exists()
    assert main(command) == 0
    assert "runs/pressed has taken 7 of 16 steps" in capsys.readouterr().err
    assert log("runs/pressed") == log("runs/whole")


def test_a_finished_run_is_only_written_again(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("runs/whole/log.jsonl").read_bytes()
    assert main(["pretrain", *TINY, "--run-folder", "runs/whole", "--out", "checkpoints/again"]) == 0
    assert "runs/whole has taken 16 of 16 steps" in capsys.readouterr().err
    assert Path("runs/whole/log.jsonl").read_bytes() == before
    assert {p.name: p.read_bytes() for p in Path("checkpoints/again").iterdir()} == {
        p.name: p.read_bytes() for p in base.iterdir()
    }


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("--steps 12", "a run of 16 steps, more than 12"),
        ("--steps 40", "step 11 had learning rate"),  # it had begun to fall
        ("--learning-rate 0.001", "step 1 had learning rate"),
        ("--warmup-steps 9", "step 1 had learning rate"),
        ("--batch-size 3", "a run with batch_size 2, not 3"),
        ("--seed 1", "a run with seed 0, not 1"),
        ("--hidden-size 32", "a run with hidden_size 16, not 32"),
        ("--optimizer adamw", "a run with optimizer muon, not adamw"),
        ("--poems 30", "a run with poems 60, not 30"),
        ("--accumulate 2", "a run with accumulate 1, not 2"),
    ],
)
def test_a_run_is_not_resumed_as_another(
    base: Path, capsys: pytest.CaptureFixture[str], change: str, says: str
) -> None:
    before = {p.name: p.read_bytes() for p in Path("runs/whole").iterdir()}
    said = refused(capsys, "pretrain", *TINY, *change.split(), "--run-folder", "runs/whole")
    assert says in said
    assert {p.name: p.read_bytes() for p in Path("runs/whole").iterdir()} == before


def test_steps_may_be_added_before_the_rate_falls(base: Path) -> None:
    """A run of many steps, stopped early and made shorter, is the run that was short from the beginning."""
    command = ["pretrain", *TINY, "--run-folder", "runs/longer", "--out", "checkpoints/longer"]
    with in_step(8, press):
        assert main([*command, "--steps", "100"]) == 130
    assert main(command) == 0
    assert [line["loss"] for line in log("runs/longer")] == [line["loss"] for line in log("runs/whole")]


@pytest.mark.parametrize("name", ["state.safetensors", "run.json", "tokenizer.json"])
def test_a_damaged_run_is_refused(base: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    folder = f"runs/damaged-{name}"
    shutil.copytree("runs/whole", folder)
    Path(folder, name).write_bytes(b"{}")
    assert f"{folder}/{name}" in refused(capsys, "pretrain", *TINY, "--run-folder", folder)


# --- what is written ------------------------------------------------------------------------------


def test_the_base_card_says_what_happened(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts, steps = read_card(base), log("runs/whole")
    checkpoint = load_checkpoint(base)
    read = load_poems("train")
    assert facts["kind"] == "base"
    assert (facts["license"], facts["language"]) == ("mit", "lzh")
    characters = sum(len("".join(p.lines)) for p in read)
    assert characters == 60 * 20
    times = pytest.approx(facts["epochs"], abs=0.01)
    assert facts["data"]["tang"] == {"poems": 60, "characters": characters, "times_read": times}
    assert "song" not in facts["data"]
    assert facts["steps"] == len(steps) == 16
    assert facts["tokens_seen"] == steps[-1]["tokens_seen"]
    assert facts["parameters"] == sum(t.numel() for t in checkpoint.model.state_dict().values())
    assert facts["shape"]["hidden_size"] == 16
    assert facts["settings"]["optimizer"] == "muon"
    assert (facts["settings"]["batch_size"], facts["settings"]["seed"]) == (2, 0)
    tokens = sum(len(p.title) + len(p.text) + 3 for p in read)  # a newline after the title, two after the poem
    assert facts["epochs"] == pytest.approx(facts["tokens_seen"] / tokens, rel=0.1)
    assert "float32 products, not compiled" in facts["hardware"]
    assert facts["sha256"] == sha256(base / "model.safetensors")
    assert facts["torch"] == torch.__version__
    # the figure of the card is the one that the command prints for the folder
    capsys.readouterr()
    assert main(["evaluate-loss", "--checkpoint", str(base), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert facts["losses"]["validation"] == round(printed["plain_text_loss"], 4)
    assert printed["plain_text_loss"] == held_out_loss(checkpoint, load_poems("validation")).whole
    final = steps[-1]["evaluation"]
    assert final["whole"] == pytest.approx(printed["plain_text_loss"], abs=1e-2)


def test_the_average_of_two_runs(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["pretrain", *TINY, "--base", str(base), "--steps", "3"]
    folders = [Path(f"checkpoints/seed-{seed}") for seed in (1, 2)]
    for folder in folders:
        run_folder = f"runs/{folder.name}"
        assert main([*command, "--seed", folder.name[-1], "--run-folder", run_folder, "--out", str(folder)]) == 0
    assert main(["average", *map(str, folders), "--out", "checkpoints/mean"]) == 0
    assert "written: checkpoints/mean" in capsys.readouterr().out
    one, two, mean = (load_checkpoint(f).model.state_dict() for f in (*folders, Path("checkpoints/mean")))
    assert all(torch.allclose(mean[name], (one[name] + two[name]) / 2, atol=1e-3) for name in mean)
    facts, parts = read_card("checkpoints/mean"), list(map(read_card, folders))
    assert [part["sha256"] for part in facts["average_of"]] == [part["sha256"] for part in parts]
    assert [part["settings"]["seed"] for part in facts["average_of"]] == [1, 2]
    assert facts["steps"] == sum(part["steps"] for part in parts)
    assert facts["tokens_seen"] == sum(part["tokens_seen"] for part in parts)
    loss = held_out_loss(load_checkpoint("checkpoints/mean"), load_poems("validation"))
    assert facts["losses"]["validation"] == round(loss.whole, 4)
    assert "An average of 2 models" in Path("checkpoints/mean/MODEL_CARD.md").read_text(encoding="utf-8")


def test_what_has_no_average_is_refused(base: Path, ending: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "average", str(base), str(ending), "--out", "checkpoints/none")
    assert "models of different shape have no average" in said
    assert not Path("checkpoints/none").exists()


def test_pretraining_goes_on_from_a_checkpoint(base: Path) -> None:
    command = ["pretrain", *TINY, "--base", str(base), "--steps", "3", "--seed", "1", "--poems", "30"]
    assert main([*command, "--run-folder", "runs/on", "--out", "checkpoints/on"]) == 0
    first, whole = log("runs/on")[0], log("runs/whole")
    assert first["loss"]["whole"] < whole[0]["loss"]["whole"] - 0.5
    before, after = read_card(base), read_card("checkpoints/on")
    assert after["steps"] == before["steps"] + 3
    assert after["tokens_seen"] == before["tokens_seen"] + log("runs/on")[-1]["tokens_seen"]
    assert after["data"]["tang"]["poems"] == 30
    assert after["data"]["tang"]["times_read"] > before["data"]["tang"]["times_read"]
    assert after["parent"]["sha256"] == before["sha256"]
    assert after["parent"]["tokens_seen"] == before["tokens_seen"]
    assert sha256(Path("checkpoints/on/tokenizer.json")) == sha256(base / "tokenizer.json")


def test_a_student_learns_from_a_teacher_as_if_it_had_never_stopped(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["pretrain", *TINY, "--hidden-size", "8", "--dropout", "0.1", "--teacher", str(base)]
    assert main([*small, "--run-folder", "runs/student", "--out", "checkpoints/student"]) == 0
    command = [*small, "--run-folder", "runs/absent", "--out", "checkpoints/absent"]
    with in_step(7, press):
        assert main(command) == 130
    alone = [argument for argument in command if argument not in ("--teacher", str(base))]
    assert re.search("a run with teacher [0-9a-f]{12}, not None", refused(capsys, *alone))
    assert main(command) == 0
    assert log("runs/absent") == log("runs/student")
    weights, facts = Path("checkpoints/student/model.safetensors"), read_card("checkpoints/student")
    assert sha256(weights) == sha256(Path("checkpoints/absent/model.safetensors"))
    assert sha256(weights.with_name("tokenizer.json")) == sha256(base / "tokenizer.json")
    taught = read_card(base)
    assert facts["teacher"] == {"name": "base"} | {key: taught[key] for key in ("sha256", "shape", "losses")}
    assert facts["settings"]["dropout"] == 0.1
    step = log("runs/student")[5]
    assert step["loss"]["response"] != step["loss"]["whole"]  # the teacher's probabilities, and the characters
    assert step["evaluation"]["response"] == step["evaluation"]["whole"]


def test_a_teacher_of_another_kind_is_refused(base: Path, ending: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = "cannot be the teacher: it has"
    asked = ["pretrain", *TINY, "--run-folder", "runs/untaught"]
    assert f"{ending} {told} other instructions than the student" in refused(capsys, *asked, "--teacher", str(ending))
    also = ["--base", str(base), "--teacher", str(ending)]
    assert f"{ending} {told} another vocabulary and other" in refused(capsys, *asked, *also)
    assert not Path("runs/untaught/run.json").exists()


@pytest.mark.slow
def test_finetune_stops_when_it_gets_no_better(base: Path) -> None:
    command = ["finetune", *TINY_FINETUNE, "--steps", "200", "--learning-rate", "0.05", "--poems", "4"]
    command += ["--weight-decay", "0", "--evaluate-every", "5", "--patience", "2", "--out", "checkpoints/early"]
    with in_step(12, press):
        assert main([*command, "--run-folder", "runs/early"]) == 130
    assert main([*command, "--run-folder", "runs/early"]) == 0
    facts, losses = read_card("checkpoints/early"), {}
    for line in log("runs/early"):
        if line["evaluation"]:
            losses[line["step"]] = line["evaluation"]["response"]
    best = min(losses, key=lambda step: losses[step])
    assert (facts["kept_step"], facts["steps"]) == (best, best + 10)
    assert facts["steps"] == max(losses) < 200
    assert facts["losses"]["validation_response"] == pytest.approx(losses[best], abs=1e-2)
    assert facts["settings"]["weight_decay"] == 0


@pytest.mark.slow
def test_finetune(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From base to a checkpoint that `write` takes by itself; killed runs are tested with pretrain."""
    command = ["finetune", *TINY_FINETUNE, "--epochs", "1.5", "--learning-rate", "0.01"]
    assert main([*command, "--run-folder", "runs/tuned"]) == 0
    own = Path("checkpoints/finetuned")
    printed = capsys.readouterr().out
    facts, steps = read_card(own), log("runs/tuned")
    assert facts["kind"] == "instruction"
    assert facts["parent"] == {"name": "base", "sha256": read_card(base)["sha256"]}
    assert facts["epochs"] == pytest.approx(1.5, abs=0.05)
    assert facts["steps"] == len(steps)
    assert facts["settings"]["optimizer"] == "adamw"
    checkpoint = load_checkpoint(own)
    assert checkpoint.tokenizer.has_roles
    loss = held_out_loss(checkpoint, load_poems("validation"))
    assert facts["losses"]["validation_response"] == round(loss.response, 4)
    assert facts["losses"]["validation_whole_sequence"] == round(loss.whole, 4)
    test = evaluate(checkpoint, load_poems("test"))
    assert facts["test"] == test.as_dict()
    assert test.table() in printed
    assert loss.response < steps[0]["loss"]["response"]
    # the learner's own checkpoint is what the commands take unless told otherwise
    assert main(["evaluate", "--json"]) == 0
    shown = capsys.readouterr()
    assert "checkpoints/finetuned is used" in shown.err
    columns = json.loads(shown.out)
    assert list(columns) == ["base", "fine-tuned", "real poems", "shuffled"]
    assert columns["fine-tuned"] == test.as_dict()
    refused(capsys, *command, "--base", str(own), "--run-folder", "runs/tuned")
    shutil.rmtree("checkpoints")


@pytest.mark.slow
def test_two_instructions_are_taught_asked_for_and_judged(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = "checkpoints/styled"
    command = ["finetune", *TINY_FINETUNE, "--steps", "4", "--learning-rate", "0.01"]
    command += ["--instructions", "poem,古體詩", "--run-folder", "runs/styled", "--out", folder]
    assert main(command) == 0
    assert load_checkpoint(folder).instructions == (POEM, OLD_STYLE)
    facts = read_card(folder)
    assert [row["wordings"] for row in facts["instructions"]] == [list(POEM.wordings), list(OLD_STYLE.wordings)]
    Path(folder, "MODEL_CARD.md").unlink()  # nothing needs the card
    capsys.readouterr()
    # losses are taken under the instructions that were taught
    assert main(["evaluate-loss", "--checkpoint", folder, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["whole_loss"] == pytest.approx(facts["losses"]["validation_whole_sequence"], abs=1e-4)
    as_if_one = held_out_loss(load_checkpoint(folder).with_roles([POEM]), load_poems("validation"))
    assert printed["whole_loss"] != pytest.approx(as_if_one.whole, abs=1e-4)
    # each can be asked for
    texts = []
    for name in ("poem", "old-style", "古體詩"):
        assert main(["write", "山雨", "--instruction", name, "--checkpoint", folder, "--temperature", "2"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] != texts[1] == texts[2]
    for taught in (POEM, OLD_STYLE):
        asked = ["evaluate", "--checkpoint", folder, "--titles", "4", "--instruction", taught.name, "--json"]
        assert main(asked) == 0
        test = evaluate(load_checkpoint(folder), load_poems("test"), titles=4, instruction=taught)
        assert json.loads(capsys.readouterr().out)["fine-tuned"] == test.as_dict()


@pytest.mark.slow
def test_the_cards_code_runs_as_it_stands(base: Path, ending: Path, tmp_path: Path) -> None:
    """Both ways of loading, as each card gives them."""
    tuned = tmp_path / "tuned"
    assert main(["finetune", *TINY_FINETUNE, "--steps", "1", "--run-folder", "runs/one", "--out", str(tuned)]) == 0
    for folder in (base, tuned):
        card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
        _, header, story = card.split("---\n", 2)
        assert yaml.safe_load(header)["kind"] in ("base", "instruction")
        blocks = re.findall(r"(?:^    .*\n)+", story, re.MULTILINE)
        assert len(blocks) == 2
        for block in blocks:
            env = {"folder": str(folder)}
            exec(textwrap.dedent(block), env)  # raises if it does not run


# --- using a checkpoint ---------------------------------------------------------------------------


def test_a_base_model_rambles_on(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    command = ["write", "江月", "--checkpoint", str(base), "--max-new-tokens", "30"]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert len(shown.out.rstrip("\n")) in range(25, 31)
    assert shown.err.splitlines()[-1] == "stopped at the limit, after 30 characters"
    assert main(command) == 0
    assert capsys.readouterr().out == shown.out
    assert main([*command, "--seed", "1"]) == 0
    assert capsys.readouterr().out != shown.out


def test_what_was_done_to_a_title_is_said(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["write", "云雨☃", "--checkpoint", str(base), "--max-new-tokens", "3", "--json"]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert "Left out: ☃" in shown.err
    assert json.loads(shown.out)["title"] in ("云雨", "雲雨")


def test_an_end_is_told_apart_from_the_limit(ending: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["write", "山雨", "江月", "--checkpoint", str(ending), "--count", "2", "--max-new-tokens", "40"]
    assert main([*command, "--json"]) == 0
    poems_written = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(p["title"], p["seed"]) for p in poems_written] == [
        ("山雨", 0),
        ("山雨", 1),
        ("江月", 0),
        ("江月", 1),
    ]
    assert any(p["ended"] for p in poems_written)
    for written in poems_written:
        assert written["ended"] == (len(written["text"]) < 40)
    assert main(command) == 0
    shown = capsys.readouterr()
    for written, line in zip(poems_written, shown.err.splitlines(), strict=True):
        assert written["text"] in shown.out
        how = "ended by itself" if written["ended"] else "stopped at the limit,"
        characters = written["text"].replace("\n", "")
        assert line == f"{how} after {len(characters)} characters"
    assert shown.out.count("《山雨》") == 2


def test_what_evaluate_cannot_measure_is_refused(
    checkpoint: Checkpoint, ending: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = "this model was taught nothing that a program can check"
    assert told in refused(capsys, "evaluate", "--obedience", "--titles", "2", "--checkpoint", str(ending))
    save_checkpoint(replace(checkpoint, instructions=MANY), tmp_path / "many", {"kind": "instruction"}, "")
    for name, given in (("couplet", "line"), ("title", "poem")):
        said = refused(capsys, "evaluate", "--instruction", name, "--titles", "2", "--checkpoint", f"{tmp_path}/many")
        assert said == f"{name} takes a {given}, not a title: use --obedience"
    for other in (["--candidates", "2"], ["--instruction", "poem"], ["--precision", "bf16"]):
        said = refused(capsys, "evaluate", "--obedience", *other, "--checkpoint", f"{tmp_path}/many")
        assert said == "--obedience takes no --instruction, no --candidates and no --precision"


def test_patience_needs_validation_losses(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"instruction": "山", "output": "水"}] * 4
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    command = ["finetune", *TINY_FINETUNE, "--base", str(base), "--data", f"{tmp_path}/mine.jsonl", "--patience", "1"]
    assert "patience is 1, but there is no evaluation data" in refused(capsys, *command, "--run-folder", "runs/mine")


def test_evaluate_counts_what_write_writes(home: Path, ending: Path, capsys: pytest.CaptureFixture[str]) -> None:
    titles = [p.title for p in load_poems("test")[:8]]
    assert main(["write", *titles, "--checkpoint", str(ending), "--json"]) == 0
    ends = [json.loads(line)["ended"] for line in capsys.readouterr().out.splitlines()]
    assert main(["evaluate", "--checkpoint", str(ending), "--titles", "8", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["fine-tuned"]
    assert figures["ended"] == sum(ends) / 8
    assert figures["plain_text_loss"] is None
    assert main(["evaluate", "--checkpoint", str(ending), "--titles", "8"]) == 0
    shown = capsys.readouterr()
    assert f"{figures['response_loss']:.3f} [" in shown.out
    assert shown.err.splitlines()[0].startswith("device cpu")


# --- how it begins --------------------------------------------------------------------------------


@pytest.mark.slow
def test_help_does_not_wait_for_torch(repository: Path) -> None:
    script = (
        "import sys; from course_lib.__main__ import main; "
        "assert main(['--help']) == 0; assert main(['write', '--help']) == 0; "
        "assert main(['pretrain', '--help']) == 0; assert main([]) == 0; assert main(['writ']) == 2; "
        "assert not {'torch', 'numpy', 'tokenizers'} & sys.modules.keys()"
    )
    done = run(["-c", script], repository)
    assert done.returncode == 0, done.stderr
    for command in ("pretrain", "finetune", "write", "evaluate-loss", "evaluate"):
        assert re.search(rf"^  {command} +\w.*[^.]\.$", done.stdout, re.MULTILINE)  # one whole line each


@pytest.mark.slow
def test_the_module_runs(repository: Path) -> None:
    """As a user types it, and a refusal that needs no torch."""
    done = run(["-m", "course_lib", "write", " "], repository)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "a title is blank: give it at least one character\n"
