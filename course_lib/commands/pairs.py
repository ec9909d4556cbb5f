"""The command `pairs`: a model's own answers, two by two, of which one is the better."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Annotated, Any, Literal

from course_lib import paths
from course_lib.commands.options import Device, Folder, Refusal, note, option
from course_lib.files import append_lines, claimed
from course_lib.poems import load_poems

OUT = Path("runs/pairs.jsonl")


def pairs(
    checkpoint: Folder = None,
    judge: Annotated[Literal["prosody", "title"], option(help="What makes an answer the better one.")] = "prosody",
    titles: Annotated[int, option(min=1, help="Ask about this many training poems.")] = 1000,
    candidates: Annotated[int, option(min=2, help="Answers to each question; the best and the worst are a pair.")] = 8,
    plain: Annotated[float, option(min=0, max=1, help="The share of questions that give a title alone.")] = 0.5,
    seed: Annotated[int, option(help="The same seed gives the same pairs.")] = 0,
    out: Annotated[Path, option(metavar="FILE", help="Write to this file, one pair on each line.")] = OUT,
    device: Device = None,
) -> None:
    """Let a model answer questions, and pair its best answer with its worst, for `prefer` to learn from.

    The questions are about training poems: half of them ask for a poem on a title, the others for anything that the
    model was taught. The judge "prosody" asks if an answer does what was asked, rhymes, and has no faults of tone. The
    judge "title" asks how much likelier a poem is under its title than under fifteen others.

    If the command is stopped, repeat it: it goes on where it stopped.
    """
    from tqdm import tqdm

    from course_lib.checkpoints import WEIGHTS, load_checkpoint, sha256
    from course_lib.engine.machine import choose_device
    from course_lib.preferences import by_prosody, by_title, iter_pairs, requests
    from course_lib.sampling import GenerationSettings

    folder = paths.own_or_shipped(checkpoint)
    opened = load_checkpoint(folder, choose_device(device))
    if not opened.instructions:
        raise Refusal(f"{folder}: a base model was taught no instruction, so it cannot answer")
    if not checkpoint:
        note(f"{folder} is used")
    training = load_poems("train")
    poems = random.Random(seed).sample(training, min(titles, len(training)))
    asked = requests(opened.instructions, poems, plain, seed)
    choose = by_title(opened, [poem.title for poem in training]) if judge == "title" else by_prosody
    made_with = {"weights": sha256(folder / WEIGHTS)[:12], "judge": judge, "candidates": candidates}
    made_with |= {"plain": plain, "seed": seed}
    found = 0
    out.parent.mkdir(parents=True, exist_ok=True)
    with claimed(out):
        done = read_back(out, made_with)
        append_lines(out, ())  # before anything slow begins
        written = iter_pairs(opened, asked[done:], choose, GenerationSettings(seed=seed), candidates)
        with tqdm(written, total=len(asked), initial=done, unit="question", disable=None, leave=False) as bar:
            for number, pair in enumerate(bar, start=done):
                if pair:
                    append_lines(out, [pair.as_json(question=number, made_with=made_with)])
                    found += 1
    there = f", and went on after question {done:,}" if done else ""
    note(f"{len(asked) - done:,} questions gave {found:,} pairs in {out}{there}")


def read_back(out: Path, made_with: dict[str, Any]) -> int:
    """The number of the question to go on with: the one after the last pair in the file.

    If a kill has cut the last line short, it is removed. Raises Refusal if the file holds something else.
    """
    raw = out.read_bytes() if out.exists() else b""
    *lines, cut = raw.split(b"\n")
    number = -1
    for row, line in enumerate(lines, start=1):
        try:
            pair = json.loads(line)
            number, before = int(pair["question"]), dict(pair["made_with"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Refusal(f"{out}, line {row}: not a pair of this command; name another file") from error
        if before != made_with:
            raise Refusal(f"{out}, line {row}: made with {before}; name another file, or the same settings")
    if cut and not b'{"prompt": '.startswith(cut[:11]):
        raise Refusal(f"{out}, line {len(lines) + 1}: not a pair of this command; name another file")
    if cut:
        os.truncate(out, len(raw) - len(cut))
    return number + 1
