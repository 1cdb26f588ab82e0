"""Statistics over seeds against numpy, scipy and hand-made cases."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lora2.analysis.stats import (
    Verdict,
    glue_average,
    pearson,
    ranks,
    spearman,
    student_interval,
    summarise,
    t_quantile,
    verdict,
)
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
    for function in (summarise, student_interval):
        with pytest.raises(UserError):
            function(values)


@settings(deadline=None, max_examples=40)  # a shared machine: no time limit per example
@given(st.lists(st.floats(0.0, 100.0), min_size=2, max_size=12))
def test_interval_is_scipy_s(values: list[float]) -> None:
    low, high = student_interval(values)
    error = scipy.stats.sem(values)
    if error == 0.0:
        assert (low, high) == pytest.approx((values[0], values[0]))
        return
    assert (low, high) == pytest.approx(scipy.stats.t.interval(0.95, len(values) - 1, np.mean(values), error))


def test_one_seed_has_no_interval() -> None:
    with pytest.raises(UserError, match="at least two"):
        student_interval([90.0])


@pytest.mark.parametrize("freedom", [1, 2, 2.7, 4, 9, 1e6])
def test_quantiles_are_scipy_s_and_end_at_the_normal_one(freedom: float) -> None:
    assert t_quantile(freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom))
    assert t_quantile(1e9) == pytest.approx(scipy.stats.norm.ppf(0.975), abs=1e-6)


def test_a_wider_level_gives_a_wider_interval() -> None:
    narrow, wide = student_interval(FIVE, level=0.5), student_interval(FIVE, level=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    with pytest.raises(UserError, match="level"):
        student_interval(FIVE, level=95)


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
