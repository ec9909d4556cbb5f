"""The decoder, in the layout of `LlamaForCausalLM`, and its key/value cache.

Module names are those of the `transformers` library, so a state dict goes from one to the other unchanged. RMSNorm:
Zhang & Sennrich 2019. Rotary positions: Su et al. 2021. SwiGLU: Shazeer 2020. Tied embeddings: Press & Wolf 2017.
Shapes: `B` rows, `T` tokens in a row, `S` tokens that may be looked at, `D` hidden size, `H` heads, `V` vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a model, under the names of `transformers.LlamaConfig`.

    Raises ValueError if the hidden size does not split into heads of an even size.
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

    @classmethod
    def sized(cls, vocab_size: int, hidden_size: int = 256, layers: int = 6, context: int = 256) -> Self:
        """A shape with four or more heads of up to 64 channels, and an MLP of 8/3 the hidden size (Shazeer 2020)."""
        mlp, heads = 64 * ceil(8 * hidden_size / 192), max(4, hidden_size // 64)
        return cls(vocab_size, hidden_size, mlp, layers, heads, max_position_embeddings=context)

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.hidden_size // self.num_attention_heads


class AttentionContext(NamedTuple):
    """What every layer needs to know about the tokens it reads: their positions, and what each may look at."""

    cos: Tensor  # (T, head_dim) or (B, 1, T, head_dim)
    sin: Tensor
    mask: Tensor | None = None  # (T, S) or (B, 1, T, S): 0 or -inf, added to the scores
    causal: bool = False  # in place of a mask: each token looks at itself and at those before it
    columns: slice = slice(0)  # the columns of the key/value cache that these tokens fill


def rotary_angles(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines of every position's angles, each (max_position_embeddings, head_dim)."""
    channel = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    angles = torch.outer(torch.arange(config.max_position_embeddings), config.rope_theta**-channel).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Channel pairs (i, i + head_dim/2) turned by their position's angle: (B, H, T, head_dim), same shape."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def as_mask(may_look: Tensor) -> Tensor:
    """A mask to add to the scores: 0 where a token may look, minus infinity elsewhere; float32, same shape."""
    return torch.zeros_like(may_look, dtype=torch.float32).masked_fill(~may_look, -torch.inf)


def attend(q: Tensor, k: Tensor, v: Tensor, context: AttentionContext) -> Tensor:
    """Each token's weighted mean of the values it may look at: (B, H, T, head_dim), same shape as `q`.

    PyTorch's fused kernel needs the least memory. When compiled for a CPU, the three steps written out are twice
    as fast at these lengths (`benchmarks/LOG.md`: Attention written out for the compiler).
    """
    mask = context.mask
    if mask is None or q.is_cuda or not torch.compiler.is_compiling():
        mask = None if mask is None else mask.type_as(q)
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=context.causal)
    scores = (q @ k.transpose(-2, -1)).float() / q.shape[-1] ** 0.5
    weights = (scores + mask).softmax(dim=-1)
    return weights.type_as(v) @ v


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.head_dim = config.head_dim
        self.q_proj = nn.Linear(size, size, bias=False)
        self.k_proj = nn.Linear(size, size, bias=False)
        self.v_proj = nn.Linear(size, size, bias=False)
        self.o_proj = nn.Linear(size, size, bias=False)

    def forward(self, x: Tensor, context: AttentionContext, cached: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D). `cached`: this layer's part of a `KVCache`, (2, B, H, columns, head_dim)."""
        batch, time, size = x.shape
        q, k, v = (
            project(x).view(batch, time, -1, self.head_dim).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = (rotate(part, context.cos, context.sin).type_as(v) for part in (q, k))
        if cached is not None:
            cached[0, :, :, context.columns] = k
            cached[1, :, :, context.columns] = v
            k, v = cached[:, :, :, : context.columns.stop]
        mixed = attend(q, k, v, context)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, time, size))


