"""An adapted model as a stock PEFT LoRA adapter: two files, written without peft.

ΔW = scale · Qᵀ Λ P has rank at most min(k, kept singular values), so it is a LoRA, exactly. Legend as in functional.py:
d in-features, o out-features; q is the rank of the exported LoRA.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

Pair = tuple[Tensor, Tensor]
PREFIX = "base_model.model."  # PEFT's, before every name of the base model


def save_lora(
    model: nn.Module,
    weights: Mapping[str, Pair],
    folder: Path,
    *,
    base: str | None,
    revision: str | None = None,
    task_type: str | None = None,
    whole: Sequence[str] = (),
) -> dict[str, int]:
    """Write adapter_config.json and adapter_model.safetensors, which stock `peft.PeftModel.from_pretrained` loads.

    Rank and alpha are equal for every matrix, so PEFT's scaling alpha / rank is exactly 1. Matrices without a singular
    value are left out. If that leaves none, the first carries a zero of rank 1, because PEFT loads no empty adapter.

    Args:
        model: whose modules are adapted.
        weights: A (q, d) and B (o, q) of every adapted module, with ΔW = B A; q is 0 where nothing is left.
        folder: where the two files go; it is made if need be.
        base: what the adapter's config names as its base model: a hub id or a folder.
        revision: of the base model on the hub.
        task_type: PEFT's name of the task ("SEQ_CLS", "CAUSAL_LM").
        whole: modules that were trained themselves, a head for example; they are saved with the adapter.

    Returns:
        The exported rank of every adapted module, 0 for those that were left out.
    """
    ranks = {name: len(a) for name, (a, _) in weights.items()}
    kept = {name: pair for name, pair in weights.items() if ranks[name]} or _one_zero(weights)
    tensors: dict[str, Tensor] = {}
    for name, (a, b) in kept.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = a  # (q, d)
        tensors[f"{PREFIX}{name}.lora_B.weight"] = b  # (o, q)
    for module in whole:
        state = model.get_submodule(module).state_dict(prefix=f"{PREFIX}{module}.")
        tensors |= {name: tensor.contiguous() for name, tensor in state.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = _lora_config({name: len(a) for name, (a, _) in kept.items()}, whole)
    config |= {"base_model_name_or_path": base, "task_type": task_type}
    if revision is not None:
        config["revision"] = revision
    text = json.dumps(config, indent=2, sort_keys=True)
    (folder / "adapter_config.json").write_text(text + "\n", encoding="utf-8")
    return ranks


def _one_zero(weights: Mapping[str, Pair]) -> dict[str, Pair]:
    """Return the first matrix alone, with a LoRA of rank 1 that is zero."""
    name, (a, b) = next(iter(weights.items()))
    return {name: (a.new_zeros(1, a.shape[1]), b.new_zeros(b.shape[0], 1))}


def _lora_config(ranks: Mapping[str, int], whole: Sequence[str]) -> dict[str, Any]:
    """Make PEFT's config with the commonest rank as the default and the others as patterns.

    It holds what names the adapter, and what differs from PEFT's defaults. A version of PEFT refuses keys that it does
    not know, and every version adds some; a default that is left out means the same to all.
    """
    common = Counter(ranks.values()).most_common(1)[0][0]
    others = {name: rank for name, rank in ranks.items() if rank != common}
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "inference_mode": True,
        "r": common,
        "lora_alpha": common,
        "target_modules": sorted(ranks),
    }
    if others:
        config |= {"rank_pattern": others, "alpha_pattern": others}
    if whole:
        config["modules_to_save"] = list(whole)
    return config
