"""`transformers` opens our checkpoints and we open those it saves; what our model cannot do is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from course_lib.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from course_lib.engine.llama_format import llama_config, parse_config
from course_lib.instructions import POEM
from course_lib.roles import message_segments


@pytest.fixture
def folder(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    save_checkpoint(checkpoint, tmp_path / "saved", {}, "")
    return tmp_path / "saved"


def test_transformers_encodes_a_conversation_the_same_way(checkpoint: Checkpoint, folder: Path) -> None:
    messages: list[Any] = [{"role": "user", "content": "江月"}, {"role": "assistant", "content": "江花開。"}]
    theirs: Any = AutoTokenizer.from_pretrained(folder)
    ours = checkpoint.tokenizer.encode_segments(message_segments(messages))
    assert theirs.apply_chat_template(messages)["input_ids"] == ours


def test_transformers_knows_the_end_and_the_padding(checkpoint: Checkpoint, folder: Path) -> None:
    config = LlamaForCausalLM.from_pretrained(folder).config
    assert config.eos_token_id == checkpoint.tokenizer.eos_id
    assert config.pad_token_id == checkpoint.tokenizer.pad_id


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_folder_that_transformers_saved_is_opened(folder: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    """transformers 5 nests rope_theta in rope_parameters, and writes dtype in place of torch_dtype."""
    theirs: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    theirs.save_pretrained(tmp_path / "theirs")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "theirs")
    ours, back = load_checkpoint(folder), load_checkpoint(tmp_path / "theirs")
    assert back.model.config == ours.model.config
    assert back.tokenizer.special_tokens == ours.tokenizer.special_tokens
    assert back.tokenizer.encode("山雨<RES>") == ours.tokenizer.encode("山雨<RES>")
    assert back.instructions == (POEM,)
    ids = torch.randint(len(ours.tokenizer), (2, 30), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        if dtype == torch.bfloat16:  # which rounds: to what transformers computes with those weights
            torch.testing.assert_close(back.model(ids), theirs.float()(ids).logits, atol=1e-5, rtol=1e-5)
        else:
            assert torch.equal(back.model(ids), ours.model(ids))


def content(checkpoint: Checkpoint, **changes: Any) -> dict[str, Any]:
    """The content of the checkpoint's config.json with some keys changed."""
    return llama_config(checkpoint.model.config, checkpoint.tokenizer) | changes


UNSUPPORTED: dict[str, tuple[dict[str, Any], str]] = {
    "another family": ({"model_type": "gpt2"}, "model_type is 'gpt2', must be 'llama'"),
    "a bare decoder": ({"architectures": ["LlamaModel"]}, r"architectures is \['LlamaModel'\]"),
    "fewer key heads": ({"num_key_value_heads": 1}, "num_key_value_heads is 1, must be 2"),
    "wider heads": ({"head_dim": 32}, "head_dim is 32, must be 16"),
    "untied": ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
    "another activation": ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
    "biases": ({"attention_bias": True}, "attention_bias is True, must be False"),
    "biases in the MLP": ({"mlp_bias": True}, "mlp_bias is True"),
    "stretched positions": ({"rope_scaling": {"type": "linear", "factor": 2.0}}, r"rope_scaling is \{'type': 'linear'"),
    "stretched positions, nested": (
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}},
        "rope_type is 'llama3', must be 'default'",
    ),
    "half of the channels turned": (
        {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        "partial_rotary_factor is 0.5, which is not supported",
    ),
    "a sliding window": ({"sliding_window": 16}, "sliding_window is 16, which is not supported"),
    "quantized": ({"quantization_config": {"bits": 4}}, "quantization_config is {'bits': 4}"),
    "a key of the future": ({"attention_softcap": 30.0}, "attention_softcap is 30.0"),
    "odd heads": ({"num_attention_heads": 3}, "does not split into 3 heads"),
    "no heads": ({"num_attention_heads": 0}, "num_attention_heads is 0, must be a number above 0"),
    "a number as text": ({"rope_theta": "10000"}, "rope_theta is '10000', must be a number above 0"),
    "a whole number as text": ({"hidden_size": "32"}, "hidden_size is '32', must be a number above 0"),
    "half a layer": ({"num_hidden_layers": 1.5}, "num_hidden_layers is 1.5, must be a number"),
    "true as a number": ({"num_hidden_layers": True}, "num_hidden_layers is True"),
    "no number": ({"rms_norm_eps": float("nan")}, "rms_norm_eps is nan, must be a number above 0"),
    "more than memory holds": ({"hidden_size": 10**12}, "hidden_size is 1000000000000, must be .* below 1,048,576"),
    "a number of many digits": ({"rope_theta": 10**400}, "rope_theta is 1000.*, must be .* below 1e"),
    "angles without end": ({"rope_theta": 1e-300}, "rope_theta is 1e-300, must be a number"),
    "no end": ({"rope_theta": float("inf")}, "rope_theta is inf, must be a number above 0"),
}


@pytest.mark.parametrize("change", UNSUPPORTED)
def test_what_would_change_the_model_is_refused_by_name(checkpoint: Checkpoint, change: str) -> None:
    changes, sentence = UNSUPPORTED[change]
    with pytest.raises(ValueError, match=sentence):
        parse_config(content(checkpoint, **changes))


@pytest.mark.parametrize("name", ["hidden_size", "rope_theta"])
def test_a_size_that_is_missing_is_named(checkpoint: Checkpoint, name: str) -> None:
    without = content(checkpoint)
    del without[name]
    with pytest.raises(ValueError, match=f"{name} is None, must be a number above 0"):
        parse_config(without)


@pytest.mark.parametrize(
    "changes",
    [
        {"attention_dropout": 0.1, "initializer_range": 0.01, "use_cache": False},  # of no effect on what is computed
        {"torch_dtype": "bfloat16", "bos_token_id": 7, "transformers_version": "4.50.0", "pretraining_tp": 1},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10000}},
        {"head_dim": 16, "some_switch": False},
        {"sliding_window": None, "rope_scaling": None},  # a key that is not set
    ],
)
def test_what_does_not_change_the_model_is_no_obstacle(checkpoint: Checkpoint, changes: dict[str, Any]) -> None:
    assert parse_config(content(checkpoint, **changes)) == checkpoint.model.config
