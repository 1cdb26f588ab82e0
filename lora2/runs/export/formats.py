"""The two forms in which an adapted model leaves this project: a stock PEFT LoRA adapter, or a plain merged model.

ΔW = scale · Qᵀ Λ P has rank at most min(k, kept singular values), so it is a LoRA, exactly. Legend as in functional.py:
d in-features, o out-features, k outer width, r inner rank; q is the rank of the exported LoRA.
"""

import json
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from lora2.core.inject import Adapter
from lora2.runs.export.pairs import lora_pairs

PREFIX = "base_model.model."  # PEFT's, before every name of the base model
TRIED_PEFT = ("0.12.0", "0.15.2", "0.18.1", "0.21.2")  # each gave logits equal to the trained model's, docs/USE.md
ALWAYS_WRITTEN = (
    frozenset(  # what says which adapter it is; old versions of PEFT read peft_type, and have other defaults
        {"peft_type", "task_type", "base_model_name_or_path", "r", "lora_alpha", "target_modules", "inference_mode"}
    )
)


def save_lora(
    model: nn.Module,
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
        model: after `inject`, or trained by another low-rank method (pairs.py), in whatever state of training.
        folder: where the two files go; it is made if need be.
        base: what the adapter's config names as its base model: a hub id or a folder.
        revision: of the base model on the hub.
        task_type: PEFT's name of the task ("SEQ_CLS", "CAUSAL_LM").
        whole: modules that were trained themselves, a head for example; they are saved with the adapter.

    Returns:
        The exported rank of every adapted module, 0 for those that were left out.
    """
    weights = lora_pairs(model)
    ranks = {name: len(a) for name, (a, _) in weights.items()}
    kept = {name: pair for name, pair in weights.items() if ranks[name]} or _one_zero(weights)
    tensors: dict[str, Tensor] = {}
    for name, (a, b) in kept.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = a
        tensors[f"{PREFIX}{name}.lora_B.weight"] = b
    for module in whole:
        state = model.get_submodule(module).state_dict(prefix=f"{PREFIX}{module}.")
        tensors |= {name: tensor.contiguous() for name, tensor in state.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = _lora_config({name: len(a) for name, (a, _) in kept.items()}, whole)
    config.base_model_name_or_path, config.revision, config.task_type = base, revision, task_type
    _write_config(config, folder / "adapter_config.json")
    return ranks


def save_merged(model: PreTrainedModel, adapter: Adapter, folder: Path) -> None:
    """Write W⁰ + ΔW under the stock model's names, as config.json and model.safetensors; `model` is not changed.

    Args:
        model: a model after `inject`.
        adapter: what `inject` returned.
        folder: where the files go.
    """
    stock = [name for name in model.state_dict() if not name.startswith("lora2.")]
    with adapter.merged():
        state = model.state_dict()
        model.save_pretrained(folder, state_dict={name: state[name] for name in stock})


def load_lora(base: PreTrainedModel, folder: Path) -> nn.Module:
    """Load the adapter in `folder` into `base` with stock PEFT, in evaluation mode."""
    with warnings.catch_warnings():  # peft 0.21 asks transformers 5.23 for a name that it will drop
        warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated", FutureWarning)
        loaded: nn.Module = PeftModel.from_pretrained(base, str(folder))
    return loaded.eval()


def load_merged(folder: Path) -> nn.Module:
    """Load the classifier in `folder` with stock transformers, in float32 and evaluation mode."""
    loaded: nn.Module = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    return loaded.eval()


@torch.no_grad()
def largest_difference(ours: nn.Module, theirs: nn.Module, vocabulary: int) -> float:
    """Return the largest difference of two classifiers' logits on 4 made-up sequences, relative to the largest logit.

    Args:
        ours: the trained model, whose largest logit counts.
        theirs: the model that was loaded.
        vocabulary: number of token ids; the sequences (4, 12) are drawn from them, one is half padding.
    """
    ids = torch.randint(4, vocabulary, (4, 12), generator=torch.Generator().manual_seed(0))  # below 4: special tokens
    mask = torch.ones_like(ids)
    mask[-1, 6:] = 0
    mine, other = (model(input_ids=ids, attention_mask=mask).logits for model in (ours, theirs))  # (4, labels)
    return float((mine - other).abs().max() / mine.abs().max().clamp(min=1e-6))


def _one_zero(weights: dict[str, tuple[Tensor, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the first matrix alone, with a LoRA of rank 1 that is zero."""
    name, (a, b) = next(iter(weights.items()))
    return {name: (a.new_zeros(1, a.shape[1]), b.new_zeros(b.shape[0], 1))}


def _lora_config(ranks: dict[str, int], whole: Sequence[str]) -> LoraConfig:
    """Make PEFT's config with the commonest rank as the default and the others as patterns."""
    common = Counter(ranks.values()).most_common(1)[0][0]
    others = {name: rank for name, rank in ranks.items() if rank != common}
    return LoraConfig(
        r=common,
        lora_alpha=common,
        rank_pattern=others,
        alpha_pattern=dict(others),
        target_modules=list(ranks),
        modules_to_save=list(whole) or None,
        inference_mode=True,
    )


def _write_config(config: LoraConfig, path: Path) -> None:
    """Write what differs from PEFT's defaults, and what names the adapter.

    A version of PEFT refuses keys that it does not know, and every version adds some; a default that is left out means
    the same to all. Sets are put in order, so that equal adapters have equal files.
    """
    content, defaults = config.to_dict(), LoraConfig().to_dict()
    told = {key: x for key, x in content.items() if key in ALWAYS_WRITTEN or x != defaults.get(key)}
    ordered = {key: sorted(x) if isinstance(x, set) else x for key, x in told.items()}
    path.write_text(json.dumps(ordered, indent=2, sort_keys=True) + "\n", encoding="utf-8")
