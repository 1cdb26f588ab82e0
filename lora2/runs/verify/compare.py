"""Whether a recorded score is what stock libraries make of the same weights: equal but for ties. Numpy alone.

The recorded score was computed in the run's precision, often bf16; stock libraries compute in float32. So two things
are asked. Are their float32 logits ours, for every example? Then the exported weights are the run's. And is the
recorded score one of those that their predictions give when each tie falls one way or the other? A tie is an example
whose two largest logits are closer than rounding can move them, and how far the run's precision moves them is measured:
our own code computes the same examples in float32 and as the run did.

Legend: n examples, c outputs of the head.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from lora2.glue.metrics import FUNCTIONS, compute, predict, score
from lora2.glue.tasks import TaskSpec

Logits = npt.NDArray[np.float32]  # (n, c)
FLOAT32 = 1e-4  # of the largest logit: what float32 rounding, other batches and the export may change
SLACK = 2.0  # another device rounds otherwise than the one that measures it here
MOST = 2.0**-4  # of the largest logit, or radians: rounding that moves more would excuse any score; bf16 rounds to 2^-8
EQUAL = 1e-6  # of a score: the last digits of two libraries


@dataclass(frozen=True)
class SplitLogits:
    """What three ways of computing say about a dev split.

    Attributes:
        ours: lora2's own code in float32, (n, c).
        replayed: the same in the precision and the form in which the run was scored, (n, c).
        theirs: stock libraries in float32, (n, c).
        labels: as lora2 reads them, (n,).
        their_labels: as stock libraries read them, (n,).
    """

    ours: Logits
    replayed: Logits
    theirs: Logits
    labels: npt.NDArray[Any]
    their_labels: npt.NDArray[Any]


@dataclass(frozen=True)
class Comparison:
    """The outcome, in the words of record.Verification."""

    problems: Sequence[str]
    examples: int = 0
    differing: int = 0
    ties: int = 0
    tie: float = 0.0
    logit_difference: float | None = None


def compare(
    task: TaskSpec, splits: Mapping[str, SplitLogits], scores: Mapping[str, float], recorded: Mapping[str, float]
) -> Comparison:
    """Compare predictions and scores.

    Args:
        task: what was scored.
        splits: every dev split by name.
        scores: the metrics that stock libraries computed, by name.
        recorded: those of the record.
    """
    examples = sum(len(split.labels) for split in splits.values())
    for name, split in splits.items():
        if not np.array_equal(split.labels, split.their_labels):
            return Comparison([f"{name}: `datasets` reads other labels than lora2"], examples)
    largest = _largest(splits)
    difference = max(float(abs(split.theirs - split.ours).max()) for split in splits.values()) / largest
    if not difference <= FLOAT32:  # a NaN is none either
        problem = f"their logits differ from ours by {difference:.1e} of the largest, more than {FLOAT32:.0e}"
        shown = difference if math.isfinite(difference) else None
        return Comparison([problem], examples, logit_difference=shown)
    own = compute(
        task,
        {name: predict(task, split.theirs) for name, split in splits.items()},
        {name: split.labels for name, split in splits.items()},
    )
    problems = [
        f"{name}: their metric says {scores.get(name)}, ours {value:.6f}, of the same predictions"
        for name, value in own.items()
        if not abs(scores.get(name, math.inf) - value) <= EQUAL
    ]
    judge = _regression if task.is_regression else _classification
    differing, ties, tie, unexplained = judge(task, splits, own, recorded)
    return Comparison(
        problems=problems + unexplained,
        examples=examples,
        differing=differing,
        ties=ties,
        tie=tie,
        logit_difference=difference,
    )


def _largest(splits: Mapping[str, SplitLogits]) -> float:
    """The largest logit, by its size; never zero."""
    return max(1e-6, *(float(abs(split.ours).max()) for split in splits.values()))


# ---------------------------------------------------------------------------------------------------- classification


def _classification(
    task: TaskSpec,
    splits: Mapping[str, SplitLogits],
    own: Mapping[str, float],
    recorded: Mapping[str, float],
) -> tuple[int, int, float, list[str]]:
    """Differing predictions, ties, what makes one in logits, and problems."""
    largest = _largest(splits)
    moved = max(float(np.ptp(split.replayed - split.ours, axis=1).max()) for split in splits.values())
    tie = min(max(2 * FLOAT32 * largest, SLACK * moved), MOST * largest)
    differing, ties, problems = 0, 0, []
    for name, split in splits.items():
        tied = split.theirs >= split.theirs.max(axis=1, keepdims=True) - tie  # (n, c): classes that may have won
        open_rows = tied.sum(axis=1) > 1  # (n,)
        other = predict(task, split.theirs) != predict(task, split.replayed)  # (n,)
        differing, ties = differing + int(other.sum()), ties + int(open_rows.sum())
        if lost := int((other & ~open_rows).sum()):
            problems.append(f"{name}: {lost} predictions differ from ours and are no ties")
        ending = "_mm" if name == "validation_mismatched" else ""
        wanted = {metric: recorded[f"{metric}{ending}"] for metric in task.metrics if metric in FUNCTIONS}
        if not _explained(task, split, tied, wanted):
            found = ", ".join(f"{metric} {own[f'{metric}{ending}']:.4f}" for metric in wanted)
            said = ", ".join(f"{metric} {value:.4f}" for metric, value in wanted.items())
            problems.append(f"{name}: {said} is recorded, {found} re-derived; {int(open_rows.sum())} ties do not do it")
    return differing, ties, tie, problems


def _explained(task: TaskSpec, split: SplitLogits, tied: npt.NDArray[np.bool_], wanted: Mapping[str, float]) -> bool:
    """Whether the ties, each falling one way or the other, can give these metrics, all of them at once.

    Args:
        tied: which classes of an example may have won, (n, c).
        wanted: the recorded metrics of the split.
    """
    labels = split.labels.astype(np.int64)
    may_be_right, must_be = tied[np.arange(len(labels)), labels], tied.sum(axis=1) == 1  # (n,)
    if task.num_labels > 2:  # accuracy alone
        right = np.arange((may_be_right & must_be).sum(), may_be_right.sum() + 1)
        return bool((abs(right / len(labels) - wanted["accuracy"]) <= EQUAL).any())
    positive = labels == 1
    tp, fn = (int((positive & must_be & x).sum()) for x in (may_be_right, ~may_be_right))
    tn, fp = (int((~positive & must_be & x).sum()) for x in (may_be_right, ~may_be_right))
    first = np.arange((positive & ~must_be).sum() + 1)[:, None]  # of the tied positives, so many are found
    second = np.arange((~positive & ~must_be).sum() + 1)[None, :]  # of the tied negatives, so many are taken for one
    values = confusion_scores(tp + first, fp + second, fn + first[::-1], tn + second[:, ::-1])
    fits = [abs(values[metric] - value) <= EQUAL for metric, value in wanted.items()]
    return bool(np.logical_and.reduce(np.broadcast_arrays(*fits)).any())


def confusion_scores(
    tp: npt.NDArray[np.integer], fp: npt.NDArray[np.integer], fn: npt.NDArray[np.integer], tn: npt.NDArray[np.integer]
) -> dict[str, npt.NDArray[np.float64]]:
    """Return accuracy, F1 and Matthews correlation for many confusion matrices at once; 0 where there is no number.

    Args:
        tp, fp, fn, tn: true positives and so on, of shapes that broadcast to each other.
    """
    tp, fp, fn, tn = np.broadcast_arrays(tp, fp, fn, tn)
    root = np.sqrt((tp + fp) * (tp + fn)) * np.sqrt((tn + fp) * (tn + fn))
    return {
        "accuracy": (tp + tn) / (tp + fp + fn + tn),
        "f1": 2 * tp / np.maximum(2 * tp + fp + fn, 1),
        "matthews": (tp * tn - fp * fn) / np.where(root == 0, 1, root),
    }


# ------------------------------------------------------------------------------------------------------- regression


def _regression(
    task: TaskSpec,
    splits: Mapping[str, SplitLogits],
    own: Mapping[str, float],
    recorded: Mapping[str, float],
) -> tuple[int, int, float, list[str]]:
    """No ties; the angle that is allowed, in radians; problems.

    A correlation is the cosine of an angle to the labels, so rounding that turns the scores by some angle turns the
    recorded one by no more. Spearman's is that of the ranks.
    """
    (split,) = splits.values()
    allowed, problems = 0.0, []
    for name in task.metrics:
        view = rankdata if name == "spearman" else np.asarray
        turned = _angle(score(task, view(split.replayed[:, 0]), view(split.ours[:, 0]))["pearson"])
        turn = min(FLOAT32 + SLACK * turned, MOST)
        allowed = max(allowed, turn)
        if not abs(_angle(recorded[name]) - _angle(own[name])) <= turn:
            problems.append(
                f"{name} {recorded[name]:.4f} is recorded, {own[name]:.4f} re-derived; an angle of {turn:.1e} does not "
                f"do it"
            )
    return 0, 0, allowed, problems


def _angle(correlation: float) -> float:
    return math.acos(min(1.0, max(-1.0, correlation)))
