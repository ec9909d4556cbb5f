"""Poems are reproducible, end for a stated reason, and hold nothing but characters."""

import pytest
import torch

from course_lib.checkpoints import Checkpoint
from course_lib.generation import (
    GenerationSettings,
    banned_ids,
    continue_text,
    draw,
    generate,
    next_token_probabilities,
    prompt_ids,
    write,
    write_many,
)

TITLES = ["江月", "山雨", "夜雨江月", "月", "花開", "山中一夜雨"]


@pytest.mark.parametrize("settings", [GenerationSettings(seed=3), GenerationSettings(temperature=0)])
def test_a_poem_is_the_same_alone_in_a_batch_and_in_any_order(checkpoint, settings):
    alone = ["".join(write(checkpoint, title, settings)) for title in TITLES]
    assert [w.text for w in write_many(checkpoint, TITLES, settings)] == alone
    assert [w.text for w in write_many(checkpoint, TITLES, settings, batch_size=4)] == alone
    assert [w.text for w in write_many(checkpoint, TITLES[::-1], settings)] == alone[::-1]


def test_seeds_and_titles_make_a_difference(checkpoint):
    texts = {write_many(checkpoint, [t], GenerationSettings(seed=s))[0].text for t in TITLES[:2] for s in (0, 1)}
    assert len(texts) == 4


@torch.inference_mode()
def test_greedy_writing_takes_the_likeliest_character_of_an_uncached_model(checkpoint):
    ids = prompt_ids(checkpoint.tokenizer, "江月")
    for _ in range(20):
        logits = checkpoint.model(torch.tensor([ids]))[0, -1]
        logits[banned_ids(checkpoint.tokenizer)] = -torch.inf
        ids.append(int(logits.argmax()))
    start = len(prompt_ids(checkpoint.tokenizer, "江月"))
    greedy = write(checkpoint, "江月", GenerationSettings(temperature=0, max_new_tokens=20))
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


# --- drawing --------------------------------------------------------------------------------------


def probabilities(**settings) -> list[float]:
    logits = torch.tensor([[0.4, 0.1, 0.3, 0.2]]).log()
    return next_token_probabilities(logits, GenerationSettings(**settings))[0].tolist()


def test_temperature_sharpens_and_flattens():
    assert probabilities(temperature=1, top_p=1) == pytest.approx([0.4, 0.1, 0.3, 0.2])
    squares = [0.16, 0.01, 0.09, 0.04]
    assert probabilities(temperature=0.5, top_p=1) == pytest.approx([s / 0.3 for s in squares])
    assert probabilities(temperature=0, top_p=1) == [1, 0, 0, 0]


def test_top_p_keeps_the_fewest_that_reach_it():
    assert probabilities(temperature=1, top_p=0.6) == pytest.approx([4 / 7, 0, 3 / 7, 0])
    assert probabilities(temperature=1, top_p=0.75) == pytest.approx([4 / 9, 0, 3 / 9, 2 / 9])
    assert probabilities(temperature=1, top_p=0.01) == [1, 0, 0, 0]


def test_top_k_keeps_that_many():
    assert probabilities(temperature=1, top_p=1, top_k=2) == pytest.approx([4 / 7, 0, 3 / 7, 0])


def test_drawing_follows_the_probabilities():
    p = torch.tensor([[0.4, 0.0, 0.6, 0.0]]).expand(1000, -1)
    drawn = draw(p, torch.linspace(0, 0.999999, 1000))
    assert drawn.bincount(minlength=4).tolist() == pytest.approx([400, 0, 600, 0], abs=2)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"temperature": -1}, "temperature is -1, must lie in 0 … 5"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0}, "top_p is 0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"top_k": -1}, "top_k is -1"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        GenerationSettings(**wrong)
