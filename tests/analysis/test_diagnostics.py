"""The diagnostics read what runs followed over training, and says so where they did not."""

import pytest
from helpers.runs import TINY, compose, folders

from lora2.analysis.diagnostics import course, diagnostics_table
from lora2.config.resolve import resolve
from lora2.runs.reader import load_runs
from lora2.training.run import run as train
from scripts import results as cli


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Three finished runs: by the reduced score, by the full one, and one of another method."""
    path = tmp_path_factory.mktemp("runs")
    for overrides in (["rank=k8"], ["rank=k8", "budget.score=full"], ["method=head"]):
        assert train(resolve(compose(*TINY, *folders(path), *overrides))) == 0
    return path


def test_a_row_for_each_lora2_run_with_its_extremes(home):
    runs, warnings = load_runs(home / "results" / "runs")
    assert warnings == []
    table = diagnostics_table(runs)
    rows = {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    full, reduced = rows["tiny, rte, lora2_k8_score-full, short, seed 0"], rows["tiny, rte, lora2_k8, short, seed 0"]
    assert len(rows) == 2
    assert reduced["Scores agree"] == "–"
    run = next(run for run in runs if run.variant == "lora2_k8_score-full")
    agrees = [100 * value for value in course(run, "monitor/reduced_agrees")]
    assert full["Scores agree"] == f"{min(agrees):.0f} %, {agrees[-1]:.0f} %"
    distances = course(run, "monitor/orth_PQ")
    assert full["R(P,Q): max, end"] == f"{max(distances):.3g}, {distances[-1]:.3g}"
    assert full["Kept, emptied"].startswith(f"{sum(run.ranks.values())}, ")


def test_the_block_of_a_page_is_replaced(home, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- sceptic:begin -->\nreplace me\n<!-- sceptic:end -->\nafter\n")
    assert cli.main(["diagnostics", "--results", str(home / "results"), "--output", str(page)]) == 0
    text = page.read_text()
    assert "replace me" not in text
    assert text.startswith("before")
    assert "lora2_k8_score-full" in text
    assert cli.main(["diagnostics", "--results", str(tmp_path / "none")]) == 2
    assert "--results: no folder" in capsys.readouterr().err
