"""The model card, `MODEL_CARD.md`: what a model read, how it was trained, how good it is.

A card has `facts`, its header, and a `story`, its text; `checkpoints.save_checkpoint` takes both. All figures come from
the run itself. The texts are in `assets/cards`.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from course_lib import paths
from course_lib.checkpoints import CARD, CONFIG, WEIGHTS, Checkpoint, read_card, read_json, sha256
from course_lib.engine.llama_format import parse_config
from course_lib.evaluation.held_out import unknown_share
from course_lib.evaluation.metrics import Evaluation
from course_lib.evaluation.obedience import Obedience
from course_lib.instructions import Instruction
from course_lib.losses import Loss
from course_lib.poems import Poem
from course_lib.prosody import han
from course_lib.run_folder import RunFolder
from course_lib.tasks import to_rows
from course_lib.training import Trainer

SOURCE = "npm package chinese-poetry 2.0.1 (MIT), dist/quantangshi; see assets/poems/README.md"
DYNASTIES = {"tang": "Tang", "song": "Song"}
OF_PAIRS = ("pairs", "beta", "anchor", "per_token")  # what identifies a run on pairs, besides its settings
STORIES = {"base": "base.md", "instruction": "finetuned.md", "preference": "aligned.md"}  # by the kind of recipe


class Card(NamedTuple):
    """A model card: the facts of its header, and its text in Markdown."""

    facts: dict[str, Any]
    story: str


def card(
    trainer: Trainer,
    folder: RunFolder,
    validation: Sequence[Poem],
    loss: Loss,
    test: Evaluation | None = None,
    obedience: Mapping[str, Obedience] | None = None,
) -> Card:
    """The card of the model that `trainer` has trained in `folder`.

    `loss` is the loss on the `validation` poems; `test` and `obedience` were measured on the test poems. If a base
    model started from another one, its card adds up what both have read.
    """
    recipe, checkpoint = trainer.recipe, trainer.recipe.checkpoint
    facts: dict[str, Any] = {"kind": recipe.kind}
    if checkpoint.instructions:
        facts["instructions"] = to_rows(checkpoint.instructions)
    run = run_facts(trainer, folder)
    if recipe.parent:
        facts["parent"] = {"name": recipe.parent.name, "sha256": sha256(recipe.parent / WEIGHTS)}
        before = read_card(recipe.parent) if (recipe.parent / CARD).is_file() else {}  # `transformers` writes no card
        if recipe.kind == "base" and before:
            run = added_up(run, facts["parent"], before)
        if recipe.kind == "preference":
            run = another_round(run, before)
    if recipe.teacher:
        run["teacher"] = teacher_facts(recipe.teacher)
    facts |= {**run, "losses": loss_facts(checkpoint, validation, loss)}
    facts |= test_facts(test, obedience)
    return Card(facts, story(facts, checkpoint.instructions))


def test_facts(test: Evaluation | None, obedience: Mapping[str, Obedience] | None) -> dict[str, Any]:
    """The facts about the test poems. Obedience: the shares in a wording that was taught, and in one that was not."""
    facts = {"test": test.as_dict()} if test else {}
    if obedience:
        shares = {name: [round(each.value, 4) for each in row if each] for name, row in obedience.items()}
        facts["obedience"] = shares
    return facts


def average_card(
    cards: Sequence[Mapping[str, Any]],
    checkpoint: Checkpoint,
    validation: Sequence[Poem],
    loss: Loss,
    test: Evaluation | None,
    obedience: Mapping[str, Obedience] | None = None,
) -> Card:
    """The card of `checkpoint`, the average of the models with these `cards`. Steps, tokens, minutes are their sums."""
    sums = {name: round(sum(card.get(name, 0) for card in cards), 1) for name in ("steps", "tokens_seen", "minutes")}
    parts = [{name: card.get(name) for name in ("kind", "sha256", "steps", "settings", "losses")} for card in cards]
    aligned = [each for each in cards if each["kind"] == "preference"]  # these learned last
    facts = {**(aligned or cards)[0], **sums, "average_of": parts, "losses": loss_facts(checkpoint, validation, loss)}
    if aligned:
        facts["rounds"] = sum(each.get("rounds", 1) for each in aligned)
        facts["settings"] = facts["settings"] | {"pairs": sum(each["settings"]["pairs"] for each in aligned)}
    facts |= {"date": today(), **test_facts(test, obedience)}
    return Card(facts, story(facts, checkpoint.instructions))


def loss_facts(checkpoint: Checkpoint, validation: Sequence[Poem], loss: Loss) -> dict[str, Any]:
    """The facts about the loss on the validation poems."""
    facts: dict[str, Any] = {"unit": "nats per character"}
    if checkpoint.instructions:
        facts["validation_response"] = round(loss.response, 4)
        facts["validation_whole_sequence"] = round(loss.whole, 4)
    else:
        facts["validation"] = round(loss.whole, 4)
        facts["validation_unknown_characters"] = round(unknown_share(checkpoint, validation), 6)
    return facts | {"validation_poems": len(validation)}


def run_facts(trainer: Trainer, folder: RunFolder) -> dict[str, Any]:
    """The facts about the model, its data and its training."""
    recipe, settings = trainer.recipe, asdict(trainer.settings)
    config = recipe.checkpoint.model.config
    epochs = trainer.step / recipe.steps_per_epoch(trainer.settings.accumulate)
    speeds = [report.tokens_per_second for report in folder.reports()]
    when = ("steps", "evaluate_every", "evaluate_at", "patience")
    settings = {name: value for name, value in settings.items() if name not in when}
    settings |= {"batch_size": recipe.batches.batch_size, "seed": recipe.batches.seed}
    settings |= {"context": config.max_position_embeddings}
    settings |= {name: recipe.identity[name] for name in OF_PAIRS if name in recipe.identity}
    return {
        "license": "mit",
        "language": "lzh",
        "data": data_facts(recipe.poems, epochs),
        "parameters": sum(weight.numel() for weight in recipe.checkpoint.model.parameters()),
        "shape": asdict(config),
        "settings": settings,
        "steps": trainer.step,
        **({"kept_step": trainer.best_step} if trainer.settings.patience else {}),
        "epochs": round(epochs, 2),
        "tokens_seen": trainer.tokens_seen,
        "minutes": round(trainer.seconds / 60, 1),
        "tokens_per_second": round(median(speeds)) if speeds else None,
        "hardware": "; ".join(folder.machines()),
        "torch": str(torch.__version__),  # YAML does not know the class of this string
        "date": today(),
    }


def today() -> str:
    """The date, as the card has it."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def teacher_facts(folder: Path) -> dict[str, Any]:
    """The facts about a teacher: its name, checksum and shape, and its losses if it has a card that tells them."""
    shape = asdict(parse_config(read_json(folder / CONFIG)))
    facts = {"name": folder.name, "sha256": sha256(folder / WEIGHTS), "shape": shape}
    losses = read_card(folder).get("losses") if (folder / CARD).is_file() else None
    return facts | ({"losses": losses} if losses else {})


