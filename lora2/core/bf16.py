"""bf16 autocast on processors without bf16 arithmetic.

There torch falls back to loops 10 to 80 times slower than its float32 kernels. Units with bf16 arithmetic round the
operands to bf16, sum the products in float32 and round the result to bf16. Float32 kernels on rounded operands compute
the same at float32 speed, so on such a processor `EmulatedProducts` takes over the matrix products of autocast.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

PRODUCTS: frozenset[Callable[..., Any]] = frozenset(
    {
        F.linear,
        torch.matmul,
        Tensor.matmul,
        Tensor.__matmul__,
        torch.bmm,
        Tensor.bmm,
        F.scaled_dot_product_attention,
    }
)


@cache
def _cpu_lacks_bf16() -> bool:
    return not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def needs_emulation(device: torch.device) -> bool:
    """Return whether bf16 products on this device would run in the slow fallback."""
    return device.type == "cpu" and _cpu_lacks_bf16()


class EmulatedProducts(TorchFunctionMode):
    """Compute matrix products as bf16 units do, wherever CPU autocast to bf16 is on inside this mode."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in PRODUCTS or not torch.is_autocast_enabled("cpu"):
            return func(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            wide = [_rounded(value) for value in args]
            result = func(*wide, **{name: _rounded(value) for name, value in kwargs.items()})
        return result.to(torch.bfloat16)


def upcast_if_emulated(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors in float32 if they are bf16 and bf16 products would be slow here, else unchanged.

    It is for custom autograd functions, which `EmulatedProducts` does not reach. The caller rounds the result back.
    """
    if tensors[0].dtype == torch.bfloat16 and needs_emulation(tensors[0].device):
        return tuple(tensor.float() for tensor in tensors)
    return tensors


def add_product_(onto: Tensor, a: Tensor, b: Tensor, *, beta: float = 1.0, alpha: float = 1.0) -> None:
    """Replace onto by beta · onto + alpha · a b, for every matrix of a stack; with beta = 0 whatever it held.

    For custom autograd functions, with autocast off.

    Args:
        onto: (m, i, j).
        a: (m, i, l).
        b: (m, l, j).
    """
    sum_, *factors = upcast_if_emulated(onto, a, b)
    sum_.baddbmm_(*factors, beta=beta, alpha=alpha)
    if sum_ is not onto:
        onto.copy_(sum_)


def _rounded(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(torch.bfloat16).float()
    return value
