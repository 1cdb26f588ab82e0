"""Random factors, and their gradients, for tests of the pure functions."""

import torch
from helpers import oracle
from torch import Tensor

from lora2.core.functional import Factors

SHAPES = [(1, 8), (8, 8), (8, 4), (3, 5)]  # (k, r)
N, D, OUT = 3, 6, 5


def random_factors(
    k: int, r: int, seed: int = 0, dtype: torch.dtype = torch.float64, *, n: int = N, d: int = D, o: int = OUT
) -> Factors:
    """Factors of n matrices (o, d), drawn by the seed."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((n, r, k), (n, k, d), (n, r), (n, r, k), (n, k, o))
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return Factors(*(tensor.to(dtype).requires_grad_() for tensor in tensors))


def separate(f: Factors) -> list[oracle.Matrix]:
    """The same factors as single matrices; gradients still reach `f`."""
    return [oracle.Matrix(*(factor[n].double() for factor in f)) for n in range(len(f.u))]


def gradients(value: Tensor, f: Factors) -> list[Tensor]:
    """Gradients of a value by every factor; zero where it does not depend on one."""
    found = torch.autograd.grad(value, f, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(f, found, strict=True)]
