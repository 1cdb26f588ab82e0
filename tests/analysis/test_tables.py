"""Tables from fake records: golden tables, what may stand beside what, damaged files, formats, the command line."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_records import PAPERS, ROOT, TIMING, deberta, record, results_folder, save

from lora2.analysis.tables.build import NAMES, build
from lora2.common.errors import UserError
from lora2.common.rendering import render, replace_block
from lora2.common.table import MISSING, Table
from lora2.glue.tasks import TASKS
from lora2.runs.reader import load_runs, parse_run


def tables(records: list[dict[str, Any]], name: str = "runs", model: str | None = None) -> list[Table]:
    return build(name, [parse_run(item) for item in records], PAPERS, model)


def lines(table: Table, value: str) -> list[dict[str, str]]:
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    return [row for row in rows if row["Value"].startswith(value)]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return results_folder(tmp_path)


def cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "results.py"), "tables", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_run_that_starts_from_mnli_stands_beside_the_number_of_such_a_start() -> None:
    """LoRA's Table 2 has MRPC, RTE and STS-B from the MNLI checkpoint, and all other tasks from the backbone."""
    from_mnli = [
        record(
            model="roberta_large",
            data="hub",
            task=task,
            seed=seed,
            variant="lora_r8_modules-qv_init",
            recipe="lora_table9",
        )
        for task in ("mrpc", "rte")
        for seed in range(3)
    ]
    plain = [{**item, "config": item["config"] | {"variant": "lora_r8_modules-qv"}} for item in from_mnli]
    (table,) = tables(from_mnli, "lora_table2")
    verdicts = {row["Method"]: row["RTE acc"] for row in lines(table, "verdict")}
    assert verdicts["RoB-large LoRA [lora_r8_modules-qv_init]"] == "below"
    (table,) = tables(plain, "lora_table2")
    verdicts = {row["Method"]: row["RTE acc"] for row in lines(table, "verdict")}
    assert verdicts["RoB-large LoRA, from the backbone [lora_r8_modules-qv]"] == MISSING


def test_golden_table_of_one_run() -> None:
    text = render(tables([record()]), "markdown")
    assert text.splitlines()[:10] == [
        "### Every finished run; minilm, data=local",
        "",
        "minilm is not a model of the paper: these numbers show what the code does on another encoder. They are not "
        "comparable with the paper's, which are therefore not shown here.",
        "",
        "minilm is all-MiniLM-L6-v2, tuned on sentence pairs, AllNLI, Quora and SQuAD among them: scores on MNLI, "
        "QQP and QNLI are not clean.",
        "",
        "| Method | Recipe | Value | Adapter params | Active params | Head params | MRPC acc / F1 |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| lora2_k8 | short | best | 1,000 | 900 | 50 | 81.00 / 87.00 (n=1) |",
        "| lora2_k8 | short | last | – | – | – | 80.00 / 86.00 (n=1) |",
    ]


def test_mean_spread_median_and_interval_over_seeds() -> None:
    accuracies = (0.80, 0.82, 0.87)
    runs = [record(seed=seed, best={"accuracy": value, "f1": 0.9}) for seed, value in enumerate(accuracies)]
    (table,) = tables(runs)
    assert lines(table, "best")[0]["MRPC acc / F1"] == "83.00 ± 3.61 / 90.00 ± 0.00 (n=3)"
    assert lines(table, "median")[0]["MRPC acc / F1"] == "82.00 / 90.00"
    assert lines(table, "95 % interval")[0]["MRPC acc / F1"] == "[74.04, 91.96] / [90.00, 90.00]"


def test_two_seeds_give_a_median_but_no_interval() -> None:
    (table,) = tables([record(seed=0), record(seed=1)])
    assert lines(table, "median")
    assert not lines(table, "95 % interval")


