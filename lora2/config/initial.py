"""The adapter that a run starts from (`init_from`): where its weights lie, and what they are. Needs no torch.

It is a run's id, whose weights of its best evaluation lie in output_dir/RUN_ID, or a folder: that of a run, or one that
`scripts/export.py lora` wrote.
"""

import hashlib
from pathlib import Path

from lora2.config.schema import RunConfig

BEST = "best.safetensors"  # in a run's folder
FACTORS = "lora2_factors.safetensors"  # in an exported one, whose stock LoRA has lost what Λ was
STARTABLE = ("lora", "lora2")  # methods


def adapter_file(source: str, output_dir: str) -> Path:
    """Return where the weights of `init_from` lie, whether they are there or not."""
    folder = Path(source) if Path(source).is_dir() else Path(output_dir) / source
    exported = folder / FACTORS
    return exported if exported.is_file() else folder / BEST


def is_adapter(name: str) -> bool:
    """Return whether a trained parameter of LoRA or LoRA² belongs to the adapter, not to the head."""
    return name.startswith("lora2.") or ".lora_" in name


def adapter_hash(cfg: RunConfig) -> str:
    """Return the SHA-256, 64 hex digits, of the adapter that the run starts from: its names, shapes and numbers.

    Where it is not there (yet), the name that was given stands for it: such a run is known to a plan, and refused.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    assert cfg.init_from is not None
    try:
        tensors = load_file(adapter_file(cfg.init_from, cfg.output_dir))
    except (OSError, SafetensorError):
        return f"unknown: {cfg.init_from}"
    digest = hashlib.sha256()
    for name in sorted(filter(is_adapter, tensors)):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()
