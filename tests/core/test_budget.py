"""The budget b(t): both formulas against exact fractions, its bounds, and schedules that do not fit."""

import pytest
from helpers import oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from lora2.common.errors import UserError
from lora2.core.budget import BudgetSchedule, phases_fit, shrink_phases

KINDS = ("released", "printed")
MRPC = {"total": 3450, "initial": 576, "target": 72, "t_i": 600, "t_f": 1800}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "shape",
    [
        MRPC,
        {"total": 12, "initial": 30, "target": 7, "t_i": 2, "t_f": 3},
        {"total": 3, "initial": 5, "target": 1, "t_i": 0, "t_f": 1},
        {"total": 85_904 // 16, "initial": 576, "target": 216, "t_i": 500, "t_f": 3125},
    ],
    ids=["mrpc", "short", "shortest", "mnli/16"],
)
def test_the_budget_is_the_formula_at_every_step(shape, kind):
    schedule = BudgetSchedule(**shape, kind=kind)
    naive = [
        oracle.budget(t, shape["total"], shape["initial"], shape["target"], shape["t_i"], shape["t_f"], kind)
        for t in range(shape["total"])
    ]
    assert [schedule.at(t) for t in range(shape["total"])] == naive


def test_the_released_formula_by_hand():
    schedule = BudgetSchedule(total=20, initial=100, target=20, t_i=4, t_f=6)
    assert [schedule.at(t) for t in (0, 3, 4)] == [100, 100, 100]
    assert schedule.at(5) == int(20 + 80 * 0.9**3)  # (1 - 1/10)³
    assert schedule.at(9) == int(20 + 80 * 0.5**3)
    assert schedule.at(13) == 20
    assert [schedule.at(t) for t in (14, 19)] == [20, 20]
    assert schedule.final == 14


def test_the_printed_formula_starts_late_and_jumps_at_the_end():
    schedule = BudgetSchedule(total=20, initial=100, target=20, t_i=4, t_f=6, kind="printed")
    assert [schedule.at(t) for t in (4, 10)] == [100, 100]  # numerator t - t_i - t_f <= 0: cut at the start
    assert schedule.at(13) == int(20 + 80 * 0.7**3)
    assert schedule.at(14) == 20


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_the_budget_never_rises_and_stays_between_target_and_start(data):
    t_i, t_f, middle = (data.draw(st.integers(a, 40)) for a in (0, 1, 1))
    initial = data.draw(st.integers(1, 600))
    target = data.draw(st.integers(1, initial))
    schedule = BudgetSchedule(t_i + t_f + middle, initial, target, t_i, t_f, kind=data.draw(st.sampled_from(KINDS)))
    values = [schedule.at(t) for t in range(schedule.total)]
    assert values == sorted(values, reverse=True)
    assert values[-t_f:] == [target] * t_f
    assert max(values) <= initial
    assert min(values) >= target


def test_masks_are_renewed_between_the_phases_at_the_interval_and_at_the_final_step():
    schedule = BudgetSchedule(total=20, initial=9, target=3, t_i=4, t_f=5, interval=3)
    assert [t for t in range(20) if schedule.updates_mask(t)] == [6, 9, 12, 15]
    dense = BudgetSchedule(total=20, initial=9, target=3, t_i=4, t_f=5)
    assert [t for t in range(20) if dense.updates_mask(t)] == list(range(5, 16))
    odd = BudgetSchedule(total=20, initial=9, target=3, t_i=0, t_f=6, interval=100)
    assert [t for t in range(20) if odd.updates_mask(t)] == [14]  # the final pattern is chosen even off the interval


@pytest.mark.parametrize(("target", "initial", "cure"), [(0, 5, "raise"), (6, 5, "lower"), (-1, 5, "raise")])
def test_a_target_out_of_range_is_refused(target, initial, cure):
    with pytest.raises(UserError, match=rf"budget\.target_rank: .* {cure} budget\.target_rank"):
        BudgetSchedule(20, initial, target, 2, 3)


@pytest.mark.parametrize(("t_i", "t_f"), [(600, 1800), (0, 20), (19, 1), (0, 0)])
def test_phases_that_do_not_fit_are_refused_with_phases_that_do(t_i, t_f):
    assert not phases_fit(20, t_i, t_f)
    with pytest.raises(UserError) as error:
        BudgetSchedule(20, 5, 2, t_i, t_f)
    text = str(error.value)
    assert "do not fit into the 20 optimizer steps" in text
    assert "budget.scale=auto" in text
    advice = dict(part.split("=") for part in text.split("for example ")[1].split(", ")[0].split())
    assert phases_fit(20, int(advice["budget.t_i"]), int(advice["budget.t_f"]))


def test_a_negative_phase_is_refused():
    with pytest.raises(UserError, match="t_i >= 0"):
        BudgetSchedule(20, 5, 2, -1, 3)


@settings(max_examples=300, deadline=None)
@given(st.integers(2, 5000), st.integers(0, 10_000), st.integers(1, 60_000))
def test_scaled_phases_always_fit(total, t_i, t_f):
    first, last = shrink_phases(total, t_i, t_f)
    assert phases_fit(total, first, last)


def test_scaled_phases_keep_their_proportion_and_leave_a_third():
    first, last = shrink_phases(3000, 600, 1800)
    assert first * 3 == last
    assert first + last == 2000


def test_the_authors_schedules_fit_the_steps_of_their_scripts():
    """t_i, t_f and T of the eight tasks, from the paper's notes; a guard against an off-by-one in `phases_fit`."""
    rows = {
        "mnli": (8000, 50_000, 85_904),
        "sst2": (6000, 22_000, 50_520),
        "cola": (800, 3500, 6700),
        "qqp": (8000, 25_000, 227_420),
        "qnli": (2000, 8000, 16_370),
        "rte": (600, 1800, 3900),
        "mrpc": (600, 1800, 3450),
        "stsb": (800, 2000, 4500),
    }
    assert all(phases_fit(total, t_i, t_f) for t_i, t_f, total in rows.values())