class KVCache:
    """The keys and values of all tokens read so far, so that the model reads each token only once.

    All rows grow by the same number of tokens. Rows of unequal length begin with padding, so that they end in
    the same column: `padding` says how many tokens of it each row has. `columns` is the most tokens a row can
    hold, padding included; a row's own tokens must fit the model's context.
    """

    def __init__(self, config: ModelConfig, padding: Sequence[int], columns: int, device: torch.device) -> None:
        shape = (config.num_hidden_layers, 2, len(padding), config.num_attention_heads, columns, config.head_dim)
        self.layers = torch.zeros(shape, device=device)
        self.padding = torch.tensor(padding, device=device)[:, None]  # (B, 1)
        self.length = 0  # columns filled

    def advance(self, time: int, cos: Tensor, sin: Tensor) -> AttentionContext:
        """Make room for the next `time` tokens of every row, and return what they may look at."""
        columns = slice(self.length, self.length + time)
        self.length = columns.stop
        own = torch.arange(columns.start, columns.stop, device=cos.device)  # (T,)
        positions = (own - self.padding).clamp(0, len(cos) - 1)  # (B, T)
        mask = None
        if time > 1 or self.padding.any():
            seen = torch.arange(columns.stop, device=cos.device)  # (S,)
            before = (seen <= own[:, None]) & (seen >= self.padding[:, :, None])
            mask = as_mask(before | (seen == own[:, None]))[:, None]  # padding looks at itself, else its result is NaN
        return AttentionContext(cos[positions][:, None], sin[positions][:, None], mask, columns=columns)

    def keep(self, rows: Tensor) -> None:
        """Forget all rows but these: (N,) int64."""
        self.layers = self.layers[:, :, rows]
        self.padding = self.padding[rows]


class MLP(nn.Module):
    """SwiGLU: two projections of the input, one of which gates the other."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)"""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """Attention, then the MLP; each adds its result to the running state."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(0.0)

    def forward(self, x: Tensor, context: AttentionContext, cached: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D)"""
        x = x + self.dropout(self.self_attn(self.input_layernorm(x), context, cached))
        return x + self.dropout(self.mlp(self.post_attention_layernorm(x)))


class Decoder(nn.Module):
    """Token ids in, the last hidden states out."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.dropout = nn.Dropout(0.0)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        cos, sin = rotary_angles(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """(B, T) -> (B, T, D)"""
        x = self.dropout(self.embed_tokens(input_ids))
        time = input_ids.shape[1]
        context = cache.advance(time, self.cos, self.sin) if cache else self._context(time, position_ids)
        for number, layer in enumerate(self.layers):
            x = layer(x, context, cache.layers[number] if cache else None)
        return self.norm(x)

    def _context(self, time: int, positions: Tensor | None) -> AttentionContext:
        if positions is None and self.cos.is_cuda:  # CUDA's kernel can be causal without a mask, which is faster
            return AttentionContext(self.cos[:time], self.sin[:time], causal=True)
        column = torch.arange(time, dtype=torch.int32, device=self.cos.device)  # compiled, 64 bits take twice as long
        back = column[:, None] - column  # (T, T): how many tokens each would look back
        if positions is None:
            return AttentionContext(self.cos[:time], self.sin[:time], as_mask(back >= 0))
        cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]
        own = back <= positions.int()[:, :, None]  # because each example of a row counts from 0
        return AttentionContext(cos, sin, as_mask((back >= 0) & own)[:, None])


Head = Callable[[Tensor, Tensor], Tensor]
"""A function of the last hidden states, (B, T, D), and the embedding, (V, D)."""


class PoetryModel(nn.Module):
    """The decoder and its head, which is the embedding again: it scores how well each token fits as the next one."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        """Draw normal weights with deviation 0.02 (Radford et al. 2019), or less where a layer adds its result."""
        small = 0.02 / (2 * self.config.num_hidden_layers) ** 0.5
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, Attention):
            nn.init.normal_(module.o_proj.weight, std=small)
        if isinstance(module, MLP):
            nn.init.normal_(module.down_proj.weight, std=small)

    def set_dropout(self, share: float) -> None:
        """Set how many values a training step drops after the embedding, attention and MLP (Srivastava et al. 2014)."""
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = share

    def forward(
        self, input_ids: Tensor, position_ids: Tensor | None = None, head: Head = F.linear, cache: KVCache | None = None
    ) -> Tensor:
        """Logits of the next token at each position: (B, T) -> (B, T, V).

        Without `position_ids` each row is one text from its beginning. With them, (B, T), a row may hold several
        examples, one after the other, each counting from 0; they do not see each other, and together they may be longer
        than the context. With a `cache`, `input_ids` are the next tokens of its rows. `head` replaces the logits by
        another result of the hidden states: `course_lib.engine.chunked_loss` computes only the loss. Raises ValueError
        if a row that is one text is longer than the context.
        """
        time, context = input_ids.shape[1], self.config.max_position_embeddings
        if time > context and position_ids is None and cache is None:
            raise ValueError(f"a row has {time} tokens, but the model's context is {context}: shorten the text")
        return head(self.model(input_ids, position_ids, cache), self.model.embed_tokens.weight)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A context in which the model is in evaluation mode. Afterwards it has its earlier mode again."""
    training = model.training
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()
