"""The decoder once more, arranged for reading one token at a time: few and large products, nothing read twice.

`course_lib.model` is the definition, and the tests hold the two against each other. What differs: a layer's queries,
keys and values are one product, and so are the two halves of its MLP; what is always multiplied the same is part of
the matrix; two channels that a position turns are one complex number; keys and values of the tokens already read are
kept. Without a GPU it is numpy that computes: with a single token in hand, much of the time goes into calling
functions, and calling numpy's takes half as long. What each of these is worth, and what failed, is told in
`benchmarks/README.md`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from course_lib.model import Layer, PoetryModel

Array = Any  # of numpy, or a tensor on a GPU: what is used here has the same name in both

FEW = 4  # rows; fewer than that are always multiplied by numpy


def library_for(device: torch.device) -> Any:
    """Whose functions to call for a model on this device."""
    return torch if device.type == "cuda" else np


class Weights(NamedTuple):
    """A layer's matrices; those that read the same input are joined."""

    qkv: Tensor
    o: Tensor
    gate_up: Tensor
    down: Tensor


def weights_of(layer: Layer) -> Weights:
    """The weights of a layer, each (out, in), with what is always multiplied the same in them.

    That is RMSNorm's gains, which belong to the matrix that reads what was normed, and the scale of the scores, which
    belongs to the queries.
    """
    attention, mlp = layer.self_attn, layer.mlp
    q, k = (in_pairs(part.weight, attention.head_dim) for part in (attention.q_proj, attention.k_proj))
    qkv = torch.cat((q * attention.head_dim**-0.5, k, attention.v_proj.weight)).mul_(layer.input_layernorm.weight)
    gate_up = torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight)).mul_(layer.post_attention_layernorm.weight)
    return Weights(qkv, attention.o_proj.weight, gate_up, mlp.down_proj.weight)


