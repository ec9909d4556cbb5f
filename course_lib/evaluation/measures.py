"""Metrics of poems that need no model: form, rhyme, tones, novelty. `course_lib.prosody` has the rules."""

import random
from collections.abc import Sequence

import numpy as np

from course_lib.evaluation.metrics import Estimate, bootstrap_mean, without_none
from course_lib.evaluation.novelty import PoemIndex, distinct_2, training_index
from course_lib.generation import WrittenPoem
from course_lib.instructions import Exchange, Instruction
from course_lib.poems import Poem
from course_lib.prosody import han, is_well_formed, scan

BLANK_ROW = "\n\n"  # stands between a poem and the next title in plain text


def measure_poems(texts: Sequence[WrittenPoem], index: PoemIndex | None = None) -> dict[str, Estimate]:
    """The metrics of texts alone, by their names in `METRICS`. `index` defaults to the Tang training poems.

    A base model writes a blank row and the next title in place of an end mark, so its texts never end. All other
    metrics look only at a text's first poem, the part before the blank row.
    """
    index = index or training_index()
    poems = [first_poem(written.text) for written in texts]
    scans = [scan(poem) for poem in poems]
    lines = np.array([len(s.lines) for s in scans])
    in_form = np.array([len(s.lines) in (4, 8) and s.form.characters is not None for s in scans])
    rhymes = np.array([s.rhymes for s in scans])
    alternating = np.array([s.alternating for s in scans])
    estimates = {
        "ended": bootstrap_mean([written.reason == "end" for written in texts]),
        "well_formed": bootstrap_mean([is_well_formed(poem) for poem in poems]),
        "repeats_a_line": bootstrap_mean([len(set(s.lines)) < len(s.lines) for s in scans]),
        "strange": bootstrap_mean([bool(index.strange(poem)) for poem in poems]),
        "rhymes": bootstrap_mean(rhymes),
        "rhymes_in_form": bootstrap_mean(rhymes * in_form, in_form),
        "alternating": bootstrap_mean(alternating, lines),
        "alternating_in_form": bootstrap_mean(alternating * in_form, lines * in_form),
        "regulated": bootstrap_mean([s.regulated for s in scans]),
        "longest_run": bootstrap_mean([index.nearest(poem).longest for poem in poems]),
        "copies_a_line": bootstrap_mean([bool(index.copied(poem)) for poem in poems]),
        "distinct_2": Estimate(distinct_2(poems)),  # no interval: a poem that is drawn twice would repeat its own pairs
    }
    return without_none(estimates)


def share_obeyed(titles: Sequence[str], texts: Sequence[WrittenPoem], instruction: Instruction) -> dict[str, Estimate]:
    """The share of texts that were ended and obey the instruction; {} if every poem obeys it."""
    if not (instruction.fits or instruction.check):
        return {}
    pairs = zip(titles, texts, strict=True)
    obeys = [written.reason == "end" and instruction.obeyed(Exchange(title, written.text)) for title, written in pairs]
    return without_none({"obeys": bootstrap_mean(obeys)})


def passes(text: str, index: PoemIndex | None = None) -> dict[str, bool]:
    """Five questions about one poem that its writer has ended: question → whether the poem passes."""
    estimates = measure_poems([WrittenPoem(text, "end")], index)
    return {
        "well formed": estimates["well_formed"].value == 1,
        "no line comes twice": estimates["repeats_a_line"].value == 0,
        "rhymes": estimates["rhymes"].value == 1,
        "tones without fault": estimates["regulated"].value == 1,
        "no line copied": estimates["copies_a_line"].value == 0,
    }


def first_poem(text: str) -> str:
    """The part of `text` before the first blank row."""
    return text.partition(BLANK_ROW)[0]


def shuffled(poem: Poem, seed: int = 0) -> WrittenPoem:
    """The poem with its characters in random order and its punctuation in place. Only its choice of words is left."""
    characters = list(han(poem.text))
    random.Random(f"{seed} {poem.text}").shuffle(characters)
    remaining = iter(characters)
    return WrittenPoem("".join(next(remaining) if han(c) else c for c in poem.text), "end")
