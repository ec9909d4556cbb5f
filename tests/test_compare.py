"""All metrics of checkpoints, and several of them side by side."""

import math
from dataclasses import replace

import pytest
import torch
from by_hand import FIVE, base_model, with_more

from course_lib.checkpoints import Checkpoint
from course_lib.evaluation import compare, evaluate, held_out_loss, measure_poems, title_fit
from course_lib.evaluation.measures import share_obeyed
from course_lib.evaluation.metrics import METRICS
from course_lib.evaluation.novelty import PoemIndex
from course_lib.generation import WrittenPoem, iter_poems
from course_lib.instructions import OLD_STYLE, POEM
from course_lib.poems import Poem
from course_lib.sampling import GenerationSettings

INDEX = PoemIndex([Poem("春望", "杜甫", ("國破山河在，城春草木深。",))])
SHORT = GenerationSettings(max_new_tokens=12)


@pytest.fixture
def more(poems: list[Poem]) -> list[Poem]:
    return with_more(poems)


def test_the_poems_that_it_writes_are_judged(checkpoint: Checkpoint, more: list[Poem]) -> None:
    """The best of three by the one ranking, on the first titles, with nothing that is said of other texts."""
    titles = [poem.title for poem in more[:4]]
    found = evaluate(checkpoint, more, titles=4, candidates=3, settings=SHORT, index=INDEX)
    written = list(iter_poems(checkpoint, titles, SHORT, candidates=3))
    assert found.estimates.items() >= measure_poems(written, INDEX).items()
    assert written != list(iter_poems(checkpoint, titles, SHORT))
    assert (found.titles, found.poems) == (4, len(more))
    assert found["ended"] == sum(poem.reason == "end" for poem in written) / 4


def test_a_base_model_is_stopped_at_the_blank_row(checkpoint: Checkpoint, more: list[Poem]) -> None:
    """A model that likes to write the last token once more, or an end mark after a newline: without a stop, it ends."""
    base = base_model(checkpoint, more)
    newline = base.tokenizer.encode("\n")
    with torch.no_grad():
        for name, weight in base.model.named_parameters():
            weight.mul_(0 if "o_proj" in name or "down_proj" in name else 1)
        embedding = base.model.model.embed_tokens.weight.mul_(10)
        embedding[base.tokenizer.eos_id] = 0.9 * embedding[newline]
    titles = [poem.title for poem in more[:8]]
    stopped = measure_poems(list(iter_poems(base, titles, stop="\n\n")), INDEX)
    assert stopped["ended"].value < measure_poems(list(iter_poems(base, titles)), INDEX)["ended"].value
    assert evaluate(base, more, titles=8, index=INDEX)["ended"] == stopped["ended"].value


def test_what_does_not_apply_is_left_out(checkpoint: Checkpoint, poems: list[Poem], more: list[Poem]) -> None:
    settings = GenerationSettings(max_new_tokens=5)
    done: list[tuple[str, int, int]] = []
    taught = evaluate(
        checkpoint, poems, titles=3, settings=settings, index=INDEX, progress=lambda *report: done.append(report)
    )
    base = evaluate(base_model(checkpoint, more), more, titles=2, settings=settings, index=INDEX)
    assert ("writing", 3, 3) in done
    assert done[-1] == ("taking the loss", 3, 3)
    assert not any("titles" in stage for stage, *_ in done)  # three are too few to compare with
    assert "own_title_wins" not in taught.estimates
    assert METRICS.keys() - base.estimates.keys() == {
        "obeys",
        "response_loss",
        "whole_loss",
        "rhymes_in_form",
        "alternating_in_form",
    }
    assert (taught["response_loss"], taught["whole_loss"]) == pytest.approx(held_out_loss(checkpoint, poems))
    assert taught.as_dict()["plain_text_loss"] is None
    assert base.as_dict()["response_loss"] is None
    assert base["plain_text_loss"] > math.log(2)
    assert "plain text" not in taught.table()
    assert f"{taught['response_loss']:.3f} [" in taught.table()


def test_poems_are_written_with_the_instruction_and_read_under_it(checkpoint: Checkpoint, more: list[Poem]) -> None:
    titles = [poem.title for poem in more]
    taught = replace(checkpoint, instructions=(POEM, OLD_STYLE))
    found = evaluate(taught, more, titles=4, settings=SHORT, instruction=OLD_STYLE, index=INDEX)
    written = list(iter_poems(taught, titles[:4], SHORT, instruction=OLD_STYLE))
    assert written != list(iter_poems(taught, titles[:4], SHORT))
    assert found.estimates.items() >= measure_poems(written, INDEX).items()
    assert found.estimates.items() >= share_obeyed(titles[:4], written, OLD_STYLE).items() != set()
    fit = title_fit(taught, titles[:4], [poem.text for poem in written], titles, instruction=OLD_STYLE)
    assert found.estimates.items() >= fit.items()


