"""What a CUDA graph cannot record, found without a GPU: a model on the meta device shows every use of the host.

There every tensor that the device would hold is on "meta", so a tensor on "cpu" is one of the host's. Using it as a
scalar is fine (it becomes an argument of the kernel); copying it to the device and reading the device are not.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
READS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default, aten.masked_select.default}
COPIES = {aten._to_copy.default, aten.copy_.default}


class HostUse(AssertionError):
    """Something that stops a capture."""


class NoHostUse(TorchDispatchMode):
    """Inside, reading a tensor of the meta device or copying one of the host's to it is an error that says where."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = [x for x in tree_leaves((args, kwargs or {})) if isinstance(x, Tensor)]
        if func in READS and any(x.is_meta for x in inputs):
            raise HostUse(f"{func} reads the device, in {_where()}")
        result = func(*args, **(kwargs or {}))
        outputs = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        if func in COPIES and any(x.is_meta for x in outputs) and any(x.device.type == "cpu" for x in inputs):
            raise HostUse(f"{func} copies from the host, in {_where()}")
        if func is aten.lift_fresh.default and any(x.is_meta for x in outputs):
            raise HostUse(f"a tensor is made of the host's numbers, in {_where()}")
        return result


@contextmanager
def without_autocast() -> Iterator[None]:
    """Inside, code that asks for autocast runs on the meta device, which has none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "is_autocast_enabled", lambda device: False)
        patch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
        yield


def _where() -> str:
    """The last line outside torch."""
    frames = [x for x in traceback.extract_stack() if "/torch/" not in x.filename and x.filename != __file__]
    return f"{frames[-1].filename.rpartition('site-packages/')[2]}:{frames[-1].name}: {frames[-1].line}"
