"""Turn texts into token ids once, and keep them on disk by the data, the tokenizer and the length limit."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from lora2.common.errors import UserError
from lora2.glue.raw import RawSplit, RawTask
from lora2.glue.tasks import TaskSpec
from lora2.glue.tensor_cache import Tensors, digest, load, store

CACHE_VERSION = 1
_CHUNK = 8192  # rows per tokenizer call: bounds the Python lists alive at one time


@dataclass(frozen=True)
class TokenisedSplit:
    """Hold n token sequences of different lengths, laid end to end.

    Attributes:
        input_ids: int32 (total,), sequence i is `input_ids[offsets[i]:offsets[i + 1]]`.
        type_ids: int8 (total,), or None where the tokenizer's model takes no token types.
        offsets: int64 (n + 1,).
        labels: (n,) int64 for classes, float32 for regression; None for an unlabelled test split.
    """

    input_ids: npt.NDArray[np.int32]
    type_ids: npt.NDArray[np.int8] | None
    offsets: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64] | npt.NDArray[np.float32] | None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Number of tokens of each sequence, (n,)."""
        return np.diff(self.offsets)

    def take(self, indices: npt.NDArray[np.integer]) -> "TokenisedSplit":
        """Return the sequences at `indices`, in that order."""
        lengths = self.lengths[indices]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        positions = np.arange(offsets[-1]) + np.repeat(self.offsets[indices] - offsets[:-1], lengths)
        type_ids = None if self.type_ids is None else self.type_ids[positions]
        labels = None if self.labels is None else self.labels[indices]
        return TokenisedSplit(self.input_ids[positions], type_ids, offsets, labels)


def tokenise(
    raw: RawTask, tokenizer: PreTrainedTokenizerBase, max_length: int, cache_dir: Path
) -> dict[str, TokenisedSplit]:
    """Tokenise every split of `raw`, or read what an earlier call left in `cache_dir`.

    Pairs are truncated longest first. Nothing is padded. The cache is one safetensors file with a checksum, and a
    damaged one is made anew.

    Args:
        raw: texts and labels.
        tokenizer: a fast one.
        max_length: tokens of a sequence at most, special tokens included.
        cache_dir: folder of the cache.

    Returns:
        The tokenised splits by name.

    Raises:
        UserError: the tokenizer is a slow one, or `max_length` leaves no room for text.
    """
    special = tokenizer.num_special_tokens_to_add(pair=len(raw.spec.text_columns) == 2)
    if max_length <= special:
        raise UserError(
            f"recipe.max_length: got {max_length}; special tokens take {special} positions, so give more, for example "
            f"recipe.max_length=128 (the paper uses 128 to 320)"
        )
    key = {"data": raw.fingerprint, "tokenizer": tokenizer_hash(tokenizer), "max_length": str(max_length)}
    path = cache_dir / f"{raw.spec.name}-{digest(json.dumps([CACHE_VERSION, key]).encode())[:20]}.safetensors"
    tensors = load(path, key)
    if tensors is None:
        splits = {name: _tokenise_split(raw, name, tokenizer, max_length) for name in raw.splits}
        tensors = {f"{name}/{part}": array for name, split in splits.items() for part, array in _parts(split).items()}
        store(path, tensors, key)
    return {name: _split(tensors, name) for name in raw.splits}


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the SHA-256 of all that decides the ids: vocabulary, rules, special tokens and model inputs.

    The truncation and padding that earlier calls left in the backend do not count.

    Raises:
        UserError: the tokenizer has no Rust backend.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(
            f"model: {type(tokenizer).__name__} is a slow tokenizer; only fast ones (tokenizer.json) are allowed. "
            "Load it with AutoTokenizer, which converts most of them."
        )
    state = json.loads(backend.to_str())
    state.update(truncation=None, padding=None, sides=[tokenizer.truncation_side, _has_types(tokenizer)])
    return digest(json.dumps(state, sort_keys=True).encode())


def _has_types(tokenizer: PreTrainedTokenizerBase) -> bool:
    return "token_type_ids" in tokenizer.model_input_names


def _tokenise_split(raw: RawTask, name: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> TokenisedSplit:
    split = raw.splits[name]
    with_types = _has_types(tokenizer)
    ids: list[npt.NDArray[np.int32]] = [np.empty(0, np.int32)]
    types: list[npt.NDArray[np.int8]] = [np.empty(0, np.int8)]
    lengths = [0]
    for start in range(0, len(split), _CHUNK):
        encoded = tokenizer(
            *(column[start : start + _CHUNK] for column in split.texts),
            truncation="longest_first",
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=with_types,
        )
        ids.append(np.fromiter(chain.from_iterable(encoded["input_ids"]), np.int32))
        lengths += map(len, encoded["input_ids"])
        if with_types:
            types.append(np.fromiter(chain.from_iterable(encoded["token_type_ids"]), np.int8))
    type_ids = np.concatenate(types) if with_types else None
    return TokenisedSplit(np.concatenate(ids), type_ids, np.cumsum(lengths, dtype=np.int64), _labels(raw.spec, split))


def _labels(task: TaskSpec, split: RawSplit) -> npt.NDArray[np.int64] | npt.NDArray[np.float32] | None:
    if split.labels is None:
        return None
    if task.is_regression:
        return np.array(split.labels, np.float32)
    return np.array(split.labels, np.int64)


def _parts(split: TokenisedSplit) -> Tensors:
    parts: dict[str, npt.NDArray[Any] | None] = {
        "input_ids": split.input_ids,
        "type_ids": split.type_ids,
        "offsets": split.offsets,
        "labels": split.labels,
    }
    return {name: array for name, array in parts.items() if array is not None}


def _split(tensors: Mapping[str, npt.NDArray[Any]], name: str) -> TokenisedSplit:
    def part(part_name: str) -> npt.NDArray[Any] | None:
        return tensors.get(f"{name}/{part_name}")

    return TokenisedSplit(
        input_ids=tensors[f"{name}/input_ids"],
        type_ids=part("type_ids"),
        offsets=tensors[f"{name}/offsets"],
        labels=part("labels"),
    )
