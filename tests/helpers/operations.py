"""Counts what a piece of work asks of a device: on a GPU about a kernel each."""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

NO_WORK = (
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided",
    "_unsafe_view", "unsafe_split", "_local_scalar_dense", "_record_function_enter_new", "_record_function_exit",
)  # fmt: skip


class Operations(TorchDispatchMode):
    """Counts the operations inside the block that compute: neither views nor allocations.

    Attributes:
        count: so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        views = any(x.alias_info is not None and not x.alias_info.is_write for x in func._schema.returns)
        self.count += not views and func.overloadpacket.__name__ not in NO_WORK
        return func(*args, **(kwargs or {}))
