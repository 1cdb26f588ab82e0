"""The classification head that a run starts from: a fresh one, or the trained one that comes with the weights."""

import copy
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from lora2.common.errors import UserError
from lora2.config.schema import ModelConfig
from lora2.core.heads import head_modules, head_parameters
from lora2.models.weights import loading, weight_files

UNUSUAL = 9973  # a number of labels that no other size of a model is equal to


def keeps_head(cfg: ModelConfig, folder: Path, config: Any, num_labels: int) -> bool:
    """Return whether the run starts from the trained head in the folder; only `model.keep_head` asks for that.

    Args:
        cfg: which backbone.
        folder: of the weights, as weight_source returns it.
        config: transformers' configuration of the model.
        num_labels: outputs of the task's head.

    Raises:
        UserError: it is asked for, and there is no such head, or one of another size.
    """
    if not cfg.keep_head:
        return False
    stored = trained_labels(config, folder)
    if stored != num_labels:
        found = "no trained head" if stored is None else f"a head of {stored} outputs"
        raise UserError(
            f"model.keep_head: got true, but {str(folder)!r} has {found}, and the task needs {num_labels}; choose "
            f"a model with a head of that size, or a fresh head: model.keep_head=false"
        )
    return True


def trained_labels(config: Any, folder: Path) -> int | None:
    """Return the number of outputs of the trained head in the folder; None if its weights come without one.

    The last layer of a head has another name in every architecture; its size is the number of labels in all of them.
    """
    last = {name for name, p in head_parameters(_empty_model(config, UNUSUAL)) if p.shape[0] == UNUSUAL}
    for file in weight_files(folder):
        with safe_open(file, framework="np") as tensors:
            for name in sorted(last.intersection(tensors.keys())):
                return int(tensors.get_slice(name).get_shape()[0])
    return None


def head_prefixes(config: Any) -> tuple[str, ...]:
    """Return what the names of the head's tensors begin with."""
    return tuple(f"{module}." for module in head_modules(_empty_model(config, config.num_labels)))


def head_notes(cfg: ModelConfig, folder: Path, num_labels: int) -> list[str]:
    """Say which head the run starts from, where its weights come with a trained one.

    Raises:
        UserError: as keeps_head.
    """
    with loading(cfg, folder, "model"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if keeps_head(cfg, folder, config, num_labels):
            return [f"model.keep_head: the head starts as the trained one in {folder}"]
        if trained_labels(config, folder) is None:
            return []
    return [f"the head starts fresh; the trained one in {folder} is left out (model.keep_head=true would keep it)"]


def _empty_model(config: Any, num_labels: int) -> PreTrainedModel:
    """Make the classifier without any memory: its names and shapes alone are needed."""
    config = copy.deepcopy(config)
    config.num_labels = num_labels
    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)  # type: ignore[no-any-return]
