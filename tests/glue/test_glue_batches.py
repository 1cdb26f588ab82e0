"""Batches: every example exactly once, whatever the sizes; padding that agrees with a naive loop."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lora2.glue.batches import MEGA_BATCHES, epoch_batches, eval_batches, padding_share, shard
from lora2.glue.collate import collate
from lora2.glue.tokens import TokenisedSplit

LENGTHS = st.lists(st.integers(1, 128), max_size=300).map(np.array)


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, size=st.integers(1, 40), seed=st.integers(0, 9), grouped=st.booleans())
def test_an_epoch_holds_every_example_once(lengths, size, seed, grouped):
    batches = epoch_batches(lengths, size, seed=seed, epoch=3, group_by_length=grouped)
    assert sorted(np.concatenate([np.empty(0, int), *batches])) == list(range(len(lengths)))
    assert sorted(len(batch) for batch in batches)[1:] == [size] * (len(batches) - 1)


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, size=st.integers(1, 40))
def test_evaluation_goes_from_long_to_short(lengths, size):
    order = np.concatenate([np.empty(0, int), *eval_batches(lengths, size)])
    assert sorted(order) == list(range(len(lengths)))
    assert (np.diff(lengths[order]) <= 0).all()


def test_the_order_is_a_function_of_seed_and_epoch():
    lengths = np.arange(100) % 17

    def order(seed, epoch, grouped):
        return np.concatenate(epoch_batches(lengths, 8, seed=seed, epoch=epoch, group_by_length=grouped)).tolist()

    for grouped in (True, False):
        assert order(1, 2, grouped) == order(1, 2, grouped)
        assert len({tuple(order(seed, epoch, grouped)) for seed in range(3) for epoch in range(3)}) == 9


def test_grouping_saves_padding_and_keeps_the_order_of_batches_random():
    lengths = np.random.default_rng(0).integers(5, 128, 16 * MEGA_BATCHES * 2)
    plain = epoch_batches(lengths, 16, seed=0, epoch=0, group_by_length=False)
    grouped = epoch_batches(lengths, 16, seed=0, epoch=0, group_by_length=True)
    assert padding_share(lengths, grouped) < 0.05 < 0.3 < padding_share(lengths, plain)
    means = np.array([lengths[batch].mean() for batch in grouped])
    assert abs(np.corrcoef(np.arange(len(means)), means)[0, 1]) < 0.3


def test_padding_share():
    lengths = np.array([2, 4, 3])
    assert padding_share(lengths, [np.array([0, 1]), np.array([2])]) == pytest.approx(2 / 11)
    assert padding_share(lengths, [np.array([0, 1, 2])], max_length=6) == pytest.approx(0.5)
    assert padding_share(lengths, [np.array([2])], pad_to_multiple=4) == pytest.approx(0.25)
    assert padding_share(lengths, []) == 0.0


@settings(max_examples=60, deadline=None)
@given(size=st.integers(0, 40), world=st.integers(1, 5), accumulation=st.integers(1, 5))
def test_shards_lose_and_duplicate_nothing(size, world, accumulation):
    batch = np.arange(size) * 3
    shards = [shard(batch, rank=rank, world=world, accumulation=accumulation) for rank in range(world)]
    assert all(len(micros) == accumulation for micros in shards)
    parts = [micro for micros in shards for micro in micros]
    assert sorted(np.concatenate(parts)) == batch.tolist()
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_batch_of_no_size_is_an_error():
    with pytest.raises(ValueError, match="batch_size: got 0"):
        eval_batches(np.array([1]), 0)


SPLIT = TokenisedSplit(
    input_ids=np.array([2, 5, 3, 2, 6, 7, 8, 3], np.int32),
    type_ids=np.array([0, 0, 0, 0, 0, 1, 1, 1], np.int8),
    offsets=np.array([0, 3, 8]),
    labels=np.array([1, 0]),
)


def test_collate_pads_to_the_longest():
    batch = collate(SPLIT, np.array([1, 0]), pad_id=9)
    assert batch["input_ids"].tolist() == [[2, 6, 7, 8, 3], [2, 5, 3, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 1, 1, 1], [0, 0, 0, 0, 0]]
    assert batch["labels"].tolist() == [0, 1]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_collate_widths_and_kinds():
    assert collate(SPLIT, np.array([0]), pad_id=0)["input_ids"].shape == (1, 3)
    assert collate(SPLIT, np.array([0]), pad_id=0, max_length=16)["input_ids"].shape == (1, 16)
    assert collate(SPLIT, np.array([0, 1]), pad_id=0, pad_to_multiple=8)["attention_mask"].shape == (2, 8)
    for at_most, width in ((16, 8), (7, 7), (5, 5)):  # never beyond the longest that the model takes
        wide = collate(SPLIT, np.array([0, 1]), pad_id=0, pad_to_multiple=8, at_most=at_most)
        assert wide["input_ids"].shape == (2, width)
    with pytest.raises(ValueError, match="max_length: got 4, but a sequence has 5"):
        collate(SPLIT, np.array([1]), pad_id=0, max_length=4)
    scores = TokenisedSplit(SPLIT.input_ids, None, SPLIT.offsets, np.array([0.5, 4.0], np.float32))
    assert set(collate(scores, np.array([0]), pad_id=0)) == {"input_ids", "attention_mask", "labels"}
    assert collate(scores, np.array([1]), pad_id=0)["labels"].dtype == torch.float32
    unlabelled = TokenisedSplit(SPLIT.input_ids, SPLIT.type_ids, SPLIT.offsets, None)
    assert "labels" not in collate(unlabelled, np.array([0]), pad_id=0)


def test_an_empty_batch_collates():
    batch = collate(SPLIT, np.empty(0, np.int64), pad_id=0)
    assert batch["input_ids"].shape == (0, 0)
    assert len(batch["labels"]) == 0