def test_obedience_is_measured_where_an_instruction_asks_for_something(
    checkpoint: Checkpoint, more: list[Poem]
) -> None:
    taught = replace(checkpoint, instructions=(POEM, OLD_STYLE))
    regulated = [replace(poem, couplets=tuple(FIVE.split("\n"))) for poem in more]
    columns = compare(taught, regulated, titles=4, settings=SHORT, instruction=OLD_STYLE, index=INDEX)
    assert columns["fine-tuned"]["obeys"] == columns["real poems"]["obeys"] == 0
    plain = evaluate(taught, more, titles=4, settings=SHORT, index=INDEX)
    assert "obeys" not in plain.estimates
    special = replace(checkpoint, instructions=(OLD_STYLE, POEM))  # poems are written with the first
    assert "obeys" in evaluate(special, more, titles=4, settings=SHORT, index=INDEX).estimates


def test_own_titles_are_read_in_the_precision_asked_for(checkpoint: Checkpoint, more: list[Poem]) -> None:
    titles = [poem.title for poem in more]
    texts = [poem.text for poem in iter_poems(checkpoint, titles[:4], SHORT)]
    found = {
        precision: evaluate(checkpoint, more, titles=4, settings=SHORT, precision=precision, index=INDEX)
        for precision in (torch.float32, torch.bfloat16)
    }
    for precision, evaluation in found.items():
        assert (
            evaluation.estimates.items()
            >= title_fit(checkpoint, titles[:4], texts, titles, precision=precision).items()
        )
    for name in ("own_title_gain", "response_loss"):
        assert found[torch.float32][name] != found[torch.bfloat16][name]


def test_a_base_model_real_poems_and_shuffled_ones_stand_beside_a_model(
    checkpoint: Checkpoint, more: list[Poem]
) -> None:
    base = base_model(checkpoint, more)
    written = list(iter_poems(checkpoint, [poem.title for poem in more[:4]], SHORT))
    index = PoemIndex([Poem("", "", (poem.text,)) for poem in written])
    reports: list[tuple[str, int, int]] = []
    found = compare(
        checkpoint,
        more,
        base=base,
        candidates=2,
        titles=4,
        settings=SHORT,
        index=index,
        progress=lambda *report: reports.append(report),
    )
    assert list(found) == ["base", "fine-tuned", "best of 2", "real poems", "shuffled"]
    assert found["base"] == evaluate(base, more, titles=4, settings=SHORT, index=index)
    assert found["fine-tuned"] == evaluate(checkpoint, more, titles=4, settings=SHORT, index=index)
    assert found["best of 2"] == evaluate(checkpoint, more, titles=4, candidates=2, settings=SHORT, index=index)
    assert found["fine-tuned"]["longest_run"] > 0  # its own poems are in the index
    assert found["best of 2"]["response_loss"] == found["fine-tuned"]["response_loss"]
    real = measure_poems([WrittenPoem(poem.text, "end") for poem in more[:4]], index)
    assert found["real poems"].estimates.items() >= real.items()
    assert found["real poems"]["well_formed"] == 1
    assert (found["real poems"].poems, "whole_loss" in found["real poems"].estimates) == (0, False)
    assert "own_title_wins" in found["real poems"].estimates.keys() - found["shuffled"].estimates.keys()
    for name in ("base", "fine-tuned", "best of 2", "real poems"):
        assert reports.count((f"{name}: writing", 4, 4)) == (name != "real poems")
    assert reports.count(("real poems: reading under 16 titles", 4, 4)) == 1


def test_a_base_model_alone_has_one_column(checkpoint: Checkpoint, more: list[Poem]) -> None:
    base = base_model(checkpoint, more)
    reports: list[tuple[str, int, int]] = []
    alone = compare(
        base, more, base=base, titles=4, settings=SHORT, index=INDEX, progress=lambda *report: reports.append(report)
    )
    assert list(alone) == ["base", "real poems", "shuffled"]
    assert reports.count(("base: writing", 4, 4)) == 1


@pytest.mark.parametrize("titles", [0, -1, 4])
def test_titles_out_of_range_are_an_error(checkpoint: Checkpoint, poems: list[Poem], titles: int) -> None:
    for function in (evaluate, compare):
        with pytest.raises(ValueError, match=f"titles is {titles}, must be from 1 to 3, the number of poems"):
            function(checkpoint, poems, titles=titles)
