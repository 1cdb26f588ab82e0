"""The orthogonality regularisers of eq. 5, of all matrices of an adapter in a few batched products.

Letters and dimensions are those of functional.py. A step must not pay for every shape of a matrix and both of its sides
anew: on a GPU each small product is a kernel of its own. u and 𝒰 have one shape in all stacks, and so have the Gram
matrices of v and 𝒱; so everything after those Grams is done once, for m = 2 · (matrices of the adapter) at a time.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lora2.core.functional import Factors

PenaltyForm = Literal["squared", "norm"]


def penalties(stacks: Sequence[Factors], terms: frozenset[str], form: PenaltyForm) -> dict[str, Tensor]:
    """Return the orthogonality regularisers of eq. 5, each summed over the matrices of all stacks.

    Every term is the distance of a Gram matrix from the identity: k x k for u, v, U, V (as in AdaLoRA's trainer), r x r
    for P and Q. Squared, it does not matter which of its two Grams is taken: ‖XᵀX − I‖² and ‖XXᵀ − I‖² differ by a
    constant. The Gram of P = uv comes from u (vvᵀ) uᵀ, so the r x d product is never formed.

    Args:
        stacks: the factors of each shape of matrices, all with the same r, k and number of scales.
        terms: which of "uv" (R(u,v)), "UV" (R(𝒰,𝒱)), "PQ" (R(P,Q)); with one scale there is "PQ" alone.
        form: "squared" is ‖·‖²_F as printed; "norm" is ‖·‖_F as AdaLoRA's trainer has it.

    Returns:
        A scalar for each wanted term.
    """
    u = [*(f.u for f in stacks), *(f.U for f in stacks)]
    v = [outer for outer in (*(f.v for f in stacks), *(f.V for f in stacks)) if outer is not None]
    if not v:  # one scale: u and U are P and Q
        return {"PQ": distances(grams(u), form).sum()}
    found: dict[str, Tensor] = {}
    inner, gram_v = torch.cat(u), grams(v)  # (m, r, k), (m, k, k): the first half is of u and v, the second of U and V
    if terms & {"uv", "UV"}:
        each = distances(inner.mT @ inner, form) + distances(gram_v, form)  # (m,)
        found["uv"], found["UV"] = each.view(2, -1).sum(1).unbind()
    if "PQ" in terms:
        found["PQ"] = distances(inner @ gram_v @ inner.mT, form).sum()
    return {term: value for term, value in found.items() if term in terms}


def distances(gram: Tensor, form: PenaltyForm) -> Tensor:
    """Return ‖G − I‖²_F ("squared") or ‖G − I‖_F ("norm") of every Gram matrix, (m,).

    Args:
        gram: (m, q, q).
        form: which of the two.
    """
    off = gram - torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return off.square().sum((-2, -1)) if form == "squared" else torch.linalg.matrix_norm(off)


def grams(factors: Sequence[Tensor]) -> Tensor:
    """Return X Xᵀ of every matrix of all factors, (Σn, q, q); its gradient can be taken once.

    Args:
        factors: each (n, q, d), with a d of its own.
    """
    found: Tensor = _Grams.apply(*factors)  # type: ignore[no-untyped-call]
    return found


class _Grams(torch.autograd.Function):
    """Write all Grams into one tensor; a factor's gradient is one product, where autograd takes two and their sum."""

    @staticmethod
    def forward(ctx: Any, *factors: Tensor) -> Tensor:
        ctx.save_for_backward(*factors)
        n, q = sum(len(x) for x in factors), factors[0].shape[1]
        found = factors[0].new_empty(n, q, q)
        for x, part in zip(factors, found.split([len(x) for x in factors]), strict=True):
            torch.bmm(x, x.mT, out=part)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        factors = ctx.saved_tensors
        both = grad + grad.mT  # d⟨G, X Xᵀ⟩ = ⟨(G + Gᵀ) X, dX⟩
        return tuple(part @ x for x, part in zip(factors, both.split([len(x) for x in factors]), strict=True))
