"""A second LoRA², written from the paper for the tests: float64, one matrix at a time, loops and no batching.

Nothing here is imported from lora2. Shapes as in docs/METHOD.md: u (r, k), v (k, d), lam (r,), U (r, k), V (k, o).
Values are torch.float64 tensors so that autograd gives the gradients of the very same formulas.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction

import torch
from torch import Tensor


@dataclass
class Matrix:
    """The five factors of one adapted matrix."""

    u: Tensor
    v: Tensor
    lam: Tensor
    U: Tensor
    V: Tensor

    def named(self) -> dict[str, Tensor]:
        return {item.name: getattr(self, item.name) for item in fields(self)}


# ---------------------------------------------------------------------------------------------- forward, eq. 4


def product(left: Tensor, right: Tensor) -> Tensor:
    """(r, k) (k, d) -> (r, d), entry by entry."""
    rows = []
    for i in range(left.shape[0]):
        row = torch.zeros(right.shape[1], dtype=torch.float64)
        for j in range(left.shape[1]):
            row = row + left[i, j] * right[j]
        rows.append(row)
    return torch.stack(rows)


def delta_weight(m: Matrix, alpha: float) -> Tensor:
    """ΔW (o, d) = (alpha / r) Σ_i λ_i Q_i P_iᵀ with P = uv, Q = 𝒰𝒱."""
    p, q, r = product(m.u, m.v), product(m.U, m.V), m.lam.shape[0]
    total = torch.zeros(q.shape[1], p.shape[1], dtype=torch.float64)
    for i in range(r):
        total = total + (alpha / r) * m.lam[i] * torch.outer(q[i], p[i])
    return total


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, m: Matrix, alpha: float) -> Tensor:
    """(t, d) -> (t, o): x (W⁰ + ΔW)ᵀ + b with ΔW written out."""
    y = x @ (weight + delta_weight(m, alpha)).T
    return y if bias is None else y + bias


# ----------------------------------------------------------------------------------------- regularisers, eq. 5


def gram(rows: Tensor) -> Tensor:
    """XXᵀ of the rows of X."""
    return torch.stack([torch.stack([(a * b).sum() for b in rows]) for a in rows])


def squared_distance(matrix: Tensor) -> Tensor:
    """‖G − I‖²_F."""
    total = torch.zeros((), dtype=torch.float64)
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            total = total + (matrix[i, j] - (1.0 if i == j else 0.0)) ** 2
    return total


def grams(m: Matrix, term: str) -> tuple[Tensor, Tensor]:
    """The two matrices that the term wants to be I. R(P,Q) speaks of the paper's P (d, r) = (uv)ᵀ, so PᵀP is r x r."""
    if term == "uv":
        return gram(m.u.T), gram(m.v)  # uᵀu, vvᵀ
    if term == "UV":
        return gram(m.U.T), gram(m.V)  # 𝒰ᵀ𝒰, 𝒱𝒱ᵀ
    return gram(product(m.u, m.v)), gram(product(m.U, m.V))  # PᵀP, QQᵀ


def penalties(matrices: Sequence[Matrix], terms: Sequence[str], form: str) -> dict[str, Tensor]:
    """squared: summed over matrices, as printed. norm: ‖·‖_F averaged over every regularised Gram, so that the
    terms add up to what AdaLoRA's trainer adds.
    """
    out = {}
    for term in terms:
        total = torch.zeros((), dtype=torch.float64)
        for m in matrices:
            for g in grams(m, term):
                squared = squared_distance(g)
                total = total + (squared if form == "squared" else squared.sqrt())
        out[term] = total if form == "squared" else total / (2 * len(matrices) * len(terms))
    return out


# ---------------------------------------------------------------- importance, AdaLoRA eq. 10-13 and LoRA² eq. 8, 9


@dataclass
class Importance:
    """Ī and Ū of one tensor, as nested Python floats in the tensor's flat order."""

    size: int
    beta1: float
    beta2: float
    smoothed: list[float] = field(default_factory=list)
    uncertainty: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.smoothed, self.uncertainty = [0.0] * self.size, [0.0] * self.size

    def update(self, weight: Tensor, grad: Tensor) -> None:
        for i, (w, g) in enumerate(zip(weight.flatten().tolist(), grad.flatten().tolist(), strict=True)):
            sensitivity = abs(w * g)
            self.smoothed[i] = self.beta1 * self.smoothed[i] + (1 - self.beta1) * sensitivity
            deviation = abs(sensitivity - self.smoothed[i])
            self.uncertainty[i] = self.beta2 * self.uncertainty[i] + (1 - self.beta2) * deviation

    def scores(self) -> list[float]:
        return [a * b for a, b in zip(self.smoothed, self.uncertainty, strict=True)]


def matrix_scores(s: dict[str, list[float]], k: int, r: int, *, full: bool) -> list[float]:
    """Eq. 9 for every singular value of one matrix, or eq. 8 with `full`; `s` holds Ī·Ū by factor, flat."""
    scores = []
    for i in range(r):
        score = s["lam"][i]
        for j in range(k):
            score += s["u"][i * k + j] / k + s["U"][i * k + j] / k
        if full:
            score += sum(s["v"]) / k + sum(s["V"]) / k
        scores.append(score)
    return scores


def magnitudes(lam: Tensor) -> list[float]:
    """|λ| of every singular value of one matrix."""
    return [abs(value) for value in lam.tolist()]


# ----------------------------------------------------------------------------------------------- budget and mask


