"""Floors under the quality of the shipped checkpoints: they read and write about as well as their cards say.

The floors lie below the lower ends of the cards' intervals: another seed passes, a spoilt checkpoint does not.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from course_lib.checkpoints import Checkpoint, load_checkpoint, read_card
from course_lib.evaluation import held_out_loss, measure_obedience, measure_poems, title_fit
from course_lib.evaluation.measures import BLANK_ROW, share_obeyed
from course_lib.evaluation.metrics import Estimate
from course_lib.evaluation.novelty import training_index
from course_lib.generation import WrittenPoem, iter_poems
from course_lib.instructions import OLD_STYLE, POEM
from course_lib.poems import load_poems
from course_lib.tasks import MANY

pytestmark = pytest.mark.slow
TITLES = [poem.title for poem in load_poems("test")]
WRITTEN = 64
READ = 60


@pytest.fixture(scope="module")
def base(repository: Path) -> Checkpoint:
    return load_checkpoint(repository / "assets/checkpoints/base")


@pytest.fixture(scope="module")
def tuned(repository: Path) -> Checkpoint:
    return load_checkpoint(repository / "assets/checkpoints/finetuned")


@pytest.fixture(scope="module", autouse=True)
def _the_real_poems() -> None:
    """Forget the index of another test's poems."""
    training_index.cache_clear()


@pytest.fixture(scope="module")
def written(tuned: Checkpoint) -> list[WrittenPoem]:
    """Poems on test titles, written with the plain instruction."""
    return list(iter_poems(tuned, TITLES[:WRITTEN]))


def values(estimates: dict[str, Estimate]) -> dict[str, float]:
    return {name: estimate.value for name, estimate in estimates.items()}


def test_the_base_model_reads_well_and_writes_without_an_end(base: Checkpoint) -> None:
    assert base.instructions == ()
    assert held_out_loss(base, load_poems("validation")[:READ]).whole < 3.7
    found = values(measure_poems(list(iter_poems(base, TITLES[:WRITTEN], stop=BLANK_ROW))))
    assert found["ended"] == 0
    assert found["well_formed"] > 0.8  # of the first poem: the form is known before the end is
    assert found["alternating"] > 0.8


def test_the_tuned_model_reads_each_poem_best_under_the_instruction_that_it_was_taught(tuned: Checkpoint) -> None:
    assert tuned.instructions == (POEM, OLD_STYLE)
    poems = load_poems("validation")[:READ]
    loss = held_out_loss(tuned, poems).response
    assert loss < 3.66
    assert loss < held_out_loss(replace(tuned, instructions=(POEM,)), poems).response - 0.005


def test_the_tuned_model_writes_whole_poems_that_sound_and_are_its_own(written: list[WrittenPoem]) -> None:
    found = values(measure_poems(written))
    assert found["ended"] >= 0.97
    assert found["well_formed"] >= 0.85
    assert found["rhymes"] >= 0.7
    assert found["alternating"] >= 0.88
    assert found["regulated"] >= 0.75
    assert found["repeats_a_line"] <= 0.02
    assert found["strange"] <= 0.02
    assert found["copies_a_line"] <= 0.05


def test_the_tuned_model_listens_to_the_title(tuned: Checkpoint, written: list[WrittenPoem]) -> None:
    found = values(title_fit(tuned, TITLES[:20], [poem.text for poem in written[:20]], TITLES))
    assert found["own_title_wins"] >= 0.6
    assert found["own_title_gain"] > 0.1


def test_the_tuned_model_obeys_its_second_instruction(tuned: Checkpoint, written: list[WrittenPoem]) -> None:
    titles = TITLES[:WRITTEN]
    asked = values(share_obeyed(titles, list(iter_poems(tuned, titles, instruction=OLD_STYLE)), OLD_STYLE))
    not_asked = values(share_obeyed(titles, written, OLD_STYLE))
    assert asked["obeys"] >= 0.5
    assert not_asked["obeys"] < asked["obeys"] - 0.2


@pytest.mark.parametrize("folder", ["instructed", "aligned"])
def test_the_models_of_many_instructions_obey_and_write_whole_poems(repository: Path, folder: str) -> None:
    checkpoint = load_checkpoint(repository / "assets/checkpoints" / folder)
    assert checkpoint.instructions == MANY
    found = values(measure_poems(list(iter_poems(checkpoint, TITLES[:WRITTEN]))))
    assert found["ended"] >= 0.97
    assert found["well_formed"] >= 0.88
    assert found["rhymes"] >= 0.7
    assert found["regulated"] >= 0.7
    assert found["copies_a_line"] <= 0.08
    obeyed = measure_obedience(checkpoint, load_poems("test"), 12)
    shares = {row: obedience.taught.value for row, obedience in obeyed.items()}
    assert shares["continue"] >= 0.9
    assert shares["title"] >= 0.9
    assert shares["name-form"] >= 0.7
    assert shares["acrostic"] >= 0.6
    assert sum(shares.values()) / len(shares) >= 0.6


def test_preferences_made_rhymes_and_tones_better_and_left_the_title_alone(repository: Path) -> None:
    """By the cards, which were written when the models were made."""
    before, after = (read_card(repository / "assets/checkpoints" / name)["test"] for name in ("instructed", "aligned"))
    assert after["rhymes"] > before["rhymes"] + 0.04
    assert after["regulated"] > before["regulated"] + 0.02
    assert after["own_title_wins"] > before["own_title_wins"] - 0.05
    assert after["response_loss"] < before["response_loss"] + 0.25