def test_settings_are_never_averaged_and_the_rest_is_counted() -> None:
    few = record(setting_id="aaa", best={"accuracy": 0.1, "f1": 0.1})
    many = [record(setting_id="bbb", seed=seed) for seed in (1, 2)]
    (table,) = tables([few, *many])
    assert lines(table, "best")[0]["MRPC acc / F1"] == "81.00 ± 0.00 / 87.00 ± 0.00 (n=2)"
    assert any("shown is setting bbb" in note and "1 other setting(s), 1 run(s)" in note for note in table.footnotes)


def test_recipes_and_data_sources_are_kept_apart() -> None:
    two = tables([record(recipe="short"), record(recipe="authors")])
    assert [row["Recipe"] for row in lines(two[0], "best")] == ["authors", "short"]
    assert [table.title for table in tables([record(data="hub"), record(data="local")])] == [
        "Every finished run; minilm, data=hub",
        "Every finished run; minilm, data=local",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_only_the_paper_s_model_on_real_data_stands_beside_the_paper(name: str) -> None:
    strangers = [
        record(),
        record(variant="full"),
        deberta(data="demo", synthetic=True),
        record(model="roberta_large", model_random_init=True, variant="full"),
    ]
    for table in tables(strangers, name):
        real = not any(word in table.title for word in ("minilm", "SYNTHETIC", "RANDOM"))
        printed = [row for row in table.rows if row[2].startswith("paper")]
        assert bool(printed) == (real and name != "runs"), table.title
        assert not any("paper" in row[2] for row in table.rows) or real


def test_synthetic_and_random_sections_say_so() -> None:
    titles = [table.title for table in tables([record(data="demo"), record(model="tiny", model_random_init=True)])]
    assert "Every finished run; minilm, data=demo, SYNTHETIC demo data" in titles
    assert "Every finished run; tiny, data=local, RANDOM WEIGHTS" in titles


def test_random_weights_may_be_timed_but_not_scored() -> None:
    runs = [
        deberta(model_random_init=True, status="timed"),
        deberta(model_random_init=True, timing={**TIMING, "seconds_per_step": 9.0}),
    ]
    timed = tables(runs, "table2")
    assert lines(timed[0], "ours")[1]["MRPC s/it"] == "0.25 (n=1)"
    assert lines(timed[0], "paper")
    scored = tables(runs, "table1")
    assert "RANDOM" in scored[1].title
    assert not any("timed" in note for note in scored[1].footnotes)
    assert not lines(scored[1], "paper")


def test_our_adalora_is_timed_in_a_row_of_its_own() -> None:
    stock = deberta(variant="adalora_r8", status="timed", setting_id="b")
    ours = deberta(
        variant="adalora_r8",
        status="timed",
        setting_id="a",
        resolved={"method": {"impl": "stacked"}},
        timing={**TIMING, "seconds_per_step": 0.125},
    )
    rows = lines(tables([stock, ours], "table2")[0], "ours")
    shown = {row["Method"]: row["MRPC s/it"] for row in rows if row["MRPC s/it"] != "–"}
    assert sorted(shown.values()) == ["0.12 (n=1)", "0.25 (n=1)"]
    assert {name: text for name, text in shown.items() if "stacked" in name} == {"adalora_r8_stacked": "0.12 (n=1)"}


def test_table1_without_runs_is_the_paper_s_with_the_wrong_average_flagged() -> None:
    (table,) = tables([], "table1")
    printed = {row["Method"]: row for row in lines(table, "paper")}
    assert len(printed) == 10
    row = printed["LoRA² (k=8) [lora2_k8]"]
    assert (row["Avg. (printed)"], row["Avg. (recomputed)"]) == ("89.68 ⚠", "89.43")
    assert [name for name, row in printed.items() if "⚠" in row["Avg. (printed)"]] == ["LoRA² (k=8) [lora2_k8]"]
    assert {row["CoLA Mcc"] for row in lines(table, "ours")} == {MISSING}
    assert any(note.startswith("⚠ LoRA² (k=8)") for note in table.footnotes)


def test_comparison_shows_difference_verdict_and_our_average() -> None:
    runs = [deberta(task=task, seed=seed) for task in TASKS for seed in range(3)]
    (table,) = tables(runs, "table1")
    difference, verdict = lines(table, "Δ")[0], lines(table, "verdict")[0]
    assert difference["CoLA Mcc"] == "−2.30"
    assert difference["QQP acc / F1"] == "−2.25 / −1.74"
    assert (verdict["RTE acc"], verdict["CoLA Mcc"]) == ("above", "below")
    # mean of 70, 90, 90, (90+88)/2, 92, (90+91)/2, 90, 90
    assert lines(table, "best")[0]["Avg. (recomputed)"] == "87.69"


def test_few_seeds_get_no_verdict_and_few_tasks_no_average() -> None:
    table = tables([deberta(task="rte")], "table1")[0]
    assert lines(table, "verdict")[0]["RTE acc"] == "too few seeds"
    assert lines(table, "verdict")[0]["CoLA Mcc"] == MISSING
    assert {row["Avg. (recomputed)"] for row in lines(table, "best")} == {MISSING}


def test_a_seed_without_the_metric_empties_the_cell_instead_of_shrinking_n() -> None:
    (table,) = tables([record(seed=0), record(seed=1, best={"accuracy": 0.9})])
    assert lines(table, "best")[0]["MRPC acc / F1"] == "85.50 ± 6.36 / – (n=2)"


def test_unfinished_runs_are_counted_not_shown() -> None:
    (table,) = tables([record(), record(seed=1, status="oom", metrics=None), record(seed=2, status="failed")])
    assert "(n=1)" in lines(table, "best")[0]["MRPC acc / F1"]
    assert "Not shown, no result: 1 failed, 1 oom." in table.footnotes


def test_active_parameters_that_differ_are_a_range() -> None:
    counts = {"adapter": 1000, "active_adapter": 700, "head": 50}
    (table,) = tables([record(), record(seed=1, counts=counts)])
    assert lines(table, "best")[0]["Active params"] == "700 to 900"


def test_model_filter() -> None:
    assert [table.title for table in tables([record(), deberta()], model="minilm")] == [
        "Every finished run; minilm, data=local"
    ]
    assert tables([record()], "table1", model="bert")[0].rows == ()


def test_unknown_table_is_a_user_error() -> None:
    with pytest.raises(UserError, match="table: got 'table9'"):
        tables([], "table9")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1]",
        "null",
        '"x"',
        "{}",
        '{"schema_version": 7}',
        json.dumps(record(status="great")),
        json.dumps(record(task=3)),
        json.dumps(record(seed=None)),
        json.dumps(record(metrics=None)),
        json.dumps(record(best={"accuracy": float("nan")})),
        json.dumps(record(ranks=[1])),
        "\x00",
    ],
)
def test_a_damaged_record_costs_one_warning(results: Path, text: str) -> None:
    save(results, record())
    (results / "runs" / "bad.json").write_text(text, encoding="utf-8")
    runs, warnings = load_runs(results / "runs")
    assert len(runs) == 1
    assert len(warnings) == 1
    assert "bad.json" in warnings[0]
    assert "\n" not in warnings[0]


