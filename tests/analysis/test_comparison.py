"""Two methods side by side, against scipy and hand-made cases."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lora2.analysis.comparison import (
    MOST_SEEDS,
    MarginVerdict,
    margin_verdict,
    pooled,
    probability_of_improvement,
    seeds_to_decide,
    stratified_bootstrap,
)
from lora2.analysis.stats import student_interval
from lora2.common.errors import UserError

CALM, WIDE = [1.9, 2.0, 2.1], [-3.0, 2.0, 7.0]
points = st.lists(st.integers(-9, 9).map(float), min_size=2, max_size=6)


def test_one_task_is_the_paired_t_interval() -> None:
    ours, theirs = [81.0, 83.5, 82.0], [80.0, 84.0, 79.0]
    found = pooled([[left - right for left, right in zip(ours, theirs, strict=True)]])
    expected = scipy.stats.ttest_rel(ours, theirs).confidence_interval()
    assert found.interval() == pytest.approx(tuple(expected))


@settings(deadline=None, max_examples=40)  # a shared machine: no time limit per example
@given(points, points)
def test_two_tasks_are_welch_s(left: list[float], right: list[float]) -> None:
    """Welch's interval of mean(left) − mean(−right) is the one of their sum, twice our mean over two tasks."""
    if len(set(left)) == 1 or len(set(right)) == 1:
        return
    expected = scipy.stats.ttest_ind(left, [-value for value in right], equal_var=False).confidence_interval()
    assert pooled([left, right]).interval() == pytest.approx((expected.low / 2, expected.high / 2))


def test_tasks_weigh_the_same_whatever_their_seeds() -> None:
    assert pooled([[0.0, 0.0], [3.0] * 6]).mean == 1.5


def test_values_without_a_spread_have_an_interval_without_a_width() -> None:
    assert pooled([[2.0, 2.0], [4.0, 4.0]]).interval() == (3.0, 3.0)


@pytest.mark.parametrize("strata", [[], [[1.0]], [[1.0, 2.0], [3.0]]])
def test_nothing_is_pooled_from_single_pairs(strata: list[list[float]]) -> None:
    with pytest.raises(UserError, match="two differences"):
        pooled(strata)


def test_bootstrap_draws_within_tasks_and_repeats_itself() -> None:
    assert stratified_bootstrap([[0.0] * 3, [8.0] * 3]) == (4.0, 4.0)  # tasks differ, seeds do not
    few = [stratified_bootstrap([CALM, WIDE], seed=seed, resamples=101) for seed in (3, 3, 4)]
    assert few[0] == few[1] != few[2]
    low, high = stratified_bootstrap([CALM, WIDE])
    assert (1.9 - 3.0) / 2 <= low < 2.0 < high <= (2.1 + 7.0) / 2


def test_bootstrap_of_one_task_is_scipy_s() -> None:
    theirs = scipy.stats.bootstrap((WIDE,), np.mean, method="percentile", n_resamples=20_000, rng=1)
    assert stratified_bootstrap([WIDE], resamples=20_000) == pytest.approx(tuple(theirs.confidence_interval), abs=0.1)


@pytest.mark.parametrize(("strata", "level"), [([], 0.95), ([WIDE], 95.0)])
def test_bootstrap_refuses_no_task_and_no_level(strata: list[list[float]], level: float) -> None:
    with pytest.raises(UserError, match="stratified bootstrap"):
        stratified_bootstrap(strata, level=level)


@settings(deadline=None, max_examples=40)
@given(points, points)
def test_probability_of_improvement_is_mann_whitney_s_u(ours: list[float], theirs: list[float]) -> None:
    expected = scipy.stats.mannwhitneyu(ours, theirs).statistic / (len(ours) * len(theirs))
    assert probability_of_improvement([ours], [theirs]) == pytest.approx(expected)
    assert probability_of_improvement([ours, ours], [theirs, ours]) == pytest.approx((expected + 0.5) / 2)


def test_probability_needs_the_same_tasks() -> None:
    with pytest.raises(UserError, match="2 and 1 tasks"):
        probability_of_improvement([CALM, CALM], [CALM])


@pytest.mark.parametrize(
    ("strata", "margin", "expected"),
    [
        ([CALM, CALM], 2.0, "supported"),
        ([CALM, CALM], 0.5, "supported"),  # more than was claimed
        ([CALM, CALM], 3.0, "contradicted"),  # there, but smaller
        ([CALM, CALM], -1.0, "contradicted"),  # the other side leads in print
        ([[-value for value in CALM]] * 2, -2.0, "supported"),
        ([[-value for value in CALM]] * 2, 2.0, "contradicted"),
        ([WIDE, WIDE], 2.0, "undecided"),
        ([CALM], 2.0, "one task"),
        ([CALM, [2.0, 2.0]], 2.0, "too few seeds"),
        ([], 2.0, "too few seeds"),
    ],
)
def test_verdict_on_a_printed_margin(strata: list[list[float]], margin: float, expected: str) -> None:
    assert margin_verdict(strata, margin) == expected


def test_no_verdict_is_ever_significant() -> None:
    assert get_args(MarginVerdict) == (
        "supported",
        "contradicted",
        "undecided",
        "too few seeds",
        "one task",
        "seeds diverged",
    )


@pytest.mark.parametrize("margin", [2.0, 5.0, -3.0])
def test_seeds_to_decide_are_the_fewest_that_do(margin: float) -> None:
    strata = [WIDE, [value + 1.0 for value in WIDE]]
    assert margin_verdict(strata, margin) == "undecided"
    needed = seeds_to_decide(strata, margin)
    assert needed is not None
    mean = pooled(strata).mean if margin > 0 else -pooled(strata).mean
    distance = max(mean, abs(margin) - mean)
    assert pooled(strata, needed).half_width() < distance <= pooled(strata, needed - 1).half_width()
    # a bundle of equal mean and spread with so many seeds is decided
    seen = [
        scipy.stats.zscore(np.arange(float(needed)), ddof=1) * np.std(part, ddof=1) + np.mean(part) for part in strata
    ]
    assert margin_verdict([part.tolist() for part in seen], margin) != "undecided"


def test_what_nobody_would_run_has_no_number() -> None:
    assert seeds_to_decide([[-900.0, 0.01, 900.0]] * 2, 0.02) is None
    assert pooled([[-900.0, 0.01, 900.0]] * 2, MOST_SEEDS).half_width() > 0.02


def test_one_task_s_interval_is_the_cell_s() -> None:
    assert pooled([WIDE]).interval() == pytest.approx(student_interval(WIDE))
