"""The demo data: deterministic, balanced, in the shape of GLUE, and not to be solved by a bag of words."""

from collections import Counter

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from lora2.glue.data import load_raw
from lora2.glue.demo import DEV_ROWS, TEST_ROWS, TRAIN_ROWS
from lora2.glue.metrics import pearson
from lora2.glue.raw import RawSplit
from lora2.glue.tasks import TASKS

CLASSES = [name for name, task in TASKS.items() if not task.is_regression]


@pytest.mark.parametrize("name", TASKS)
def test_shape_and_determinism(name):
    task, raw = TASKS[name], load_raw(name, "demo", None, include_test=True)
    rows = {split: TRAIN_ROWS if split == "train" else DEV_ROWS for split in ("train", *task.dev_splits)}
    rows |= dict.fromkeys(task.test_splits, TEST_ROWS)
    assert {split: len(content) for split, content in raw.splits.items()} == rows
    assert all(len(split.texts) == len(task.text_columns) for split in raw.splits.values())
    assert all(
        text and text == text.strip() for split in raw.splits.values() for column in split.texts for text in column
    )
    assert [split.labels is None for split in raw.splits.values()] == [
        split in task.test_splits for split in raw.splits
    ]
    assert (raw.synthetic, raw.warnings) == (True, ())
    assert load_raw(name, "demo", None, include_test=True) == raw
    assert load_raw(name, "demo", None, include_test=True, seed=1).fingerprint != raw.fingerprint
    train_only = load_raw(name, "demo", None)
    assert train_only.splits["train"] == raw.splits["train"]


@pytest.mark.parametrize("name", CLASSES)
def test_labels_are_balanced_and_the_bag_of_words_fails(name):
    raw = load_raw(name, "demo", None)
    for split in raw.splits.values():
        counts = Counter(split.labels)
        assert set(counts) == set(range(TASKS[name].num_labels))
        assert max(counts.values()) - min(counts.values()) <= 1
    assert bag_of_words_accuracy(raw.splits["train"], raw.splits[TASKS[name].dev_splits[0]]) < 0.9


def test_scores_are_spread_and_the_bag_of_words_fails():
    raw = load_raw("stsb", "demo", None)
    train, dev = raw.splits["train"], raw.splits["validation"]
    assert 0 <= min(train.labels) < 0.5
    assert 4.5 < max(train.labels) <= 5
    features, held_out = counts(train, dev)
    predictions = Ridge().fit(features, train.labels).predict(held_out)
    assert pearson(predictions, np.array(dev.labels)) < 0.5


@pytest.mark.parametrize("name", TASKS)
def test_dev_has_words_that_training_lacks_and_no_example_of_it(name):
    raw = load_raw(name, "demo", None)
    seen = vocabulary(raw.splits["train"])
    for split in TASKS[name].dev_splits:
        assert len(vocabulary(raw.splits[split]) - seen) > 20
        assert not set(zip(*raw.splits[split].texts, strict=True)) & set(zip(*raw.splits["train"].texts, strict=True))


def test_the_mismatched_dev_set_of_mnli_is_another_genre():
    raw = load_raw("mnli", "demo", None)
    seen = vocabulary(raw.splits["train"])
    matched, mismatched = (vocabulary(raw.splits[split]) for split in TASKS["mnli"].dev_splits)
    assert len(mismatched - seen) / len(mismatched) > len(matched - seen) / len(matched) + 0.1


def bag_of_words_accuracy(train: RawSplit, dev: RawSplit) -> float:
    features, held_out = counts(train, dev)
    return LogisticRegression(max_iter=500).fit(features, train.labels).score(held_out, dev.labels)


def counts(train: RawSplit, dev: RawSplit):
    """Word counts of both texts, kept apart by side."""

    def lines(split: RawSplit) -> list[str]:
        rows = zip(*split.texts, strict=True)
        return [" ".join(f"{side}_{word}" for side, text in enumerate(row) for word in text.split()) for row in rows]

    vectorizer = CountVectorizer(token_pattern=r"\S+")
    return vectorizer.fit_transform(lines(train)), vectorizer.transform(lines(dev))


def vocabulary(split: RawSplit) -> set[str]:
    return {word.strip(".,?").lower() for column in split.texts for text in column for word in text.split()}
