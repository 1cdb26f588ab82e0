"""Which runs stand behind a number of the study, and which pairs are made of them."""

from __future__ import annotations

import math

import pytest
from helpers import fake_study
from helpers.fake_records import PAPERS
from helpers.fake_study import SCORES, SEEDS, shared, study_run, trials, tuned

from lora2.analysis.methods import method_name
from lora2.analysis.paper import load_table
from lora2.analysis.study.gather import SHARED, TUNED, chosen, gather, studied_models, trial_score
from lora2.analysis.study.gather import trials as gathered_trials
from lora2.analysis.study.pairs import pairs
from lora2.runs.reader import parse_run

TABLE1 = load_table("table1", PAPERS)


def study(records, comparison=SHARED, model="minilm"):
    return gather(model, comparison, map(parse_run, records))


def test_cells_are_methods_by_tasks_in_the_paper_s_order():
    found = study(reversed(shared()))
    assert found.variants == ("full", "lora2_k1", "lora_r1", "lora2_k8", "lora_r8")
    assert found.tasks == ("mrpc", "rte")
    assert found.cells.keys() == SCORES.keys()
    assert all(cell.scores() == pytest.approx(SCORES[key]) for key, cell in found.cells.items())
    assert found.left_out == ()


def test_a_collapsed_run_counts_and_every_other_caveat_does_not():
    marked = study_run("lora_r8", "mrpc", 3, 1.0, caveats=["rows dropped"])
    both = study_run("lora_r8", "mrpc", 4, 1.0, caveats=["shortened"], constant=["best"])
    found = study([*shared(), marked, both])
    assert found.cells["lora_r8", "rte"].scores() == pytest.approx(SCORES["lora_r8", "rte"])
    assert [run.seed for run in found.cells["lora_r8", "rte"].collapsed] == [2]
    assert found.cells["lora_r8", "mrpc"].scores() == pytest.approx(SCORES["lora_r8", "mrpc"])
    assert sorted(run.seed for run in found.left_out) == [3, 4]


def test_settings_models_recipes_and_failures_are_kept_apart():
    strangers = [
        study_run("lora_r8", "mrpc", 7, 1.0, setting_id="other"),  # of the study, fewer seeds
        study_run("lora_r8", "mrpc", 8, 1.0, setting_id="adhoc", experiment="methods"),
        study_run("lora_r8", "mrpc", 9, 1.0, model="mpnet"),
        study_run("lora_r8", "mrpc", 10, 1.0, status="failed", metrics=None),
        study_run("lora_r8", "mrpc", 11, 1.0, best={"f1": 0.5}),
        *tuned(),
        *trials(),
    ]
    found = study([*shared(), *strangers])
    assert found.cells["lora_r8", "mrpc"].scores() == pytest.approx(SCORES["lora_r8", "mrpc"])
    assert [run.seed for run in found.left_out] == [7]


def test_a_run_that_another_experiment_made_of_the_same_setting_counts():
    found = study([*shared(), study_run("lora_r8", "mrpc", 3, 90.0, experiment="methods")])
    assert found.cells["lora_r8", "mrpc"].scores()[-1] == pytest.approx(90.0)


def test_models_are_those_that_the_study_ran():
    records = [*shared(), *trials(), study_run("full", "rte", 0, 1.0, model="tiny", experiment="methods")]
    assert studied_models(map(parse_run, records)) == ["minilm"]


def test_trials_are_scored_on_held_out_rows_and_never_on_dev():
    on_dev = study_run(
        "lora2_k8", "mrpc", 5, 99.0, recipe="trial", history={"eval": [{"step": 1.0, "selection": 0.99}]}
    )
    found = gathered_trials("minilm", map(parse_run, [*trials(), on_dev, *shared()]))
    assert {round(trial_score(run), 6) for run in found} == {*fake_study.RATES.values(), -math.inf}


def test_a_trial_that_failed_for_another_reason_has_no_score():
    crashed = {**fake_study.diverged(), "error": "OSError: no space left on device"}
    assert gathered_trials("minilm", [parse_run(crashed)]) == []


@pytest.mark.parametrize(
    ("variant", "expected"),
    [("lora2_k8", "0.001, α/r 2, Λ ×20"), ("lora_r8", "0.001, α/r 2"), ("full", "5e-05"), ("bitfit", "0.001")],
)
def test_the_values_that_a_method_ran_at(variant, expected):
    assert chosen(parse_run(study_run(variant, "mrpc", 0, 80.0))) == expected


def test_names_are_those_of_the_paper():
    assert [method_name(name) for name in ("adalora_r2", "lora2_k1_reg-uv", "head")] == [
        "AdaLoRA r=2",
        "LoRA² k=1 reg-uv",
        "head",
    ]


def test_pairs_are_of_equal_size_and_by_seed():
    records = [record for record in shared() if not (record["config"]["variant"] == "lora_r1" and _seed(record) == 1)]
    one, eight = pairs(study(records), TABLE1)
    assert (one.ours, one.theirs, eight.ours, eight.theirs) == ("lora2_k1", "lora_r1", "lora2_k8", "lora_r8")
    assert one.differences["mrpc"] == pytest.approx([-3.0, -5.5])
    assert eight.differences["rte"] == pytest.approx([3.0, 3.0, 5.9])
    assert (one.seeds, eight.seeds) == (2, 3)
    assert one.verdict == "too few seeds"
    assert eight.mean == pytest.approx(((2.0 + 2.5 + 2.9) / 3 + (3.0 + 3.0 + 5.9) / 3) / 2)
    assert eight.probability == 1.0


def test_the_printed_margin_is_of_the_same_tasks():
    _, eight = pairs(study(shared()), TABLE1)
    ours, theirs = (TABLE1.rows[name].scores for name in ("lora2_k8", "lora_r8"))
    gaps = [ours[task]["accuracy"] - theirs[task]["accuracy"] for task in ("mrpc", "rte")]
    assert eight.margin == pytest.approx(sum(gaps) / 2)
    (alone,) = pairs(study([record for record in shared() if _is(record, "rte", "k8", "r8")]), TABLE1)
    assert alone.margin == pytest.approx(gaps[1])
    assert alone.verdict == "one task"


def test_methods_that_share_no_seed_are_no_pair():
    apart = [study_run("lora2_k8", "mrpc", 0, 80.0), study_run("lora_r8", "mrpc", 1, 80.0)]
    assert pairs(study(apart), TABLE1) == []


def test_one_seed_has_a_difference_and_no_interval():
    (pair,) = pairs(study([study_run(variant, "mrpc", 0, 80.0) for variant in ("lora2_k8", "lora_r8")]), TABLE1)
    assert (pair.mean, pair.pooled, pair.bootstrap, pair.seeds_needed) == (0.0, None, None, None)


def test_the_second_comparison_has_runs_of_its_own():
    found = study([*shared(), *tuned()], TUNED)
    assert [run.seed for run in found.cells["lora_r8", "rte"].runs] == [10, 11, 12]
    assert len(study([*shared(), *tuned()]).cells["lora_r8", "rte"].runs) == len(SEEDS)


def _seed(record):
    return record["config"]["seed"]


def _is(record, task, *sizes):
    return record["config"]["task"] == task and record["config"]["variant"].endswith(sizes)
