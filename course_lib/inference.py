"""The decoder once more, arranged for reading one token at a time: few and large products, nothing read twice.

`course_lib.model` is the definition, and the tests hold the two against each other. What differs: a layer's queries,
keys and values are one product, and so are the two halves of its MLP; keys and values of the tokens already read
are kept. On a CPU it is numpy that computes: with a single token in hand, most of the time goes into calling functions,
and calling numpy's takes half as long. What each of these is worth, and what failed, is told in `benchmarks/README.md`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from course_lib.model import Layer, PoetryModel

Array = Any  # of numpy, or a tensor on a GPU: what is used here has the same name in both

FEW = 4  # rows; fewer than that are always multiplied by numpy


def library_for(device: torch.device) -> Any:
    """Whose functions to call, on arrays of this device."""
    return np if device.type == "cpu" else torch


class Weights(NamedTuple):
    """A layer's; matrices are (in, out), those that read the same input joined."""

    attention_norm: Array
    qkv: Array
    o: Array
    mlp_norm: Array
    gate_up: Array
    down: Array


def weights_of(layer: Layer, own: Callable[[Tensor], Array]) -> Weights:
    """The weights of a layer, handed to numpy by `own`."""
    attention, mlp = layer.self_attn, layer.mlp
    return Weights(
        own(layer.input_layernorm.weight),
        own(turned(attention.q_proj, attention.k_proj, attention.v_proj)),
        own(turned(attention.o_proj)),
        own(layer.post_attention_layernorm.weight),
        own(turned(mlp.gate_proj, mlp.up_proj)),
        own(turned(mlp.down_proj)),
    )


def turned(*layers: nn.Linear) -> Tensor:
    """Matrices side by side, each (out, in) turned to (in, out): the order in memory that numpy multiplies faster."""
    if onednn_is_faster():
        return torch.cat([layer.weight for layer in layers]).T
    return torch.cat([layer.weight.T for layer in layers], dim=1)


class CachedModel:
    """A model and what it has read so far: several rows that grow in step, each `read` by the same number of tokens.

    Rows of unequal length begin with padding (`padding` says how much, B numbers), so that all end in the same
    column; no row sees its padding. `columns` is the most that will be read. Weights are taken as they are
    now, which takes some milliseconds: make a new one for each text, and training in between is no danger.
    """

    @torch.no_grad()
    def __init__(self, model: PoetryModel, padding: Sequence[int], columns: int) -> None:
        config, decoder = model.config, model.model
        self.xp = library_for(decoder.cos.device)
        own: Callable[[Tensor], Array] = (lambda t: t.detach().float().numpy()) if self.xp is np else Tensor.detach
        self.embedding, self.head = own(decoder.embed_tokens.weight), own(decoder.embed_tokens.weight.T)
        self.layers = [weights_of(cast(Layer, layer), own) for layer in decoder.layers]
        self.final_norm, self.eps = own(decoder.norm.weight), config.rms_norm_eps
        self.shape = (3, config.num_attention_heads, 2, config.head_dim // 2)  # of what a token's qkv is
        self.scale, half = config.head_dim**-0.5, config.head_dim // 2
        self.cos, self.sin = (own(part[:, None, None, :half]) for part in (decoder.cos, decoder.sin))
        numbers: dict[str, Any] = {} if self.xp is np else {"device": decoder.cos.device}
        self.padding, self.columns = self.xp.asarray(padding, **numbers), self.xp.arange(columns, **numbers)
        shape = (len(self.layers), 2, len(padding), config.num_attention_heads, columns, config.head_dim)
        self.cache = own(decoder.cos.new_empty(shape))  # keys and values; memory is taken as it fills
        self.filled = 0  # columns

    @np.errstate(over="ignore")  # a gate that is as good as shut
    def read(self, ids: Array) -> Array:
        """The next tokens of every row, (B, T); the logits of what follows the last come back, (B, V)."""
        xp, (batch, time) = self.xp, ids.shape
        first, self.filled = self.filled, self.filled + time
        columns = self.columns[first : self.filled]
        at = (columns - self.padding[:, None]).clip(0)
        cos, sin = self.cos[at], self.sin[at]  # (B, T, 1, 1, head_dim/2)
        mask = self._mask(columns)
        x = self.embedding[ids].reshape(batch * time, -1)
        for layer, (keys, values) in zip(self.layers, self.cache, strict=True):
            qkv = product(self._norm(x, layer.attention_norm), layer.qkv).reshape(batch, time, *self.shape)
            re, im = qkv[:, :, :2, :, 0], qkv[:, :, :2, :, 1]  # of queries and keys: pairs that positions turn
            qkv[:, :, :2] = xp.stack((re * cos - im * sin, im * cos + re * sin), -2)
            q, k, v = qkv.reshape(batch, time, 3, self.shape[1], -1).swapaxes(1, 3).swapaxes(0, 2).swapaxes(1, 2)
            keys[:, :, first : self.filled], values[:, :, first : self.filled] = k, v
            scores = q @ keys[:, :, : self.filled].swapaxes(-1, -2) * self.scale + mask  # (B, H, T, S)
            scores = xp.exp(scores - xp.amax(scores, -1, keepdims=True))
            mixed = scores / scores.sum(-1, keepdims=True) @ values[:, :, : self.filled]
            x = x + product(mixed.swapaxes(1, 2).reshape(batch * time, -1), layer.o)
            gate_up = product(self._norm(x, layer.mlp_norm), layer.gate_up)
            gate, up = gate_up[:, : layer.down.shape[0]], gate_up[:, layer.down.shape[0] :]
            x = x + product(gate * up / (1 + xp.exp(-gate)), layer.down)  # SwiGLU
        return product(self._norm(x.reshape(batch, time, -1)[:, -1], self.final_norm), self.head)

    def drop(self, row: int) -> None:
        """Forget a row; the last one takes its place."""
        last = len(self.padding) - 1
        self.cache[:, :, row, :, : self.filled] = self.cache[:, :, last, :, : self.filled]
        self.padding[row] = self.padding[last]
        self.cache, self.padding = self.cache[:, :, :last], self.padding[:last]

    def _norm(self, x: Array, weight: Array) -> Array:
        """RMSNorm, (N, D), same shape."""
        return x * weight / self.xp.sqrt((x * x).sum(-1, keepdims=True) / x.shape[-1] + self.eps)

    def _mask(self, columns: Array) -> Array:
        """What to add to the scores, (B, 1, T, S), so that nothing sees what comes later or is padding.

        Padding looks at itself, or it would be NaN.
        """
        if len(columns) == 1 and not self.padding.any():
            return 0.0
        seen, own = self.columns[: self.filled], columns[:, None]
        may_look = (seen == own) | (seen <= own) & (seen >= self.padding[:, None, None])
        return self.xp.asarray(self.xp.where(may_look, 0.0, -self.xp.inf), dtype=self.xp.float32)[:, None]


# --- products -------------------------------------------------------------------------------------


def product(x: Array, weight: Array) -> Array:
    """`x @ weight`, (N, in) and (in, out) -> (N, out), by whatever is fastest here."""
    if len(x) >= FEW and isinstance(x, np.ndarray) and onednn_is_faster():
        return onednn(torch.from_numpy(x), torch.from_numpy(weight.T)).numpy()
    return x @ weight


def onednn(x: Tensor, weight: Tensor) -> Tensor:
    """The same by oneDNN's routine, the one that `torch.compile` calls."""
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
