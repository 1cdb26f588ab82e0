"""The tokenizer of a backbone, or a word-level one made from the data for random weights."""

from collections import Counter

from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lora2.config.schema import ModelConfig
from lora2.glue.raw import RawTask
from lora2.models.weights import loading, weight_source

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")  # ids 0-3 of a vocabulary built from data


def load_tokenizer(cfg: ModelConfig, raw: RawTask | None) -> PreTrainedTokenizerBase:
    """Load the model's own tokenizer, or for random weights build a word-level one from the task's training text.

    Random weights know no vocabulary, so none has to be fetched for them.

    Args:
        cfg: which backbone, and whether it is pretrained.
        raw: the task's texts; only random weights need them.

    Raises:
        UserError: the tokenizer's files are not to be had.
    """
    if cfg.random_init:
        assert raw is not None
        return _word_level(raw, cfg)
    source = weight_source(cfg)
    with loading(cfg, source, "tokenizer"):
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)


def _word_level(raw: RawTask, cfg: ModelConfig) -> PreTrainedTokenizerFast:
    """Build a tokenizer of whole lower-case words, the most frequent of the training split first."""
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
