"""The command `pairs`: a model's own answers, two by two, of which one is the better."""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from course_lib import paths
from course_lib.commands.options import Device, Folder, Refusal, note, option
from course_lib.files import append_lines, claimed
from course_lib.language import say
from course_lib.poems import load_poems

OUT = Path("runs/pairs.jsonl")
NO_PAIR = "{out}, line {n}: not a pair of this command; name another file"


def pairs(
    checkpoint: Folder = None,
    judge: Annotated[Literal["prosody", "title", "both"], option(help="What makes an answer better.")] = "both",
    titles: Annotated[int, option(min=1, help="Ask about this many training poems.")] = 1000,
    candidates: Annotated[int, option(min=2, help="Answers to each request; the best and the worst are a pair.")] = 8,
    plain: Annotated[float, option(min=0, max=1, help="The share of requests that give a title alone.")] = 0.2,
    seed: Annotated[int, option(help="The same seed gives the same pairs.")] = 0,
    out: Annotated[Path, option(metavar="FILE", help="Write to this file, one pair on each line.")] = OUT,
    device: Device = None,
) -> None:
    """Let a model answer requests, and pair its best answers with its worst, for `prefer` to learn from.

    The requests are about training poems. Some of them ask for a poem on a title, the others for anything that the
    model was taught, also in a second turn. The answers to a request make up to three pairs. The judge "prosody" asks
    if an answer does what was asked, rhymes, and has no faults of tone. The judge "title" asks how much likelier a poem
    is under its title than under four others. The judge "both" asks "prosody" first; where it
    sees no difference, "title" decides.

    If the command is stopped, repeat it: it goes on where it stopped.
    """
    from tqdm import tqdm

    from course_lib.checkpoints import WEIGHTS, load_checkpoint, sha256
    from course_lib.engine.machine import choose_device
    from course_lib.preferences import UNLIMITED, by_prosody, by_title, in_turn, iter_pairs
    from course_lib.tasks import requests

    folder = paths.own_or_shipped(checkpoint)
    opened = load_checkpoint(folder, choose_device(device))
    opened.instruction()  # raises ValueError for a base model
    if not checkpoint:
        note(say("{folder} is used", folder=folder))
    training = load_poems("train")
    poems = random.Random(seed).sample(training, min(titles, len(training)))
    asked = requests(opened.instructions, poems, plain, seed)
    title = by_title(opened, [poem.title for poem in training], 4)
    choose = {"prosody": by_prosody, "title": title, "both": in_turn(by_prosody, title)}[judge]
    made_with = {"weights": sha256(folder / WEIGHTS)[:12], "judge": judge, "candidates": candidates}
    made_with |= {"titles": titles, "plain": plain, "seed": seed}
    found = 0
    out.parent.mkdir(parents=True, exist_ok=True)
    with claimed(out):
        done = read_back(out, made_with)
        append_lines(out, ())  # before anything slow begins
        written = iter_pairs(opened, asked[done:], choose, replace(UNLIMITED, seed=seed), candidates)
        with tqdm(written, total=len(asked), initial=done, unit="question", disable=None, leave=False) as bar:
            for number, made in enumerate(bar, start=done):
                append_lines(out, [pair.as_json(question=number, made_with=made_with) for pair in made])
                found += len(made)
    there = say(", and went on after question {done:,}", done=done) if done else ""
    note(say("{n:,} questions gave {found:,} pairs in {out}", n=len(asked) - done, found=found, out=out) + there)


def read_back(out: Path, made_with: dict[str, Any]) -> int:
    """The number of the question to go on with: the last one in the file, which may have more pairs.

    Its lines are removed, and so is a line that a kill has cut short. Raises Refusal if the file holds something else.
    """
    raw = out.read_bytes() if out.exists() else b""
    *lines, cut = raw.split(b"\n")
    if cut and not b'{"prompt": '.startswith(cut[:11]):
        raise Refusal(say(NO_PAIR, out=out, n=len(lines) + 1))
    number = kept = place = 0
    for row, line in enumerate(lines, start=1):
        try:
            pair = json.loads(line)
            asked, before = int(pair["question"]), dict(pair["made_with"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Refusal(say(NO_PAIR, out=out, n=row)) from error
        if before != made_with:
            n = {"out": out, "n": row, "differs": before}
            raise Refusal(say("{out}, line {n}: made with {differs}; name another file, or the same settings", **n))
        if asked != number:
            number, kept = asked, place
        place += len(line) + 1
    if kept < len(raw):
        os.truncate(out, kept)
    return number
