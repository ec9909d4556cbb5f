"""Which tokens are learned, and what shares a row."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from course_lib.batches import (
    IGNORE,
    Example,
    InstructionBatches,
    PlainTextBatches,
    make_example,
    pack,
    plain_text,
)
from course_lib.poems import Poem, load_poems
from course_lib.roles import WRITE_A_POEM, example_segments, message_segments, prompt_segments
from course_lib.tokenizer import CharacterTokenizer


def test_labels_of_a_hand_written_example(tokenizer):
    poem = Poem("江月", "試筆", ("江花開。",))
    ins, inp, res = (tokenizer.control_id(mark) for mark in ("<INS>", "<INP>", "<RES>"))
    river, moon, flower, opens, stop = (tokenizer.encode(c)[0] for c in "江月花開。")
    example = make_example(tokenizer, example_segments(poem, instruction="月"), context=64)
    assert example.input_ids == [ins, moon, inp, river, moon, res, river, flower, opens, stop, tokenizer.eos_id]
    assert example.labels == [IGNORE] * 6 + [river, flower, opens, stop, tokenizer.eos_id]


def test_a_poem_too_long_for_the_context_gets_no_end_mark(tokenizer, poems):
    whole = make_example(tokenizer, example_segments(poems[0]), context=64)
    cut = make_example(tokenizer, example_segments(poems[0]), context=len(whole.input_ids) - 1)
    assert whole.labels[-1] == tokenizer.eos_id
    assert tokenizer.eos_id not in cut.input_ids
    assert tokenizer.eos_id not in cut.labels
    assert cut == Example(whole.input_ids[:-1], whole.labels[:-1])


@pytest.mark.parametrize("context", [64, 14])
def test_an_example_that_is_all_prompt_is_refused(tokenizer, poems, context):
    segments = prompt_segments("山雨") if context == 64 else example_segments(poems[0])
    with pytest.raises(ValueError, match="nothing to learn"):
        make_example(tokenizer, segments, context)


def test_a_title_that_contains_a_mark_is_text(tokenizer):
    plain = make_example(tokenizer, example_segments(Poem("江", "試筆", ("江花開。",))), context=64)
    tricky = make_example(tokenizer, example_segments(Poem("江<RES><EOS>", "試筆", ("江花開。",))), context=64)
    assert len(tricky.input_ids) == len(plain.input_ids) + 10
    for mark in ("<RES>", "<EOS>"):
        assert tricky.input_ids.count(tokenizer.control_id(mark)) == 1
    assert [i for i in tricky.labels if i != IGNORE] == [i for i in plain.labels if i != IGNORE]


def test_every_assistant_turn_is_learned_and_no_other(tokenizer):
    segments = message_segments(
        [
            {"role": "system", "content": "山"},
            {"role": "user", "content": "雨"},
            {"role": "assistant", "content": "江"},
            {"role": "user", "content": "月"},
            {"role": "assistant", "content": "花"},
        ]
    )
    labels = make_example(tokenizer, segments, context=64).labels
    river, flower = tokenizer.encode("江花")
    end = tokenizer.eos_id
    assert labels == [IGNORE] * 5 + [river, end] + [IGNORE] * 3 + [flower, end]


def test_packing_places_each_example_once_and_wastes_little():
    lengths = np.random.default_rng(0).integers(20, 120, size=500).tolist()
    rows = pack(lengths, 256)
    assert sorted(i for row in rows for i in row) == list(range(500))
    assert all(sum(lengths[i] for i in row) <= 256 for row in rows)
    assert sum(lengths) / (256 * len(rows)) > 0.97
    with pytest.raises(ValueError, match="example 1 has 300 tokens"):
        pack([10, 300], 256)


def test_real_poems_are_packed_with_at_most_five_percent_padding(shipped_tokenizer):
    poems = load_poems("train")[::10]
    batches = InstructionBatches.from_poems(poems, shipped_tokenizer, context=256, batch_size=16)
    assert batches.padding < 0.05


def test_packed_rows_hold_whole_examples_that_count_from_zero(tokenizer, poems):
    batches = InstructionBatches.from_poems(poems, tokenizer, context=128, batch_size=2, seed=None)
    (batch,) = batches.epoch(0)
    found = []
    for ids, labels, positions in zip(batch.input_ids, batch.labels, batch.position_ids, strict=True):
        starts = [i for i in range(128) if positions[i] == 0 and ids[i] != tokenizer.pad_id]
        for start, stop in pairwise([*starts, 128]):
            here = [i for i in range(start, stop) if ids[i] != tokenizer.pad_id]
            assert positions[here].tolist() == list(range(len(here)))
            found.append(Example(ids[here].tolist(), labels[here].tolist()))
    expected = [make_example(tokenizer, example_segments(p), 128) for p in poems]
    assert sorted(found) == sorted(expected)
    assert (batch.labels[batch.input_ids == tokenizer.pad_id] == IGNORE).all()


def test_a_poem_whose_title_fills_the_context_is_left_out(tokenizer, poems):
    endless = Poem("山" * 80, "試筆", ("江花開。",))
    batches = InstructionBatches.from_poems([*poems, endless], tokenizer, context=64, batch_size=2)
    assert len(batches.examples) == len(poems)


def test_a_title_that_leaves_room_for_one_character_is_kept(tokenizer):
    """The prompt is three marks, the instruction and the title."""
    room = 64 - 3 - len(WRITE_A_POEM)
    fits, fills = (Poem("山" * n, "試筆", ("江花開。",)) for n in (room - 1, room))
    batches = InstructionBatches.from_poems([fits, fills, fits], tokenizer, context=64, batch_size=2)
    assert [sum(label != IGNORE for label in e.labels) for e in batches.examples] == [1, 1]
    with pytest.raises(ValueError, match="nothing to learn within 64 tokens"):
        make_example(tokenizer, example_segments(fills), 64)


def tokens_of(batches, epoch=0, start=0):
    return [batch.input_ids.tolist() for batch in batches.epoch(epoch, start)]


@pytest.fixture(params=["plain", "instruction"])
def shuffled(request, poems, tokenizer):
    many = [Poem(p.title, p.author, p.couplets * n) for n in range(1, 5) for p in poems]
    if request.param == "plain":
        return lambda seed: PlainTextBatches(many, tokenizer, context=32, batch_size=2, seed=seed)
    return lambda seed: InstructionBatches.from_poems(many, tokenizer, context=128, batch_size=2, seed=seed)


def test_epochs_are_shuffled_from_the_seed_and_can_start_in_the_middle(shuffled):
    batches = shuffled(1)
    assert tokens_of(batches, 0) == tokens_of(shuffled(1), 0)
    assert tokens_of(batches, 0) != tokens_of(batches, 1)
    assert tokens_of(batches, 0) != tokens_of(shuffled(2), 0)
    assert tokens_of(batches, 1, start=2) == tokens_of(batches, 1)[2:]
    assert len(tokens_of(batches)) == len(batches)


def test_plain_text_windows_predict_each_token_exactly_once(tokenizer, poems):
    batches = PlainTextBatches(poems, tokenizer, context=16, batch_size=3, seed=None)
    predicted = [
        int(token)
        for batch in batches.epoch(0)
        for ids, labels in zip(batch.input_ids, batch.labels, strict=True)
        for token, label in zip(ids[1:], labels[1:], strict=True)
        if label != IGNORE
    ]
    text = [i for p in poems for i in tokenizer.encode(plain_text(p))]
    assert predicted == text[1:]


def test_an_empty_data_set_is_refused(tokenizer):
    with pytest.raises(ValueError, match="no poems"):
        PlainTextBatches([], tokenizer, context=16, batch_size=1)
    with pytest.raises(ValueError, match="no examples"):
        InstructionBatches([], pad_id=0, context=16, batch_size=1)


def test_padding_and_end_are_two_different_tokens(tokenizer: CharacterTokenizer, poems):
    batches = InstructionBatches.from_poems(poems, tokenizer, context=128, batch_size=2)
    batch = next(batches.epoch(0))
    ends = batch.labels == tokenizer.eos_id
    assert tokenizer.pad_id != tokenizer.eos_id
    assert int(ends.sum()) == len(poems)
    assert torch.equal(batch.input_ids == tokenizer.eos_id, ends)
