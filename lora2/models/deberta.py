"""DeBERTa's disentangled attention, the same function with fewer operations: what depends on the width is made once.

transformers (seen in 5.17 and 5.23) works out in every layer which relative position two tokens have, projects all
2 · span positions though a batch of width w meets at most 2w − 1 of them, and copies the result for every example.
Here the positions of a width are made once, on the host; only those that occur are projected, and nothing is copied.
The gradient is read back along the same positions where each occurs once in a row, which a GPU does the same way every
time; transformers adds it up in any order.

Dimension legend: b examples, h heads, w tokens, e features of a head, p relative positions that occur.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.models.deberta_v2 import modeling_deberta_v2 as library

TERMS = {"c2p", "p2c"}  # of a score, besides that of the two contents


@dataclass(frozen=True)
class Index:
    """Which of p columns belongs to each of w, row by row.

    Attributes:
        column: (w, w), from 0 to p - 1.
        place: the other way round, (w, p): the one of w that column belongs to, or w where it belongs to none; None if
            a column belongs to several in one row.
    """

    column: Tensor
    place: Tensor | None

    def to(self, device: torch.device) -> "Index":
        """Return the same on a device."""
        return Index(self.column.to(device), None if self.place is None else self.place.to(device))


@dataclass(frozen=True)
class Positions:
    """The relative positions of one width.

    Attributes:
        used: the rows of the table of relative positions that occur, p of them.
        content_to_position: column by query and key.
        position_to_content: column by key and query.
    """

    used: slice
    content_to_position: Index
    position_to_content: Index


def use_lean_attention(model: nn.Module) -> None:
    """Let a deberta-v2 model compute its attention this way; any other model is left as it is.

    Args:
        model: with a classification head.
    """
    config: Any = getattr(model, "config", None)
    if getattr(config, "model_type", None) != "deberta-v2":
        return
    encoder: Any = model.get_submodule("deberta.encoder")
    known = encoder.relative_attention and TERMS & {*(config.pos_att_type or ())}
    if known and not isinstance(encoder.get_rel_pos, PositionTable):
        encoder.get_rel_pos = PositionTable(encoder)
        for layer in encoder.layer:
            layer.attention.self.__class__ = LeanAttention


class PositionTable:
    """Stands for the encoder's `get_rel_pos`: makes the positions of each width once, and keeps them.

    A captured CUDA graph reads them at every replay.

    Args:
        encoder: the model's.
    """

    def __init__(self, encoder: Any) -> None:
        self._library: Callable[..., Tensor] = encoder.get_rel_pos
        self._span = encoder.position_buckets if encoder.position_buckets > 0 else encoder.max_relative_positions
        self._made: dict[tuple[int, torch.device], Positions] = {}

    def __call__(self, hidden_states: Tensor, query_states: Any = None, relative_pos: Any = None) -> Any:
        """Return the Positions for hidden states (b, w, d); what transformers has where it is given more than these."""
        if query_states is not None or relative_pos is not None:
            return self._library(hidden_states, query_states, relative_pos)
        key = (hidden_states.shape[1], hidden_states.device)
        if key not in self._made:
            self._made[key] = self._make(*key)
        return self._made[key]

    def _make(self, width: int, device: torch.device) -> Positions:
        bucket = self._library(torch.empty(1, width, 0))[0]  # (w, w), on the host
        c2p = torch.clamp(bucket + self._span, 0, 2 * self._span - 1)
        p2c = torch.clamp(self._span - bucket, 0, 2 * self._span - 1)
        first, last = int(torch.minimum(c2p, p2c).min()), int(torch.maximum(c2p, p2c).max())
        indices = [_index(column - first, last - first + 1).to(device) for column in (c2p, p2c)]
        return Positions(slice(first, last + 1), *indices)


def _index(column: Tensor, p: int) -> Index:
    width = len(column)
    place = torch.full((width, p), width)
    place.scatter_(1, column, torch.arange(width).expand(width, width))
    once = bool(column.sort(1).values.diff(dim=1).ne(0).all())
    return Index(column, place if once else None)


class LeanAttention(library.DisentangledSelfAttention):
    """transformers' attention, for Positions in the place of its relative positions."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_attentions: bool = False,
        query_states: Tensor | None = None,
        relative_pos: Any = None,
        rel_embeddings: Any = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the context (b, w, h·e), and the probabilities (b, h, w, w) if they are asked for.

        Args:
            hidden_states: (b, w, h·e).
            attention_mask: (b, 1, w, w), not 0 where a query may see a key.
            output_attentions: whether to return the probabilities.
            query_states: other queries, which the library's own attention takes.
            relative_pos: Positions of the width.
            rel_embeddings: the table, (2 · span, h·e).
        """
        if not isinstance(relative_pos, Positions):
            return super().forward(  # type: ignore[no-any-return, no-untyped-call]
                hidden_states, attention_mask, output_attentions, query_states, relative_pos, rel_embeddings
            )
        b, w, _ = hidden_states.shape
        h = self.num_attention_heads
        q = self._by_head(self.query_proj(hidden_states))  # (h, b·w, e)
        k = self._by_head(self.key_proj(hidden_states))
        v = self._by_head(self.value_proj(hidden_states))
        bias = self._bias(q, k, relative_pos, rel_embeddings)  # (h·b, w, w)
        q, k, v = (x.view(h * b, w, -1) for x in (q, k, v))
        weight = 1 / math.sqrt(q.shape[-1] * (1 + len(TERMS & {*self.pos_att_type})))
        scores = torch.baddbmm(bias, q, k.mT, beta=weight, alpha=weight).view(h, b, w, w)
        seen = attention_mask.bool().transpose(0, 1)  # (1, b, w, w)
        scores = torch.where(seen, scores, torch.finfo(scores.dtype).min)
        # the kernel sums in float32 by itself: given a dtype, autocast of a GPU does not widen what it reads
        probabilities = self.dropout(F.softmax(scores, dim=-1, dtype=scores.dtype))
        context = torch.bmm(probabilities.view(h * b, w, w), v).view(h, b, w, -1)
        found = probabilities.transpose(0, 1) if output_attentions else None
        return context.permute(1, 2, 0, 3).reshape(b, w, -1), found

    def _by_head(self, x: Tensor) -> Tensor:
        """(b, w, h·e) to (h, b·w, e), which both (h·b, w, e) and one product for each head can read as it lies."""
        return x.reshape(-1, self.num_attention_heads, self.attention_head_size).transpose(0, 1).contiguous()

    def _bias(self, q: Tensor, k: Tensor, positions: Positions, table: Tensor) -> Tensor:
        """Return what relative positions add to the scores before these are scaled, (h·b, w, w)."""
        rows = self.pos_dropout(table[positions.used]).unsqueeze(0)  # (1, p, h·e)
        terms = []
        if "c2p" in self.pos_att_type:
            project = self.key_proj if self.share_att_key else self.pos_key_proj
            terms.append(self._term(q, project(rows), positions.content_to_position))
        if "p2c" in self.pos_att_type:
            project = self.query_proj if self.share_att_key else self.pos_query_proj
            terms.append(self._term(k, project(rows), positions.position_to_content).mT)
        return sum(terms[1:], terms[0])

    def _term(self, content: Tensor, positions: Tensor, index: Index) -> Tensor:
        """Products of contents (h, b·w, e) with the positions (1, p, h·e) that belong to them, (h·b, w, w)."""
        every = torch.bmm(content, self._by_head(positions).mT)  # (h, b·w, p)
        return take_columns(every.view(-1, len(index.column), every.shape[-1]), index)


def take_columns(x: Tensor, index: Index) -> Tensor:
    """Return x[..., i, index[i, j]], (m, w, w), for x (m, w, p)."""
    found: Tensor = _TakeColumns.apply(x, index)  # type: ignore[no-untyped-call]
    return found


class _TakeColumns(torch.autograd.Function):
    """torch.gather, whose own gradient is a sum in any order; here it is another gather where that is possible."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Index) -> Tensor:
        ctx.index, ctx.shape = index, x.shape
        return x.gather(-1, index.column.expand(len(x), -1, -1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        column, place = ctx.index.column, ctx.index.place
        if place is None:
            return grad.new_zeros(ctx.shape).scatter_add_(-1, column.expand_as(grad), grad), None
        return F.pad(grad, (0, 1)).gather(-1, place.expand(ctx.shape)), None
