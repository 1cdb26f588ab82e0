"""Shared pieces of the GLUE tests: official-looking files, and a tokenizer of a dozen words."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

WriteTsv = Callable[..., Path]


@pytest.fixture
def write_tsv(tmp_path: Path) -> WriteTsv:
    """write_tsv("MRPC/train.tsv", row, row, ...) -> the data folder; rows are tuples of fields."""

    def write(name: str, *rows: tuple[str, ...], bom: bool = False, newline: str = "\n", tail: str = "") -> Path:
        path = tmp_path / "glue" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join("\t".join(row) + newline for row in rows) + tail
        path.write_bytes(text.encode("utf-8-sig" if bom else "utf-8"))
        return tmp_path / "glue"

    return write


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d", "e", "f", "g", "h"]


def make_tokenizer(words: list[str], *, types: bool = True) -> PreTrainedTokenizerFast:
    backend = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = Whitespace()
    backend.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    inputs = ["input_ids", "token_type_ids", "attention_mask"] if types else ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", model_input_names=inputs
    )


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer(WORDS)


@pytest.fixture
def other_tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer([*WORDS[:4], *reversed(WORDS[4:])], types=False)
