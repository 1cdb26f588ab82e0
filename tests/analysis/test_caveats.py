"""A caveat is a mark wherever the number is shown, and such a run stands neither before nor among clean ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.fake_records import PAPERS, deberta, record, results_folder, save
from helpers.report_pages import RANKS, Page, history

from lora2.analysis.diagnostics import diagnostics_table
from lora2.analysis.figure3 import agreement, model_to_show, panels
from lora2.analysis.html.page import build_page
from lora2.analysis.html.rank_maps import mean_grid
from lora2.analysis.html.records import by_setting
from lora2.analysis.paper import load_figure3
from lora2.analysis.tables.build import build
from lora2.common.table import Table
from lora2.glue.tasks import TASKS
from lora2.runs.caveats import CAVEATS, FALLEN, MARK
from lora2.runs.places import load_places
from lora2.runs.reader import load_runs, parse_run

NOTE = "qnli/dev: 5266 rows, officially 5463; scores will not be comparable with the paper's."
VERSIONS = {"packages": {"torch": "2.13.0"}, "date": "2026-11-22"}
OTHERS = {"packages": {"torch": "1.0.0"}, "date": "2026-11-01"}
# a record of each kind, as its writer or a record older than the list of caveats has it
MARKED: dict[str, dict[str, Any]] = {
    "other data": {"notes": [NOTE]},
    "shortened": {"caveats": ["shortened"]},
    "recipe changed": {"caveats": ["recipe changed"]},
    "random weights": {"model_random_init": True},
    "synthetic": {"synthetic": True},
    "check failed": {"checks": {"merged_equals_unmerged": False}},
    "collapsed": {"constant": ["last"]},
    "diverged": {"caveats": ["diverged"]},
    "rows dropped": {"caveats": ["rows dropped"]},
    "other versions": {"caveats": ["other versions"]},
    "verification failed": {"verified": {"passed": False}},
}


def test_every_kind_has_a_case():
    assert set(MARKED) == set(CAVEATS)


def lines(table: Table, value: str) -> list[dict[str, str]]:
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    return [row for row in rows if row["Value"].startswith(value)]


def shown(records: list[dict[str, Any]], name: str = "table1") -> list[Table]:
    return build(name, [parse_run(item) for item in records], PAPERS)


@pytest.mark.parametrize("kind", MARKED)
def test_a_marked_number_says_so_and_has_neither_difference_nor_verdict(kind: str):
    tables = shown([deberta(task="qnli", seed=seed, **MARKED[kind]) for seed in range(3)])
    (table,) = (table for table in tables if any("QNLI" in note and MARK in note for note in table.footnotes))
    for value in ("best", "last", "median", "95 %"):
        assert next(row for row in lines(table, value) if row["QNLI acc"] != "–")["QNLI acc"].endswith(MARK)
    assert all(row["QNLI acc"] == "–" for row in lines(table, "Δ"))
    assert {row["QNLI acc"] for row in lines(table, "verdict")} <= {"–", f"no verdict {MARK}"}
    (note,) = (note for note in table.footnotes if note.startswith(MARK))
    assert CAVEATS[kind] in note


def test_a_seed_that_diverged_is_counted_beside_the_others():
    lost = {"status": "failed", "error": "step 3: the loss is not finite", "metrics": None}
    records = [deberta(task="qnli", seed=seed, **(lost if seed == 2 else {})) for seed in range(3)]
    (line,) = [row for row in lines(shown(records)[0], "best") if row["QNLI acc"] != "–"]
    assert line["QNLI acc"].endswith(f"(n=2; 1 diverged of 3) {MARK}")
    alone = shown([{**each, **lost} for each in records])
    assert any(row["QNLI acc"] == f"– (n=0; 3 diverged of 3) {MARK}" for row in lines(alone[0], "best"))
    assert not any("Not shown" in note for table in alone for note in table.footnotes)
    (note,) = (note for note in alone[0].footnotes if note.startswith(MARK))
    assert CAVEATS["diverged"] in note


def test_a_clean_number_has_no_mark():
    assert not any(MARK in str(table) for table in shown([deberta(seed=seed) for seed in range(3)]))


@pytest.mark.parametrize("kind", [kind for kind in MARKED if kind not in ("random weights", "synthetic")])
@pytest.mark.parametrize("setting", ["aaa", "zzz"], ids=["same setting", "another setting"])
def test_no_number_of_marked_runs_displaces_a_clean_one(kind: str, setting: str):
    marked = [
        deberta(seed=seed, setting_id=setting, best={"accuracy": 0.1, "f1": 0.1}, **MARKED[kind])
        for seed in range(1, 5)
    ]
    table = shown([*marked, deberta(seed=0, setting_id="aaa")])[0]
    best = next(row for row in lines(table, "best") if row["MRPC acc"] != "–")["MRPC acc"]
    if kind in FALLEN and setting == "aaa":  # clean seeds of a setting of which others fell: told at the number
        assert best == f"90.00 (n=1; 4 {kind} of 5) {MARK}"
    else:
        assert best == "90.00 (n=1)"
    assert any(f"4 run(s) in all, left out (4 {kind})" in note for note in table.footnotes)


def test_a_setting_of_which_all_seeds_collapsed_says_how_many():
    table = shown([deberta(seed=seed, **MARKED["collapsed"]) for seed in range(3)])[0]
    best = next(row for row in lines(table, "best") if row["MRPC acc"] != "–")
    assert best["MRPC acc"].endswith(f"(n=3; 3 collapsed of 3) {MARK}")


def test_an_average_is_of_clean_numbers_or_marked():
    clean = [deberta(task=task) for task in TASKS]
    assert {row["Avg. (recomputed)"] for row in lines(shown(clean)[0], "best")} == {"87.69"}
    mixed = [deberta(task=task, **(MARKED["shortened"] if task == "rte" else {})) for task in TASKS]
    assert {row["Avg. (recomputed)"] for row in lines(shown(mixed)[0], "best")} == {"–"}
    marked = [deberta(task=task, **MARKED["shortened"]) for task in TASKS]
    assert {row["Avg. (recomputed)"] for row in lines(shown(marked)[0], "best")} == {f"87.69 {MARK}"}


def test_the_versions_of_most_seeds_are_the_setting_s(tmp_path: Path):
    results = results_folder(tmp_path)
    save(results, *(deberta(seed=seed, provenance=VERSIONS) for seed in range(2)))
    save(results, deberta(seed=2, provenance=OTHERS, best={"accuracy": 0.1, "f1": 0.1}))
    runs, _ = load_runs(results / "runs")
    assert [run.caveats for run in runs] == [(), (), ("other versions",)]
    assert lines(build("table1", runs, PAPERS)[0], "best")[-1]["MRPC acc"] == "90.00 ± 0.00 (n=2)"


def test_of_two_versions_the_later_is_the_setting_s(tmp_path: Path):
    results = results_folder(tmp_path)
    save(results, deberta(seed=0, provenance=OTHERS), deberta(seed=1, provenance=VERSIONS))
    assert [run.caveats for run in load_runs(results / "runs")[0]] == [("other versions",), ()]


def test_other_versions_are_seen_across_folders(tmp_path: Path):
    """A user's own run beside two published ones, as every table and page reads them."""
    published, own = tmp_path / "published", tmp_path / "own"
    for folder in (published, own):
        folder.mkdir()
        results_folder(folder)
    save(published, *(deberta(seed=seed, provenance=VERSIONS) for seed in range(2)))
    save(own, deberta(seed=2, provenance=OTHERS))
    assert [run.caveats for run in load_places([published, own])[0]] == [(), (), ("other versions",)]


