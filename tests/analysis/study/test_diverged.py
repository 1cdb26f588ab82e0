"""A run that diverged has no score, and is seen all the same: it is counted, what stands beside it is marked, and no
verdict is made of the seeds that are left.
"""

from __future__ import annotations

import pytest
from helpers import fake_study
from helpers.fake_records import PAPERS
from helpers.fake_study import shared, study_run
from matplotlib.figure import Figure

from lora2.analysis.claims.audit import as_table, audit
from lora2.analysis.html.answer import answer, study_chart
from lora2.analysis.paper import load_table
from lora2.analysis.study.courses_drawn import by_rate, draw_rates
from lora2.analysis.study.drawing import LIGHT
from lora2.analysis.study.gather import SHARED, gather, trials
from lora2.analysis.study.models import model_studies
from lora2.analysis.study.page import study_page
from lora2.analysis.study.pairs import pairs
from lora2.analysis.study.pictures import draw_pictures
from lora2.analysis.study.readme import readme_block, readme_table
from lora2.analysis.study.scores_drawn import cost_points, draw_dots
from lora2.analysis.study.tables import rate_table
from lora2.runs.reader import parse_run

ERROR = "step 12: the gradient is not finite, task loss nan; lower recipe.lr"


def with_diverged(*lost: tuple[str, str, int]) -> list:
    """The study at one shared rate, of which these runs, (variant, task, seed), diverged."""
    records = []
    for record in shared(collapsed=()):
        config = record["config"]
        name = (config["variant"], config["task"], config["seed"])
        changes = {"status": "failed", "error": ERROR, "metrics": None, "counts": None, "history": {}}
        records.append({**record, **changes} if name in lost else record)
    return [parse_run(record) for record in records]


ONE = with_diverged(("lora_r8", "rte", 2))
ALWAYS = with_diverged(*(("lora_r8", task, seed) for task in ("mrpc", "rte") for seed in (0, 1, 2)))


def page(runs) -> str:
    return study_page(model_studies(runs, PAPERS, "minilm"))


def line(text: str, start: str) -> str:
    (found,) = [line for line in text.splitlines() if line.startswith(start)]
    return found


def test_it_is_in_its_cell_and_in_no_mean():
    cell = gather("minilm", SHARED, ONE).cells["lora_r8", "rte"]
    assert [run.seed for run in cell.diverged] == [2]
    assert cell.scores() == pytest.approx([55.0, 54.0])
    told = line(page(ONE), "| LoRA r=8 | RTE acc |")
    assert "| 54.50 ± 0.71 ‡ |" in told
    assert "| 2 | 0 of 3 | 1 of 3 |" in told
    assert ".json) ‡ |" in told
    assert "‡ diverged: the loss, the gradient or a score was no longer a finite number" in page(ONE)


def test_a_cell_that_always_diverged_has_its_line():
    told = line(page(ALWAYS), "| LoRA r=8 | RTE acc |")
    assert "| – ‡ | – | – | – | 0 | 0 of 3 | 3 of 3 | 0.001, α/r 2 | – |" in told


def test_no_verdict_is_made_of_the_seeds_that_are_left():
    _, eight = pairs(gather("minilm", SHARED, ONE), load_table("table1", PAPERS))
    assert (eight.verdict, eight.seeds_needed) == ("seeds diverged", None)
    assert "1 not judged (seeds diverged)" in line(page(ONE), "4. ")
    assert "at +2.73 against LoRA r=8" in line(page(ONE), "2. ")
    assert "seeds diverged" in line(page(ONE), "2. ")


def test_seeds_that_diverged_are_not_said_to_be_out_of_reach():
    whole = line(page(ONE), "| LoRA² k=8 | LoRA r=8 |")
    assert whole.endswith("| **seeds diverged** | – |")


def test_it_is_below_every_other_run_where_only_the_order_counts():
    records = shared(collapsed=())
    for record in records:  # theirs is better but where it diverges
        if record["config"]["variant"] == "lora_r8":
            record["metrics"]["best"]["accuracy"] = 0.99
    runs = [parse_run(record) for record in records if record["config"]["task"] == "mrpc"]
    lost = {run.run_id for run in ONE if "diverged" in run.caveats}
    assert pairs(gather("minilm", SHARED, runs), load_table("table1", PAPERS))[1].probability == 0.0
    rte = [parse_run(record) for record in records if record["config"]["task"] == "rte"]
    rte = [run for run in rte if run.run_id not in lost] + [run for run in ONE if run.run_id in lost]
    _, eight = pairs(gather("minilm", SHARED, rte), load_table("table1", PAPERS))
    assert eight.probability == pytest.approx(1 / 3)


def test_a_task_where_one_side_always_diverged_counts_for_the_other():
    """On MRPC ours is better, on RTE it has no score: it is not better in every case, as MRPC alone would say."""
    runs = with_diverged(*(("lora2_k8", "rte", seed) for seed in (0, 1, 2)))
    _, eight = pairs(gather("minilm", SHARED, runs), load_table("table1", PAPERS))
    assert (eight.probability, eight.lost) == (0.5, ["rte"])
    both = with_diverged(*((name, "rte", seed) for name in ("lora2_k8", "lora_r8") for seed in (0, 1, 2)))
    assert pairs(gather("minilm", SHARED, both), load_table("table1", PAPERS))[1].probability == 0.75
    assert "| LoRA² k=8 | LoRA r=8 | MRPC; no seed of both: RTE | 3 |" in page(runs)
    assert "- No seed of both: runs diverged there" in page(runs)
    assert "at +2.47 against LoRA r=8 (1.35 to 3.59; seeds diverged; no seed of both on RTE)" in line(page(runs), "2. ")
    assert "No seed of both" not in page(ONE)


