"""The least that an adapter of width k must add to a step whose gradient flows everywhere, timed one by one.

BitFit's step is that step, with a sum over tokens for each bias. In its place LoRA² needs, for each matrix, the thin
products behind the gradients of A and B, and W + ΔW or, on the plain path, two thin updates. Nothing else is counted:
no autograd, no regulariser, no optimizer.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from lora2.core.linear import prefers_fused
from lora2.experiments.bench.peers import K, Shape


def adapter_floor(shape: Shape, rounds: int, device: torch.device) -> float:
    """Return the seconds by which a step of LoRA² in float32 must exceed BitFit's.

    Args:
        rounds: timed repetitions of every product, whose medians are added up over all adapted matrices.
    """
    h, inner = shape.hidden, shape.inner
    sizes = {(h, h): 4, (h, inner): 1, (inner, h): 1}  # (d, o) -> matrices in a layer
    return shape.layers * sum(n * _one_matrix(shape.b * shape.s, *size, rounds, device) for size, n in sizes.items())


def _one_matrix(t: int, d: int, o: int, rounds: int, device: torch.device) -> float:
    x, grad = torch.randn(t, d, device=device), torch.randn(t, o, device=device)
    weight, a, b = (torch.randn(*size, device=device) for size in ((o, d), (K, d), (K, o)))
    thin: dict[str, Callable[[], Tensor]] = {
        "gradient of A": lambda: (b @ grad.t()) @ x,
        "gradient of B": lambda: (a @ x.t()) @ grad,
    }
    if prefers_fused(x, weight):
        thin["W + ΔW"] = lambda: torch.addmm(weight, b.t(), a)
    else:
        thin["y"] = lambda: grad.addmm_((a @ x.t()).t(), b, alpha=0.0)
        thin["gradient of x"] = lambda: x.addmm_((b @ grad.t()).t(), a, alpha=0.0)
    return sum(_seconds(run, rounds, device) for run in thin.values()) - _seconds(lambda: grad.sum(0), rounds, device)


def _seconds(run: Callable[[], Tensor], rounds: int, device: torch.device) -> float:
    """Return the median over the rounds; two before them warm up."""
    each = []
    for _ in range(rounds + 2):
        begun = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        each.append(time.perf_counter() - begun)
    return statistics.median(each[2:])
