"""LoRA² as a library: `from lora2 import LoRA2Config, inject, RankAllocator, BudgetSchedule`.

The names load on first use, so that `import lora2` (tables, `--help`) does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora2.core.allocator import RankAllocator
    from lora2.core.budget import BudgetSchedule
    from lora2.core.inject import LoRA2Config, inject

__all__ = ["BudgetSchedule", "LoRA2Config", "RankAllocator", "inject"]

_HOMES = {
    "BudgetSchedule": "lora2.core.budget",
    "LoRA2Config": "lora2.core.inject",
    "RankAllocator": "lora2.core.allocator",
    "inject": "lora2.core.inject",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'lora2' has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # over the submodule of that name, which the import has just put here
    return value
