"""What is saved is what is loaded, and what cannot be loaded says why."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, LlamaForCausalLM

from course_lib.checkpoints import (
    Checkpoint,
    CheckpointError,
    grow_embedding,
    load_checkpoint,
    load_training_state,
    read_card,
    save_checkpoint,
)
from course_lib.roles import message_segments
from course_lib.tokenizer import CharacterTokenizer


@pytest.fixture
def folder(checkpoint, tmp_path):
    save_checkpoint(checkpoint, tmp_path / "saved", {"kind": "test", "tokens_seen": 12}, "# A story\n")
    return tmp_path / "saved"


def test_a_checkpoint_comes_back_as_it_was_but_for_the_sixteenth_bit(checkpoint, folder):
    loaded = load_checkpoint(folder)
    assert loaded.model.config == checkpoint.model.config
    assert loaded.tokenizer.controls == checkpoint.tokenizer.controls
    for name, tensor in checkpoint.model.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[name], tensor, atol=1e-6, rtol=1e-3)


def test_saving_twice_gives_the_same_bytes(folder, tmp_path):
    save_checkpoint(load_checkpoint(folder), tmp_path / "again", {}, "")
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_the_card_gives_back_its_facts(folder):
    card = read_card(folder)
    assert (card["kind"], card["tokens_seen"]) == ("test", 12)
    assert card["sha256"] in (folder / "SHA256SUMS").read_text()
    assert (folder / "MODEL_CARD.md").read_text().endswith("# A story\n")


def test_transformers_encodes_a_conversation_the_same_way(checkpoint, folder):
    messages = [{"role": "user", "content": "江月"}, {"role": "assistant", "content": "江花開。"}]
    theirs = AutoTokenizer.from_pretrained(folder).apply_chat_template(messages)["input_ids"]
    assert theirs == checkpoint.tokenizer.encode_segments(message_segments(messages))


def test_transformers_knows_the_end_and_the_padding(checkpoint, folder):
    config = LlamaForCausalLM.from_pretrained(folder).config
    assert config.eos_token_id == checkpoint.tokenizer.eos_id
    assert config.pad_token_id == checkpoint.tokenizer.pad_id


# --- folders that are not in order ----------------------------------------------------------------


def without_sums(folder):
    (folder / "SHA256SUMS").unlink()


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in (config | changes).items() if v is not None}))
    without_sums(folder)


def change_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    without_sums(folder)


def flip_a_byte(folder):
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-100] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def cut_short(folder):
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1000])
    without_sums(folder)


NORM = "model.norm.weight"
DAMAGES = {
    "a flipped byte": (flip_a_byte, r"model.safetensors: damaged or changed; its SHA-256 is .*SHA256SUMS says"),
    "cut short": (cut_short, "model.safetensors: damaged or cut short"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: not there; a checkpoint has"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json: not there"),
    "listed but gone": (lambda f: (f / "tokenizer_config.json").unlink(), "tokenizer_config.json: not there, but"),
    "no JSON": (lambda f: (without_sums(f), (f / "config.json").write_text("{")), "config.json: not a model's"),
    "another family": (lambda f: change_config(f, model_type="gpt2"), "model_type is 'gpt2', .* needs 'llama'"),
    "no shape": (lambda f: change_config(f, hidden_size=None), "config.json: no 'hidden_size' in it"),
    "fewer key heads": (lambda f: change_config(f, num_key_value_heads=1), "num_key_value_heads is 1"),
    "untied": (lambda f: change_config(f, tie_word_embeddings=False), "tie_word_embeddings is False"),
    "odd heads": (lambda f: change_config(f, num_attention_heads=3), "does not split into 3 heads"),
    "another vocabulary": (lambda f: change_config(f, vocab_size=99), "tokens, but config.json says vocab_size 99"),
    "another width": (lambda f: change_config(f, intermediate_size=32), r"\(64, 32\), config.json asks for \(32, 32\)"),
    "a tensor less": (lambda f: change_weights(f, lambda t: t.pop(NORM)), f"tensor '{NORM}' is missing"),
    "a tensor more": (
        lambda f: change_weights(f, lambda t: t.update(extra=torch.ones(1))),
        "tensor 'extra' is not part of this model",
    ),
    "a foreign tokenizer": (
        lambda f: (without_sums(f), (f / "tokenizer.json").write_text('{"version": "1.0"}')),
        "tokenizer.json: not a tokenizer of this course",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_says_which_file_and_what_was_expected(folder, damage):
    break_it, sentence = DAMAGES[damage]
    break_it(folder)
    with pytest.raises(CheckpointError, match=sentence):
        load_checkpoint(folder)


def test_no_folder_and_no_card_say_so(folder, tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        load_checkpoint(tmp_path / "nowhere")
    (folder / "MODEL_CARD.md").write_text("no header")
    with pytest.raises(CheckpointError, match="no header"):
        read_card(folder)
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match="not there"):
        read_card(folder)


def test_a_damaged_training_state_says_so(tmp_path):
    (tmp_path / "state.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match="not a training state, or damaged"):
        load_training_state(tmp_path / "state.safetensors")


# --- role tokens ----------------------------------------------------------------------------------


@pytest.fixture
def base(poems):
    from course_lib.model import ModelConfig, PoetryModel

    torch.manual_seed(1)
    tokenizer = CharacterTokenizer.train((p.text for p in poems), min_count=1)
    config = ModelConfig(len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    return Checkpoint(PoetryModel(config), tokenizer)


def test_new_rows_are_the_mean_of_the_old_ones(base):
    old = base.model.model.embed_tokens.weight.detach()
    grown = grow_embedding(base.model, len(old) + 3)
    new = grown.model.embed_tokens.weight.detach()
    assert grown.config.vocab_size == len(old) + 3
    assert torch.equal(new[: len(old)], old)
    torch.testing.assert_close(new[len(old) :], old.mean(0).expand(3, -1))
    with pytest.raises(ValueError, match="are fewer"):
        grow_embedding(base.model, len(old) - 1)


def test_adding_roles_leaves_the_base_as_it_was(base):
    before = base.model.model.embed_tokens.weight.detach().clone()
    grown = base.with_roles()
    with torch.no_grad():
        grown.model.model.embed_tokens.weight += 1
    assert torch.equal(base.model.model.embed_tokens.weight, before)
    assert not base.tokenizer.has_roles
    assert grown.tokenizer.has_roles
    assert len(grown.tokenizer) == len(base.tokenizer) + 3 == grown.model.config.vocab_size
    assert grown.with_roles() is grown
