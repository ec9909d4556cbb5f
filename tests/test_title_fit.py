"""Likelihoods under a poem's own title and under others, against computing them one by one."""

import random

import pytest
import torch
from by_hand import base_model, nats

from course_lib.checkpoints import Checkpoint
from course_lib.evaluation.title_fit import log_likelihoods, title_fit
from course_lib.generation import prompt_ids
from course_lib.instructions import OLD_STYLE, POEM
from course_lib.poems import Poem

POOL = [a + b for a in ("山", "江上", "夜", "雨中") for b in ("月", "雲水", "花間行", "水")]  # 16 titles
TEXTS = ["江雲樹樹開", "", "山月", "水向門前去，雲從石上生。"]


@pytest.fixture
def decided(checkpoint: Checkpoint) -> Checkpoint:
    """The untrained model with weights so large that a title makes a difference."""
    with torch.no_grad():
        for weight in checkpoint.model.parameters():
            weight.mul_(4)
    return checkpoint


def test_likelihoods_by_hand(checkpoint: Checkpoint, poems: list[Poem]) -> None:
    """In one padded batch, and each alone; of a model that was taught and of one that was not."""
    for model in (checkpoint, base_model(checkpoint, poems)):
        pairs = [(p.title, q.text) for p in poems for q in poems]
        found = log_likelihoods(model, pairs).tolist()
        for (title, text), likelihood in zip(pairs, found, strict=True):
            ids = prompt_ids(model, title) + model.tokenizer.encode(text)
            costs = nats(model, ids)[-len(text) :]
            assert likelihood == pytest.approx(-sum(costs) / len(text), abs=1e-5)
        assert log_likelihoods(model, [("山", "")]).tolist() == [0]


def test_the_instruction_is_part_of_the_prompt(decided: Checkpoint) -> None:
    plain = log_likelihoods(decided, [("山", "江雲")])
    assert log_likelihoods(decided, [("山", "江雲")], POEM) == plain
    ids = prompt_ids(decided, "山", OLD_STYLE) + decided.tokenizer.encode("江雲")
    expected = -sum(nats(decided, ids)[-2:]) / 2
    assert expected != pytest.approx(plain.item(), abs=1e-3)
    assert log_likelihoods(decided, [("山", "江雲")], OLD_STYLE).item() == pytest.approx(expected, abs=1e-5)


def test_characters_beyond_the_context_do_not_count(checkpoint: Checkpoint) -> None:
    text = "山雨" * 50
    prompt = prompt_ids(checkpoint, "山")
    context = checkpoint.model.config.max_position_embeddings
    costs = nats(checkpoint, (prompt + checkpoint.tokenizer.encode(text))[:context])[len(prompt) - 1 :]
    assert len(costs) == context - len(prompt) < len(text)
    assert log_likelihoods(checkpoint, [("山", text)]).item() == pytest.approx(-sum(costs) / len(costs), abs=1e-5)


def test_gains_and_wins_by_hand(decided: Checkpoint) -> None:
    """With a pool of 16 titles, each text is read under all of them. An empty text gains nothing and does not win."""
    gains = []
    wins = []
    for own, text in zip(POOL, TEXTS, strict=False):
        likelihood = {title: log_likelihoods(decided, [(title, text)]).item() for title in POOL}
        others = [likelihood[title] for title in POOL if title != own]
        gains.append(likelihood[own] - sum(others) / 15)
        wins.append(likelihood[own] > max(others))
    assert gains[1] == wins[1] == 0
    assert max(map(abs, gains)) > 0.01
    found = title_fit(decided, POOL[:4], TEXTS, POOL)
    assert found["own_title_gain"].value == pytest.approx(sum(gains) / 4, abs=1e-5)
    assert found["own_title_wins"].value == sum(wins) / 4
    best = max(POOL, key=lambda title: log_likelihoods(decided, [(title, "江雲樹樹開")]).item())
    assert title_fit(decided, [best], ["江雲樹樹開"], POOL)["own_title_wins"].value == 1


def test_texts_of_one_batch_are_of_similar_length(checkpoint: Checkpoint) -> None:
    shapes: list[tuple[int, int]] = []
    done: list[int] = []
    checkpoint.model.model.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    title_fit(checkpoint, POOL[:3], TEXTS[:3], POOL, batch_size=9, progress=lambda _, count, __: done.append(count))
    rows = [rows for rows, _ in shapes]
    widths = [width for _, width in shapes]
    assert rows == [9] * 5 + [3]
    assert widths == sorted(widths)
    assert done == [0, 1, 1, 2, 2, 3]


def test_other_titles_depend_on_the_seed(decided: Checkpoint) -> None:
    pool = [*POOL, "山", "江", "月", "水"]
    zero, again, one = (title_fit(decided, POOL[:4], TEXTS, pool, seed=seed) for seed in (0, 0, 1))
    assert zero == again != one


def test_the_precision_is_the_one_asked_for(decided: Checkpoint) -> None:
    exact = log_likelihoods(decided, [("山", "江雲")]).item()
    rounded = log_likelihoods(decided, [("山", "江雲")], precision=torch.bfloat16).item()
    assert exact != rounded
    assert exact == pytest.approx(rounded, rel=0.05)


def test_an_untrained_model_finds_no_title_fitter_than_others(checkpoint: Checkpoint) -> None:
    """The own title wins about 1 time in 16: by chance."""
    draw = random.Random(0)
    signs = "山中一夜雨樹上幾聲水向門前去雲從石生江月何人見花度開"
    titles = ["".join(draw.sample(signs, 3)) for _ in range(200)]
    texts = ["".join(draw.sample(signs, 10)) for _ in range(200)]
    found = title_fit(checkpoint, titles, texts, titles)
    assert 0 < found["own_title_wins"].value < 0.15
    assert abs(found["own_title_gain"].value) < 0.02


def test_too_few_titles_are_an_error(checkpoint: Checkpoint) -> None:
    with pytest.raises(ValueError, match=r"14 titles beside '0'; a comparison needs at least 15"):
        title_fit(checkpoint, ["0"], ["山"], [str(i) for i in range(15)])


def test_reading_needs_evaluation_mode_and_restores_the_mode(checkpoint: Checkpoint) -> None:
    modes: list[bool] = []
    checkpoint.model.model.register_forward_pre_hook(lambda decoder, _: modes.append(decoder.training))
    checkpoint.model.train()
    log_likelihoods(checkpoint, [("山", "江雲")])
    assert modes == [False]
    assert checkpoint.model.training