def test_undecodable_record_costs_one_warning(results: Path) -> None:
    (results / "runs" / "bad.json").write_bytes(b"\xff\xfe\x00")
    assert len(load_runs(results / "runs")[1]) == 1


def test_csv_has_one_header_and_empty_fields_for_missing() -> None:
    text = render(tables([record(), deberta(task="rte")]), "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["section"] for row in rows} == {
        "Every finished run; minilm, data=local",
        "Every finished run; deberta_v3_base, data=hub",
    }
    assert rows[-1]["MRPC acc / F1"] == "80.00 / 86.00 (n=1)"
    assert rows[-1]["RTE acc"] == ""
    assert MISSING not in text


def test_latex_escapes_what_latex_reads() -> None:
    text = render([Table("a_b & 5 %", ("x_y", "±"), (("LoRA²", "–"),), footnotes=("100 %",))], "latex")
    assert r"a\_b \& 5 \%" in text
    assert r"x\_y & $\pm$ \\" in text
    assert r"LoRA$^2$ & -- \\" in text


def test_markdown_escapes_pipes_and_unknown_formats_are_named() -> None:
    assert r"a\|b" in render([Table("t", ("h",), (("a|b",),))], "markdown")
    with pytest.raises(UserError, match="format: got 'html'"):
        render([], "html")


