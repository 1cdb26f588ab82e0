"""DeBERTa's disentangled attention, the same function with fewer operations: what depends on the width is made once.

transformers (seen in 5.17 and 5.23) works out in every layer which relative position two tokens have, projects all
2 · span positions though a batch of width w meets at most 2w − 1 of them, and copies the result for every example.
Here the positions of a width are made once, on the host; only those that occur are projected, below the tokens in the
same product; nothing is copied for an example, and the two terms that positions add are computed side by side.
The gradient is read back along the same positions where each occurs once in a row, which a GPU does the same way every
time; transformers adds it up in any order.

Dimension legend: b examples, h heads, w tokens of an example, t = b·w, e features of a head, p relative positions that
occur. The two terms are always in this order: keys meet the queries of positions, queries meet the keys of positions.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.models.deberta_v2 import modeling_deberta_v2 as library

from lora2.core.bf16 import add_product_

EIGHTS = 8  # the units of a GPU take 16-bit numbers by so many
TERMS = {"c2p", "p2c"}  # of a score, besides that of the two contents


@dataclass(frozen=True)
class Positions:
    """The relative positions of one width.

    Attributes:
        used: the rows of the table of relative positions that occur, p of them with those that round p up to EIGHTS.
        column: which of the p belongs to two tokens, (2, w, w), for each term: by key and query, by query and key.
        place: the other way round, (2, w, p): the one token of a row that a position belongs to, and 0 where it belongs
            to none; None if a position belongs to several tokens of one row.
        nowhere: (2, w, p), true where a position belongs to no token of the row.
    """

    used: slice
    column: Tensor
    place: Tensor | None
    nowhere: Tensor

    def to(self, device: torch.device) -> "Positions":
        """Return the same on a device."""
        place = None if self.place is None else self.place.to(device)
        return Positions(self.used, self.column.to(device), place, self.nowhere.to(device))


@dataclass(frozen=True)
class Pairs:
    """Which query may see which key.

    Attributes:
        seen: (b, 1, w, w), bool.
        unseen: the opposite, (1, b, w, w).
    """

    seen: Tensor
    unseen: Tensor


def use_lean_attention(model: nn.Module) -> None:
    """Let a deberta-v2 model compute its attention this way; any other model is left as it is.

    Of a deberta-v2 without both terms, or with projections of their own for positions (none of Microsoft's), only the
    positions of each width are kept, and the attention is transformers'.

    Args:
        model: with a classification head.
    """
    config: Any = getattr(model, "config", None)
    if getattr(config, "model_type", None) != "deberta-v2":
        return
    encoder: Any = model.get_submodule("deberta.encoder")
    if not encoder.relative_attention or isinstance(encoder.get_rel_pos, PositionTable):
        return
    shared = getattr(config, "share_att_key", False)  # the configuration has no default for it
    if shared and {*(config.pos_att_type or ())} >= TERMS:
        span = encoder.position_buckets if encoder.position_buckets > 0 else encoder.max_relative_positions
        encoder.get_rel_pos = PositionTable(encoder, partial(positions_of, span=span))
        encoder.get_attention_mask = PairMask(encoder)
        for layer in encoder.layer:
            layer.attention.self.__class__ = LeanAttention
    else:
        encoder.get_rel_pos = PositionTable(encoder, _as_it_is)


class PositionTable:
    """Stands for the encoder's `get_rel_pos`: makes the positions of each width once, and keeps them.

    A captured CUDA graph reads them at every replay.

    Args:
        encoder: the model's.
        form: what is kept of the library's relative positions of a width, (1, w, w) on the host.
    """

    def __init__(self, encoder: Any, form: Callable[[Tensor], Any]) -> None:
        self._library: Callable[..., Tensor] = encoder.get_rel_pos
        self._form = form
        self._made: dict[tuple[int, torch.device], Any] = {}

    def __call__(self, hidden_states: Tensor, query_states: Any = None, relative_pos: Any = None) -> Any:
        """Return what is kept for hidden states (b, w, d); what transformers has where it is given more than these."""
        if query_states is not None or relative_pos is not None:
            return self._library(hidden_states, query_states, relative_pos)
        key = (hidden_states.shape[1], hidden_states.device)
        if key not in self._made:
            self._made[key] = self._make(*key)
        return self._made[key]

    def _make(self, width: int, device: torch.device) -> Any:
        return self._form(self._library(torch.empty(1, width, 0))).to(device)


def _as_it_is(relative: Tensor) -> Tensor:
    return relative


def positions_of(relative: Tensor, span: int) -> Positions:
    """Return the Positions of a width.

    Args:
        relative: the bucket of the distance of two tokens, (1, w, w), from -span to span.
        span: half the rows of the table.
    """
    row = torch.cat([span - relative, span + relative]).clamp(0, 2 * span - 1)  # (2, w, w)
    first, last, width = int(row.min()), int(row.max()), relative.shape[-1]
    p = min(math.ceil((last + 1 - first) / EIGHTS) * EIGHTS, 2 * span)
    first = min(first, 2 * span - p)
    column = row - first
    place = torch.full((2, width, p), width)
    place.scatter_(2, column, torch.arange(width).expand_as(column))
    nowhere = place == width
    once = bool(column.sort(2).values.diff(dim=2).ne(0).all())
    return Positions(slice(first, first + p), column, place.masked_fill(nowhere, 0) if once else None, nowhere)


class PairMask:
    """Stands for the encoder's `get_attention_mask`: once a pass, and as the layers read it.

    Args:
        encoder: the model's.
    """

    def __init__(self, encoder: Any) -> None:
        self._library: Callable[[Tensor], Tensor] = encoder.get_attention_mask

    def __call__(self, attention_mask: Tensor) -> Pairs:
        """Return the Pairs of a mask (b, w), (b, w, w) or (b, 1, w, w), not 0 where there is something to see."""
        seen = self._library(attention_mask.bool())  # (b, 1, w, w)
        return Pairs(seen, ~seen.transpose(0, 1))


class LeanAttention(library.DisentangledSelfAttention):
    """transformers' attention, for Positions in the place of its relative positions and Pairs in that of its mask."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Pairs,
        output_attentions: bool = False,
        query_states: Tensor | None = None,
        relative_pos: Any = None,
        rel_embeddings: Any = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the context (b, w, h·e), and the probabilities (b, h, w, w) if they are asked for.

        Args:
            hidden_states: (b, w, h·e).
            attention_mask: which query may see which key.
            output_attentions: whether to return the probabilities.
            query_states: other queries, which the library's own attention takes.
            relative_pos: Positions of the width.
            rel_embeddings: the table, (2 · span, h·e).
        """
        if not isinstance(relative_pos, Positions):
            return super().forward(  # type: ignore[no-any-return, no-untyped-call]
                hidden_states, attention_mask.seen, output_attentions, query_states, relative_pos, rel_embeddings
            )
        b, w, _ = hidden_states.shape
        h, e = self.num_attention_heads, self.attention_head_size
        rows = self.pos_dropout(rel_embeddings[relative_pos.used])
        both = torch.cat([hidden_states.flatten(0, 1), rows])  # (t + p, h·e)
        q, k, v = self.query_proj(both), self.key_proj(both), self.value_proj(both)
        contents, values, positions = _ByHead.apply(q, k, v, b * w, h)  # type: ignore[no-untyped-call]
        scale = 1 / math.sqrt(e * (1 + len(TERMS)))
        probabilities = _Probabilities.apply(contents, positions, relative_pos, attention_mask.unseen, scale)  # type: ignore[no-untyped-call]
        probabilities = self.dropout(probabilities)  # (h, b, w, w)
        context = torch.bmm(probabilities.view(h * b, w, w), values.view(h * b, w, e)).view(h, b, w, e)
        found = probabilities.transpose(0, 1) if output_attentions else None
        return context.permute(1, 2, 0, 3).reshape(b, w, -1), found


class _ByHead(torch.autograd.Function):
    """Queries, keys and values of tokens and of positions, (t + p, h·e), one head after the other.

    Returns:
        Contents: keys and queries of the tokens, (2, h, t, e).
        Values of the tokens, (h, t, e).
        Positions: queries and keys of the positions, (2, h, p, e).
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, t: int, h: int) -> tuple[Tensor, Tensor, Tensor]:
        ctx.t = t
        q, k, v = (x.unflatten(1, (h, -1)).transpose(0, 1) for x in (q, k, v))  # (h, t + p, e)
        tokens = torch.stack([k[:, :t], q[:, :t], v[:, :t]])
        return tokens[:2], tokens[2], torch.stack([q[:, t:], k[:, t:]])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, contents: Tensor, values: Tensor, positions: Tensor) -> tuple[Tensor | None, ...]:
        t, (h, p, e) = ctx.t, positions.shape[1:]
        found = values.new_empty(t + p, 3, h, e)  # q, k, v, side by side as a joint layer reads them
        torch.stack([x.transpose(0, 1) for x in (contents[1], contents[0], values)], dim=1, out=found[:t])
        found[t:, :2] = positions.permute(2, 0, 1, 3)
        found[t:, 2].zero_()
        return *found.flatten(2).unbind(1), None, None


