"""The text of `MODEL_CARD.md`: what a checkpoint read, how it was trained, what it scores.

Each card is what `course_lib.checkpoints.save_checkpoint` takes: the facts, which become the YAML header, and
the story below it. Every figure comes from the run itself.
"""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch

from course_lib.checkpoints import WEIGHTS, Checkpoint, read_card, sha256
from course_lib.engine.machine import describe
from course_lib.evaluation.compare import unknown_share
from course_lib.evaluation.metrics import Evaluation
from course_lib.losses import Loss
from course_lib.poems import Poem, han
from course_lib.roles import WRITE_A_POEM, WRITE_OLD_STYLE
from course_lib.training import Trainer

Card = tuple[dict[str, Any], str]

SOURCE = "npm package chinese-poetry 2.0.1 (MIT), dist/quantangshi; see assets/poems/README.md"


def pretraining_card(
    checkpoint: Checkpoint,
    trainer: Trainer,
    poems: Sequence[Poem],
    validation: Sequence[Poem],
    loss: Loss,
    speeds: Sequence[float],
    machine: str,
    parent: Path | None = None,
) -> Card:
    """The card of a base model that read `poems` and has this `loss` on the validation poems.

    `speeds` are the tokens per second of each step; `machine` is what `machine_line` says. If the run went on
    from the checkpoint in `parent`, what that had read and the minutes it took are counted in.
    """
    run = run_facts(checkpoint, trainer, poems, speeds, machine)
    facts = {
        "kind": "base",
        **(counted_on(run, parent) if parent else run),
        "losses": {
            "unit": "nats per character",
            "validation": round(loss.whole, 4),
            "validation_poems": len(validation),
            "validation_unknown_characters": round(unknown_share(checkpoint, validation), 6),
        },
    }
    return facts, BASE_STORY.format(**story_figures(facts)) + SPLIT_STORY


def finetuning_card(
    checkpoint: Checkpoint,
    trainer: Trainer,
    poems: Sequence[Poem],
    validation: Sequence[Poem],
    loss: Loss,
    speeds: Sequence[float],
    machine: str,
    parent: Path,
    test: Evaluation | None = None,
    names_style: bool = False,
) -> Card:
    """The card of a model that was fine-tuned on `poems`, beginning as the checkpoint in the folder `parent`.

    `loss` is that on the validation poems; `test` are the figures on the test poems, if they were taken.
    With `names_style`, old-style verse was asked for by name (`recipes.naming_the_style`).
    """
    losses: dict[str, Any] = {
        "unit": "nats per character",
        "validation_response": round(loss.response, 4),
        "validation_whole_sequence": round(loss.whole, 4),
        "validation_poems": len(validation),
    }
    facts: dict[str, Any] = {
        "kind": "instruction",
        "instruction": WRITE_A_POEM,
        **({"old_style_instruction": WRITE_OLD_STYLE} if names_style else {}),
        "parent": {"name": parent.name, "sha256": sha256(parent / WEIGHTS)},
        **run_facts(checkpoint, trainer, poems, speeds, machine),
        "losses": losses,
    }
    if test:
        facts["test"] = test.as_dict()
    return facts, FINETUNED_STORY.format(**story_figures(facts)) + SPLIT_STORY


# --- facts ----------------------------------------------------------------------------------------


