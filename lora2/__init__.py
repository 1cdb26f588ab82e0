"""LoRA² as a library: `from lora2 import LoRA2Config, inject, RankAllocator`.

The names load on first use, so that `import lora2` (tables, `--help`) does not load torch.
"""

from importlib import import_module, metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora2.core.allocator import RankAllocator
    from lora2.core.inject import LoRA2Config, inject

    __version__: str

__all__ = ["LoRA2Config", "RankAllocator", "inject"]

_MODULES = {
    "LoRA2Config": "lora2.core.inject",
    "RankAllocator": "lora2.core.allocator",
    "inject": "lora2.core.inject",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        value: object = _installed_version()
    elif name in _MODULES:
        value = getattr(import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module 'lora2' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, "__version__"})


def _installed_version() -> str:
    """Return the version of the installed wheel or of the editable install."""
    try:
        return metadata.version("lora2-glue")
    except metadata.PackageNotFoundError:
        raise AttributeError("lora2.__version__: lora2-glue is not installed; run pip install -e .") from None
