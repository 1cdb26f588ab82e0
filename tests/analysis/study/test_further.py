"""The experiments around the study: a table each, beside the plain LoRA² that the study ran, and never averaged over
settings; their commands make runs that may be published.
"""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from helpers.fake_records import PAPERS, ROOT, TIMING
from helpers.fake_study import study_run
from helpers.runs import CONFIGS

from lora2.analysis.paper import load_figure3
from lora2.analysis.study.further import FIGURE3, FURTHER, further_lines, further_tables
from lora2.analysis.study.models import model_studies
from lora2.analysis.study.page import study_page
from lora2.common.table import Table
from lora2.config.compose import compose
from lora2.config.deviations import deviations
from lora2.config.grid import expand
from lora2.runs.reader import Run, parse_run
from lora2.training.recording import recipe_caveats

SEEDS = (0, 1, 2)
RANKS = {"layer.0.query": 8, "layer.0.key": 2, "layer.1.query": 1}


def runs_of(variant: str, score: float, experiment: str, recipe: str = "authors_short", **changes: Any) -> list[Run]:
    """Three seeds on two tasks, a point apart."""
    return [
        parse_run(
            study_run(
                variant,
                task,
                seed,
                score + seed,
                model="mpnet",
                experiment=experiment,
                recipe=recipe,
                setting_id=f"{variant}{task}{recipe}",
                ranks=RANKS,
                **changes,
            )
        )
        for task in ("mrpc", "rte")
        for seed in SEEDS
    ]


def tables(runs: list[Run]) -> dict[str, Table]:
    return {table.title: table for table in further_tables("mpnet", runs)}


PLAIN = runs_of("lora2_k1", 70.0, "study_authors")


def test_what_the_study_ran_already_stands_beside_the_rest():
    found = tables([*PLAIN, *runs_of("lora2_k1_reg-uv", 68.0, "table3")])
    (table,) = found.values()
    assert table.title == "Which regularisers (the paper's Table 3)"
    plain, changed = (dict(zip(table.header, row, strict=True)) for row in table.rows)
    assert (plain["Method"], plain["Score"], plain["Beside the plain"]) == ("LoRA² k=1 (authors_short)", "71.00", "–")
    assert (changed["Score"], changed["n"], changed["Tasks"]) == ("69.00", "3", "MRPC, RTE")
    assert changed["Beside the plain"] == "−2.00"
    assert changed["Ranks alike"] == "1.00"
    assert changed["Runs, by task and seed"].count(".json)") == 6


def test_what_is_kept_is_compared_one_by_one():
    """Equal ranks may be of other singular values; records of before have no masks."""
    plain = runs_of("lora2_k8", 70.0, "study_authors", masks={"layer.0.query": "1110", "layer.0.key": "1000"})
    (told,) = tables([*plain, *runs_of("lora2_k8_score-magnitude", 70.0, "importance_cheap",
                                       masks={"layer.0.query": "1011", "layer.0.key": "1000"})]).values()  # fmt: skip
    assert [row[told.header.index("Kept alike")] for row in told.rows] == ["–", "0.75"]
    for masks in ({}, {"layer.0.query": "1011"}, {"layer.0.query": "10111", "layer.0.key": "1000"}):
        (untold,) = tables(
            [*plain, *runs_of("lora2_k8_score-magnitude", 70.0, "importance_cheap", masks=masks)]
        ).values()
        assert untold.rows[1][untold.header.index("Kept alike")] == "–"


def test_scores_and_differences_have_intervals_from_three_seeds_on():
    changed = [*runs_of("lora2_k1_reg-uv", 68.0, "table3")]
    (table,) = tables([*PLAIN, *changed]).values()
    assert table.rows[1][4] == "[67.87, 70.13]"
    assert table.rows[1][6] == "[−2.00, −2.00]"
    (table,) = tables([*PLAIN, *(run for run in changed if run.seed < 2)]).values()
    assert (table.rows[1][4], table.rows[1][6]) == ("–", "–")


def test_runs_of_another_recipe_are_never_averaged_in():
    """Both starts of k=1 are sweep_k's, and one variant."""
    other = runs_of("lora2_k1", 60.0, "sweep_k", "authors_short_start")
    found = tables([*PLAIN, *runs_of("lora2_k2", 72.0, "sweep_k"), *other])
    assert [row[3] for row in found["Outer width k"].rows] == ["71.00", "73.00"]
    start = found["The other start of the factors"]
    assert [(row[0], row[3], row[5]) for row in start.rows] == [
        ("LoRA² k=1 (authors_short)", "71.00", "–"),
        ("LoRA² k=1 (authors_short_start)", "61.00", "−10.00"),
    ]


def test_the_width_is_compared_and_not_taken_for_another():
    wide = [*runs_of("lora2_k16", 72.0, "sweep_k"), *runs_of("lora2_k8", 71.0, "study_authors")]
    rows = {row[0]: row[5] for row in tables([*PLAIN, *wide])["Outer width k"].rows}
    assert rows["LoRA² k=16 (authors_short)"] == "+1.00 to k=8"


