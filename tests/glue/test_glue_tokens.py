"""Tokenising: the ids are the tokenizer's own; a second start reads them from disk, unless the file is damaged."""

from dataclasses import replace

import numpy as np
import pytest

from lora2.common.errors import UserError
from lora2.common.files import StorageError
from lora2.glue.raw import RawSplit, RawTask
from lora2.glue.tasks import TASKS
from lora2.glue.tokens import tokenise, tokenizer_hash

PAIRS = RawTask(
    spec=TASKS["mrpc"],
    splits={
        "train": RawSplit((["a b", "c", "d e f g"], ["c", "a a a a a a", "h"]), [1.0, 0.0, 1.0]),
        "validation": RawSplit((["a"], ["b zzz"]), [0.0]),
        "test": RawSplit((["h"], [""]), None),
    },
    source="local",
    synthetic=False,
    fingerprint="f" * 64,
    warnings=(),
)
SCORES = replace(PAIRS, spec=TASKS["stsb"], splits={"train": RawSplit((["a"], ["b"]), [2.5])}, fingerprint="e" * 64)
SINGLES = replace(PAIRS, spec=TASKS["sst2"], splits={"train": RawSplit((["a b c"],), [1.0])}, fingerprint="d" * 64)


def test_ids_types_and_truncation_are_the_tokenizers_own(tokenizer, tmp_path):
    split = tokenise(PAIRS, tokenizer, 7, tmp_path)["train"]
    first, second = PAIRS.splits["train"].texts
    assert len(split) == 3
    for i, (left, right) in enumerate(zip(first, second, strict=True)):
        expected = tokenizer(left, right, truncation="longest_first", max_length=7)
        part = slice(split.offsets[i], split.offsets[i + 1])
        assert split.input_ids[part].tolist() == expected["input_ids"]
        assert split.type_ids[part].tolist() == expected["token_type_ids"]
    assert split.lengths.tolist() == [6, 7, 7]
    assert split.labels.tolist() == [1, 0, 1]


def test_types(tokenizer, other_tokenizer, tmp_path):
    splits = tokenise(PAIRS, tokenizer, 8, tmp_path)
    train = splits["train"]
    assert (train.input_ids.dtype, train.type_ids.dtype, train.offsets.dtype) == (np.int32, np.int8, np.int64)
    assert train.labels.dtype == np.int64
    assert splits["test"].labels is None
    assert tokenise(SCORES, tokenizer, 8, tmp_path)["train"].labels.dtype == np.float32
    assert tokenise(SINGLES, other_tokenizer, 8, tmp_path)["train"].type_ids is None


def test_the_second_start_does_not_tokenise(tokenizer, tmp_path, monkeypatch):
    first = tokenise(PAIRS, tokenizer, 8, tmp_path)
    monkeypatch.setattr(type(tokenizer), "__call__", lambda *_, **__: pytest.fail("tokenised again"))
    assert_equal(tokenise(PAIRS, tokenizer, 8, tmp_path), first)
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]


def test_each_of_data_tokenizer_and_length_has_a_file_of_its_own(tokenizer, other_tokenizer, tmp_path):
    tokenise(PAIRS, tokenizer, 8, tmp_path)
    tokenise(PAIRS, tokenizer, 9, tmp_path)
    tokenise(PAIRS, other_tokenizer, 8, tmp_path)
    tokenise(replace(PAIRS, fingerprint="0" * 64), tokenizer, 8, tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "garbage", "foreign"])
def test_a_damaged_file_is_made_anew(tokenizer, tmp_path, damage):
    first = tokenise(PAIRS, tokenizer, 8, tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    if damage == "foreign":
        tokenise(replace(PAIRS, fingerprint="0" * 64), tokenizer, 8, tmp_path / "other")
        content = next((tmp_path / "other").iterdir()).read_bytes()
    else:
        flipped = whole[:-1] + bytes([whole[-1] ^ 1])
        content = {"cut": whole[:-9], "flip": flipped, "empty": b"", "garbage": b"x" * 99}[damage]
    path.write_bytes(content)
    assert_equal(tokenise(PAIRS, tokenizer, 8, tmp_path), first)
    assert path.read_bytes() == whole


def test_a_failed_write_leaves_nothing_behind(tokenizer, tmp_path, monkeypatch):
    from pathlib import Path

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match=r"cannot write .*/mrpc-.*: disk full"):
        tokenise(PAIRS, tokenizer, 8, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_hash_ignores_what_earlier_calls_left_in_the_backend(tokenizer, other_tokenizer):
    before = tokenizer_hash(tokenizer)
    tokenizer("a b c", truncation=True, max_length=4, padding="max_length")
    assert tokenizer_hash(tokenizer) == before != tokenizer_hash(other_tokenizer)


def test_bad_settings_are_user_errors(tokenizer, tmp_path):
    with pytest.raises(UserError, match=r"max_length: got 3; special tokens take 3 positions"):
        tokenise(PAIRS, tokenizer, 3, tmp_path)

    class Slow:
        pass

    with pytest.raises(UserError, match="Slow is a slow tokenizer"):
        tokenizer_hash(Slow())


def assert_equal(left, right):
    assert left.keys() == right.keys()
    for name in left:
        for part in ("input_ids", "type_ids", "offsets", "labels"):
            np.testing.assert_array_equal(getattr(left[name], part), getattr(right[name], part))
