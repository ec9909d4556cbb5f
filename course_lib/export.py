"""A checkpoint as ONNX files and JSON, for programs without PyTorch; `site/poem` is one: a page that needs no server.

model.onnx          the model; it computes in float32, from weights that are stored in 16 bits, as in a checkpoint
model-int8.onnx     the same with weights of 8 bits
vocabulary.json     the tokens in the order of their ids, and the ids of the special tokens
instructions.json   what the model can be asked for
generation.json     where a text ends, what it may not contain, the usual settings, the shape of an empty cache

Both models read `input_ids` (1, T) and `past`, the keys and values of the S tokens before: (layers, 2, 1, H, S,
head_dim). They return `logits` (1, V) after the last token, and `present`, which is the next `past`.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from course_lib.checkpoints import INSTRUCTIONS, Checkpoint
from course_lib.files import replacing
from course_lib.generation import generation_limits, last_logits
from course_lib.model import KVCache, PoetryModel
from course_lib.sampling import GenerationSettings
from course_lib.tasks import to_rows

CPU = torch.device("cpu")


class GrowingLayer:
    """One layer of a cache, which grows when it is written to: in ONNX nothing can be changed in place."""

    def __init__(self, past: Tensor) -> None:
        self.parts = [past[0], past[1]]  # keys and values, each (1, H, S, head_dim)

    def __setitem__(self, place: tuple[int, slice, slice, slice], new: Tensor) -> None:
        self.parts[place[0]] = torch.cat((self.parts[place[0]], new), dim=2)

    def __getitem__(self, _: tuple[slice, ...]) -> list[Tensor]:
        return self.parts


class Step(nn.Module):
    """The model as a function without memory: the cache is an input and an output."""

    def __init__(self, model: PoetryModel) -> None:
        super().__init__()
        self.decoder = model

    def forward(self, input_ids: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """(1, T) and (layers, 2, 1, H, S, head_dim) -> (1, V) and (layers, 2, 1, H, S + T, head_dim)"""
        cache: Any = KVCache(self.decoder.config, [0], 0, CPU)
        cache.length, cache.layers = past.shape[4], [GrowingLayer(layer) for layer in past.unbind()]
        logits = self.decoder(input_ids, cache=cache, head=last_logits)
        return logits, torch.stack([torch.stack(layer.parts) for layer in cache.layers])


def to_onnx(model: PoetryModel) -> Any:
    """The model as an `onnx.ModelProto`, in float32. Takes about ten seconds."""
    context = model.config.max_position_embeddings
    program = torch.onnx.export(
        Step(model).to(CPU).eval(),
        (torch.zeros(1, 3, dtype=torch.int64), KVCache(model.config, [0], 2, CPU).layers),  # any lengths above 1
        input_names=["input_ids", "past"],
        output_names=["logits", "present"],
        dynamic_shapes={"input_ids": {1: Dim("time", max=context)}, "past": {4: Dim("past", min=0, max=context)}},
        dynamo=True,
        optimize=False,  # so that the weights keep their names and are there once; onnxruntime optimizes
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def packed(model: Any, bits: int) -> Any:
    """A copy with matrices of 16 bits, or of 8 bits and a number for each row. onnxruntime unpacks them once."""
    from onnx import ModelProto, TensorProto, helper, numpy_helper

    copy, nodes = ModelProto(), []
    copy.CopyFrom(model)
    for tensor in [each for each in copy.graph.initializer if each.name.endswith("weight") and len(each.dims) == 2]:
        name, weight, scale = tensor.name, numpy_helper.to_array(tensor), np.ones(1, np.float32)
        if bits == 8:
            scale = np.maximum(np.abs(weight).max(axis=1, keepdims=True), 1e-30) / 127
        stored = np.round(weight / scale).astype(np.int8) if bits == 8 else weight.astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(stored, f"{name}.stored"))
        copy.graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
        nodes.append(helper.make_node("Cast", [f"{name}.stored"], [f"{name}.wide"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [f"{name}.wide", f"{name}.scale"], [name]))
    nodes += copy.graph.node
    for node in nodes:
        node.ClearField("metadata_props")  # a megabyte: the line of Python that each step comes from
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def tables(checkpoint: Checkpoint) -> dict[str, Any]:
    """The content of each JSON file, by its name."""
    tokenizer, taught, limits = checkpoint.tokenizer, checkpoint.instructions, generation_limits(checkpoint)
    return {
        "vocabulary.json": {
            "tokens": [tokenizer.decode([i], show_special_tokens=True) for i in range(len(tokenizer))],
            "special_tokens": {token: i for i, token in tokenizer.special_tokens.items()},
        },
        INSTRUCTIONS: [row | {"kind": i.kind, "given": i.given} for i in taught for row in to_rows([i])],
        "generation.json": {
            "end_id": limits.end_id,
            "banned": sorted(limits.banned),
            "line_ends": sorted(limits.line_ends),
            "context": checkpoint.context,
            "empty_cache": list(KVCache(checkpoint.model.config, [0], 0, CPU).layers.shape),
            "settings": asdict(GenerationSettings(presence_penalty=0.0) if limits.may_repeat else GenerationSettings()),
        },
    }


def export(checkpoint: Checkpoint, folder: Path) -> None:
    """Write all files of the head of this module to `folder`. Raises OSError if one cannot be written."""
    model = to_onnx(checkpoint.model)
    with replacing(folder) as new:
        for file, bits in (("model.onnx", 16), ("model-int8.onnx", 8)):
            (new / file).write_bytes(packed(model, bits).SerializeToString())
        for file, table in tables(checkpoint).items():
            (new / file).write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")