def test_replace_block_is_idempotent_and_needs_both_markers() -> None:
    text = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n"
    once = replace_block(text, "x", "new")
    assert once == "a\n<!-- x:begin -->\nnew\n<!-- x:end -->\nb\n"
    assert replace_block(once, "x", "new") == once
    for bad in ("", "<!-- x:begin -->", "<!-- x:end --><!-- x:begin -->", text + text):
        with pytest.raises(UserError, match="markers"):
            replace_block(bad, "x", "new")


def test_cli_prints_warns_and_goes_on(results: Path) -> None:
    save(results, record())
    (results / "runs" / "foreign.json").write_text("[]", encoding="utf-8")
    done = cli("--results", results)
    assert done.returncode == 0
    assert "81.00 / 87.00 (n=1)" in done.stdout
    assert done.stderr.count("\n") == 1
    assert "foreign.json" in done.stderr


def test_cli_writes_a_table(results: Path) -> None:
    save(results, record())
    assert cli("--results", results, "--table", "table1", "--write").returncode == 0
    assert (results / "tables" / "table1.md").read_text(encoding="utf-8").startswith("### Table 1")


def test_json_has_a_row_by_column_and_null_for_missing(results: Path) -> None:
    save(results, record())
    done = cli("--results", results, "--json")
    (section,) = json.loads(done.stdout)
    best, last = section["rows"]
    assert section["title"] == "Every finished run; minilm, data=local"
    assert (best["Method"], best["Value"], best["MRPC acc / F1"]) == ("lora2_k8", "best", "81.00 / 87.00 (n=1)")
    assert (best["Adapter params"], last["Adapter params"]) == ("1,000", None)
    assert section["footnotes"][0].startswith("best = best evaluation")


def test_no_torch_no_pandas_no_matplotlib_for_a_table() -> None:
    code = (
        "import sys, lora2.analysis.tables.build, lora2.analysis.claims.audit, lora2.analysis.figure3\n"
        "heavy = {'torch', 'transformers', 'pandas', 'scipy', 'matplotlib', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_table_says_by_which_commands_its_runs_are_made_again() -> None:
    own = [record(experiment="study_minilm", seed=seed) for seed in (0, 1)]
    (table,) = tables([*own, record(experiment="adhoc", task="rte")])
    assert table.footnotes[-1] == (
        "Made by `python scripts/experiment.py run study_minilm --model minilm --data local --data-dir ../glue`; "
        "`python scripts/train.py` with the settings under config.resolved in a run's record."
    )
    timed = [record(status="timed", experiment="table2", data="hub")]
    *_, table = tables(timed, "table2")
    assert table.footnotes[-1] == "Made by `python scripts/experiment.py time table2 --model minilm --data hub`."


@pytest.mark.parametrize(
    ("changes", "told"), [({}, True), ({"model_random_init": True}, False), ({"model": "tiny"}, False)]
)
def test_a_table_says_what_its_encoder_was_tuned_on(changes, told):
    tables = build("runs", [parse_run(record(**{"model": "mpnet", **changes}))], PAPERS)
    said = " ".join(sentence for table in tables for sentence in table.sentences)
    assert ("tuned on sentence pairs, AllNLI, Quora and SQuAD among them" in said) == told