def data_facts(poems: Sequence[Poem], epochs: float) -> dict[str, Any]:
    """For each dynasty: how many poems and Chinese characters were read, and how many times.

    `poems` contains each poem as often as one epoch reads it.
    """
    facts: dict[str, Any] = {"split": "train", "source": SOURCE}
    for dynasty in DYNASTIES:
        read = [poem for poem in poems if poem.dynasty == dynasty]
        if distinct := set(read):
            facts[dynasty] = {
                "poems": len(distinct),
                "characters": sum(len(han(poem.text)) for poem in distinct),
                "times_read": round(epochs * len(read) / len(distinct), 2),
            }
    return facts


def added_up(run: Mapping[str, Any], parent: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a run, added to `before`, the facts of its first checkpoint. `parent` in the result keeps those."""
    data = dict(before["data"])
    for dynasty in [name for name in DYNASTIES if name in run["data"]]:
        times = data.get(dynasty, {}).get("times_read", 0) + run["data"][dynasty]["times_read"]
        data[dynasty] = run["data"][dynasty] | {"times_read": round(times, 2)}
    kept = ("data", "settings", "teacher", "steps", "tokens_seen", "minutes", "date", "note")
    sums = {name: round(run[name] + before[name], 1) for name in ("steps", "tokens_seen", "minutes")}
    return {
        **run,
        **sums,
        "data": data,
        "parent": {**parent, **{name: before[name] for name in kept if name in before}},
    }


def another_round(run: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a run on pairs, added to those of the rounds before it, if its first checkpoint was such a model."""
    if before.get("kind") != "preference" or "average_of" in before:
        return {**run, "rounds": 1}
    sums = {name: round(run[name] + before[name], 1) for name in ("steps", "tokens_seen", "minutes")}
    settings = run["settings"] | {"pairs": run["settings"]["pairs"] + before["settings"]["pairs"]}
    first = {"parent": before["parent"]} if "parent" in before else {}
    return {**run, **sums, "settings": settings, "rounds": before.get("rounds", 1) + 1, **first}


def story(facts: Mapping[str, Any], instructions: Sequence[Instruction]) -> str:
    """The card's text, with the figures of `facts`."""
    folder = paths.ASSETS / "cards"
    read = [(DYNASTIES[name], facts["data"][name]) for name in DYNASTIES if name in facts["data"]]
    is_blend = len({part.get("kind") for part in facts.get("average_of", ())}) > 1
    parts = {"teacher": "distilled.md", "average_of": "blend.md" if is_blend else "average.md"}
    first = STORIES[facts["kind"]]
    if facts["kind"] == "instruction" and not read:
        first = "own_data.md"
    elif facts["kind"] == "instruction" and any(each.kind == "turn" for each in instructions):
        first = "instructed.md"
    names = [first, *(name for fact, name in parts.items() if fact in facts)]
    text = "".join((folder / name).read_text(encoding="utf-8") for name in names)
    return text.format(
        poems=" and ".join(f"{data['poems']:,} {name} poems ({data['times_read']:g} times)" for name, data in read),
        parameters=f"{facts['parameters'] / 1e6:.1f} million",
        parent=facts.get("parent", {}).get("name", "unnamed"),
        teacher=facts.get("teacher"),
        runs=len(facts.get("average_of", ())),
        rounds=facts.get("rounds", 0),
        pairs=facts.get("settings", {}).get("pairs", 0),
        instructions="\n".join(f"- `{each.name}`: {each.wording}" for each in instructions),
        wording=instructions[0].wording if instructions else "",
    ) + (folder / "held_out.md").read_text(encoding="utf-8")
