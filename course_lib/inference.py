"""The decoder once more, arranged for reading one token at a time: few and large products, nothing read twice.

`course_lib.model` is the definition, and the tests hold the two against each other. What differs: a layer's
queries, keys and values are one product, and so are the two halves of its MLP; a pair of channels that
rotary positions turn is one complex number; keys and values of the tokens already read are kept. What each
of these is worth, and what failed, is told in `benchmarks/README.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.model import Layer, PoetryModel, as_mask

# oneDNN's matrix product, the one that `torch.compile` calls. In float32 it takes half the time of `F.linear`.
ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]


def product(x: Tensor, weight: Tensor) -> Tensor:
    """`x @ weight.T`, (B, T, in) and (out, in) -> (B, T, out), by whichever routine is faster."""
    if ONEDNN and x.device.type == "cpu":
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return F.linear(x, weight)


@dataclass(frozen=True, slots=True)
class Weights:
    """A layer's, those that read the same input joined."""

    attention_norm: Tensor
    qkv: Tensor
    o: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor

    @classmethod
    def of(cls, layer: Layer) -> Weights:
        """Channels i and i + head_dim/2 of each query and key come to stand side by side, as re and im."""
        attention, mlp = layer.self_attn, layer.mlp
        size = attention.o_proj.weight.shape[0]
        q, k = (
            proj.weight.view(-1, 2, attention.head_dim // 2, size).transpose(1, 2).reshape(size, size)
            for proj in (attention.q_proj, attention.k_proj)
        )
        return cls(
            layer.input_layernorm.weight,
            torch.cat((q, k, attention.v_proj.weight)),
            attention.o_proj.weight,
            layer.post_attention_layernorm.weight,
            torch.cat((mlp.gate_proj.weight, mlp.up_proj.weight)),
            mlp.down_proj.weight,
        )


class CachedModel:
    """A model and what it has read so far: several rows that grow in step, each `read` by the same number of tokens.

    Rows of unequal length begin with padding (`padding` says how much, (B,)), so that all end in the same
    column; no row sees its padding. `columns` is the most that will be read. Weights are taken as they are
    now, which takes 3 ms: make a new one for each text, and training in between is no danger.
    """

    def __init__(self, model: PoetryModel, padding: Tensor, columns: int) -> None:
        config, decoder = model.config, model.model
        self.embedding, self.final_norm = decoder.embed_tokens.weight, decoder.norm.weight
        self.layers = [Weights.of(cast(Layer, layer)) for layer in decoder.layers]
        self.heads, self.head_dim = config.num_attention_heads, config.head_dim
        self.eps = torch.tensor(config.rms_norm_eps, device=self.embedding.device).sqrt()
        angles = torch.complex(decoder.cos, decoder.sin)[:, : self.head_dim // 2]
        turns = torch.stack((angles, angles, torch.ones_like(angles)), dim=1)  # values are not turned
        self.turns = turns[:, :, None]  # (position, 3, 1, head_dim/2)
        self.padding = padding.to(self.embedding.device)
        self.padded = bool(padding.any())
        shape = (len(self.layers), len(padding), 2, self.heads, columns, self.head_dim)
        self.cache = self.embedding.new_empty(shape)  # keys and values; memory is taken as it fills
        self.filled = 0  # columns

    def read(self, ids: Tensor) -> Tensor:
        """The next tokens of every row, (B, T); the logits of what follows the last come back, (B, V)."""
        batch, time = ids.shape
        first, self.filled = self.filled, self.filled + time
        columns = torch.arange(first, self.filled, device=self.padding.device)
        turns = self.turns[(columns - self.padding[:, None]).clamp(min=0)]
        mask = self._mask(columns) if time > 1 or self.padded else None
        seen, fresh = self.cache[..., : self.filled, :], self.cache[..., first : self.filled, :]
        keys, values = seen[:, :, 0].unbind(), seen[:, :, 1].unbind()
        x = F.embedding(ids, self.embedding)
        for layer, k, v, place in zip(self.layers, keys, values, fresh.unbind(), strict=True):
            qkv = product(self._norm(x, layer.attention_norm), layer.qkv)
            pairs = torch.view_as_complex(qkv.view(batch, time, 3, self.heads, -1, 2))
            qkv = torch.view_as_real(pairs * turns).flatten(-2).permute(0, 2, 3, 1, 4)  # (B, 3, H, T, head_dim)
            place.copy_(qkv[:, 1:])
            mixed = F.scaled_dot_product_attention(qkv[:, 0], k, v, mask)
            x = x + product(mixed.transpose(1, 2).flatten(-2), layer.o)
            gate, up = product(self._norm(x, layer.mlp_norm), layer.gate_up).chunk(2, dim=-1)
            x = x + product(F.silu(gate) * up, layer.down)
        return product(self._norm(x[:, -1:], self.final_norm), self.embedding)[:, 0]

    def drop(self, row: int) -> None:
        """Forget a row; the last one takes its place."""
        last = len(self.padding) - 1
        self.cache[:, row, ..., : self.filled, :] = self.cache[:, last, ..., : self.filled, :]
        self.padding[row] = self.padding[last]
        self.cache, self.padding = self.cache[:, :last], self.padding[:last]

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """RMSNorm in four operations: the mean of squares and eps are the sides of a right-angled triangle."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True) / x.shape[-1] ** 0.5
        return x / torch.hypot(length, self.eps) * weight

    def _mask(self, columns: Tensor) -> Tensor:
        """Look at what stands before, padding aside; (B, 1, T, S). Padding looks at itself, or it would be NaN."""
        seen, own = torch.arange(self.filled, device=columns.device), columns[:, None]
        no_padding = seen >= self.padding[:, None, None]
        return as_mask((seen == own) | (seen <= own) & no_padding)[:, None].type_as(self.embedding)
