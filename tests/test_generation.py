"""Poems are reproducible, end for a stated reason, repeat no line, and hold nothing but characters."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from course_lib import generation
from course_lib.checkpoints import Checkpoint, load_checkpoint
from course_lib.generation import (
    GenerationSettings,
    Row,
    Written,
    allowed,
    banned_ids,
    continue_text,
    generate,
    log_likelihood,
    marks,
    prompt_ids,
    well_made,
    write,
    write_each,
    write_many,
)
from course_lib.inference import CachedModel
from course_lib.poems import han, load_poems, split_lines
from course_lib.sampling import draw, gumbel_noise, row_generator
from course_lib.titles import read_title

TITLES = ["江月", "山雨", "夜雨江月", "月", "花開", "山中一夜雨"]


@pytest.fixture(scope="module")
def shipped(repository: Path) -> Checkpoint:
    """The fine-tuned checkpoint of the repository."""
    return load_checkpoint(repository / "assets/checkpoints/finetuned")


@pytest.mark.parametrize("settings", [GenerationSettings(seed=3), GenerationSettings(temperature=0)])
def test_a_poem_is_the_same_alone_in_a_batch_and_in_any_order(checkpoint, settings):
    alone = ["".join(write(checkpoint, title, settings)) for title in TITLES]
    assert [w.text for w in write_many(checkpoint, TITLES, settings)] == alone
    assert [w.text for w in write_many(checkpoint, TITLES, settings, batch_size=4)] == alone
    assert [w.text for w in write_many(checkpoint, TITLES[::-1], settings)] == alone[::-1]


def test_seeds_and_titles_make_a_difference(checkpoint):
    texts = {write_many(checkpoint, [t], GenerationSettings(seed=s))[0].text for t in TITLES[:2] for s in (0, 1)}
    assert len(texts) == 4


def test_test_titles_give_the_same_poems_alone_in_a_batch_of_64_and_in_any_order(shipped):
    titles = [p.title for p in load_poems("test")[:64]]
    settings = GenerationSettings(max_new_tokens=40)
    batch = write_many(shipped, titles, settings)
    assert write_many(shipped, titles[::-1], settings) == batch[::-1]
    assert write_many(shipped, titles[40:], settings, batch_size=7) == batch[40:]
    for title, written in list(zip(titles, batch, strict=True))[::8]:
        assert "".join(write(shipped, title, settings)) == written.text


def shaken(by: float) -> type[CachedModel]:
    """Logits that differ from run to run, each by up to so much, as sums do that are added up in another order."""
    chance = np.random.default_rng(0)

    class Shaken(CachedModel):
        def read(self, ids: np.ndarray) -> np.ndarray:
            logits = super().read(ids)
            return logits + by * (2 * chance.random(logits.shape, np.float32) - 1)

    return Shaken


@pytest.mark.parametrize("limits", [{}, {"top_p": 0.5}, {"top_k": 3}, {"min_p": 0.9, "top_p": 1}, {"temperature": 0}])
def test_a_poem_does_not_hang_on_the_last_bits_of_a_sum(checkpoint, monkeypatch, limits):
    chosen = GenerationSettings(**{"temperature": 1, **limits})
    titles = [first + second for first in "山雨江月" for second in "山雨江月夜花"]
    undisturbed = write_many(checkpoint, titles, chosen)
    monkeypatch.setattr(generation, "CachedModel", shaken(by=0.05))
    monkeypatch.setattr(generation, "DOUBT", 0.1)
    assert write_many(checkpoint, titles, chosen) == undisturbed
    monkeypatch.setattr(generation, "DOUBT", 0.0)  # were the plain model never asked
    assert write_many(checkpoint, titles, chosen) != undisturbed


@pytest.mark.parametrize("seed", [0, 1])
@torch.inference_mode()
def test_a_poem_is_what_the_plain_model_writes(checkpoint, seed):
    chosen = GenerationSettings(temperature=1, top_p=0.8, seed=seed, max_new_tokens=30)
    tokenizer = checkpoint.tokenizer
    prompt = prompt_ids(tokenizer, "江月")
    row, known = Row(0, prompt, row_generator(prompt, seed)), marks(tokenizer)
    while len(row.ids) < len(prompt) + 30 and row.ids[-1] != tokenizer.eos_id:
        logits = checkpoint.model(torch.tensor([row.ids]))[0, -1].numpy()
        logits = allowed(logits, row, chosen, known["banned"])
        token, _ = draw(logits, gumbel_noise(row.chance, len(logits)), chosen)
        row.add(token, known["line_ends"])
    assert "".join(write(checkpoint, "江月", chosen)) == tokenizer.decode(row.ids[len(prompt) :])


@torch.inference_mode()
def test_greedy_writing_takes_the_likeliest_character_of_an_uncached_model(checkpoint):
    ids = prompt_ids(checkpoint.tokenizer, "江月")
    for _ in range(20):
        logits = checkpoint.model(torch.tensor([ids]))[0, -1]
        logits[banned_ids(checkpoint.tokenizer)] = -torch.inf
        ids.append(int(logits.argmax()))
    start = len(prompt_ids(checkpoint.tokenizer, "江月"))
    greedy = write(checkpoint, "江月", GenerationSettings(temperature=0, max_new_tokens=20, presence_penalty=0))
    assert "".join(greedy) == checkpoint.tokenizer.decode(ids[start:])


def test_control_tokens_are_never_drawn(checkpoint):
    tokenizer = checkpoint.tokenizer
    forbidden = [i for i in tokenizer.controls if i != tokenizer.eos_id]
    always(checkpoint, *forbidden)  # a model that wants nothing else
    steps = generate(
        checkpoint.model,
        [tokenizer.encode("江")],
        GenerationSettings(temperature=2, top_p=1, max_new_tokens=50),
        end_id=None,
        banned=banned_ids(tokenizer),
    )
    drawn = [token for ((_, token),) in steps]
    assert len(drawn) == 50
    assert not set(drawn) & set(forbidden)


# --- why it ended ---------------------------------------------------------------------------------


def always(checkpoint: Checkpoint, *tokens: int) -> None:
    """Make the model predict these tokens whatever it has read."""
    with torch.no_grad():
        for parameter in checkpoint.model.parameters():
            parameter.zero_()
        checkpoint.model.model.norm.weight.fill_(1)
        embedding = checkpoint.model.model.embed_tokens.weight
        embedding.fill_(0.1)
        embedding[list(tokens)] = 1.0


def test_the_end_mark_ends_a_poem_and_is_not_shown(checkpoint):
    always(checkpoint, checkpoint.tokenizer.eos_id)
    writing = write(checkpoint, "江月", GenerationSettings(temperature=0))
    assert ("".join(writing), writing.text, writing.reason) == ("", "", "end")
    assert write_many(checkpoint, ["江月"], GenerationSettings(temperature=0))[0].reason == "end"


def test_max_new_tokens_ends_a_poem(checkpoint):
    always(checkpoint, checkpoint.tokenizer.encode("江")[0])
    writing = write(checkpoint, "江月", GenerationSettings(temperature=0, max_new_tokens=7))
    assert ("".join(writing), writing.reason) == ("江" * 7, "length")


def test_the_end_of_the_context_ends_a_poem(checkpoint):
    always(checkpoint, checkpoint.tokenizer.encode("江")[0])
    room = checkpoint.model.config.max_position_embeddings - len(prompt_ids(checkpoint.tokenizer, "江月"))
    writing = write(checkpoint, "江月", GenerationSettings(temperature=0, max_new_tokens=500))
    assert ("".join(writing), writing.reason) == ("江" * (room + 1), "length")


def test_stop_ends_a_poem_at_the_next_character(checkpoint):
    always(checkpoint, checkpoint.tokenizer.encode("江")[0])
    writing = write(checkpoint, "江月", GenerationSettings(temperature=0))
    for n, _ in enumerate(writing, start=1):
        if n == 3:
            writing.stop()
    assert (writing.text, writing.reason) == ("江江江", "stopped")


def test_a_poem_ends_where_it_comes_to_a_text(checkpoint):
    """Not where the prompt ends with it; the other poems of the batch are what they would be."""
    chosen = GenerationSettings(temperature=1)
    whole = write_many(checkpoint, TITLES, chosen)
    stop = whole[0].text[3:5]
    for stopped, free in zip(write_many(checkpoint, TITLES, chosen, stop=stop), whole, strict=True):
        before, found, _ = free.text.partition(stop)
        assert stopped == (Written(before + found, "stopped") if found else free)
    assert any(stop not in w.text for w in whole)
    prompted = [*prompt_ids(checkpoint.tokenizer, TITLES[0]), *checkpoint.tokenizer.encode(stop[0])]
    always(checkpoint, last := checkpoint.tokenizer.encode(stop[1])[0])
    asked = {"end_id": None, "stop": checkpoint.tokenizer.encode(stop)}
    steps = list(generate(checkpoint.model, [prompted], GenerationSettings(0, max_new_tokens=3), **asked))
    assert steps == [[(0, last)]] * 3


def test_a_prompt_that_fills_the_context_is_refused(checkpoint):
    with pytest.raises(ValueError, match="the model reads 1 to 63"):
        list(continue_text(checkpoint, "山" * 64))
    with pytest.raises(ValueError, match="a prompt of 0 tokens"):
        list(continue_text(checkpoint, ""))


def test_rows_that_ended_leave_the_batch(checkpoint):
    tokenizer = checkpoint.tokenizer
    settings = GenerationSettings(temperature=0, max_new_tokens=100)
    long, short = tokenizer.encode("山" * 30), tokenizer.encode("山" * 60)
    steps = list(generate(checkpoint.model, [long, short], settings, end_id=None))
    assert [len(step) for step in steps] == [2] * 5 + [1] * 30
    assert {row for row, _ in steps[-1]} == {0}


# --- lines ----------------------------------------------------------------------------------------


def test_a_token_that_would_repeat_a_line_is_known():
    row = Row(0, [1, 2], row_generator([1, 2], 0))
    for token in (5, 6, 0, 5, 7, 0, 0, 9, 0, 5):
        row.add(token, line_ends={0})
    assert sorted(row.repeating()) == [6, 7]
    row.add(8, line_ends={0})
    assert row.repeating() == []
    row.add(0, line_ends={0})
    assert row.repeating() == [9]
    assert row.ids == [1, 2, 5, 6, 0, 5, 7, 0, 0, 9, 0, 5, 8, 0]
    assert row.said == [5, 6, 7, 9, 8]  # each once, and neither the prompt nor the marks


def test_what_a_text_has_said_is_held_back_and_nothing_else():
    begun, fresh = (Row(i, [1, 2], row_generator([1, 2], 0)) for i in range(2))
    for token in (4, 0, 4, 3):
        begun.add(token, line_ends={0})
    penalty, numbers = GenerationSettings(presence_penalty=1.5), np.arange(6, dtype=np.float32)
    assert allowed(numbers.copy(), begun, penalty, [5]).tolist() == [0, 1, 2, 1.5, 2.5, -math.inf]
    assert allowed(numbers.copy(), fresh, penalty, [5]).tolist() == [0, 1, 2, 3, 4, -math.inf]
    assert allowed(numbers.copy(), begun, GenerationSettings(presence_penalty=0), ()).tolist() == numbers.tolist()


def test_a_poem_repeats_its_characters_less_the_more_they_are_held_back(checkpoint):
    always(checkpoint, *checkpoint.tokenizer.encode("江月春風花山水天人來何處見，。"))
    repeated = []
    for penalty in (0.0, 2.0, 100.0):
        chosen = GenerationSettings(temperature=1, top_p=1, presence_penalty=penalty, max_new_tokens=12)
        texts = [han(w.text) for w in write_many(checkpoint, TITLES, chosen)]
        repeated.append(sum(len(text) - len(set(text)) for text in texts))
    assert repeated[0] > repeated[1] > repeated[2] == 0


def test_a_poem_does_not_repeat_a_line_unless_it_may(checkpoint):
    always(checkpoint, *checkpoint.tokenizer.encode("山月，。"))  # a model that knows nothing else soon repeats itself
    most = {}
    for may in (False, True):
        chosen = GenerationSettings(temperature=1, top_p=0.99, repeat_lines=may, max_new_tokens=40)
        lines = [Counter(split_lines(w.text)) for w in write_many(checkpoint, TITLES, chosen)]
        most[may] = max(max(counts.values()) for counts in lines)
    assert most[False] == 1
    assert most[True] > 1


# --- candidates -----------------------------------------------------------------------------------


@torch.inference_mode()
def test_log_likelihood_is_the_mean_over_the_continuation(checkpoint):
    prompt, ids = [5, 6, 7], [8, 9, 10, 11]
    expected = [
        float(checkpoint.model(torch.tensor([prompt + ids[:n]]))[0, -1].log_softmax(-1)[token])
        for n, token in enumerate(ids)
    ]
    assert log_likelihood(checkpoint.model, prompt, ids) == pytest.approx(sum(expected) / 4, abs=1e-6)


def test_of_several_candidates_the_best_is_kept_and_the_first_is_the_poem_itself(checkpoint):
    seen: list[Written] = []

    def shortest(written: Written) -> int:
        seen.append(written)
        return -len(written.text)

    chosen = GenerationSettings(temperature=1.5, top_p=1, max_new_tokens=60)
    kept = write_many(checkpoint, TITLES, chosen, candidates=4, score=shortest)
    assert len(seen) == 4 * len(TITLES)
    for i, written in enumerate(kept):
        candidates = seen[4 * i : 4 * i + 4]
        assert len({c.text for c in candidates}) == 4
        assert written.text == min((c.text for c in candidates), key=len)
        assert all(c.log_likelihood < 0 for c in candidates)
    assert [w.text for w in write_many(checkpoint, TITLES, chosen)] == [c.text for c in seen[::4]]
    assert write_many(checkpoint, TITLES[:2], chosen, candidates=4, score=shortest, batch_size=5) == kept[:2]


def test_well_formed_and_ended_comes_before_ended_and_that_before_likely():
    good = "江月何人見，江花幾度開。"
    ranked = [
        Written(good, "end", -5.0),
        Written(good + "江", "end", -2.0),
        Written("江", "end", -3.0),
        Written(good, "length", -0.5),
        Written("江", "length", -1.0),
    ]
    assert sorted(ranked, key=well_made, reverse=True) == ranked


def test_each_title_may_have_a_seed_of_its_own(checkpoint):
    chosen = GenerationSettings(temperature=1)
    poems = list(write_each(checkpoint, ["江月"] * 3, chosen, seeds=[5, 0, 5]))
    assert poems[0] == poems[2] != poems[1] == write_many(checkpoint, ["江月"], chosen)[0]
    with pytest.raises(ValueError, match="shorter"):
        list(write_each(checkpoint, ["江月"] * 3, chosen, seeds=[5]))
    with pytest.raises(ValueError, match="candidates is 0, must be at least 1"):
        write_many(checkpoint, ["江月"], candidates=0)


def test_poems_come_batch_by_batch_and_are_counted(checkpoint, monkeypatch):
    begun: list[int] = []
    inner = generation.generate

    def counted(model, prompts, *args, **kwargs):
        begun.append(len(prompts))
        return inner(model, prompts, *args, **kwargs)

    monkeypatch.setattr(generation, "generate", counted)
    poems = write_each(checkpoint, TITLES, GenerationSettings(max_new_tokens=3), batch_size=4)
    next(poems)
    assert begun == [4]
    assert len(list(poems)) == 5
    assert begun == [4, 2]
    told: list[int] = []
    write_many(checkpoint, TITLES, GenerationSettings(max_new_tokens=3), progress=told.append)
    assert told[-1] == len(TITLES)
    assert write_many(checkpoint, []) == []


# --- any title, any settings ----------------------------------------------------------------------

legal_settings = st.builds(
    GenerationSettings,
    temperature=st.floats(0, 5),
    top_p=st.floats(0, 1, exclude_min=True),
    top_k=st.integers(0, 100),
    min_p=st.floats(0, 1),
    max_new_tokens=st.integers(1, 80),
    seed=st.integers(),
    repeat_lines=st.booleans(),
    presence_penalty=st.floats(0, 100),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(typed=st.text(max_size=200), chosen=legal_settings)
@example(typed="<RES>江月<EOS>", chosen=GenerationSettings(temperature=5, top_p=1))
@example(typed="江" * 200, chosen=GenerationSettings())
@example(typed="江月", chosen=GenerationSettings(temperature=1e-310, min_p=1e-310, top_p=1e-310))
def test_any_title_and_any_legal_settings_give_the_same_poem_twice(checkpoint, typed, chosen):
    tokenizer = checkpoint.tokenizer
    title = read_title(typed, tokenizer).title or "江月"  # as the box and the command do; refused: another
    if len(prompt_ids(tokenizer, title)) >= checkpoint.model.config.max_position_embeddings:
        title = title[:10]  # this model's context is a quarter of the course's
    writing = write(checkpoint, title, chosen)
    characters = list(writing)
    assert writing.reason in ("end", "length")
    assert len(characters) <= chosen.max_new_tokens
    assert all(len(c) == 1 and tokenizer.encode(c) != [tokenizer.unk_id] for c in characters)
    assert not any(mark in writing.text for mark in tokenizer.controls.values() if mark not in typed)
    if not chosen.repeat_lines:
        assert max(Counter(split_lines(writing.text)).values(), default=1) == 1
    assert write_many(checkpoint, ["月", title], chosen)[1] == Written(writing.text, writing.reason)
