"""Poems are reproducible, end for a stated reason, repeat no line, and hold nothing but characters."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from course_lib import prosody
from course_lib.checkpoints import Checkpoint, load_checkpoint
from course_lib.generation import (
    GenerationLimits,
    WrittenPoem,
    continue_text,
    generate,
    generation_limits,
    iter_answers,
    iter_poems,
    log_likelihood,
    prompt_ids,
    reply,
    room_in,
    score_of,
    settings_for,
    write,
)
from course_lib.instructions import OLD_STYLE, POEM
from course_lib.poems import DEMO_TITLE, load_poems
from course_lib.prosody import han, split_lines
from course_lib.roles import Conversation, message_segments
from course_lib.sampling import GenerationSettings, Repetition, absorb, draw, text_key
from course_lib.tasks import MANY
from course_lib.titles import read_title

TITLES = ["江月", "山雨", "夜雨江月", "月", "花開", "山中一夜雨"]


@pytest.fixture(scope="module")
def shipped(repository: Path) -> Checkpoint:
    """The fine-tuned checkpoint of the repository."""
    return load_checkpoint(repository / "assets/checkpoints/finetuned")


@pytest.mark.parametrize("chosen", [GenerationSettings(seed=3), GenerationSettings(temperature=0)])
def test_a_poem_is_the_same_alone_in_a_batch_and_in_any_order(
    checkpoint: Checkpoint, chosen: GenerationSettings
) -> None:
    alone = ["".join(write(checkpoint, title, chosen)) for title in TITLES]
    assert [w.text for w in iter_poems(checkpoint, TITLES, chosen)] == alone
    assert [w.text for w in iter_poems(checkpoint, TITLES, chosen, batch_size=4)] == alone
    assert [w.text for w in iter_poems(checkpoint, TITLES[::-1], chosen)] == alone[::-1]


def test_seeds_and_titles_make_a_difference(checkpoint: Checkpoint) -> None:
    texts = {next(iter_poems(checkpoint, [t], GenerationSettings(seed=s))).text for t in TITLES[:2] for s in (0, 1)}
    assert len(texts) == 4


def test_test_titles_give_the_same_poems_in_a_batch_of_64_and_in_smaller_ones(shipped: Checkpoint) -> None:
    titles = [p.title for p in load_poems("test")[:64]]
    chosen = GenerationSettings(max_new_tokens=40)
    batch = list(iter_poems(shipped, titles, chosen))
    smaller = list(iter_poems(shipped, titles[::-1], chosen, batch_size=7))[::-1]
    differing = sum(a != b for a, b in zip(batch, smaller, strict=True))
    assert differing <= 1  # two tokens may be so close that rounding decides
    alone = ["".join(write(shipped, title, chosen)) for title in titles[::8]]
    assert sum(a != b.text for a, b in zip(alone, batch[::8], strict=True)) <= 1


@pytest.mark.parametrize(
    "chosen", [GenerationSettings(temperature=1, top_p=0.8, seed=s, max_new_tokens=30) for s in (0, 1)]
)
@torch.inference_mode()
def test_a_poem_is_what_the_plain_model_writes(checkpoint: Checkpoint, chosen: GenerationSettings) -> None:
    tokenizer = checkpoint.tokenizer
    prompt = prompt_ids(checkpoint, "江月")
    limits = generation_limits(checkpoint)
    key = text_key(chosen.seed, 0, prompt)
    repetition = Repetition(1, len(tokenizer), limits.banned, limits.line_ends)
    ids = list(prompt)
    for step in range(1, 31):
        logits = checkpoint.model(torch.tensor([ids]))[:, -1].numpy()
        token = draw(repetition.penalize(logits), absorb(key, np.array([step], dtype=np.uint32)), chosen)
        repetition.add(token, chosen.presence_penalty)
        ids.append(int(token[0]))
        if ids[-1] == tokenizer.eos_id:
            break
    assert "".join(write(checkpoint, "江月", chosen)) == tokenizer.decode(ids[len(prompt) :])


@torch.inference_mode()
def test_temperature_0_is_greedy_whatever_the_other_settings(shipped: Checkpoint) -> None:
    prompt = prompt_ids(shipped, DEMO_TITLE)
    ids = list(prompt)
    while ids[-1] != shipped.tokenizer.eos_id and len(ids) < 200:
        ids.append(int(shipped.model(torch.tensor([ids]))[0, -1].argmax()))
    likeliest = shipped.tokenizer.decode(ids[len(prompt) :])
    for chosen in (GenerationSettings(temperature=0), GenerationSettings(temperature=0, presence_penalty=9, top_p=0.1)):
        assert "".join(write(shipped, DEMO_TITLE, chosen)) == likeliest


def test_special_tokens_are_never_written(checkpoint: Checkpoint) -> None:
    tokenizer = checkpoint.tokenizer
    forbidden = [i for i in tokenizer.special_tokens if i != tokenizer.eos_id]
    always(checkpoint, *forbidden)  # a model that wants nothing else
    for temperature in (2, 0):
        chosen = GenerationSettings(temperature=temperature, top_p=1, max_new_tokens=50)
        limits = generation_limits(checkpoint)._replace(end_id=None)
        *_, texts = generate(checkpoint.model, [tokenizer.encode("江")], chosen, limits)
        assert len(texts[0]) == 50
        assert not set(texts[0]) & set(forbidden)


# --- the instruction ------------------------------------------------------------------------------


def test_a_base_model_is_given_title_and_newline_and_a_taught_one_its_roles(checkpoint: Checkpoint) -> None:
    tokenizer = checkpoint.tokenizer
    base = Checkpoint(checkpoint.model, tokenizer)
    assert prompt_ids(base, "江月") == tokenizer.encode("江月\n")
    taught = Checkpoint(checkpoint.model, tokenizer, (POEM, OLD_STYLE))
    ins, inp, res = tokenizer.add_role_tokens()
    title = tokenizer.encode("江月")
    plain, old = (tokenizer.encode(row.wordings[0]) for row in (POEM, OLD_STYLE))
    assert prompt_ids(taught, "江月") == [ins, *plain, inp, *title, res]
    assert prompt_ids(taught, "江月", OLD_STYLE) == [ins, *old, inp, *title, res]


def test_the_shipped_model_answers_its_second_instruction_with_another_kind_of_poem(shipped: Checkpoint) -> None:
    titles = [poem.title for poem in load_poems("test")[:60]]
    chosen = GenerationSettings(max_new_tokens=120)
    kinds = {}
    for name in ("poem", "古體詩"):
        poems = list(iter_poems(shipped, titles, chosen, instruction=shipped.instruction(name)))
        kinds[name] = sum(prosody.scan(poem.text).regulated for poem in poems)
    assert kinds["poem"] > kinds["古體詩"] + 20


def test_where_one_answer_is_right_the_likeliest_characters_are_taken(checkpoint: Checkpoint) -> None:
    chosen = GenerationSettings(temperature=1.5, seed=4)
    greedy = replace(chosen, temperature=0.0)
    assert [row.name for row in MANY if settings_for(row, chosen) == greedy] == ["title", "name-form", "punctuate"]
    assert settings_for(POEM, chosen) == settings_for(None, chosen) == chosen
    assert settings_for(POEM) == settings_for(None) == GenerationSettings()
    (naming,) = (row for row in MANY if row.name == "title")
    likeliest = "".join(reply(checkpoint, talk(naming.wording, "江月"), greedy))
    assert "".join(write(checkpoint, "江月", chosen, naming)) == likeliest
    assert next(iter_poems(checkpoint, ["江月"], chosen, instruction=naming)).text == likeliest
    assert "".join(write(checkpoint, "江月", chosen, POEM)) != "".join(write(checkpoint, "江月", greedy, POEM))


# --- a conversation -------------------------------------------------------------------------------


def talk(*contents: str) -> Conversation:
    """A system line, and what user and assistant say in turn."""
    system, *turns = contents
    said: Conversation = [{"role": "system", "content": system}]
    for number, content in enumerate(turns):
        said.append({"role": "assistant" if number % 2 else "user", "content": content})
    return said


def test_the_answer_to_a_title_is_the_poem_on_it(checkpoint: Checkpoint) -> None:
    chosen = GenerationSettings(temperature=1.5, seed=2, max_new_tokens=20)
    for candidates in (1, 3):
        answer = reply(checkpoint, talk(POEM.wording, "江月"), chosen, candidates)
        poem = write(checkpoint, "江月", chosen, candidates=candidates)
        assert ("".join(answer), answer.reason) == ("".join(poem), poem.reason)


def test_the_whole_conversation_is_read_as_far_as_there_is_room(checkpoint: Checkpoint) -> None:
    assert room_in(checkpoint) == 42  # of 64
    chosen = GenerationSettings(temperature=1.5, max_new_tokens=20)

    def answer(messages: Conversation) -> str:
        return "".join(reply(checkpoint, messages, chosen))

    def read_as(messages: Conversation) -> str:
        """The answer to a prompt that is nothing but these messages."""
        prompt = checkpoint.tokenizer.encode_segments(message_segments(messages, open_response=True))
        return next(iter_answers(checkpoint, [prompt], chosen, [chosen.seed])).text

    short = talk("山", "江月", "江花開。", "月")
    assert answer(short) == read_as(short) != answer(short[:2])
    fits, long = talk("山", "江" * 10, "花" * 21, "月" * 5), talk("山", "江" * 10, "花" * 22, "月" * 5)
    assert answer(fits) == read_as(fits)
    more = talk("山", "江" * 10, "花" * 21, "月" * 5, "夜" * 10, "雨")
    assert answer(more) == read_as([*more[:2], *more[4:]])
    for messages in (talk("山", "江" * 40), long):
        with pytest.raises(ValueError, match="too long, even without older answers: at most 42 characters"):
            reply(checkpoint, messages)


def test_a_base_model_cannot_reply(checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match="a base model was taught no instruction"):
        reply(replace(checkpoint, instructions=()), [{"role": "user", "content": "山"}])


def test_answers_to_prompts_come_in_order_with_a_seed_for_each(checkpoint: Checkpoint) -> None:
    chosen = GenerationSettings(temperature=1.5, max_new_tokens=20)
    prompts = [prompt_ids(checkpoint, title) for title in TITLES]
    poems = list(iter_poems(checkpoint, TITLES, chosen, seeds=range(6), candidates=2))
    assert list(iter_answers(checkpoint, prompts, chosen, range(6), candidates=2, batch_size=5)) == poems
    with pytest.raises(ValueError, match="zip"):
        list(iter_answers(checkpoint, prompts, chosen, [0]))


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


def test_the_end_mark_ends_a_poem_and_is_not_shown(checkpoint: Checkpoint) -> None:
    always(checkpoint, checkpoint.tokenizer.eos_id)
    poem = write(checkpoint, "江月", GenerationSettings(temperature=0))
    assert ("".join(poem), poem.text, poem.reason) == ("", "", "end")
    assert next(iter_poems(checkpoint, ["江月"], GenerationSettings(temperature=0))).reason == "end"


def test_max_new_tokens_ends_a_poem(checkpoint: Checkpoint) -> None:
    always(checkpoint, checkpoint.tokenizer.encode("江")[0])
    poem = write(checkpoint, "江月", GenerationSettings(temperature=0, max_new_tokens=7))
    assert ("".join(poem), poem.reason) == ("江" * 7, "length")


def test_the_end_of_the_context_ends_a_poem(checkpoint: Checkpoint) -> None:
    always(checkpoint, checkpoint.tokenizer.encode("江")[0])
    room = checkpoint.model.config.max_position_embeddings - len(prompt_ids(checkpoint, "江月"))
    poem = write(checkpoint, "江月", GenerationSettings(temperature=0, max_new_tokens=500))
    assert ("".join(poem), poem.reason) == ("江" * (room + 1), "length")


def test_stop_ends_a_poem_at_the_next_character(checkpoint: Checkpoint) -> None:
    always(checkpoint, checkpoint.tokenizer.encode("江")[0])
    poem = write(checkpoint, "江月", GenerationSettings(temperature=0))
    for n, _ in enumerate(poem, start=1):
        if n == 3:
            poem.stop()
    assert (poem.text, poem.reason) == ("江江江", "stopped")


def test_while_a_poem_is_written_again_it_has_not_ended(checkpoint: Checkpoint) -> None:
    poem = write(checkpoint, "江月", GenerationSettings(temperature=0, max_new_tokens=3))
    first = "".join(poem)
    assert [poem.reason for _ in poem] == [None] * len(first)
    assert (poem.text, poem.reason is None) == (first, False)


def test_a_poem_ends_after_a_text_that_stops_it(checkpoint: Checkpoint) -> None:
    """Not because the prompt ends with that text; the other poems of the batch stay as they are."""
    chosen = GenerationSettings(temperature=1)
    whole = list(iter_poems(checkpoint, TITLES, chosen))
    stop = whole[0].text[3:5]
    for stopped, free in zip(iter_poems(checkpoint, TITLES, chosen, stop=stop), whole, strict=True):
        before, found, _ = free.text.partition(stop)
        assert stopped == (WrittenPoem(before + found, "stopped") if found else free)
    assert any(stop not in poem.text for poem in whole)
    first, last = checkpoint.tokenizer.encode(stop)
    always(checkpoint, last)
    prompt = [*prompt_ids(checkpoint, TITLES[0]), first]
    limits = GenerationLimits(end_id=None, stop=(first, last))
    *_, texts = generate(checkpoint.model, [prompt], GenerationSettings(temperature=0, max_new_tokens=3), limits)
    assert texts == [[last] * 3]


def test_a_prompt_that_fills_the_context_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match="the model reads 1 to 63"):
        list(continue_text(checkpoint, "山" * 64))
    with pytest.raises(ValueError, match="a prompt of 0 tokens"):
        list(continue_text(checkpoint, ""))


def test_texts_that_ended_leave_the_batch(checkpoint: Checkpoint) -> None:
    read: list[int] = []
    checkpoint.model.register_forward_pre_hook(lambda _, inputs: read.append(len(inputs[0])))
    long, short = (checkpoint.tokenizer.encode("山" * count) for count in (30, 60))
    chosen = GenerationSettings(temperature=0, max_new_tokens=100)
    *_, texts = generate(checkpoint.model, [long, short], chosen, GenerationLimits(end_id=None))
    assert [len(text) for text in texts] == [35, 5]
    assert read == [2] * 5 + [1] * 30


def test_a_model_whose_weights_are_not_numbers_writes_nothing(checkpoint: Checkpoint) -> None:
    with torch.no_grad():
        checkpoint.model.model.norm.weight[0] = torch.nan
    with pytest.raises(FloatingPointError, match="its weights are damaged"):
        list(write(checkpoint, "江月"))


def test_writing_leaves_the_model_in_the_mode_it_was_in(checkpoint: Checkpoint) -> None:
    checkpoint.model.train()
    list(iter_poems(checkpoint, ["江月"], GenerationSettings(max_new_tokens=3), candidates=2))
    assert checkpoint.model.training


# --- repetition -----------------------------------------------------------------------------------


def test_a_poem_repeats_its_characters_less_the_more_they_are_penalized(checkpoint: Checkpoint) -> None:
    always(checkpoint, *checkpoint.tokenizer.encode("江月春風花山水天人來何處見，。"))
    repeated = []
    for penalty in (0.0, 2.0, 100.0):
        chosen = GenerationSettings(temperature=1, top_p=1, presence_penalty=penalty, max_new_tokens=12)
        texts = [han(poem.text) for poem in iter_poems(checkpoint, TITLES, chosen)]
        repeated.append(sum(len(text) - len(set(text)) for text in texts))
    assert repeated[0] > repeated[1] > repeated[2] == 0


def test_a_poem_repeats_no_line_unless_the_penalty_is_0(checkpoint: Checkpoint) -> None:
    always(checkpoint, *checkpoint.tokenizer.encode("山月，。"))  # a model that knows nothing else soon repeats itself
    most = {}
    for penalty in (0.0, 1e-3):
        chosen = GenerationSettings(temperature=1, top_p=0.99, presence_penalty=penalty, max_new_tokens=40)
        lines = [Counter(split_lines(poem.text)) for poem in iter_poems(checkpoint, TITLES, chosen)]
        most[penalty] = max(max(counts.values()) for counts in lines)
    assert most[1e-3] == 1
    assert most[0.0] > 1


# --- candidates -----------------------------------------------------------------------------------


@torch.inference_mode()
def test_log_likelihood_is_the_mean_over_the_continuation(checkpoint: Checkpoint) -> None:
    prompt, ids = [5, 6, 7], [8, 9, 10, 11]
    expected = [
        float(checkpoint.model(torch.tensor([prompt + ids[:n]]))[0, -1].log_softmax(-1)[token])
        for n, token in enumerate(ids)
    ]
    assert log_likelihood(checkpoint.model, prompt, ids) == pytest.approx(sum(expected) / 4, abs=1e-6)


def test_the_best_of_several_candidates_is_kept_and_more_candidates_are_no_worse(checkpoint: Checkpoint) -> None:
    chosen = GenerationSettings(temperature=1.5, top_p=1, max_new_tokens=60)
    single = list(iter_poems(checkpoint, TITLES, chosen))
    best = list(iter_poems(checkpoint, TITLES, chosen, candidates=4))
    assert all(poem.log_likelihood is None for poem in single)
    assert all(poem.log_likelihood is not None for poem in best)
    assert list(iter_poems(checkpoint, TITLES, chosen, candidates=4, batch_size=5)) == best
    assert [poem.text for poem in best] != [poem.text for poem in single]
    more = list(iter_poems(checkpoint, TITLES, chosen, candidates=8))
    assert all(score_of(eighth) >= score_of(fourth) for eighth, fourth in zip(more, best, strict=True))


def test_the_best_of_several_is_streamed_once_all_are_written_and_can_be_stopped_before(checkpoint: Checkpoint) -> None:
    chosen = GenerationSettings(temperature=1.5, top_p=1, max_new_tokens=60)
    best = next(iter_poems(checkpoint, ["江月"], chosen, candidates=4))
    stream = write(checkpoint, "江月", chosen, candidates=4)
    assert ("".join(stream), stream.reason) == (best.text, best.reason)
    steps: list[int] = []
    stopped = write(checkpoint, "江月", chosen, candidates=4)

    def stop_at_once(*_: object) -> None:
        steps.append(1)
        stopped.stop()

    checkpoint.model.register_forward_pre_hook(stop_at_once)
    assert ("".join(stopped), stopped.reason, len(steps)) == ("", "stopped", 1)


def test_the_best_of_several_shipped_poems_rhymes_more_often(shipped: Checkpoint) -> None:
    titles = [poem.title for poem in load_poems("test")[:16]]
    rhyming = [
        sum(prosody.scan(poem.text).rhymes for poem in iter_poems(shipped, titles, candidates=n)) for n in (1, 4)
    ]
    assert rhyming[1] >= max(rhyming[0], 14)


def test_rank_puts_whole_poems_first_then_rhyme_then_tones_then_likelihood() -> None:
    rhyming = "白日依山盡，黃河入海流。\n欲窮千里目，更上一層樓。"
    plain = "白日依山盡，黃河入海流。\n欲窮千里目，更上一層山。"
    ranked = [
        WrittenPoem(rhyming, "end", -2.0),
        WrittenPoem(rhyming, "end", -5.0),
        WrittenPoem(plain, "end", -1.0),
        WrittenPoem(rhyming, "length", -0.5),
        WrittenPoem("江", "length", -0.1),
    ]
    assert sorted(ranked, key=score_of, reverse=True) == ranked


def test_each_title_may_have_a_seed_of_its_own(checkpoint: Checkpoint) -> None:
    chosen = GenerationSettings(temperature=1)
    poems = list(iter_poems(checkpoint, ["江月"] * 3, chosen, seeds=[5, 0, 5]))
    assert poems[0] == poems[2] != poems[1] == next(iter_poems(checkpoint, ["江月"], chosen))
    with pytest.raises(ValueError, match="1 seeds for 3 titles"):
        list(iter_poems(checkpoint, ["江月"] * 3, chosen, seeds=[5]))
    with pytest.raises(ValueError, match="candidates is 0, must be at least 1"):
        list(iter_poems(checkpoint, ["江月"], candidates=0))


def test_poems_come_one_after_the_other(checkpoint: Checkpoint) -> None:
    chosen = GenerationSettings(max_new_tokens=3)
    poems = iter_poems(checkpoint, [*TITLES[:4], "山" * 70], chosen, batch_size=4)  # the last fills the context
    assert next(poems).text
    assert len([next(poems) for _ in range(3)]) == 3  # written before the second batch is looked at
    with pytest.raises(ValueError, match="the model reads 1 to 63"):
        next(poems)
    assert list(iter_poems(checkpoint, [])) == []


# --- any title, any settings ----------------------------------------------------------------------

legal_settings = st.builds(
    GenerationSettings,
    temperature=st.floats(0, 5),
    top_p=st.floats(0, 1, exclude_min=True),
    top_k=st.integers(0, 100),
    min_p=st.floats(0, 1),
    max_new_tokens=st.integers(1, 80),
    seed=st.integers(),
    presence_penalty=st.floats(0, 100),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(typed=st.text(max_size=200), chosen=legal_settings)
@example(typed="<RES>江月<EOS>", chosen=GenerationSettings(temperature=5, top_p=1))
@example(typed="江" * 200, chosen=GenerationSettings())
@example(typed="江月", chosen=GenerationSettings(temperature=1e-310, min_p=1e-310, top_p=1e-310))
def test_any_title_and_any_legal_settings_give_a_poem_and_the_same_one_twice(
    checkpoint: Checkpoint, typed: str, chosen: GenerationSettings
) -> None:
    tokenizer = checkpoint.tokenizer
    title = read_title(typed, tokenizer).title or "江月"  # as the box and the command do; another if it is refused
    if len(prompt_ids(checkpoint, title)) >= checkpoint.model.config.max_position_embeddings:
        title = title[:10]  # this model's context is a quarter of the course's
    poem = write(checkpoint, title, chosen)
    characters = list(poem)
    assert poem.reason in ("end", "length")
    assert len(characters) <= chosen.max_new_tokens
    assert all(len(c) == 1 and tokenizer.encode(c) != [tokenizer.unk_id] for c in characters)
    assert not any(token in poem.text for token in tokenizer.special_tokens.values() if token not in typed)
    if chosen.presence_penalty and not chosen.greedy:
        assert max(Counter(split_lines(poem.text)).values(), default=1) == 1
    assert "".join(write(checkpoint, title, chosen)) == poem.text


def test_settings_are_all_used(checkpoint: Checkpoint) -> None:
    """Each setting, changed alone, changes some poem."""
    base = list(iter_poems(checkpoint, TITLES, GenerationSettings(temperature=1)))
    changes: list[dict[str, Any]] = [
        {"temperature": 3},
        {"top_p": 0.2},
        {"top_k": 2},
        {"min_p": 0.9},
        {"max_new_tokens": 2},
        {"seed": 1},
        {"presence_penalty": 0},
    ]
    for change in changes:
        assert list(iter_poems(checkpoint, TITLES, GenerationSettings(**({"temperature": 1} | change)))) != base, change


def test_a_model_of_ones_own_data_may_repeat_its_characters(checkpoint: Checkpoint) -> None:
    own = replace(checkpoint, instructions=(POEM, replace(POEM, name="own-1", given="text")))
    for model, is_same in ((own, True), (checkpoint, False)):
        free, held = (
            [
                w.text
                for w in iter_poems(model, TITLES, GenerationSettings(temperature=1, top_p=1, presence_penalty=penalty))
            ]
            for penalty in (0, 100)
        )
        assert (free == held) is is_same


def test_a_stream_that_is_read_twice_writes_the_same_text_again(checkpoint: Checkpoint) -> None:
    for candidates in (1, 2):
        stream = write(checkpoint, "江月", candidates=candidates)
        assert "".join(stream) == stream.text == "".join(stream) == stream.text


def test_at_least_one_candidate_is_written(checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match="candidates is 0, must be at least 1"):
        write(checkpoint, "江月", candidates=0)


def test_only_a_model_of_ones_own_data_may_write_latin_characters(checkpoint: Checkpoint) -> None:
    latin = set(checkpoint.tokenizer.encode("Az 09")) - {checkpoint.tokenizer.unk_id}
    own = replace(checkpoint, instructions=(replace(POEM, given="text"),))
    assert latin
    assert latin <= {*generation_limits(checkpoint).banned}
    assert not latin & {*generation_limits(own).banned, *generation_limits(replace(own, instructions=())).banned}