def test_findings_say_how_many_and_whose():
    assert "1 of 30 runs diverged, without a score: LoRA r=8 on RTE 1." in line(page(ONE), "5. ")
    assert "6 of 30 runs diverged, without a score: LoRA r=8 on MRPC 3, LoRA r=8 on RTE 3." in line(page(ALWAYS), "5. ")
    both = [run for run in ONE if run.seed < 2] + [run for run in map(parse_run, shared()) if run.seed == 2]
    assert "1 of 30 runs collapsed to one prediction: LoRA r=8 on RTE 1." in line(page(both), "5. ")


def test_a_method_that_always_diverged_is_named_where_it_would_be_compared():
    told = "LoRA² k=8 is not compared with LoRA r=8 (no seed of both has a score; diverged: LoRA r=8 6 of 6)"
    assert line(page(ALWAYS), "2. ") == f"2. At one shared rate {told} (MRPC, RTE; 0 seeds)."
    studies = model_studies(ALWAYS, PAPERS, "minilm")
    assert f"; {told} (" in readme_block(studies, PAPERS, ["minilm"])
    assert "| LoRA r=8 | – | diverged ‡ | diverged ‡ |" in readme_table(studies)


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        (
            [(name, task, seed) for name, task in (("lora2_k8", "mrpc"), ("lora_r8", "rte")) for seed in (0, 1, 2)],
            "LoRA² k=8 3 of 6, LoRA r=8 3 of 6",
        ),
        (
            [("lora2_k8", task, seed) for task in ("mrpc", "rte") for seed in (1, 2)]
            + [("lora_r8", task, 0) for task in ("mrpc", "rte")],
            "LoRA² k=8 4 of 6, LoRA r=8 2 of 6",
        ),
    ],
)
def test_methods_that_ran_and_share_no_seed_since_runs_diverged_are_a_pair_that_is_not_judged(lost, told):
    runs = with_diverged(*lost)
    text = page(runs)
    assert f"is not compared with LoRA r=8 (no seed of both has a score; diverged: {told})" in line(text, "2. ")
    assert "has not run beside" not in text
    assert line(text, "4. ").startswith("4. Of 2 margins of the paper's Table 1, over the tasks that ran: ")
    assert "1 not judged (seeds diverged)" in line(text, "4. ")
    assert "| LoRA² k=8 | LoRA r=8 | no seed of both: MRPC, RTE | 0 | – | – | – |" in text
    alone = model_studies([run for run in runs if run.variant in ("lora2_k8", "lora_r8")], PAPERS, "minilm")
    assert "in 1 pair(s), too few to judge (MRPC, RTE; 0 seeds" in answer(alone, as_table(audit(PAPERS)), []).text


def test_it_is_drawn_at_the_edge_and_in_no_mean(tmp_path):
    figure = Figure(layout="constrained")
    draw_dots(figure, LIGHT, gather("minilm", SHARED, ONE))
    marks = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "x"]
    crosses = [mark for mark in marks if len(mark.get_xdata())]
    assert [(cross.get_xdata()[0], cross.get_color()) for cross in crosses] == [(0.0, LIGHT.colour("lora_r8"))]
    assert crosses[0].get_transform() == crosses[0].axes.get_yaxis_transform()
    (study,) = model_studies(ALWAYS, PAPERS, "minilm")
    assert draw_pictures(study, tmp_path)


def test_a_score_against_cost_is_marked():
    names = {point.variant: point.name for point in cost_points(gather("minilm", SHARED, ONE), {})}
    assert (names["lora_r8"], names["lora2_k8"]) == ("LoRA r=8 ‡", "LoRA² k=8")
    assert "lora_r8" not in {point.variant for point in cost_points(gather("minilm", SHARED, ALWAYS), {})}


@pytest.mark.parametrize("runs", [ONE, ALWAYS])
def test_the_report_s_picture_says_it(runs):
    (views,) = study_chart(model_studies(runs, PAPERS, "minilm")).views.values()
    assert "; diverged: LoRA r=8" in views[1].caption


def test_a_trial_that_diverged_is_at_the_bottom_whatever_the_scores():
    figure = Figure(layout="constrained")
    found = by_rate(trials("minilm", map(parse_run, fake_study.trials())))
    draw_rates(figure, LIGHT, found)
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    bottom = [cross for cross in crosses if cross.get_transform() == figure.axes[0].get_xaxis_transform()]
    assert [(cross.get_xdata()[0], cross.get_ydata()[0]) for cross in bottom] == [(0.01, 0.0)]
    assert "1 of 9" not in str(rate_table("minilm", found).rows)


def test_a_method_whose_trials_all_diverged_has_no_best_rate():
    found = by_rate(trials("minilm", [parse_run(fake_study.diverged())]))
    (row,) = rate_table("minilm", found).rows
    assert row[2:7] == ("–", "–", "–", "–", "1 of 1")
    assert row[7].endswith(".json) ‡")
    draw_rates(Figure(layout="constrained"), LIGHT, found)


def test_a_study_run_that_failed_for_another_reason_is_none():
    crashed = study_run("lora_r8", "rte", 2, 0.0, status="failed", error="OSError: no space left", metrics=None)
    kept = [run for run in ONE if "diverged" not in run.caveats]
    cell = gather("minilm", SHARED, [*kept, parse_run(crashed)]).cells["lora_r8", "rte"]
    assert [run.seed for run in cell.runs] == [0, 1]
