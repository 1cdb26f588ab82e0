"""The backbone with its classification head, and its tokenizer: from the folder that lora2/models/weights.py names, or
with random weights from an architecture alone.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from lora2.common.errors import UserError
from lora2.config.schema import ModelConfig
from lora2.glue.raw import RawTask
from lora2.models.weights import unavailable, weight_source

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")  # ids 0-3 of a vocabulary built from data


def quiet_transformers() -> None:
    """No bars and no report of new heads from transformers; what goes wrong it still says."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def load_tokenizer(cfg: ModelConfig, raw: RawTask | None) -> PreTrainedTokenizerBase:
    """The model's own tokenizer; for random weights a word-level one built from the task's training text.

    Random weights know no vocabulary, so none has to be fetched for them; only they need `raw`.

    Raises:
        UserError: the tokenizer's files are not to be had.
    """
    if cfg.random_init:
        assert raw is not None
        return _word_level(raw, cfg)
    source = weight_source(cfg)
    with _explained(cfg, source, "tokenizer"):
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)


def load_model(cfg: ModelConfig, num_labels: int, cls_dropout: float | None) -> PreTrainedModel:
    """Backbone and head in float32, in training mode; only safetensors are read, no code from outside is run.

    Args:
        num_labels: outputs of the head; 1 for regression.
        cls_dropout: dropout before the classifier; None keeps the backbone's own.

    Raises:
        UserError: weights are missing, not safetensors, or lack a part of the encoder.
    """
    source = "model.architecture" if cfg.random_init else weight_source(cfg)
    with _explained(cfg, source, "model"):
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


def weights_hash(model: nn.Module, names: Iterable[str] | None = None) -> str:
    """SHA-256 over the named parameters' bytes (all of them by default), in the order of their names."""
    parameters = dict(model.named_parameters())
    digest = hashlib.sha256()
    for name in sorted(parameters if names is None else names):
        digest.update(name.encode())
        digest.update(parameters[name].detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _explained(cfg: ModelConfig, source: object, part: str) -> Iterator[None]:
    """Whatever the libraries raise about files or an architecture (tokenizers raises plain Exception) is the user's."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise unavailable(cfg, source, f"{part}: {error}") from None


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


def _word_level(raw: RawTask, cfg: ModelConfig) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    counts = Counter(word for column in raw.splits["train"].texts for text in column for word in text.lower().split())
    words = sorted(counts, key=lambda word: (-counts[word], word))[: cfg.architecture["vocab_size"] - len(SPECIAL)]
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *words))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=names,
    )
