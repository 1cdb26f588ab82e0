"""The backbone with its classification head: from the folder that weights.py names, or with random weights."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from lora2.common.errors import UserError
from lora2.config.schema import ModelConfig
from lora2.models.deberta import use_lean_attention
from lora2.models.head import head_prefixes, keeps_head, trained_labels
from lora2.models.weights import loading, unavailable, weight_files, weight_source

CLS_DROPOUT = {  # elsewhere it is classifier_dropout
    "albert": "classifier_dropout_prob",
    "deberta-v2": "cls_dropout",
    "distilbert": "seq_classif_dropout",
}


def quiet_transformers() -> None:
    """Silence transformers' progress bars and its report of new heads; errors are still shown."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def load_model(cfg: ModelConfig, num_labels: int, cls_dropout: float | None) -> PreTrainedModel:
    """Load backbone and head in float32 and in training mode. Only safetensors are read, and no code is run.

    The head is fresh, and the same whether the weights come with a trained one or not, unless cfg.keep_head.

    Args:
        cfg: which backbone, and whether it is pretrained.
        num_labels: outputs of the head; 1 for regression.
        cls_dropout: dropout before the classifier; None keeps the backbone's own.

    Raises:
        UserError: weights are missing, not safetensors, lack a part of the encoder, or the head to keep.
    """
    source = None if cfg.random_init else weight_source(cfg)
    with loading(cfg, source or "model.architecture", "model"):
        config = _architecture(cfg, source)
        config.num_labels = num_labels
        config.problem_type = None  # of the task that the weights were trained for
        if cls_dropout is not None:
            setattr(config, _dropout_key(config), cls_dropout)
        if source is None:
            model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
        else:
            model = _pretrained(cfg, source, config)
    if cls_dropout is not None and cfg.model_type == "mpnet":  # its head has no setting for it
        model.classifier.dropout.p = cls_dropout
    use_lean_attention(model)
    model.float().train()
    return model  # type: ignore[no-any-return]


def _dropout_key(config: Any) -> str:
    """Name the setting of the dropout before the classifier."""
    if config.model_type in CLS_DROPOUT:
        return CLS_DROPOUT[config.model_type]  # a configuration may leave it out, DeBERTaV3's does
    if not hasattr(config, "classifier_dropout") and config.model_type != "mpnet":
        raise UserError(
            f"recipe.cls_dropout: {config.model_type} has no dropout before its classifier that can be set; keep its "
            f"own: recipe.cls_dropout=null"
        )
    return "classifier_dropout"


def _architecture(cfg: ModelConfig, source: Path | None) -> Any:
    if source is None:
        return AutoConfig.for_model(cfg.model_type, **cfg.architecture)
    return AutoConfig.from_pretrained(source, trust_remote_code=False)


def _pretrained(cfg: ModelConfig, source: Path, config: Any) -> PreTrainedModel:
    options: dict[str, Any] = {
        "config": config,
        "dtype": torch.float32,  # transformers 5 would take the checkpoint's, which is float16 for DeBERTaV3
        "use_safetensors": True,
        "trust_remote_code": False,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # they are refused below, by name
    }
    if keeps_head(cfg, source, config, config.num_labels) or trained_labels(config, source) is None:
        model, report = AutoModelForSequenceClassification.from_pretrained(source, **options)
    else:
        kind = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]  # the auto class wants a folder
        left = _without_head(config, source)
        model, report = kind.from_pretrained(None, state_dict=left, **options)  # type: ignore[attr-defined]
    for name, stored, wanted in report["mismatched_keys"]:
        raise unavailable(cfg, source, f"{name} is {tuple(stored)} in the file, its config.json wants {tuple(wanted)}")
    encoder = f"{model.base_model_prefix}."
    lost = [name for name in report["missing_keys"] if name.startswith(encoder) and "pooler" not in name]
    if lost:
        raise unavailable(cfg, source, f"it lacks {len(lost)} encoder tensors, the first is {lost[0]}")
    return model  # type: ignore[no-any-return]


def _without_head(config: Any, source: Path) -> dict[str, torch.Tensor]:
    """Read all tensors but those of the head that somebody has trained."""
    head = head_prefixes(config)
    tensors = {name: x for file in weight_files(source) for name, x in load_file(file).items()}
    return {name: x for name, x in tensors.items() if not name.startswith(head)}
