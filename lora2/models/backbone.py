"""The backbone with its classification head: from the folder that weights.py names, or with random weights."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import logging as transformers_logging

from lora2.config.schema import ModelConfig
from lora2.models.weights import loading, unavailable, weight_source


def quiet_transformers() -> None:
    """Silence transformers' progress bars and its report of new heads; errors are still shown."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def load_model(cfg: ModelConfig, num_labels: int, cls_dropout: float | None) -> PreTrainedModel:
    """Load backbone and head in float32 and in training mode. Only safetensors are read, and no code is run.

    Args:
        cfg: which backbone, and whether it is pretrained.
        num_labels: outputs of the head; 1 for regression.
        cls_dropout: dropout before the classifier; None keeps the backbone's own.

    Raises:
        UserError: weights are missing, not safetensors, or lack a part of the encoder.
    """
    source = "model.architecture" if cfg.random_init else weight_source(cfg)
    with loading(cfg, source, "model"):
        config = _architecture(cfg, source)
        config.num_labels = num_labels
        if cls_dropout is not None:
            setattr(config, "cls_dropout" if cfg.model_type == "deberta-v2" else "classifier_dropout", cls_dropout)
        if cfg.random_init:
            model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
        else:
            model = _pretrained(cfg, source, config)
    if cls_dropout is not None and cfg.model_type == "mpnet":  # its head has no setting for it
        model.classifier.dropout.p = cls_dropout
    model.float().train()
    return model  # type: ignore[no-any-return]


def _architecture(cfg: ModelConfig, source: str | Path) -> Any:
    if cfg.random_init:
        return AutoConfig.for_model(cfg.model_type, **cfg.architecture)
    return AutoConfig.from_pretrained(source, trust_remote_code=False)


def _pretrained(cfg: ModelConfig, source: str | Path, config: Any) -> PreTrainedModel:
    model, report = AutoModelForSequenceClassification.from_pretrained(
        source,
        config=config,
        dtype=torch.float32,  # transformers 5 would take the checkpoint's, which is float16 for DeBERTaV3
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are refused below, by name
    )
    for name, stored, wanted in report["mismatched_keys"]:
        raise unavailable(cfg, source, f"{name} is {tuple(stored)} in the file, its config.json wants {tuple(wanted)}")
    encoder = f"{model.base_model_prefix}."
    lost = [name for name in report["missing_keys"] if name.startswith(encoder) and "pooler" not in name]
    if lost:
        raise unavailable(cfg, source, f"it lacks {len(lost)} encoder tensors, the first is {lost[0]}")
    return model  # type: ignore[no-any-return]
