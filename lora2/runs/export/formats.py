"""The two forms in which an adapted model leaves this project: a stock PEFT LoRA adapter, or a plain merged model.

ΔW = scale · Qᵀ Λ P has rank at most min(k, kept singular values), so it is a LoRA, exactly. Legend as in functional.py:
d in-features, o out-features, k outer width, r inner rank; q is the rank of the exported LoRA.
"""

import warnings
from pathlib import Path

import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from lora2.core.adapter import Adapter

TRIED_PEFT = ("0.12.0", "0.15.2", "0.18.1", "0.21.2")  # each gave logits equal to the trained model's, docs/USE.md


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
