"""A recorded score is explained by ties, all its metrics at once, or not at all."""

from typing import Any

import numpy as np
import pytest

from lora2.glue.metrics import compute, predict, score
from lora2.glue.tasks import TASKS
from lora2.runs.verify.compare import FLOAT32, MOST, Comparison, SplitLogits, compare, confusion_scores

N = 40


def split(classes: int = 2, *, tied: int = 0, noise: float = 0.0, seed: int = 0) -> SplitLogits:
    """Clear decisions but for the first `tied` rows, whose margin is 0.01; `noise` is what the run's precision adds."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, N)
    winners = np.where(rng.random(N) < 0.7, labels, rng.integers(0, classes, N))
    logits = np.full((N, classes), -1.0, np.float32)
    logits[np.arange(N), winners] = 1.0
    logits[:tied] = [1.0, 0.99, -1.0][:classes]
    moved = logits + np.resize([noise, -noise], logits.shape).astype(np.float32)
    return SplitLogits(ours=logits, replayed=moved, theirs=logits.copy(), labels=labels, their_labels=labels.copy())


def judged(task: str, given: SplitLogits, recorded: dict[str, float] | None = None, **scores: float) -> Comparison:
    """The comparison with a recorded score; by default that of the given logits."""
    spec = TASKS[task]
    splits = dict.fromkeys(spec.dev_splits, given)
    right = compute(
        spec,
        {name: predict(spec, view.theirs) for name, view in splits.items()},
        {name: view.labels for name, view in splits.items()},
    )
    return compare(spec, splits, right | scores, right if recorded is None else recorded)


def recorded_of(task: str, given: SplitLogits, flipped: int) -> dict[str, float]:
    """What is recorded where the first `flipped` rows fell the other way."""
    predictions = given.theirs.argmax(axis=1)
    predictions[:flipped] = 1 - predictions[:flipped]
    return score(TASKS[task], predictions, given.labels)


@pytest.mark.parametrize("task", ["mrpc", "cola", "rte"])
def test_ties_explain_what_they_can_and_no_more(task: str):
    for tied, flipped in ((0, 0), (0, 1), (5, 3), (5, 5)):
        given = split(tied=tied, noise=0.01)
        result = judged(task, given, recorded_of(task, given, flipped))
        assert (not result.problems) == (flipped <= tied), (tied, flipped)
        assert result.ties == tied
        assert result.tie == pytest.approx(0.04)


def test_one_metric_that_ties_explain_does_not_excuse_another():
    given = split(tied=5, noise=0.01)
    right = recorded_of("mrpc", given, 3)
    assert judged("mrpc", given, right).problems == []
    (problem,) = judged("mrpc", given, right | {"f1": recorded_of("mrpc", given, 2)["f1"]}).problems
    assert "is recorded" in problem


def test_in_float32_only_equal_logits_are_ties():
    given = split(tied=5)
    assert judged("rte", given).ties == 0
    assert judged("rte", given).tie == pytest.approx(2 * FLOAT32)
    assert judged("rte", given, recorded_of("rte", given, 1)).problems


def test_of_three_classes_each_that_is_near_may_have_won():
    given = split(3, tied=5, noise=0.01)
    right = int((given.theirs.argmax(axis=1) == given.labels).sum())
    low = right - int((given.labels[:5] == 0).sum())
    high = low + int((given.labels[:5] < 2).sum())
    for count in range(low - 1, high + 2):
        both = {"accuracy": count / N, "accuracy_mm": right / N}
        problems = judged("mnli", given, both).problems
        assert (not problems) == (low <= count <= high), (low, count, high)
        assert all(problem.startswith("validation_matched: ") for problem in problems)


def test_a_prediction_that_is_no_tie_must_be_ours():
    given = split()
    replayed = given.replayed.copy()
    replayed[7] = replayed[7, ::-1]
    result = judged("rte", SplitLogits(given.ours, replayed, given.theirs, given.labels, given.their_labels))
    assert result.problems == ["validation: 1 predictions differ from ours and are no ties"]
    assert (result.differing, result.ties) == (1, 0)
    assert result.tie == MOST  # of logits up to 1: rounding that moved one by 2 does not make everything a tie


@pytest.mark.parametrize("value", [1 + 3 * FLOAT32, float("nan"), float("inf")])
def test_other_logits_are_other_weights(value: float):
    given = split()
    given.theirs[3, 0] *= value
    (problem,) = judged_as_it_is(given).problems
    assert problem.startswith("their logits differ from ours")


def judged_as_it_is(given: SplitLogits) -> Comparison:
    return compare(TASKS["rte"], {"validation": given}, {"accuracy": 0.5}, {"accuracy": 0.5})


def test_other_labels_are_told_before_anything_else():
    given = split()
    for labels in (1 - given.labels, given.labels[:-1]):
        other = SplitLogits(given.ours, given.replayed, given.theirs, given.labels, labels)
        assert judged_as_it_is(other).problems == ["validation: `datasets` reads other labels than lora2"]


def test_two_metrics_of_the_same_predictions_must_agree():
    (problem,) = judged("rte", split(), accuracy=0.25).problems
    assert problem.startswith("accuracy: their metric says 0.25, ours ")


def scores(noise: float = 0.0) -> SplitLogits:
    rng = np.random.default_rng(1)
    labels = rng.uniform(0, 5, N).astype(np.float32)
    outputs = (labels + rng.normal(size=N)).astype(np.float32)[:, None]
    moved = outputs + noise * rng.normal(size=outputs.shape).astype(np.float32)
    return SplitLogits(outputs, moved.astype(np.float32), outputs.copy(), labels, labels.copy())


def test_a_correlation_may_be_off_by_what_the_runs_precision_turns_it():
    given = scores(0.05)
    run = score(TASKS["stsb"], given.replayed[:, 0], given.labels)
    result = judged("stsb", given, run)
    assert result.problems == []
    assert (result.ties, result.differing) == (0, 0)
    exact = score(TASKS["stsb"], given.theirs[:, 0], given.labels)
    for metric in exact:
        for off in (-0.1, 0.1):
            (problem,) = judged("stsb", given, exact | {metric: exact[metric] + off}).problems
            assert problem.startswith(f"{metric} ")
    assert judged("stsb", scores(), run).problems  # in float32 that is not explained


def test_rounding_that_turns_scores_away_excuses_nothing():
    given = scores(5.0)
    run = score(TASKS["stsb"], given.replayed[:, 0], given.labels)
    result = judged("stsb", given, run)
    assert len(result.problems) == 2
    assert result.tie == MOST


def test_metrics_of_confusion_matrices_are_those_of_predictions():
    rng = np.random.default_rng(0)
    for _ in range(50):
        x, y = rng.integers(0, 2, (2, int(rng.integers(1, 9))))
        counts: list[Any] = [np.array([((x == a) & (y == b)).sum()]) for a, b in ((1, 1), (1, 0), (0, 1), (0, 0))]
        found = confusion_scores(*counts)
        for task in ("mrpc", "cola"):
            for name, value in score(TASKS[task], x, y).items():
                assert found[name][0] == pytest.approx(value)