def budget(t: int, total: int, b0: int, bt: int, t_i: int, t_f: int, kind: str) -> int:
    """b(t), in exact fractions. released: the authors' code; printed: AdaLoRA eq. 14, cut at b0."""
    if t < t_i:
        return b0
    if t >= total - t_f:
        return bt
    numerator = t - t_i if kind == "released" else t - t_i - t_f
    value = bt + (b0 - bt) * (1 - Fraction(numerator, total - t_i - t_f)) ** 3
    return min(b0, math.floor(value))


def top(scores: Sequence[float], b: int) -> list[bool]:
    """Exactly b of the largest; of equals the first."""
    keep = [False] * len(scores)
    for _ in range(b):
        best = None
        for i, score in enumerate(scores):
            if not keep[i] and (best is None or score > scores[best]):
                best = i
        assert best is not None
        keep[best] = True
    return keep


# ------------------------------------------------------------------------------------------------- a whole run


@dataclass
class Settings:
    """Of a reference run."""

    total: int
    lr: float
    alpha: float
    gamma: float
    target: int
    t_i: int
    t_f: int
    interval: int
    terms: tuple[str, ...] = ("uv", "UV", "PQ")
    form: str = "squared"
    full: bool = False
    kind: str = "released"
    beta1: float = 0.85
    beta2: float = 0.85
    warmup: int = 0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    lam_lr_scale: float = 1.0
    optimizer: str = "adamw"


@dataclass
class Run:
    """What a reference run leaves: task loss, weighted penalties, mask and Λ of each step, and the final state."""

    losses: list[float]
    penalties: list[dict[str, float]]
    masks: list[list[bool]]
    lam: list[list[list[float]]]
    matrices: list[Matrix]
    head: dict[str, Tensor]
    importance: dict[str, Importance]


def train(
    matrices: list[Matrix],
    head: dict[str, Tensor],
    task_loss: Callable[[list[Tensor], dict[str, Tensor], int], Tensor],
    s: Settings,
) -> Run:
    """Algorithm 1 with everything by hand.

    Args:
        head: trained tensors beside the adapter; names that end in "bias" do not decay.
        task_loss: (the ΔW of every matrix, head, step) -> mean loss of the batch of that step.
    """
    params = {f"{n}.{name}": tensor for n, m in enumerate(matrices) for name, tensor in m.named().items()}
    params |= {f"head.{name}": tensor for name, tensor in head.items()}
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in params.items()}
    importance = {name: Importance(p.numel(), s.beta1, s.beta2) for name, p in params.items() if name[0] != "h"}
    r, k = matrices[0].u.shape
    run = Run([], [], [], [], matrices, head, importance)
    keep = [True] * (r * len(matrices))
    final = s.total - s.t_f
    for t in range(s.total):
        for p in params.values():
            p.requires_grad_(True)
        loss = task_loss([delta_weight(m, s.alpha) for m in matrices], head, t)
        extra = {name: s.gamma * value for name, value in penalties(matrices, s.terms, s.form).items()}
        objective = loss + sum(extra.values(), torch.zeros((), dtype=torch.float64))
        grads = dict(zip(params, torch.autograd.grad(objective, list(params.values())), strict=True))
        for p in params.values():
            p.requires_grad_(False)
        run.losses.append(float(loss.detach()))
        run.penalties.append({name: float(value.detach()) for name, value in extra.items()})
        norm = math.sqrt(sum(float((g * g).sum()) for g in grads.values()))
        clip = min(1.0, s.max_grad_norm / (norm + 1e-6))
        grads = {name: g * clip for name, g in grads.items()}
        if t < final:
            for name, statistic in importance.items():
                statistic.update(params[name], grads[name])
        _update(params, grads, moments, t, s)
        if t == final or (s.t_i < t < final and t % s.interval == 0):
            scores = []
            for n in range(len(matrices)):
                named = {name: importance[f"{n}.{name}"].scores() for name in matrices[n].named()}
                scores += matrix_scores(named, k, r, full=s.full)
            keep = top(scores, budget(t, s.total, len(scores), s.target, s.t_i, s.t_f, s.kind))
            _mask(matrices, keep)
        elif t > final:
            _mask(matrices, keep)
        run.masks.append(list(keep))
        run.lam.append([m.lam.tolist() for m in matrices])
    return run


def _mask(matrices: list[Matrix], keep: list[bool]) -> None:
    r = matrices[0].lam.shape[0]
    for n, m in enumerate(matrices):
        for i in range(r):
            if not keep[n * r + i]:
                m.lam[i] = 0.0


def _update(
    params: dict[str, Tensor], grads: dict[str, Tensor], moments: dict[str, tuple[Tensor, Tensor]], t: int, s: Settings
) -> None:
    factor = t / s.warmup if t < s.warmup else (s.total - t) / (s.total - s.warmup)
    for name, p in params.items():
        lr = s.lr * factor * (s.lam_lr_scale if name.endswith(".lam") else 1.0)
        if s.optimizer == "sgd":
            p -= lr * grads[name]
            continue
        if not name.endswith("bias"):
            p *= 1 - lr * s.weight_decay
        m, v = moments[name]
        m *= 0.9
        m += 0.1 * grads[name]
        v *= 0.999
        v += 0.001 * grads[name] * grads[name]
        denominator = v.sqrt() / math.sqrt(1 - 0.999 ** (t + 1)) + 1e-8
        p -= lr / (1 - 0.9 ** (t + 1)) * m / denominator
