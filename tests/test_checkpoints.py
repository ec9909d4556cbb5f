"""What is saved is what is loaded, and what cannot be loaded says why."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from course_lib.checkpoints import (
    Checkpoint,
    CheckpointError,
    average,
    grow_embedding,
    load_checkpoint,
    read_card,
    save_checkpoint,
    sha256,
)
from course_lib.instructions import OLD_STYLE, POEM, Instruction
from course_lib.model import ModelConfig, PoetryModel
from course_lib.poems import Poem
from course_lib.tokenizer import CharacterTokenizer

Damage = Callable[[Path], object]


@pytest.fixture
def folder(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    save_checkpoint(checkpoint, tmp_path / "saved", {"kind": "test", "tokens_seen": 12}, "# A story\n")
    return tmp_path / "saved"


@pytest.fixture
def base(poems: list[Poem]) -> Checkpoint:
    """A model that does not know the roles."""
    torch.manual_seed(1)
    tokenizer = CharacterTokenizer.train((p.text for p in poems), min_count=1)
    config = ModelConfig(len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    return Checkpoint(PoetryModel(config), tokenizer)


# --- there and back -------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_as_it_was_but_for_the_sixteenth_bit(checkpoint: Checkpoint, folder: Path) -> None:
    loaded = load_checkpoint(folder)
    assert loaded.model.config == checkpoint.model.config
    assert loaded.tokenizer.special_tokens == checkpoint.tokenizer.special_tokens
    assert loaded.instructions == (POEM,)
    for name, tensor in checkpoint.model.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[name], tensor, atol=1e-6, rtol=1e-3)


def test_an_average_has_the_means_of_the_weights(checkpoint: Checkpoint) -> None:
    models = [copy.deepcopy(checkpoint.model) for _ in range(3)]
    for number, model in enumerate(models):
        with torch.no_grad():
            for weight in model.parameters():
                weight.fill_(number**2)
    mean = average([replace(checkpoint, model=model) for model in models])
    assert all(torch.allclose(weight, torch.tensor(5 / 3)) for weight in mean.model.parameters())
    assert (mean.tokenizer, mean.instructions) == (checkpoint.tokenizer, checkpoint.instructions)
    assert all((weight == 4).all() for weight in models[2].parameters())  # the parts are as they were


def test_models_that_differ_have_no_average(checkpoint: Checkpoint, base: Checkpoint) -> None:
    other = PoetryModel(replace(checkpoint.model.config, num_hidden_layers=1))
    with pytest.raises(ValueError, match="different shape"):
        average([checkpoint, replace(checkpoint, model=other)])
    with pytest.raises(ValueError, match="different instructions"):
        average([checkpoint, replace(checkpoint, instructions=(OLD_STYLE,))])
    turned = checkpoint.tokenizer.copy()
    turned.add_role_tokens(["<A>"])
    with pytest.raises(ValueError, match="different vocabulary"):
        average([checkpoint, replace(checkpoint, tokenizer=turned)])


def test_saving_twice_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    save_checkpoint(load_checkpoint(folder), tmp_path / "again", {}, "")
    for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "instructions.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_the_card_gives_back_its_facts(folder: Path) -> None:
    card = read_card(folder)
    assert (card["kind"], card["tokens_seen"]) == ("test", 12)
    assert card["sha256"] in (folder / "SHA256SUMS").read_text()
    assert (folder / "MODEL_CARD.md").read_text().endswith("# A story\n")


def test_nothing_else_is_left_in_the_folder(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "MODEL_CARD.md",
        "SHA256SUMS",
        "config.json",
        "instructions.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_an_error_while_saving_leaves_the_old_folder_as_it_was(checkpoint: Checkpoint, folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with torch.no_grad():
        checkpoint.model.model.norm.weight.add_(1)
    with pytest.raises(Exception, match="cannot represent"):
        save_checkpoint(checkpoint, folder, {"what YAML cannot write": object()}, "")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_shipped_model_knows_its_two_instructions(repository: Path) -> None:
    shipped = load_checkpoint(repository / "assets/checkpoints/finetuned")
    assert shipped.instructions == (POEM, OLD_STYLE)
    assert read_card(repository / "assets/checkpoints/finetuned")["instructions"] == json.loads(
        (repository / "assets/checkpoints/finetuned/instructions.json").read_text(encoding="utf-8")
    )
    assert load_checkpoint(repository / "assets/checkpoints/base").instructions == ()


# --- instructions ---------------------------------------------------------------------------------


def test_what_was_taught_lies_in_the_folder(checkpoint: Checkpoint, tmp_path: Path) -> None:
    riddle = Instruction("riddle", "謎", ("請寫一個謎語", "謎語"))
    taught = Checkpoint(checkpoint.model, checkpoint.tokenizer, (POEM, OLD_STYLE, riddle))
    save_checkpoint(taught, tmp_path / "taught", {}, "")
    assert load_checkpoint(tmp_path / "taught").instructions == taught.instructions  # with what fits each
    assert "instructions.json" in (tmp_path / "taught/SHA256SUMS").read_text()


def test_an_instruction_is_found_by_its_name_or_its_label(checkpoint: Checkpoint, base: Checkpoint) -> None:
    taught = checkpoint.with_roles([POEM, OLD_STYLE])
    assert taught.instruction() == taught.instruction("poem") == taught.instruction("詩") == POEM
    assert taught.instruction("old-style") == taught.instruction("古體詩") == OLD_STYLE
    with pytest.raises(ValueError, match=r"'limerick'.*poem.*old-style"):
        taught.instruction("limerick")
    with pytest.raises(ValueError, match="'old-style'"):
        checkpoint.instruction("old-style")  # it exists, but this model was not taught it
    with pytest.raises(ValueError, match="taught no instruction"):
        base.instruction("poem")


def test_a_folder_without_instructions_was_taught_poem_if_it_has_the_roles(base: Checkpoint, folder: Path) -> None:
    without_sums(folder)
    (folder / "instructions.json").unlink()
    assert load_checkpoint(folder).instructions == (POEM,)
    save_checkpoint(base, folder, {}, "")
    assert load_checkpoint(folder).instructions == ()


def test_roles_that_were_never_used_ask_for_nothing(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint.with_roles([]), tmp_path / "untaught", {}, "")
    assert load_checkpoint(tmp_path / "untaught").instructions == ()


def test_a_base_model_saved_over_another_has_no_instructions(base: Checkpoint, folder: Path) -> None:
    save_checkpoint(base, folder, {}, "")
    assert not (folder / "instructions.json").exists()
    assert load_checkpoint(folder).instructions == ()


def test_a_tied_output_matrix_may_be_in_the_file(folder: Path) -> None:
    """Some tools write the embedding a second time, as lm_head.weight."""
    ours = load_checkpoint(folder)
    change_weights(folder, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    back = load_checkpoint(folder)
    for name, tensor in ours.model.state_dict().items():
        assert torch.equal(back.model.state_dict()[name], tensor)


# --- folders that cannot be used ------------------------------------------------------------------


def without_sums(folder: Path) -> None:
    (folder / "SHA256SUMS").unlink(missing_ok=True)


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    without_sums(folder)


def overwrite(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    without_sums(folder)


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    overwrite(folder, "config.json", json.dumps(config | changes))


def flip_a_byte(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-100] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def cut_short(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1000])
    without_sums(folder)


def without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    without_sums(folder)


NORM = "model.norm.weight"
DAMAGES: dict[str, tuple[Damage, str]] = {
    "a flipped byte": (flip_a_byte, r"model.safetensors: damaged or changed; its SHA-256 is .*SHA256SUMS says"),
    "cut short": (cut_short, "model.safetensors: not the weights that config.json describes .*incomplete"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: not there; expected a file"),
    "no tokenizer": (without_tokenizer, "tokenizer.json: not there; expected a tokenizer"),
    "listed but gone": (lambda f: (f / "instructions.json").unlink(), "instructions.json: not there; expected a file"),
    "no JSON": (lambda f: overwrite(f, "config.json", "{"), "config.json: not the configuration of a model"),
    "another model": (lambda f: change_config(f, model_type="gpt2"), "config.json: not .*model_type is 'gpt2'"),
    "another vocabulary": (lambda f: change_config(f, vocab_size=99), "tokens; config.json says vocab_size 99"),
    "another width": (
        lambda f: change_config(f, intermediate_size=32),
        r"size mismatch for .*gate_proj.weight.*\[64, 32\].*\[32, 32\]",
    ),
    "a tensor less": (lambda f: change_weights(f, lambda t: t.pop(NORM)), f"Missing key.*{NORM}"),
    "a tensor more": (
        lambda f: change_weights(f, lambda t: t.update(extra=torch.ones(1))),
        "Unexpected key.*extra",
    ),
    "whole numbers": (
        lambda f: change_weights(f, lambda t: t.update({NORM: t[NORM].to(torch.int8)})),
        f"{NORM} holds integers",
    ),
    "no number": (
        lambda f: change_weights(f, lambda t: t[NORM].fill_(torch.nan)),
        f"{NORM} holds a number that is none",
    ),
    "too large for float32": (
        lambda f: change_weights(f, lambda t: t.update({NORM: t[NORM].double() * 1e300})),
        f"{NORM} holds a number that is none",
    ),
    "a million layers": (
        lambda f: change_config(f, num_hidden_layers=1_000_000),
        "it has 25,376 weights, not [0-9,]{11,}",
    ),
    "a huge matrix": (lambda f: change_config(f, intermediate_size=1_000_000), "it has 25,376 weights, not 192"),
    "holes in the vocabulary": (
        lambda f: overwrite(f, "tokenizer.json", (f / "tokenizer.json").read_text().replace(": 5,", ": 5555,", 1)),
        "tokenizer.json: .* tokens; config.json says .*so the ids must be 0 to",
    ),
    "sums of something else": (
        lambda f: (f / "SHA256SUMS").write_text("no sum\n"),
        "SHA256SUMS: not a list of checksums .*'no sum'",
    ),
    "another output matrix": (
        lambda f: change_weights(f, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"] + 1})),
        "lm_head.weight is not the embedding",
    ),
    "a foreign tokenizer": (
        lambda f: overwrite(f, "tokenizer.json", '{"version": "1.0"}'),
        "tokenizer.json: not a tokenizer of this course",
    ),
    "foreign instructions": (
        lambda f: overwrite(f, "instructions.json", '[{"name": "poem"}]'),
        "instructions.json: not a list of instructions",
    ),
    "instructions cut short": (
        lambda f: overwrite(f, "instructions.json", '[{"name'),
        "instructions.json: not a list of instructions",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_says_which_file_and_what_was_expected(folder: Path, damage: str) -> None:
    break_it, sentence = DAMAGES[damage]
    break_it(folder)
    with pytest.raises(CheckpointError, match=f"(?s){sentence}"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\n" + text.replace("\n", "\n\n"),
        lambda text: text.replace("  ", " *"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "# by hand\n" + text[:64].upper() + text[64:].rstrip("\n"),
    ],
)
def test_sums_are_read_as_sha256sum_reads_them(folder: Path, change: Callable[[str], str]) -> None:
    sums = folder / "SHA256SUMS"
    sums.write_bytes(change(sums.read_text()).encode())
    load_checkpoint(folder)
    with (folder / "config.json").open("a") as file:
        file.write(" ")
    with pytest.raises(CheckpointError, match=r"config.json: damaged or changed"):
        load_checkpoint(folder)


def test_a_model_with_a_number_that_is_none_is_not_written(checkpoint: Checkpoint, folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for value in (float("nan"), 1e6):  # the second is infinite in 16 bits
        with torch.no_grad():
            checkpoint.model.model.norm.weight[0] = value
        with pytest.raises(OSError, match=r"saved: not written; .*model.norm.weight holds a number that is none"):
            save_checkpoint(checkpoint, folder, {}, "")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("content", ["[]", "null", "3", '"text"', '{"rope_parameters": [1]}'])
def test_a_configuration_that_is_no_table_is_refused(folder: Path, content: str) -> None:
    overwrite(folder, "config.json", content)
    with pytest.raises(CheckpointError, match=r"config.json: not the configuration of a model"):
        load_checkpoint(folder)


def test_no_folder_and_no_card_say_so(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        load_checkpoint(tmp_path / "nowhere")
    (folder / "MODEL_CARD.md").write_text("no header")
    with pytest.raises(CheckpointError, match="not a model card with a header"):
        read_card(folder)
    (folder / "MODEL_CARD.md").write_text("---\n- a list\n---\n")
    with pytest.raises(CheckpointError, match="its header is no table of facts"):
        read_card(folder)
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match="not there"):
        read_card(folder)


@pytest.mark.parametrize("name", ["base", "finetuned"])
def test_the_shipped_sums_are_those_of_the_files(repository: Path, name: str) -> None:
    folder = repository / "assets/checkpoints" / name
    listed = dict(line.split("  ")[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert listed.keys() == {p.name for p in folder.iterdir()} - {"SHA256SUMS", "MODEL_CARD.md"}
    assert all(sha256(folder / file) == digest for file, digest in listed.items())


# --- role tokens ----------------------------------------------------------------------------------


def test_new_rows_are_the_mean_of_the_old_ones(base: Checkpoint) -> None:
    old = base.model.model.embed_tokens.weight.detach()
    grown = grow_embedding(base.model, len(old) + 3)
    new = grown.model.embed_tokens.weight.detach()
    assert grown.config.vocab_size == len(old) + 3
    assert torch.equal(new[: len(old)], old)
    torch.testing.assert_close(new[len(old) :], old.mean(0).expand(3, -1))
    with pytest.raises(ValueError, match="are fewer"):
        grow_embedding(base.model, len(old) - 1)


def test_adding_roles_leaves_the_base_as_it_was(base: Checkpoint) -> None:
    before = base.model.model.embed_tokens.weight.detach().clone()
    grown = base.with_roles()
    with torch.no_grad():
        grown.model.model.embed_tokens.weight += 1
    assert torch.equal(base.model.model.embed_tokens.weight, before)
    assert not base.tokenizer.has_roles
    assert base.instructions == ()
    assert grown.tokenizer.has_roles
    assert grown.instructions == (POEM,)
    assert len(grown.tokenizer) == len(base.tokenizer) + 3 == grown.model.config.vocab_size


def test_a_model_with_roles_is_not_copied_to_be_taught_more(checkpoint: Checkpoint) -> None:
    more = checkpoint.with_roles([POEM, OLD_STYLE])
    assert more.model is checkpoint.model
    assert more.instructions == (POEM, OLD_STYLE)
    assert checkpoint.instructions == (POEM,)
