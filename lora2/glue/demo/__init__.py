"""Synthetic data in the shape of GLUE, for all eight tasks, from a small seeded grammar.

It needs no network and no licence, and is for trying things out, for tests and for demonstrations; no score on it says
anything about GLUE. The labels depend on word order, polarity, synonymy and hypernymy rather than on single words, and
half of the words of the dev sets never occur in training. So a pretrained encoder can solve it, and a bag of words
cannot.
"""

from collections.abc import Callable, Mapping
from random import Random

from lora2.glue.demo import inference, pairs, single
from lora2.glue.demo.lexicon import Lexicon, lexicon
from lora2.glue.raw import RawSplit
from lora2.glue.tasks import TaskSpec

TRAIN_ROWS, DEV_ROWS, TEST_ROWS = 1024, 256, 64

_MAKERS: Mapping[str, Callable[[Random, Lexicon, int], tuple[str, ...]]] = {
    "cola": single.acceptability,
    "sst2": single.sentiment,
    "mrpc": pairs.paraphrase,
    "qqp": pairs.duplicate,
    "stsb": pairs.similarity,
    "mnli": inference.inference,
    "qnli": inference.answerable,
    "rte": inference.two_class,
}


def make_splits(task: TaskSpec, names: tuple[str, ...], seed: int) -> dict[str, RawSplit]:
    """Make the named splits of `task`; their classes are as even as the number of rows allows.

    Args:
        task: which task to imitate.
        names: of the splits.
        seed: of the draw; a split depends on the task, its name and the seed alone.
    """
    return {name: _make_split(task, name, seed) for name in names}


def _make_split(task: TaskSpec, name: str, seed: int) -> RawSplit:
    rng = Random(f"lora2-demo/{task.name}/{task.version}/{name}/{seed}")
    words, make = lexicon(name), _MAKERS[task.name]
    kinds = pairs.SLOTS + 1 if task.is_regression else task.num_labels
    chosen = [row % kinds for row in range(_rows(task, name))]
    rng.shuffle(chosen)
    examples = [make(rng, words, kind) for kind in chosen]
    labels = [pairs.score(rng, kind) if task.is_regression else float(kind) for kind in chosen]
    texts = tuple(list(column) for column in zip(*examples, strict=True))
    return RawSplit(texts, None if name in task.test_splits else labels)


def _rows(task: TaskSpec, name: str) -> int:
    if name == "train":
        return TRAIN_ROWS
    return TEST_ROWS if name in task.test_splits else DEV_ROWS