def test_figure_3_shows_clean_runs_first_and_marks_the_others():
    figure = load_figure3(PAPERS)
    marked = [parse_run(deberta(seed=seed, ranks=RANKS, setting_id="zzz", **MARKED["shortened"])) for seed in range(3)]
    clean = parse_run(deberta(ranks=dict.fromkeys(RANKS, 1)))
    panel = next(panel for panel in panels(figure, [*marked, clean], figure.model, "lora2_k8") if panel.task == "mrpc")
    assert panel.ours is not None
    assert panel.ours.max() == 1
    assert MARK not in panel.label
    alone = next(panel for panel in panels(figure, marked, figure.model, "lora2_k8") if panel.task == "mrpc")
    assert alone.label.endswith(f"n=3 {MARK} shortened")
    assert agreement(alone) != "not run"
    assert model_to_show(figure, [*marked, parse_run(record(ranks=RANKS))], "lora2_k8") == "minilm"


def test_the_sceptic_s_table_marks_scores():
    runs = [parse_run(record(history=history("accuracy"), **MARKED["shortened"]))]
    table = diagnostics_table(runs)
    assert table.rows[0][1].endswith(f"{MARK} shortened")
    assert any(CAVEATS["shortened"] in note for note in table.footnotes)


def test_maps_of_a_setting_never_average_marked_runs_with_clean_ones():
    runs = [record(seed=0, ranks=dict.fromkeys(RANKS, 2)), record(seed=1, ranks=RANKS, **MARKED["collapsed"])]
    (setting,) = by_setting(map(parse_run, runs))
    mean, count = mean_grid(setting)
    assert mean is not None
    assert (count, mean.min(), mean.max()) == (1, 2, 2)


def test_the_page_marks_tables_curves_maps_and_records(tmp_path: Path):
    results = results_folder(tmp_path)
    changes = {"history": history("accuracy"), "ranks": RANKS, **MARKED["shortened"]}
    save(results, *(deberta(seed=seed, **changes) for seed in range(3)))
    page = Page(build_page(results, "window.vegaEmbed = () => {};"))
    (cell,) = (row["MRPC"] for row in page.rows("Table 1") if row["Whose"].startswith("ours"))
    assert cell.startswith(f"90.00 {MARK}|")
    assert f"{MARK} shortened" in cell
    assert "reproduced" not in cell
    assert f"0 of {10 * len(TASKS)}" in "".join(page.sections.values())  # cells of Table 1 with a clean run
    for name in ("cost", "ranks", "figure3"):
        assert f"{MARK} shortened" in str(page.charts[name]["views"]) + page.sections.get(name, ""), name
    assert CAVEATS["shortened"] in page.sections["records"]


def test_a_curve_names_the_caveats_of_its_run(tmp_path: Path):
    results = results_folder(tmp_path)
    save(results, deberta(history=history("accuracy"), **MARKED["collapsed"]))
    page = Page(build_page(results, "window.vegaEmbed = () => {};"))
    assert f"{MARK} collapsed" in str(page.charts["curves"]["views"])
