"""The papers' numbers: every table loads, every average recomputes or is known not to, mistakes are named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lora2.analysis.paper import TABLES, load_claims, load_figure3, load_table
from lora2.common.errors import UserError
from lora2.core.matrices import MATRICES
from lora2.glue.tasks import TASKS

PAPERS = Path(__file__).resolve().parents[2] / "results" / "paper"
WRONG_AVERAGES = {
    ("table1", "lora2_k8"): (89.68, 89.43),
    ("table4", "lora2_k1_modules-qk"): (84.53, 84.475),
    ("roberta_large", "dcft_best"): (89.31, 89.45),
}


def test_table1_is_the_paper_s_ten_rows_by_eight_tasks() -> None:
    table = load_table("table1", PAPERS)
    assert len(table.rows) == 10
    assert set(table.columns) == set(TASKS)
    assert table.rows["lora2_k1"].scores["qqp"] == {"accuracy": 91.62, "f1": 88.05}
    assert table.rows["lora2_k8"].scores["mnli"] == {"accuracy": 90.43, "accuracy_mm": 90.23}
    assert [row.params for row in table.rows.values()][:6] == ["184M", "0.1M", "0.32M", "0.17M", "0.12M", "0.17M"]


@pytest.mark.parametrize("name", TABLES)
def test_every_printed_average_follows_from_its_row_but_the_known_three(name: str) -> None:
    table = load_table(name, PAPERS)
    for row in table.rows.values():
        if row.average is None:
            continue
        known = WRONG_AVERAGES.get((name, row.variant))
        assert table.average_is_wrong(row) == (known is not None), row.variant
        if known is None:
            assert row.recomputed == pytest.approx(row.average, abs=10.0**-table.digits + 1e-9)
        else:
            assert (row.average, row.recomputed) == pytest.approx(known, abs=0.002)


@pytest.mark.parametrize("name", TABLES)
def test_every_number_has_a_source_and_a_confidence(name: str) -> None:
    table = load_table(name, PAPERS)
    provenance = [(table.source, table.confidence), *((row.source, row.confidence) for row in table.rows.values())]
    assert all(source and confidence in ("H", "M", "L") for source, confidence in provenance)


def test_rows_may_override_the_source_of_their_file() -> None:
    table = load_table("sora_secondary", PAPERS)
    assert table.rows["sora_r4"].source == "AFLoRA README" != table.source
    assert table.rows["full"].source == table.source


def test_figure3_totals_and_shape() -> None:
    figure = load_figure3(PAPERS)
    totals = {task: sum(map(sum, panel.values())) for task, panel in figure.panels.items()}
    assert totals == {"mnli": 216, "qqp": 72, "mrpc": 72, "sst2": 68}
    for panel in figure.panels.values():
        assert tuple(panel) == MATRICES
        assert {len(ranks) for ranks in panel.values()} == {12}
    assert max(max(ranks) for ranks in figure.panels["mrpc"].values()) == 4


def test_table2_has_seven_tasks_and_no_average() -> None:
    table = load_table("table2", PAPERS)
    assert len(table.columns) == 7
    assert "qnli" not in table.columns
    assert [row.average for row in table.rows.values()] == [None, None]


def test_lora_table2_keeps_the_printed_spread() -> None:
    row = load_table("lora_table2", PAPERS).rows["lora_r8_modules-qv_init"]
    assert row.spread["rte"] == 2.5
    assert row.scores["mnli"] == {"accuracy+accuracy_mm": 90.6}


def test_claims_load_with_unique_keys() -> None:
    claims = load_claims(PAPERS)
    assert len({claim.key for claim in claims}) == len(claims) > 20


def test_rows_are_frozen() -> None:
    row = load_table("table3", PAPERS).rows["lora2_k1"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.average = 0.0  # type: ignore[misc]


def test_unknown_table_lists_what_there_is() -> None:
    with pytest.raises(UserError, match="allowed: table1, table2"):
        load_table("table9", PAPERS)


GOOD = """\
title: t
model: m
unit: percent
source: s
confidence: H
columns:
  rte: [accuracy]
  qqp: [accuracy, f1]
rows:
  full:
    paper_name: F
    scores: [80.0, [90.0, 88.0]]
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("unit: percent", "unit: percent\nunits: x", "unknown key: units"),
        ("model: m\n", "", "missing key: model"),
        ("unit: percent", "unit: furlong", "unit: got 'furlong', allowed"),
        ("confidence: H", "confidence: X", "confidence: got 'X'"),
        ("source: s\n", "", "source: missing"),
        ("rte: [accuracy]", "rte: [beauty]", "columns.rte"),
        ("rte:", "wnli:", "unknown task"),
        ("[80.0, [90.0, 88.0]]", "[80.0]", "needs 2 entries"),
        ("[90.0, 88.0]", "90.0", "full.qqp: needs 2 numbers, got 1"),
        ("80.0", "800.0", "not a percentage"),
        ("80.0", "eighty", "expected a number, got 'eighty'"),
        ("80.0", "true", "expected a number, got True"),
        ("    paper_name: F\n", "", "missing key: paper_name"),
        ("    paper_name: F\n", "    paper_name: F\n    paper_name: G\n", "repeated key: paper_name"),
        ("title: t", "title: [", "cannot read the paper's numbers"),
    ],
)
def test_a_mistake_in_a_table_names_the_file_and_the_field(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    path = tmp_path / "table1.yaml"
    path.write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError) as error:
        load_table("table1", tmp_path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_the_good_table_is_good(tmp_path: Path) -> None:
    (tmp_path / "table1.yaml").write_text(GOOD, encoding="utf-8")
    assert load_table("table1", tmp_path).rows["full"].recomputed == 84.5


def test_a_missing_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"figure3\.yaml"):
        load_figure3(tmp_path)