def test_no_other_k_stands_in_for_the_plain_one():
    """k=8 with the other start, and k=8 with another weight, where k=1 alone ran as it is."""
    start = runs_of("lora2_k8", 60.0, "sweep_k", "authors_short_start")
    unpruned = runs_of("lora2_k8_unpruned", 60.0, "unpruned")
    found = tables([*PLAIN, *start, *unpruned])
    for title in ("The other start of the factors", "Pruned or not"):
        plain, changed = found[title].rows
        assert plain[0] == "LoRA² k=1 (authors_short)"
        assert changed[0].startswith("LoRA² k=8")
        assert changed[5:7] == ("–", "–")


def test_no_other_recipe_stands_in_for_the_plain_one():
    other = runs_of("lora2_k8", 70.0, "study_authors", "authors")
    changed = [
        *runs_of("lora2_k8_unpruned", 60.0, "unpruned"),
        *runs_of("lora2_k1_unpruned", 61.0, "unpruned", "authors"),
    ]
    rows = {row[0]: row[5] for row in tables([*other, *changed])["Pruned or not"].rows}
    assert rows["LoRA² k=8 unpruned (authors_short)"] == "–"


def test_runs_that_diverged_are_counted():
    lost = {"status": "failed", "error": "step 3: the loss is not finite", "metrics": None}
    changed = [run for run in runs_of("lora2_k1_reg-uv", 68.0, "table3") if run.seed]
    changed += [run for run in runs_of("lora2_k1_reg-uv", 68.0, "table3", **lost) if not run.seed]
    row = next(row for row in tables([*PLAIN, *changed]).popitem()[1].rows if "reg-uv" in row[0])
    assert (row[2], row[3], row[7]) == ("2", "69.50 ‡", "2 of 6")


def test_a_run_s_own_clock_is_not_in_it():
    """Runs of several machines and tasks are no timing: that is made side by side."""
    slow = runs_of("lora2_k1_reg-uv", 68.0, "table3", timing={**TIMING, "seconds_per_step": 99.0})
    assert tables([*PLAIN, *slow]) == tables([*PLAIN, *runs_of("lora2_k1_reg-uv", 68.0, "table3")])


def test_the_page_has_a_table_of_what_ran_and_the_command_of_the_rest():
    text = study_page(model_studies([*PLAIN, *runs_of("lora2_k1_reg-uv", 68.0, "table3")], PAPERS, "mpnet"))
    assert "#### Which regularisers (the paper's Table 3)" in text
    assert "- Which regularisers" not in text
    assert "- Pruned or not: not run; `make sweep EXPERIMENT=unpruned MODEL=mpnet" in text


def test_a_marked_run_is_none():
    marked = runs_of("lora2_k1_reg-uv", 68.0, "table3", caveats=["recipe changed"])
    assert tables([*PLAIN, *marked]) == {}
    (line,) = [
        line for line in further_lines("mpnet", marked, load_figure3(PAPERS)) if line.startswith("Which regularisers")
    ]
    assert "not run" in line


@pytest.mark.parametrize("model", ["mpnet", "minilm"])
@pytest.mark.parametrize("further", [*FURTHER, FIGURE3], ids=lambda further: f"{further.experiment}{further.own}")
def test_a_command_makes_runs_without_a_caveat_that_the_page_takes(further, model):
    given = dict(word.split("=", 1) for word in shlex.split(further.command(model))[2:])
    words = [f"model={given['MODEL']}", f"recipe={given['RECIPE']}", *given.get("ARGS", "").split(), "data=demo"]
    for job in expand(given["EXPERIMENT"], words, seeds=1, configs=CONFIGS):
        assert recipe_caveats(deviations(compose(job.overrides, CONFIGS), job.cfg, CONFIGS)) == []
        assert job.cfg.recipe.name.endswith(further.own)


def test_the_other_start_is_not_the_recipe_s():
    for model in ("mpnet", "minilm"):
        given = dict(word.split("=", 1) for word in shlex.split(FURTHER[-1].command(model))[2:])
        plain = [f"model={model}", f"recipe={given['RECIPE']}", "data=demo"]
        (first, *_), (second, *_) = (
            expand("sweep_k", words, seeds=1, configs=CONFIGS) for words in (plain, [*plain, *given["ARGS"].split()])
        )
        assert {first.cfg.method.init, second.cfg.method.init} == {"paper", "orthogonal"}


def test_the_guide_has_the_same_commands():
    guide = (ROOT / "docs" / "USE.md").read_text(encoding="utf-8")
    for further in (*FURTHER, FIGURE3):
        assert further.command("mpnet").replace("=mpnet", "=mpnet DATA=local DATA_DIR=../glue") in guide