def run_facts(
    checkpoint: Checkpoint, trainer: Trainer, poems: Sequence[Poem], speeds: Sequence[float], machine: str
) -> dict[str, Any]:
    """What both cards say of model, data and run."""
    model, batches = checkpoint.model, trainer.batches
    return {
        "license": "mit",
        "language": "lzh",
        "data": data_facts(poems, trainer.step / trainer.steps_per_epoch),
        "parameters": sum(p.numel() for p in model.parameters()),
        "shape": asdict(model.config),
        "settings": {
            **{k: v for k, v in asdict(trainer.settings).items() if k not in ("steps", "evaluate_every")},
            "batch_size": getattr(batches, "batch_size", None),
            "context": model.config.max_position_embeddings,
            "seed": getattr(batches, "seed", None),
        },
        "steps": trainer.step,
        "epochs": round(trainer.step / trainer.steps_per_epoch, 2),
        "tokens_seen": trainer.tokens_seen,
        "minutes": round(trainer.seconds / 60, 1),
        "tokens_per_second": round(median(speeds)) if speeds else None,
        "hardware": machine,
        "torch": str(torch.__version__),  # a class of its own, which YAML does not know
        **({"best_step": trainer.best.step} if trainer.best else {}),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def counted_on(facts: dict[str, Any], parent: Path) -> dict[str, Any]:
    """The facts of a run, added to those of the checkpoint it began as, which stand beside them as `parent`."""
    before = read_card(parent)
    data = facts["data"] | {d: before["data"][d] for d in ("tang", "song") if d in before["data"]}
    for dynasty in facts["data"].keys() & before["data"].keys() & {"tang", "song"}:
        times = facts["data"][dynasty]["times_read"] + before["data"][dynasty]["times_read"]
        data[dynasty] = facts["data"][dynasty] | {"times_read": round(times, 2)}
    shared = ("data", "settings", "steps", "tokens_seen", "minutes", "date", "note")
    first = {"name": parent.name, "sha256": sha256(parent / WEIGHTS), **{k: before[k] for k in shared if k in before}}
    sums = {k: round(facts[k] + before[k], 1) for k in ("steps", "tokens_seen", "minutes")}
    return facts | sums | {"data": data, "parent": first}


def data_facts(poems: Sequence[Poem], epochs: float) -> dict[str, Any]:
    """What was read: poems and their Chinese characters, and how many times over, by dynasty.

    `poems` holds a poem as often as an epoch does.
    """
    facts: dict[str, Any] = {"split": "train", "source": SOURCE}
    for dynasty in ("tang", "song"):
        read = [p for p in poems if p.dynasty == dynasty]
        distinct = set(read)
        if read:
            facts[dynasty] = {
                "poems": len(distinct),
                "characters": sum(len(han(p.text)) for p in distinct),
                "times_read": round(epochs * len(read) / len(distinct), 2),
            }
    return facts


def machine_line(device: torch.device, precision: torch.dtype, compiled: bool) -> str:
    """The processor's name, and how it was used."""
    line = describe(device, precision, compiled)
    return f"{processor_name()}: {line}" if device.type == "cpu" else line


def processor_name() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


# --- stories --------------------------------------------------------------------------------------


def story_figures(facts: Mapping[str, Any]) -> dict[str, str]:
    """The figures that the stories quote."""
    names = {"tang": "Tang", "song": "Song"}
    read = [(names[d], facts["data"][d]) for d in names if d in facts["data"]]
    return {
        "poems": " and ".join(f"{n['poems']:,} {name} poems ({n['times_read']:g} times over)" for name, n in read),
        "parameters": f"{facts['parameters'] / 1e6:.1f} million",
        "parent": facts["parent"]["name"] if "parent" in facts else "",
        "instructions": TWO_INSTRUCTIONS if "old_style_instruction" in facts else ONE_INSTRUCTION,
    }


BASE_STORY = """\
# A base model of classical Chinese verse

It has {parameters} parameters and has read {poems}, as plain
text end to end: title, poem, blank line, next title. It knows one thing: which character is likely to come next.

**What it is for.** To be looked at, and to be fine-tuned, in this course.

**What it cannot do.** It does not stop: after one poem it goes on with another title. It follows no
instruction, and the role marks are not in its vocabulary. It knows classical verse in traditional characters
and nothing else. What it writes may repeat lines of real poems, and is no source for what any poet wrote.

## How to load it

In the course:

    from course_lib.checkpoints import load_checkpoint
    from course_lib.generation import write
    print("".join(write(load_checkpoint(folder), "春夜喜雨")))

With the `transformers` library:

    from transformers import AutoTokenizer, LlamaForCausalLM
    tokenizer, model = AutoTokenizer.from_pretrained(folder), LlamaForCausalLM.from_pretrained(folder)
    ids = tokenizer("春夜喜雨\\n", return_tensors="pt").input_ids
    print(tokenizer.decode(model.generate(ids, do_sample=True, max_new_tokens=100)[0]))

"""

ONE_INSTRUCTION = "It knows a single instruction, and no other turn of conversation."
TWO_INSTRUCTIONS = (
    f"It knows two instructions: {WRITE_A_POEM}, for regulated verse, and\n{WRITE_OLD_STYLE}, for verse that keeps no "
    "rules of tone. It knows no other turn of conversation."
)
FINETUNED_STORY = """\
# A model that writes a classical Chinese poem on a title

It began as the checkpoint `{parent}` (the header has its checksum) and was shown {poems},
each as an instruction, a title, and the poem as the response, closed by an end mark. Only the poem and
the mark were learned. It has {parameters} parameters.

**What it is for.** Give it a title in traditional characters, and it writes a poem and stops. It belongs to
this course.

**What it cannot do.** {instructions} Nobody taught it the
rules of rhyme and tone; it keeps them as far as it picked them up. It has read nothing but classical verse,
so a title from another world gets a poem that passes it by. What it writes may repeat lines of real poems.

## How to load it

In the course:

    from course_lib.checkpoints import load_checkpoint
    from course_lib.generation import write
    print("".join(write(load_checkpoint(folder), "春夜喜雨")))

With the `transformers` library, whose tokenizer, unlike the course's, takes a mark typed into a title for the
mark itself:

    from transformers import AutoTokenizer, LlamaForCausalLM
    tokenizer, model = AutoTokenizer.from_pretrained(folder), LlamaForCausalLM.from_pretrained(folder)
    turns = [("system", "請用以下題目寫一首詩"), ("user", "春夜喜雨")]
    messages = [{{"role": role, "content": text}} for role, text in turns]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    print(tokenizer.decode(model.generate(ids, do_sample=True, max_new_tokens=200)[0]))

"""

SPLIT_STORY = """\
## What it has not read

1,000 validation and 1,000 test poems, drawn from the Tang poems by a hash of their text, are in no training
set: not in this model's, and not in that of the model it began as. Neither are near-duplicates of them,
Tang or Song. 春夜喜雨 by 杜甫 is a test poem. `assets/poems/README.md` says what counts as a near-duplicate,
and which looser kin stayed in training.

The losses above are means over all characters that count. The response loss counts the poem and its end mark
alone: the instruction is always the same, hence free to predict, and flatters the loss of the whole sequence.
"""
