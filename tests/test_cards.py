"""A card says what its run did; what is not in the run is not on the card."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from course_lib import paths
from course_lib.cards import Card, card, story
from course_lib.checkpoints import Checkpoint, read_card, save_checkpoint, sha256
from course_lib.engine.machine import Machine
from course_lib.evaluation import Evaluation, held_out_loss
from course_lib.evaluation.metrics import Estimate
from course_lib.instructions import OLD_STYLE, POEM, Instruction
from course_lib.losses import Loss
from course_lib.poems import Poem
from course_lib.recipes import distillation, finetuning, preference, pretraining, tang_weighted
from course_lib.roles import asking
from course_lib.run_folder import RunFolder
from course_lib.tasks import MANY, Pair
from course_lib.training import Trainer, TrainingSettings

SETTINGS = TrainingSettings(steps=3, learning_rate=1e-2, warmup_steps=1)
MACHINE = Machine(torch.device("cpu"), torch.float32)


@pytest.fixture
def parent(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """The folder of a base model, whose card says that it has read the three poems twice."""
    data = {"split": "train", "source": "somewhere", "tang": {"poems": 3, "characters": 70, "times_read": 2.0}}
    facts = {"kind": "base", "data": data, "steps": 10, "tokens_seen": 400, "minutes": 1.5}
    save_checkpoint(replace(checkpoint, instructions=()), tmp_path / "parent", facts, "# For a test")
    return tmp_path / "parent"


def tuned(
    checkpoint: Checkpoint, poems: Sequence[Poem], folder: RunFolder, parent: Path, *instructions: Instruction
) -> Card:
    """The card of a short fine-tuning run."""
    recipe = finetuning(checkpoint, poems, instructions=instructions, batch_size=2, parent=parent)
    trainer = Trainer(recipe, SETTINGS, MACHINE)
    list(folder.run(trainer))
    test = Evaluation({"ended": Estimate(0.5)}, 8)
    return card(trainer, folder, poems, Loss(1.23456, 2.34567), test)


def test_the_card_of_a_fine_tuned_model(
    checkpoint: Checkpoint, poems: list[Poem], parent: Path, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    facts, text = tuned(checkpoint, poems, folder, parent, POEM, OLD_STYLE)
    assert facts["kind"] == "instruction"
    assert [row["name"] for row in facts["instructions"]] == ["poem", "old-style"]
    assert facts["instructions"][1]["wordings"] == ["請用以下題目寫一首古體詩"]
    assert facts["parent"] == {"name": "parent", "sha256": read_card(parent)["sha256"]}
    assert facts["losses"] == {
        "unit": "nats per character",
        "validation_response": 1.2346,
        "validation_whole_sequence": 2.3457,
        "validation_poems": 3,
    }
    assert facts["test"]["ended"] == 0.5
    assert facts["steps"] == 3
    assert facts["tokens_seen"] == folder.reports()[-1].tokens_seen
    assert facts["hardware"] == MACHINE.full_name
    assert (facts["settings"]["batch_size"], facts["settings"]["seed"]) == (2, 0)
    assert not {"steps", "evaluate_every", "evaluate_at", "patience"} & facts["settings"].keys()
    assert "`parent`" in text
    assert f"- `poem`: {POEM.wording}\n- `old-style`: {OLD_STYLE.wording}\n" in text
    assert yaml.safe_load(yaml.safe_dump(facts)) == facts


def test_one_instruction_is_one(checkpoint: Checkpoint, poems: list[Poem], parent: Path, tmp_path: Path) -> None:
    _, text = tuned(checkpoint, poems, RunFolder(tmp_path / "run"), parent, POEM)
    assert f"\n\n- `poem`: {POEM.wording}\n\n" in text
    assert "古體詩" not in text


def test_a_base_model_that_went_on_adds_up_what_both_have_read(
    checkpoint: Checkpoint, poems: list[Poem], parent: Path, tmp_path: Path
) -> None:
    song = [replace(poem, title=f"宋{poem.title}", dynasty="song") for poem in poems[:2]]
    read = tang_weighted([*poems, *song], 3)
    start = replace(checkpoint, instructions=())
    recipe = pretraining(read, checkpoint.tokenizer, start=start, batch_size=2, parent=parent)
    trainer = Trainer(recipe, SETTINGS, MACHINE)
    folder = RunFolder(tmp_path / "run")
    list(folder.run(trainer))
    facts, text = card(trainer, folder, poems, held_out_loss(start, poems))
    epochs = 3 / recipe.steps_per_epoch()
    assert facts["data"]["tang"]["times_read"] == pytest.approx(2 + 3 * epochs, abs=0.01)
    assert facts["data"]["song"] == {
        "poems": 2,
        "characters": sum(len("".join(poem.lines)) for poem in poems[:2]),
        "times_read": pytest.approx(epochs, abs=0.01),
    }
    assert facts["steps"] == 13
    assert facts["tokens_seen"] == 400 + trainer.tokens_seen
    assert facts["parent"]["steps"] == 10
    assert "instructions" not in facts
    assert "3 Tang poems" in text
    assert "2 Song poems" in text


def test_a_parent_without_a_card_has_a_name_and_a_checksum(
    checkpoint: Checkpoint, poems: list[Poem], parent: Path, tmp_path: Path
) -> None:
    (parent / "MODEL_CARD.md").unlink()  # as `transformers` saves a model
    pairs = [Pair(asking(POEM.wording, poem.title), poem.text, poem.text[::-1]) for poem in poems]
    shared: dict[str, Any] = {"batch_size": 2, "parent": parent}
    for recipe in (
        pretraining(poems, checkpoint.tokenizer, start=checkpoint, **shared),
        preference(checkpoint, pairs, **shared),
    ):
        facts, text = card(Trainer(recipe, SETTINGS, MACHINE), RunFolder(tmp_path / "run"), poems, Loss(3.0, 3.0))
        assert facts["parent"] == {"name": "parent", "sha256": sha256(parent / "model.safetensors")}
        assert facts["steps"] == 0
        assert ("Rounds of writing and learning: 1." in text) is (recipe.kind == "preference")


def test_a_card_without_a_parent(checkpoint: Checkpoint, poems: list[Poem], tmp_path: Path) -> None:
    recipe = pretraining(poems, checkpoint.tokenizer, batch_size=2)
    trainer = Trainer(recipe, SETTINGS, MACHINE)
    folder = RunFolder(tmp_path / "run")
    list(folder.run(trainer))
    facts, text = card(trainer, folder, poems, Loss(3.0, 3.0))
    assert facts["kind"] == "base"
    assert not {"parent", "teacher", "kept_step"} & facts.keys()
    assert "teacher" not in text
    assert facts["losses"]["validation"] == 3.0
    assert facts["epochs"] == round(3 / recipe.steps_per_epoch(), 2)


@pytest.mark.parametrize("losses", [{"validation": 3.5562}, None])
def test_a_student_names_its_teacher(
    checkpoint: Checkpoint, poems: list[Poem], tmp_path: Path, losses: dict[str, float] | None
) -> None:
    teacher = replace(checkpoint, instructions=())
    save_checkpoint(teacher, tmp_path / "large", {"losses": losses} if losses else {}, "")
    if not losses:
        (tmp_path / "large/MODEL_CARD.md").unlink()
    shape = replace(teacher.model.config, num_hidden_layers=1)
    hard = pretraining(poems, teacher.tokenizer, shape=shape, evaluation=poems, batch_size=2)
    trainer = Trainer(distillation(hard, teacher, tmp_path / "large"), SETTINGS, MACHINE)
    folder = RunFolder(tmp_path / "run")
    list(folder.run(trainer))
    facts, text = card(trainer, folder, poems, Loss(3.0, 3.0))
    assert facts["teacher"].pop("losses", None) == losses
    weights = sha256(tmp_path / "large/model.safetensors")
    assert facts["teacher"] == {"name": "large", "sha256": weights, "shape": asdict(teacher.model.config)}
    assert "the checkpoint `large` with 32 channels and\n2 layers" in text
    assert "parent" not in facts
    assert yaml.safe_load(yaml.safe_dump(facts)) == facts


def test_what_a_parent_was_taught_by_stays_on_the_card(checkpoint: Checkpoint, poems: list[Poem], parent: Path) -> None:
    facts = read_card(parent) | {"teacher": {"name": "large"}}
    save_checkpoint(replace(checkpoint, instructions=()), parent, facts, "# For a test")
    recipe = pretraining(poems, checkpoint.tokenizer, start=checkpoint, batch_size=2, parent=parent)
    made, text = card(Trainer(recipe, SETTINGS, MACHINE), RunFolder(parent / "run"), poems, Loss(3.0, 3.0))
    assert made["parent"]["teacher"] == {"name": "large"}
    assert "teacher" not in made
    assert "teacher" not in text


def test_a_run_with_patience_tells_the_step_of_its_weights(
    checkpoint: Checkpoint, poems: list[Poem], tmp_path: Path
) -> None:
    recipe = finetuning(checkpoint, poems[:1], evaluation=poems[1:], batch_size=2)
    settings = replace(SETTINGS, steps=20, learning_rate=5e-2, evaluate_every=1, patience=2)
    trainer, folder = Trainer(recipe, settings, MACHINE), RunFolder(tmp_path / "run")
    list(folder.run(trainer))
    facts, _ = card(trainer, folder, poems, Loss(3.0, 3.0))
    assert facts["kept_step"] == trainer.best_step == facts["steps"] - 2
    assert not {"steps", "evaluate_every", "patience"} & facts["settings"].keys()


@pytest.mark.parametrize("name", ["base", "finetuned", "instructed", "aligned"])
def test_the_shipped_cards_are_told_as_a_new_one_would_be(repository: Path, name: str) -> None:
    """Only the paragraphs on how a model was trained were added by hand."""
    folder = repository / "assets/checkpoints" / name
    facts = read_card(folder)
    instructions = {"base": (), "finetuned": (POEM, OLD_STYLE)}.get(name, MANY)
    text = (folder / "MODEL_CARD.md").read_text(encoding="utf-8").split("---\n\n", 1)[1]
    without = re.sub(r"\*\*How it was trained\.\*\*.*?(?=## How to load it)", "", text, flags=re.DOTALL)
    assert without == story(facts, instructions)


def test_the_stories_lie_with_the_assets(repository: Path) -> None:
    assert repository / "assets" == paths.ASSETS
    stories = {
        "average.md",
        "base.md",
        "blend.md",
        "aligned.md",
        "distilled.md",
        "finetuned.md",
        "held_out.md",
        "instructed.md",
        "own_data.md",
    }
    assert {path.name for path in (paths.ASSETS / "cards").iterdir()} == stories