def in_pairs(weight: Tensor, head_dim: int) -> Tensor:
    """Channels i and i + head_dim/2 of each head, which a position turns together, side by side: (out, in) -> same.

    Queries and keys are re-ordered alike, so that their scores stay what they are.
    """
    return weight.reshape(-1, 2, head_dim // 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


class CachedModel:
    """A model and what it has read so far: several rows that grow in step, each `read` by the same number of tokens.

    Rows of unequal length begin with padding (`padding` says how much, B numbers), so that all end in the same
    column; no row sees its padding. `columns` is the most that will be read. Weights are taken as they are
    now, which takes some milliseconds: make a new one for each text, and training in between is no danger.
    """

    @torch.no_grad()
    def __init__(self, model: PoetryModel, padding: Sequence[int], columns: int) -> None:
        config, decoder, device = model.config, model.model, model.model.cos.device
        self.xp = library_for(device)
        self.onednn = self.xp is np and len(padding) >= FEW and onednn_is_faster()
        self.embedding = self._own(decoder.embed_tokens.weight)
        self.head = self._matrix(decoder.embed_tokens.weight * decoder.norm.weight)
        self.layers = [Weights(*map(self._matrix, weights_of(cast(Layer, layer)))) for layer in decoder.layers]
        self.eps, heads, head_dim = config.rms_norm_eps, config.num_attention_heads, config.head_dim
        self.qkv_shape = (3, heads, head_dim)  # of a token
        rows = torch.tensor(padding, device=device)
        self.padding, self.columns = self._own(rows), self._own(torch.arange(columns, device=device))
        turns = torch.complex(decoder.cos.float(), decoder.sin.float())[:, : head_dim // 2]
        positions = (torch.arange(columns, device=device) - rows[:, None]).clamp(0, config.max_position_embeddings - 1)
        self.turns = self._own(turns[positions][:, :, None, None])  # (B, columns, 1, 1, head_dim/2)
        shape = (len(self.layers), 2, len(padding), heads, columns, head_dim)
        self.cache = self._own(decoder.cos.new_empty(shape))  # keys and values; memory is taken as it fills
        self.filled = 0  # columns

    @np.errstate(over="ignore")  # a gate that is as good as shut
    def read(self, ids: Array) -> Array:
        """The next tokens of every row, (B, T); the logits of what follows the last come back, (B, V)."""
        xp, (batch, time) = self.xp, ids.shape
        first, self.filled = self.filled, self.filled + time
        turns, mask = self.turns[:, first : self.filled], self._mask(self.columns[first : self.filled])
        x = self.embedding[ids].reshape(batch * time, -1)
        for layer, kept in zip(self.layers, self.cache, strict=True):
            qkv = self._product(self._norm(x), layer.qkv).reshape(batch, time, *self.qkv_shape)
            pairs = qkv[:, :, :2].view(xp.complex64)  # of queries and keys
            pairs *= turns
            qkv = qkv.swapaxes(1, 3).swapaxes(0, 2).swapaxes(1, 2)  # (3, B, H, T, head_dim)
            kept[:, :, :, first : self.filled] = qkv[1:]
            keys, values = kept[:, :, :, : self.filled]
            scores = qkv[0] @ keys.swapaxes(-1, -2) + mask  # (B, H, T, S)
            scores = xp.exp(scores - xp.amax(scores, -1, keepdims=True))
            mixed = scores @ values / scores.sum(-1, keepdims=True)
            x += self._product(mixed.swapaxes(1, 2).reshape(batch * time, -1), layer.o)
            gate_up = self._product(self._norm(x), layer.gate_up)
            gate, up = gate_up[:, : layer.down.shape[0]], gate_up[:, layer.down.shape[0] :]
            x += self._product(gate * up / (1 + xp.exp(-gate)), layer.down)  # SwiGLU
        return self._product(self._norm(x.reshape(batch, time, -1)[:, -1]), self.head)

    def drop(self, row: int) -> None:
        """Forget a row; the last one takes its place."""
        last = len(self.padding) - 1
        self.cache[:, :, row, :, : self.filled] = self.cache[:, :, last, :, : self.filled]
        self.padding[row], self.turns[row] = self.padding[last], self.turns[last]
        self.cache, self.padding, self.turns = self.cache[:, :, :last], self.padding[:last], self.turns[:last]

    def _own(self, tensor: Tensor) -> Array:
        """A tensor as an array of our library, float32 unless of whole numbers; it may share the model's memory."""
        tensor = tensor.detach().float() if tensor.is_floating_point() else tensor
        return tensor if self.xp is torch else tensor.cpu().numpy()

    def _matrix(self, weight: Tensor) -> Array:
        """Weights (out, in) turned to (in, out), in the order in memory that is multiplied fastest."""
        return self._own(weight.T if self.onednn else weight.T.contiguous())

    def _product(self, x: Array, weight: Array) -> Array:
        """`x @ weight`, (N, in) and (in, out) -> (N, out)."""
        return onednn(torch.from_numpy(x), torch.from_numpy(weight.T)).numpy() if self.onednn else x @ weight

    def _norm(self, x: Array) -> Array:
        """RMSNorm without its gains, (N, D), same shape."""
        return x / self.xp.sqrt((x * x).sum(-1, keepdims=True) / x.shape[-1] + self.eps)

    def _mask(self, columns: Array) -> Array:
        """What to add to the scores, (B, 1, T, S), so that nothing sees what comes later or is padding.

        Padding looks at itself, or it would be NaN.
        """
        if len(columns) == 1 and not self.padding.any():
            return 0.0
        seen, own = self.columns[: self.filled], columns[:, None]
        may_look = (seen == own) | (seen <= own) & (seen >= self.padding[:, None, None])
        return self.xp.asarray(self.xp.where(may_look, 0.0, -self.xp.inf), dtype=self.xp.float32)[:, None]


# --- products by oneDNN ---------------------------------------------------------------------------


def onednn(x: Tensor, weight: Tensor) -> Tensor:
    """`x @ weight.T` by oneDNN's routine, the one that `torch.compile` calls."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")


@cache
def onednn_is_faster() -> bool:
    """Whether oneDNN multiplies sixteen rows faster than numpy does: it depends on the processor, so it is measured.

    The two take turns and the best time of each counts; all of it takes some milliseconds, once.
    """
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # type: ignore[no-untyped-call]
        return False
    x, weight = torch.ones(16, 256), torch.ones(1408, 256)
    ways: list[Callable[[], object]] = [lambda: onednn(x, weight), lambda: x.numpy() @ weight.numpy().T]
    best = [float("inf")] * 2
    for _ in range(8):
        for i, way in enumerate(ways):
            start = time.perf_counter()
            way()
            best[i] = min(best[i], time.perf_counter() - start)
    return best[0] < best[1]
