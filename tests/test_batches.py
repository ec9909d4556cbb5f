"""Which tokens are learned, and what shares a row."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny import poem_batches

from course_lib.batches import (
    IGNORE,
    Batches,
    Example,
    InstructionBatches,
    PlainTextBatches,
    ceil_div,
    make_example,
    pack,
)
from course_lib.instructions import ALL, OLD_STYLE, POEM, Instruction
from course_lib.poems import Poem, load_poems
from course_lib.roles import Conversation, example_segments, message_segments, pretraining_text, prompt_segments
from course_lib.tasks import MANY, mixed_conversations
from course_lib.tokenizer import CharacterTokenizer

NewBatches = Callable[[int], Batches]  # from a seed


def test_labels_of_a_hand_written_example(tokenizer: CharacterTokenizer) -> None:
    poem = Poem("江月", "試筆", ("江花開。",))
    ins, inp, res = (tokenizer.special_token_id(token) for token in ("<INS>", "<INP>", "<RES>"))
    river, moon, flower, opens, stop = (tokenizer.encode(c)[0] for c in "江月花開。")
    example = make_example(tokenizer, example_segments(poem, Instruction("moon", "月", ("月",))), context=64)
    assert example.input_ids == [ins, moon, inp, river, moon, res, river, flower, opens, stop, tokenizer.eos_id]
    assert example.labels == [IGNORE] * 6 + [river, flower, opens, stop, tokenizer.eos_id]


def test_a_poem_too_long_for_the_context_gets_no_end_token(tokenizer: CharacterTokenizer, poems: list[Poem]) -> None:
    whole = make_example(tokenizer, example_segments(poems[0]), context=64)
    cut = make_example(tokenizer, example_segments(poems[0]), context=len(whole.input_ids) - 1)
    assert whole.labels[-1] == tokenizer.eos_id
    assert tokenizer.eos_id not in cut.input_ids
    assert tokenizer.eos_id not in cut.labels
    assert cut == Example(whole.input_ids[:-1], whole.labels[:-1])


@pytest.mark.parametrize("context", [64, 14])
def test_an_example_that_is_all_prompt_is_refused(
    tokenizer: CharacterTokenizer, poems: list[Poem], context: int
) -> None:
    segments = prompt_segments("山雨") if context == 64 else example_segments(poems[0])
    with pytest.raises(ValueError, match=r"nothing to learn within .* tokens: <INS>請用以下題目寫一首詩<INP>山雨<RES>"):
        make_example(tokenizer, segments, context)


def test_a_title_that_contains_a_special_token_is_text(tokenizer: CharacterTokenizer) -> None:
    plain = make_example(tokenizer, example_segments(Poem("江", "試筆", ("江花開。",))), context=64)
    tricky = make_example(tokenizer, example_segments(Poem("江<RES><EOS>", "試筆", ("江花開。",))), context=64)
    assert len(tricky.input_ids) == len(plain.input_ids) + 10
    for token in ("<RES>", "<EOS>"):
        assert tricky.input_ids.count(tokenizer.special_token_id(token)) == 1
    assert [i for i in tricky.labels if i != IGNORE] == [i for i in plain.labels if i != IGNORE]


def test_every_assistant_turn_is_learned_and_no_other(tokenizer: CharacterTokenizer) -> None:
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


def test_packing_places_each_example_once_and_wastes_little() -> None:
    lengths = np.random.default_rng(0).integers(20, 120, size=500).tolist()
    rows = pack(lengths, 256)
    assert sorted(i for row in rows for i in row) == list(range(500))
    assert all(sum(lengths[i] for i in row) <= 256 for row in rows)
    assert sum(lengths) / (256 * len(rows)) > 0.97
    with pytest.raises(ValueError, match="example 1 has 300 tokens"):
        pack([10, 300], 256)


def test_real_poems_are_packed_with_at_most_five_percent_padding(shipped_tokenizer: CharacterTokenizer) -> None:
    poems = load_poems("validation") + load_poems("test")
    batches = poem_batches(poems, shipped_tokenizer, context=256, batch_size=16)
    assert batches.padding < 0.05


def test_packed_rows_hold_whole_examples_that_count_from_zero(tokenizer: CharacterTokenizer, poems: list[Poem]) -> None:
    batches = poem_batches(poems, tokenizer, context=128, batch_size=2, seed=None)
    (batch,) = batches.epoch(0)
    assert batch.position_ids is not None
    found = []
    rows = zip(batch.input_ids, batch.labels, batch.attention_mask, batch.position_ids, strict=True)
    for ids, labels, mask, positions in rows:
        starts = [i for i in range(128) if positions[i] == 0 and mask[i]]
        for start, stop in pairwise([*starts, 128]):
            here = [i for i in range(start, stop) if mask[i]]
            assert positions[here].tolist() == list(range(len(here)))
            found.append(Example(ids[here].tolist(), labels[here].tolist()))
    expected = [make_example(tokenizer, example_segments(p), 128) for p in poems]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("kind", ["plain", "instruction"])
def test_the_attention_mask_is_false_on_padding_and_nowhere_else(
    kind: str, tokenizer: CharacterTokenizer, poems: list[Poem]
) -> None:
    batches: Batches
    if kind == "plain":
        batches = PlainTextBatches(poems, tokenizer, context=32, batch_size=4)
        tokens = sum(len(tokenizer.encode(pretraining_text(p))) for p in poems)
        tokens += ceil_div(tokens - 1, 31) - 1  # each window but the first repeats a token
    else:
        batches = poem_batches(poems, tokenizer, context=64, batch_size=4)
        tokens = sum(len(example.input_ids) for example in batches.examples)
    all_batches = list(batches.epoch(0))
    assert sum(int(batch.attention_mask.sum()) for batch in all_batches) == tokens
    for batch in all_batches:
        assert batch.attention_mask.dtype == torch.bool
        assert torch.equal(batch.attention_mask, batch.input_ids != tokenizer.pad_id)
        assert (batch.labels[~batch.attention_mask] == IGNORE).all()
    assert not all_batches[-1].attention_mask.all()


def test_a_poem_whose_title_fills_the_context_is_left_out(tokenizer: CharacterTokenizer, poems: list[Poem]) -> None:
    endless = Poem("山" * 80, "試筆", ("江花開。",))
    batches = poem_batches([*poems, endless], tokenizer, context=64, batch_size=2)
    assert len(batches.examples) == len(poems)


def test_a_title_that_leaves_room_for_one_character_is_kept(tokenizer: CharacterTokenizer) -> None:
    """The prompt is three special tokens, the instruction and the title."""
    room = 64 - 3 - len(POEM.wording)
    fits, fills = (Poem("山" * n, "試筆", ("江花開。",)) for n in (room - 1, room))
    batches = poem_batches([fits, fills, fits], tokenizer, context=64, batch_size=2)
    assert [sum(label != IGNORE for label in e.labels) for e in batches.examples] == [1, 1]
    with pytest.raises(ValueError, match="nothing to learn within 64 tokens"):
        make_example(tokenizer, example_segments(fills), 64)


def test_each_poem_answers_its_instruction(shipped_tokenizer: CharacterTokenizer) -> None:
    regulated = Poem("登鸛雀樓", "王之渙", ("白日依山盡，黃河入海流。", "欲窮千里目，更上一層樓。"))
    old_style = Poem("春曉", "孟浩然", ("春眠不覺曉，處處聞啼鳥。", "夜來風雨聲，花落知多少。"))
    poems = [old_style, regulated, old_style]
    batches = poem_batches(poems, shipped_tokenizer, context=256, batch_size=1, instructions=ALL)
    asked = [(old_style, OLD_STYLE), (regulated, POEM), (old_style, OLD_STYLE)]
    expected = [make_example(shipped_tokenizer, example_segments(*pair), 256) for pair in asked]
    assert list(batches.examples) == expected
    with pytest.raises(ValueError, match="登鸛雀樓 answers none of these instructions"):
        poem_batches(poems, shipped_tokenizer, context=256, batch_size=1, instructions=[OLD_STYLE])


def test_the_answers_of_conversations_and_their_ends_are_learned_and_nothing_else(
    shipped_tokenizer: CharacterTokenizer,
) -> None:
    on_one_title = [replace(poem, title="江月") for poem in load_poems("validation")[:90]]  # for many turns
    talks = mixed_conversations(on_one_title, MANY)
    assert max(map(len, talks)) > 5
    batches = InstructionBatches.from_conversations(talks, shipped_tokenizer, context=2048, batch_size=2)
    for talk, example in zip(talks, batches.examples, strict=True):
        answers = [message["content"] for message in talk if message["role"] == "assistant"]
        expected = [i for answer in answers for i in (*shipped_tokenizer.encode(answer), shipped_tokenizer.eos_id)]
        assert [label for label in example.labels if label != IGNORE] == expected
        assert example.input_ids == shipped_tokenizer.encode_segments(message_segments(talk))
        assert all(label in (IGNORE, i) for i, label in zip(example.input_ids, example.labels, strict=True))


def test_conversations_are_cut_or_left_out_where_the_context_ends(tokenizer: CharacterTokenizer) -> None:
    talk: Conversation = [
        {"role": "user", "content": "江"},
        {"role": "assistant", "content": "月"},  # 5 tokens so far
        {"role": "user", "content": "山"},
        {"role": "assistant", "content": "雨"},
    ]
    learned = {}
    for context in (4, 5, 8, 9, 64):
        (example,) = InstructionBatches.from_conversations(
            [talk, [{"role": "user", "content": "江" * 64}, *talk[1:]]], tokenizer, context=context, batch_size=1
        ).examples
        learned[context] = tokenizer.decode([i for i in example.labels if i != IGNORE], show_special_tokens=True)
    assert learned == {4: "月", 5: "月<EOS>", 8: "月<EOS>", 9: "月<EOS>雨", 64: "月<EOS>雨<EOS>"}
    with pytest.raises(ValueError, match="no examples to make batches of"):
        InstructionBatches.from_conversations([talk], tokenizer, context=3, batch_size=1)


def test_a_poem_that_comes_twice_is_prepared_once(tokenizer: CharacterTokenizer, poems: list[Poem]) -> None:
    asked = []

    def noted(poem: Poem) -> bool:
        asked.append(poem.title)
        return True

    counting = replace(POEM, fits=noted)
    twice = [*poems, *poems]
    batches = poem_batches(twice, tokenizer, context=64, batch_size=2, instructions=[counting])
    assert asked == [p.title for p in poems]
    assert len(batches.examples) == len(twice)
    assert batches.examples[0] is batches.examples[len(poems)]


# --- epochs ---------------------------------------------------------------------------------------


def tokens_of(batches: Batches, epoch: int = 0, start: int = 0) -> list[list[list[int]]]:
    return [batch.input_ids.tolist() for batch in batches.epoch(epoch, start)]


@pytest.fixture(params=["plain", "instruction"])
def shuffled(request: pytest.FixtureRequest, poems: list[Poem], tokenizer: CharacterTokenizer) -> NewBatches:
    many = [Poem(p.title, p.author, p.couplets * n) for n in range(1, 5) for p in poems]
    if request.param == "plain":
        return lambda seed: PlainTextBatches(many, tokenizer, context=32, batch_size=2, seed=seed)
    return lambda seed: poem_batches(many, tokenizer, context=128, batch_size=2, seed=seed)


def test_epochs_are_shuffled_from_the_seed_and_can_start_in_the_middle(shuffled: NewBatches) -> None:
    batches = shuffled(1)
    assert tokens_of(batches, 0) == tokens_of(shuffled(1), 0)
    assert tokens_of(batches, 0) != tokens_of(batches, 1)
    assert tokens_of(batches, 0) != tokens_of(shuffled(2), 0)
    assert tokens_of(batches, 1, start=2) == tokens_of(batches, 1)[2:]
    assert len(tokens_of(batches)) == len(batches)


@pytest.mark.parametrize(
    ("kind", "digest"),
    [("plain", "10829af8dd0bf37e"), ("instruction", "51f768074f1c87a9")],
)
def test_the_batches_of_a_seed_never_change(kind: str, digest: str, shipped_tokenizer: CharacterTokenizer) -> None:
    """A run that is resumed with a newer version of the course must read what is left of its epoch."""
    poems = load_poems("validation")
    batches: Batches
    if kind == "plain":
        batches = PlainTextBatches(poems, shipped_tokenizer, context=128, batch_size=7, seed=3)
    else:
        batches = poem_batches(poems, shipped_tokenizer, context=128, batch_size=7, seed=3)
    sha = hashlib.sha256()
    for batch in batches.epoch(1):
        sha.update(batch.input_ids.numpy().tobytes())
        sha.update(batch.labels.numpy().tobytes())
        if batch.position_ids is not None:
            sha.update(batch.position_ids.numpy().tobytes())
    assert sha.hexdigest()[:16] == digest


def test_plain_text_windows_predict_each_token_exactly_once(tokenizer: CharacterTokenizer, poems: list[Poem]) -> None:
    batches = PlainTextBatches(poems, tokenizer, context=16, batch_size=3, seed=None)
    predicted = [
        int(token)
        for batch in batches.epoch(0)
        for ids, labels in zip(batch.input_ids, batch.labels, strict=True)
        for token, label in zip(ids[1:], labels[1:], strict=True)
        if label != IGNORE
    ]
    text = [i for p in poems for i in tokenizer.encode(pretraining_text(p))]
    assert predicted == text[1:]


@pytest.mark.parametrize("length", [30, 31, 32])
def test_a_batch_is_filled_up_with_rows_of_padding(length: int) -> None:
    """31 tokens fill two windows of 16, which share one token."""
    tokenizer = CharacterTokenizer.train(["江"], min_count=1)
    poem = Poem("江", "試筆", ("江" * (length - 4),))
    (batch,) = PlainTextBatches([poem], tokenizer, context=16, batch_size=5).epoch(0)
    lengths = [16, 16, 2, 0, 0] if length == 32 else [16, length - 15, 0, 0, 0]
    assert batch.attention_mask.sum(1).tolist() == lengths
    assert (batch.input_ids[~batch.attention_mask] == tokenizer.pad_id).all()
    assert (batch.labels[~batch.attention_mask] == IGNORE).all()


def test_an_empty_data_set_is_refused(tokenizer: CharacterTokenizer) -> None:
    with pytest.raises(ValueError, match="no poems"):
        PlainTextBatches([], tokenizer, context=16, batch_size=1)
    with pytest.raises(ValueError, match="no examples"):
        InstructionBatches([], pad_id=0, context=16, batch_size=1)


def test_padding_and_end_are_two_different_tokens(tokenizer: CharacterTokenizer, poems: list[Poem]) -> None:
    batches = poem_batches(poems, tokenizer, context=128, batch_size=2)
    batch = next(batches.epoch(0))
    ends = batch.labels == tokenizer.eos_id
    assert tokenizer.pad_id != tokenizer.eos_id
    assert int(ends.sum()) == len(poems)
    assert torch.equal(batch.input_ids == tokenizer.eos_id, ends)


# --- where they lie -------------------------------------------------------------------------------


def test_batches_lie_on_the_device_that_they_were_moved_to(shuffled: NewBatches) -> None:
    """On the device `meta` a tensor has a shape and no values, so nothing can be read back from it."""
    batches = shuffled(1)
    before = tokens_of(batches)
    moved = batches.to(torch.device("meta"))
    assert len(moved) == len(batches)
    for here, there in zip(batches.epoch(0), moved.epoch(0), strict=True):
        for part, other in zip(here, there, strict=True):
            assert (part is None) == (other is None)
            if part is not None and other is not None:
                assert (other.device.type, other.shape, other.dtype) == ("meta", part.shape, part.dtype)
    assert tokens_of(batches) == before
    assert tokens_of(batches.to(torch.device("cpu"))) == before


def test_packed_tokens_take_two_bytes_each_and_an_id_that_does_not_fit_is_refused() -> None:
    examples = [Example([2**15 - 1] * 5, [IGNORE] * 5)]
    batches = InstructionBatches(examples, pad_id=0, context=8, batch_size=1)
    assert batches.tokens.element_size() == 2
    (batch,) = batches.epoch(0)
    assert batch.input_ids.tolist() == [[2**15 - 1] * 5 + [0] * 3]
    with pytest.raises(OverflowError):
        InstructionBatches([Example([2**15], [IGNORE])], pad_id=0, context=8, batch_size=1)


def test_division_rounds_up() -> None:
    assert [ceil_div(n, 4) for n in (0, 1, 4, 5, 8)] == [0, 1, 1, 2, 2]
