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
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from course_lib.model import Layer, PoetryModel

Array = Any  # of numpy, or a tensor on a GPU: what is used here has the same name in both

FEW = 4  # rows; fewer than that are always multiplied by numpy
MUCH = 1.5  # times as fast; the processors seen so far had 0.8 and 3


def library_for(device: torch.device) -> Any:
    """Whose functions to call for a model on this device."""
    return torch if device.type == "cuda" else np


# --- weights --------------------------------------------------------------------------------------


class LayerWeights(NamedTuple):
    """A layer's matrices, (in, out); those that read the same input are joined."""

    qkv: Array
    o: Array
    gate_up: Array
    down: Array


class Weights(NamedTuple):
    """A model's."""

    embedding: Array  # (V, D)
    layers: list[LayerWeights]
    head: Array  # (D, V)


made: WeakKeyDictionary[PoetryModel, dict[object, tuple[object, Weights]]] = WeakKeyDictionary()


def weights_of(model: PoetryModel, library: Any, by_onednn: bool) -> Weights:
    """The weights as they are now: those of the last time, unless the model has changed since.

    To turn them over takes ten times as long as to see whether they are the same.
    """
    state, kept = state_of(model, library), made.setdefault(model, {})
    earlier, weights = kept.get((library, by_onednn), (None, None))
    if weights is None or earlier != state:
        weights = arranged(model, library, by_onednn)
        kept[library, by_onednn] = state, weights
    return weights


def state_of(model: PoetryModel, library: Any) -> object:
    """What is another once weights are: where they lie, how often they were written to, and their sums.

    PyTorch's count overlooks what is written to `weight.data`; a sum does not. It is numpy's, where numpy computes:
    PyTorch's threads go on looking for work for some milliseconds, on the cores that the first product needs.
    """
    weights = list(model.parameters())
    versions = [(weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights]
    return versions, library.stack([owned(weight, library).sum() for weight in weights]).tolist()


def arranged(model: PoetryModel, library: Any, by_onednn: bool) -> Weights:
    """The model's weights, with what is always multiplied the same in them.

    That is RMSNorm's gains, which belong to the matrix that reads what was normed, and the scale of the scores, which
    belongs to the queries. The matrices lie in memory in the order that is multiplied fastest.
    """

    def matrix(weight: Tensor) -> Array:
        return owned(weight.T if by_onednn else weight.T.contiguous(), library)

    def of_layer(layer: Layer) -> LayerWeights:
        attention, mlp = layer.self_attn, layer.mlp
        q, k = (in_pairs(part.weight, attention.head_dim) for part in (attention.q_proj, attention.k_proj))
        qkv = torch.cat((q * attention.head_dim**-0.5, k, attention.v_proj.weight)) * layer.input_layernorm.weight
        gate_up = torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight)) * layer.post_attention_layernorm.weight
        return LayerWeights(*map(matrix, (qkv, attention.o_proj.weight, gate_up, mlp.down_proj.weight)))

    decoder, embedding = model.model, model.model.embed_tokens.weight
    layers = [of_layer(cast(Layer, layer)) for layer in decoder.layers]
    return Weights(owned(embedding, library), layers, matrix(embedding * decoder.norm.weight))


def in_pairs(weight: Tensor, head_dim: int) -> Tensor:
    """Channels i and i + head_dim/2 of each head, which a position turns together, side by side: (out, in) -> same.

    Queries and keys are re-ordered alike, so that their scores stay what they are.
    """
    return weight.reshape(-1, 2, head_dim // 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def owned(tensor: Tensor, library: Any) -> Array:
    """A tensor as an array of the library, float32 unless of whole numbers; it may share the model's memory."""
    tensor = tensor.detach().float() if tensor.is_floating_point() else tensor
    return tensor if library is torch else tensor.cpu().numpy()


# --- the model ------------------------------------------------------------------------------------


class CachedModel:
    """A model and what it has read so far: several rows that grow in step, each `read` by the same number of tokens.

    Rows of unequal length begin with padding (`padding` says how much, B numbers), so that all end in the same
    column; no row sees its padding. `columns` is the most that will be read. Weights are taken as they are
    now: make a new one for each text, and training in between is no danger.
    """

    @torch.no_grad()
    def __init__(self, model: PoetryModel, padding: Sequence[int], columns: int) -> None:
        config, decoder, device = model.config, model.model, model.model.cos.device
        self.xp = library_for(device)
        self.onednn = self.xp is np and len(padding) >= FEW and onednn_is_faster()
        self.weights = weights_of(model, self.xp, self.onednn)
        self.eps, heads, head_dim = config.rms_norm_eps, config.num_attention_heads, config.head_dim
        self.qkv_shape = (3, heads, head_dim)  # of a token
        rows, along = torch.tensor(padding, device=device), torch.arange(columns, device=device)
        positions = (along - rows[:, None]).clamp(0, config.max_position_embeddings - 1)
        turns = torch.complex(decoder.cos.float(), decoder.sin.float())[:, None, None, : head_dim // 2]
        shape = (config.num_hidden_layers, 2, len(padding), heads, columns, head_dim)
        cache = decoder.cos.new_empty(shape)  # keys and values; memory is taken as it fills
        self.padding, self.columns, self.cache = (owned(t, self.xp) for t in (rows, along, cache))
        self.turns = owned(turns, self.xp)[owned(positions, self.xp)]  # (B, columns, 1, 1, head_dim / 2)
        self.filled = 0  # columns

    @np.errstate(over="ignore")  # a gate that is as good as shut
    def read(self, ids: Array) -> Array:
        """The next tokens of every row, (B, T); the logits of what follows the last come back, (B, V)."""
        xp, (batch, time) = self.xp, ids.shape
        first, self.filled = self.filled, self.filled + time
        turns, mask = self.turns[:, first : self.filled], self._mask(self.columns[first : self.filled])
        x = self.weights.embedding[ids].reshape(batch * time, -1)
        for layer, kept in zip(self.weights.layers, self.cache, strict=True):
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
        return self._product(self._norm(x.reshape(batch, time, -1)[:, -1]), self.weights.head)

    def drop(self, row: int) -> None:
        """Forget a row; the last one takes its place."""
        last = len(self.padding) - 1
        self.cache[:, :, row, :, : self.filled] = self.cache[:, :, last, :, : self.filled]
        self.padding[row], self.turns[row] = self.padding[last], self.turns[last]
        self.cache, self.padding, self.turns = self.cache[:, :, :last], self.padding[:last], self.turns[:last]

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
    """Whether oneDNN multiplies sixteen rows much faster than numpy: it depends on the processor, so it is measured.

    Each has the cores to itself, or the other's threads, which look for work for a while when there is none, would be
    measured too. The best time counts; all of it takes a fifth of a second, once.
    """
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # type: ignore[no-untyped-call]
        return False
    x, weight = torch.ones(16, 256), torch.ones(1408, 256)
    rows, turned = x.numpy(), weight.T.contiguous().numpy()
    return MUCH * best_time(lambda: onednn(x, weight)) < best_time(lambda: rows @ turned)


def best_time(way: Callable[[], object]) -> float:
    """The least seconds that it took, of eight times, after a rest for other threads to fall asleep."""
    time.sleep(0.1)
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        way()
        best = min(best, time.perf_counter() - start)
    return best
