"""The decoder: `LlamaForCausalLM`'s layout in one sitting.

Module names are those of the `transformers` library, so a state dict goes from one to the other
unchanged. RMSNorm: Zhang & Sennrich 2019. Rotary positions: Su et al. 2021. SwiGLU: Shazeer 2020.
Tied embeddings: Press & Wolf 2017. `B` is the batch, `T` the tokens in a row, `D` the hidden size, `H` the
heads, `V` the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The model's shape, under the names of `transformers.LlamaConfig`.

    Raises:
        ValueError: the hidden size does not split into heads of an even size.
    """

    vocab_size: int
    hidden_size: int = 256
    intermediate_size: int = 704
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    max_position_embeddings: int = 256
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} does not split into {self.num_attention_heads} heads of an even size"
            )

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.hidden_size // self.num_attention_heads


def rotary_angles(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines of every position's angles, each (max_position_embeddings, head_dim)."""
    channel = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    angles = torch.outer(torch.arange(config.max_position_embeddings), config.rope_theta**-channel)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn channel pairs (i, i + head_dim/2) by their position's angle: (B, H, T, head_dim), same shape."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Sight(NamedTuple):
    """Where the tokens stand and what they may look at, the same for every layer."""

    cos: Tensor  # (T, head_dim) or (B, 1, T, head_dim)
    sin: Tensor
    mask: Tensor | None = None  # (B, 1, T, S) or (T, S), see `as_mask`; None: look at all before


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Every token's mixture of the values it looks at: (B, H, T, head_dim), same shape.

    There is one kernel for all of it, which takes the least memory. Compiled for a CPU, at these lengths, the three
    steps spelled out take less than half its time (`benchmarks/README.md`).
    """
    if mask is None or q.is_cuda or not torch.compiler.is_compiling():
        return F.scaled_dot_product_attention(
            q, k, v, None if mask is None else mask.type_as(q), is_causal=mask is None
        )
    scores = (q @ k.transpose(-2, -1)).float() / q.shape[-1] ** 0.5
    weights = (scores + mask).softmax(dim=-1)
    return weights.type_as(v) @ v


def as_mask(may_look: Tensor) -> Tensor:
    """What to add to the scores: 0 where a token may look, minus infinity elsewhere; float32, same shape."""
    return torch.zeros_like(may_look, dtype=torch.float32).masked_fill(~may_look, -torch.inf)


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.head_dim = config.head_dim
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(size, size, bias=False) for _ in range(4))

    def forward(self, x: Tensor, sight: Sight) -> Tensor:
        """(B, T, D) -> (B, T, D)"""
        batch, time, size = x.shape
        q, k, v = (
            proj(x).view(batch, time, -1, self.head_dim).transpose(1, 2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = (rotate(part, sight.cos, sight.sin).type_as(v) for part in (q, k))
        mixed = attend(q, k, v, sight.mask)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, time, size))


class MLP(nn.Module):
    """SwiGLU: one projection opens or shuts the gate of the other."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)"""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """Look at the other tokens, then think about what was seen; both add to the running state."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, sight: Sight) -> Tensor:
        """(B, T, D) -> (B, T, D)"""
        x = x + self.self_attn(self.input_layernorm(x), sight)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Token ids in, the last hidden states out."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        cos, sin = rotary_angles(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, input_ids: Tensor, position_ids: Tensor | None) -> Tensor:
        """(B, T) -> (B, T, D)"""
        x = self.embed_tokens(input_ids)
        sight = self._sight(input_ids.shape[1], position_ids)
        for layer in self.layers:
            x = layer(x, sight)
        return self.norm(x)

    def _sight(self, time: int, positions: Tensor | None) -> Sight:
        if positions is None and self.cos.is_cuda:  # the kernel there knows what a causal mask is, and is faster
            return Sight(self.cos[:time], self.sin[:time])
        if positions is None:
            before = torch.ones(time, time, dtype=torch.bool, device=self.cos.device).tril()
            return Sight(self.cos[:time], self.sin[:time], as_mask(before))
        cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]
        example = (positions == 0).cumsum(dim=1)  # look at what stands before, in the same example
        same = example[:, :, None] == example[:, None, :]
        return Sight(cos, sin, as_mask(same.tril())[:, None])


Head = Callable[[Tensor, Tensor], Tensor]


class PoetryModel(nn.Module):
    """The decoder and, on top, the embedding once more: how well does each token fit what comes next?"""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        """Normal weights, deviation 0.02 (Radford et al. 2019), smaller where a layer's sum is entered."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, Attention):
            nn.init.normal_(module.o_proj.weight, std=0.02 / (2 * self.config.num_hidden_layers) ** 0.5)
        if isinstance(module, MLP):
            nn.init.normal_(module.down_proj.weight, std=0.02 / (2 * self.config.num_hidden_layers) ** 0.5)

    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None, head: Head = F.linear) -> Tensor:
        """Logits of the next token at each position: (B, T) -> (B, T, V).

        Without `position_ids` each row is one text from its beginning. With them, (B, T), a row may hold
        several examples packed one behind the other, each counting from 0; they do not see each other.
        `head` makes of the last hidden states, (B, T, D), and the embedding, (V, D), what comes back: the logits,
        unless it is `course_lib.engine.chunked_loss`, which wants the loss alone.

        Raises:
            ValueError: a row is longer than the context.
        """
        if input_ids.shape[1] > self.config.max_position_embeddings:
            raise ValueError(
                f"{input_ids.shape[1]} tokens in a row, the model's context is "
                f"{self.config.max_position_embeddings}: shorten the text"
            )
        return head(self.model(input_ids, position_ids), self.model.embed_tokens.weight)
