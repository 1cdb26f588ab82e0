"""The mathematics of LoRA² as pure functions on tensors: no modules, no state.

Dimension legend, used in every shape comment:
    n  matrices of one shape, stacked     d  in-features        k  outer (projection) width
    t  tokens (batch x sequence)          o  out-features       r  inner rank (singular values)

Letters are the paper's (arXiv 2408.06854, eq. 4), with the shapes that its released code uses. docs/METHOD.md
explains why the printed shapes and the printed product cannot both be right.
    P = u v   (r, d)      u (r, k), v (k, d)      the side that meets the input
    Q = U V   (r, o)      U (r, k), V (k, o)      the side that makes the output (the paper's calligraphic U, V)
    ΔW = scale · Qᵀ Λ P   (o, d)
AdaLoRA is the same with one scale: v and V are the identity, so that k = d for u and k = o for U, P = u and Q = U.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

Tensors = list[Tensor]  # one for each factor


class Factors(NamedTuple):
    """Hold the five factors of n matrices of one shape; with one scale v and V are None, which is the identity."""

    u: Tensor  # (n, r, k)
    v: Tensor | None  # (n, k, d)
    lam: Tensor  # (n, r)
    U: Tensor  # (n, r, k)
    V: Tensor | None  # (n, k, o)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Factors":
        """Return the factors with `change` applied to each that there is."""
        v, V = (None if outer is None else change(outer) for outer in (self.v, self.V))
        return Factors(change(self.u), v, change(self.lam), change(self.U), V)


def sides(f: Factors) -> tuple[Tensor, Tensor]:
    """Return P = uv (n, r, d) and Q = UV (n, r, o)."""
    return f.u if f.v is None else f.u @ f.v, f.U if f.V is None else f.U @ f.V


def low_rank(f: Factors, scale: float) -> tuple[Tensor, Tensor]:
    """Fold the inner rank away: return A and B with ΔW = Bᵀ A, so that the adapter costs what a rank-k LoRA costs.

    B = scale · (uᵀ Λ U) V, and uᵀ Λ U is only k x k (eq. 4, multiplied out from the middle). With one scale there is
    nothing to fold: A = P and B = scale · Λ Q, and the rank is r.

    Args:
        f: the factors of n matrices.
        scale: alpha / r.

    Returns:
        A: (n, k, d), the outer input factor v itself; (n, r, d) with one scale.
        B: (n, k, o); (n, r, o) with one scale.
    """
    if f.v is None or f.V is None:
        return f.u, (scale * f.lam).unsqueeze(-1) * f.U  # (n, r, d), (n, r, o)
    core = (f.u * (scale * f.lam).unsqueeze(-1)).transpose(-1, -2) @ f.U  # (n, k, k)
    return f.v, core @ f.V  # (n, k, d), (n, k, o)


def block_diagonal(b: Tensor) -> Tensor:
    """Return matrices with g blocks each on the diagonal, and zeros elsewhere.

    Args:
        b: (m, g, k, o).

    Returns:
        (m, g·k, g·o).
    """
    m, g, k, o = b.shape
    own = torch.eye(g, dtype=torch.bool, device=b.device).view(g, 1, g, 1)
    return torch.where(own, b.unsqueeze(3), 0).view(m, g * k, g * o)


def delta_weight(f: Factors, scale: float) -> Tensor:
    """Return ΔW = scale · Qᵀ Λ P (eq. 4) as full matrices, (n, o, d), for merging and export."""
    a, b = low_rank(f, scale)
    return b.transpose(-1, -2) @ a  # (n, o, d)


def cross_cosines(f: Factors) -> Tensor:
    """Return the cosine of each row of P = uv with each row of Q = 𝒰𝒱, (n, r, r), for square matrices (d = o).

    The paper argues that the two scales should not learn the same directions; no term of eq. 5 ties P to Q.
    """
    p, q = sides(f)  # (n, r, d), (n, r, o)
    return torch.nn.functional.normalize(p, dim=-1) @ torch.nn.functional.normalize(q, dim=-1).mT


def update_importance(
    smoothed: Tensors, uncertainty: Tensors, weights: Tensors, grads: Tensors, beta1: float, beta2: float
) -> None:
    """Update the sensitivity statistics in place by one step (AdaLoRA eq. 10-12, which LoRA² takes over).

    I = |w · ∂L/∂w|;  Ī ← β1 Ī + (1 − β1) I;  Ū ← β2 Ū + (1 − β2) |I − Ī|, with the new Ī.

    Args:
        smoothed: Ī of each factor, float32.
        uncertainty: Ū, float32, of the same shapes.
        weights: w, of the same shapes.
        grads: ∂L/∂w at these very w, of the same shapes.
        beta1: β1.
        beta2: β2.
    """
    change = update_sensitivity(smoothed, weights, grads, beta1)  # I
    torch._foreach_sub_(change, smoothed)
    torch._foreach_abs_(change)
    torch._foreach_lerp_(uncertainty, change, 1 - beta2)


def update_sensitivity(smoothed: Tensors, weights: Tensors, grads: Tensors, beta1: float) -> list[Tensor]:
    """Update Ī alone in place by one step, and return I, of its shapes; the arguments are those of update_importance.

    One kernel of a GPU does an operation for all factors.
    """
    found = torch._foreach_mul(weights, grads)
    torch._foreach_abs_(found)
    sensitivity = [one.to(statistic.dtype) for one, statistic in zip(found, smoothed, strict=True)]
    torch._foreach_lerp_(smoothed, sensitivity, 1 - beta1)
    return sensitivity


def singular_value_scores(importance: Mapping[str, Tensor]) -> Tensor:
    """Return the importance of each singular value, (n, r), from the importance of the entries it uses.

    With the entries of u, Λ and U this is the reduced score, eq. 9: S(Λ_i) + mean_k s(u_i) + mean_k s(U_i). With one
    scale, where u and U are P and Q, it is AdaLoRA's score (its eq. 7).
    With v and V it is the full score, eq. 8: their sums over all entries, divided by k, are added. Within one matrix
    they are a constant.

    Args:
        importance: s = Ī · Ū by factor name ("u" (n, r, k), "lam" (n, r), "U" (n, r, k), and for eq. 8
            "v" (n, k, d), "V" (n, k, o)).
    """
    k = importance["u"].shape[-1]
    score = importance["lam"] + importance["u"].mean(-1) + importance["U"].mean(-1)  # (n, r)
    for name in ("v", "V"):
        if name in importance:
            score = score + importance[name].sum((-1, -2)).unsqueeze(-1) / k  # (n, 1) over r
    return score


def top_mask(scores: Tensor, budget: int) -> Tensor:
    """Return the mask, (m,) bool, of the `budget` largest scores; of equal scores the first in order stays.

    Nothing here reads the device. Scores that are not finite have no order, and the caller must look for them.

    Args:
        scores: (m,).
        budget: how many to keep, exactly.
    """
    order = torch.sort(scores, descending=True, stable=True).indices  # (m,)
    return torch.zeros_like(scores, dtype=torch.bool).index_fill_(0, order[:budget], True)


def above_threshold_mask(scores: Tensor, budget: int) -> Tensor:
    """Return the mask, (m,) bool, of the scores above the (m − budget)-th smallest, as AdaLoRA's code takes it.

    Scores that equal the threshold go as well, so ties can leave fewer than `budget`. Nothing here reads the device.

    Args:
        scores: (m,).
        budget: how many to keep, if no two scores are equal.
    """
    pruned = len(scores) - budget
    if pruned == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    return scores > torch.sort(scores).values[pruned - 1]
