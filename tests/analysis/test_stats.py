"""Statistics over seeds against numpy, scipy and hand-made cases."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lora2.analysis.stats import Verdict, bootstrap_interval, glue_average, pearson, ranks, spearman, summarise, verdict
from lora2.common.errors import UserError

scores = st.lists(st.floats(0.0, 100.0), min_size=1, max_size=12)
FIVE = [88.1, 89.5, 88.8, 90.2, 87.4]


def test_summary_is_numpy_s_with_ddof_one() -> None:
    summary = summarise(FIVE)
    assert summary.n == 5
    assert summary.mean == pytest.approx(np.mean(FIVE))
    assert summary.std == pytest.approx(np.std(FIVE, ddof=1))
    assert summary.median == 88.8


def test_one_seed_has_no_spread() -> None:
    assert summarise([1.0]).std is None


@pytest.mark.parametrize("values", [[], [float("nan")], [1.0, float("inf")]])
def test_nothing_is_computed_from_nothing_or_nan(values: list[float]) -> None:
    for function in (summarise, bootstrap_interval):
        with pytest.raises(UserError):
            function(values)


def test_same_seed_same_interval_and_another_seed_another_one() -> None:
    assert bootstrap_interval(FIVE, seed=3) == bootstrap_interval(FIVE, seed=3)
    few = [[bootstrap_interval(FIVE, seed=seed, resamples=101) for seed in range(5)] for _ in range(2)]
    assert few[0] == few[1]  # with many resamples of five values any seed gives the same interval
    assert bootstrap_interval(FIVE, seed=3, resamples=101) != bootstrap_interval(FIVE, seed=4, resamples=101)


@settings(deadline=None, max_examples=40)  # a shared machine: no time limit per example
@given(scores)
def test_interval_lies_inside_the_values_and_around_the_mean(values: list[float]) -> None:
    low, high = bootstrap_interval(values, resamples=500)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


def test_interval_agrees_with_scipy() -> None:
    ours = bootstrap_interval(FIVE, resamples=20_000)
    theirs = scipy.stats.bootstrap((FIVE,), np.mean, method="percentile", n_resamples=20_000, rng=1)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=0.05)


def test_a_wider_level_gives_a_wider_interval() -> None:
    narrow, wide = bootstrap_interval(FIVE, level=0.5), bootstrap_interval(FIVE, level=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    with pytest.raises(UserError, match="level"):
        bootstrap_interval(FIVE, level=95)


@pytest.mark.parametrize(
    ("values", "paper", "expected"),
    [
        ([], 90.0, "too few seeds"),
        ([90.0, 90.0], 90.0, "too few seeds"),
        (FIVE, 88.9, "reproduced"),
        (FIVE, 80.0, "above"),
        (FIVE, 95.0, "below"),
        ([89.5307] * 3, 89.53, "reproduced"),  # printed with two decimals
        ([89.6] * 3, 89.53, "above"),
    ],
)
def test_verdict(values: list[float], paper: float, expected: str) -> None:
    assert verdict(values, paper) == expected


def test_no_verdict_is_ever_significant() -> None:
    assert get_args(Verdict) == ("reproduced", "above", "below", "too few seeds")


def test_glue_average_counts_a_pair_once() -> None:
    assert glue_average({"rte": [80.0], "qqp": [90.0, 80.0]}) == 82.5
    with pytest.raises(UserError):
        glue_average({})
    with pytest.raises(UserError):
        glue_average({"rte": []})


pairs = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=3, max_size=40)


@settings(deadline=None, max_examples=40)  # a shared machine: no time limit per example
@given(pairs)
def test_correlations_are_scipy_s(points: list[tuple[int, int]]) -> None:
    left, right = [float(x) for x, _ in points], [float(y) for _, y in points]
    if len(set(left)) == 1 or len(set(right)) == 1:
        assert pearson(left, right) is None
        assert spearman(left, right) is None
        return
    assert pearson(left, right) == pytest.approx(scipy.stats.pearsonr(left, right).statistic, abs=1e-9)
    assert spearman(left, right) == pytest.approx(scipy.stats.spearmanr(left, right).statistic, abs=1e-9)


def test_constant_side_has_no_correlation_even_after_rounding() -> None:
    assert pearson([0.1] * 7, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]) is None


def test_unequal_lengths_are_an_error() -> None:
    with pytest.raises(UserError, match="2 and 3"):
        pearson([1.0, 2.0], [1.0, 2.0, 3.0])


@settings(deadline=None, max_examples=40)  # a shared machine: no time limit per example
@given(scores)
def test_ranks_are_scipy_s(values: list[float]) -> None:
    assert ranks(values).tolist() == scipy.stats.rankdata(values).tolist()