class _Probabilities(torch.autograd.Function):
    """Softmax of the scores over the keys that a query may see, (h, b, w, w).

    A score is scale · (query · key + key · query of the position + query · key of the position).
    """

    @staticmethod
    def forward(
        ctx: Any, contents: Tensor, positions: Tensor, where: Positions, unseen: Tensor, scale: float
    ) -> Tensor:
        (_, h, t, e), (p, w) = contents.shape, (positions.shape[2], where.column.shape[-1])
        with torch.autocast(contents.device.type, enabled=False):
            every = contents.new_empty(2 * h, t, p)
            add_product_(every, contents.flatten(0, 1), positions.flatten(0, 1).mT, beta=0)
            column = where.column.unsqueeze(1).expand(-1, h * (t // w), -1, -1)
            terms = every.view(2, -1, w, p).gather(-1, column)  # (2, h·b, w, w)
            keys, queries = contents.view(2, -1, w, e)
            scores = terms[1].add_(terms[0].mT)
            add_product_(scores, queries, keys.mT, beta=scale, alpha=scale)
            scores = scores.view(h, -1, w, w).masked_fill_(unseen, torch.finfo(scores.dtype).min)
            found = torch.softmax(scores, -1)
        ctx.save_for_backward(contents, positions, found, unseen)
        ctx.where, ctx.scale = where, scale
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        contents, positions, found, unseen = ctx.saved_tensors
        (_, h, t, e), (p, w) = contents.shape, (positions.shape[2], found.shape[-1])
        grad = torch._softmax_backward_data(grad, found, -1, found.dtype).masked_fill_(unseen, 0).view(-1, w, w)
        every = _at_positions(grad, ctx.where).view(2 * h, t, p)
        of_contents = torch.empty_like(contents)
        add_product_(of_contents.view(2 * h, t, e), every, positions.flatten(0, 1), beta=0, alpha=ctx.scale)
        keys, queries = contents.view(2, -1, w, e)
        of_keys, of_queries = of_contents.view(2, -1, w, e)
        add_product_(of_keys, grad.mT, queries, alpha=ctx.scale)
        add_product_(of_queries, grad, keys, alpha=ctx.scale)
        of_positions = torch.empty_like(positions)
        add_product_(of_positions.view(2 * h, p, e), every.mT, contents.flatten(0, 1), beta=0, alpha=ctx.scale)
        return of_contents, of_positions, None, None, None


def _at_positions(grad: Tensor, where: Positions) -> Tensor:
    """Return the gradient of all products with positions, (2, m, w, p), from that of the scores, (m, w, w)."""
    both, shape = (grad.mT, grad), (2, len(grad), *where.nowhere.shape[1:])
    if where.place is None:
        found = grad.new_zeros(shape)
        for one, term, column in zip(found, both, where.column, strict=True):
            one.scatter_add_(-1, column.expand_as(term), term)
        return found
    found = grad.new_empty(shape)
    for one, term, place in zip(found, both, where.place, strict=True):
        torch.gather(term, -1, place.expand_as(one), out=one)
    return found.masked_fill_(where.nowhere.unsqueeze(1), 0)
