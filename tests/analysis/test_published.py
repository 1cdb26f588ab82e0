"""Showing is not writing: a user's play never gets into tracked files; only clean, full, real runs are published."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers import runs
from helpers.fake_records import record

from lora2.analysis.published import PUBLISHED_WITH, objections
from lora2.runs.caveats import CAVEATS
from lora2.runs.reader import parse_run
from scripts import bench, results

GOOD: dict[str, Any] = {
    "status": "ok", "data": "local", "synthetic": False, "model_random_init": False, "checks": {"budget_met": True},
    "provenance": {"git_commit": "0" * 40, "dirty_diff": None}, "resolved": {"recipe": {"max_steps": None}}, "steps": 9,
}  # fmt: skip
PLAY = {
    "status is failed": {"status": "failed"},
    "synthetic: the data was made by this project": {"synthetic": True},
    "random weights: the backbone was never trained": {"model_random_init": True},
    "shortened: recipe.max_steps or recipe.epochs ended": {"caveats": ["shortened"]},
    "recipe changed: settings are not those of the recipe": {"caveats": ["recipe changed"]},
    "rows dropped: rows of the data could not be read": {"caveats": ["rows dropped"]},
    "other data: the data differs from the official": {"caveats": ["other data"]},
    "check failed: the run's check of itself failed": {"checks": {"budget_met": False}},
    "no known commit": {"provenance": {}},
    "not committed": {"provenance": {"git_commit": "0" * 40, "dirty_diff": "abc"}},
}
PAGES = {"README.md": ("study", "results"), "docs/RESULTS.md": ("claims", "sceptic", "bench")}  # with their blocks


def leave(folder: Path, **changes: Any) -> str:
    data = record(**{**GOOD, **changes})
    path = folder / "runs" / f"{data['run_id']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return str(data["run_id"])


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """The project's results and pages, and a user's folder with one play run of each kind."""
    shutil.copytree(runs.ROOT / "results", tmp_path / "results")
    (tmp_path / "docs").mkdir()
    shutil.copy(runs.ROOT / "docs" / "STUDY.md", tmp_path / "docs")
    for path, blocks in PAGES.items():
        (tmp_path / path).write_text("".join(f"<!-- {block}:begin -->\n<!-- {block}:end -->\n" for block in blocks))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    for number, changes in enumerate(PLAY.values()):
        leave(tmp_path / "outputs" / "results", run_id=f"play-{number}", variant=f"play{number}", **changes)
    return tmp_path


def tracked(project: Path) -> dict[str, bytes]:
    files = [project / "README.md", *(project / "docs").rglob("*"), *(project / "results").rglob("*")]
    return {str(path): path.read_bytes() for path in files if path.is_file() and path.name != "report.html"}


@pytest.mark.parametrize("reason", PLAY)
def test_play_is_not_published_and_says_why(reason):
    assert objections(parse_run(record(**GOOD))) == []
    (told,) = objections(parse_run(record(**{**GOOD, **PLAY[reason]})))
    assert reason in told


def test_every_caveat_keeps_a_run_back_but_those_that_would_select():
    for kind in CAVEATS:
        told = objections(parse_run(record(**{**GOOD, "caveats": [kind]})))
        assert told == ([] if kind in PUBLISHED_WITH else [f"{kind}: {CAVEATS[kind]}"])


DIVERGED = {"status": "failed", "error": "step 3: the gradient is not finite, task loss nan", "metrics": None}


def test_a_run_that_diverged_is_published_as_one_that_collapsed_is():
    assert objections(parse_run(record(**{**GOOD, **DIVERGED}))) == []
    (told,) = objections(parse_run(record(**{**GOOD, **DIVERGED, "caveats": ["shortened"]})))
    assert told.startswith("shortened: ")
    (told,) = objections(parse_run(record(**{**GOOD, **DIVERGED, "error": "OSError: no space left on device"})))
    assert told == "its status is failed"


def test_every_trial_that_the_choice_names_is_published(project, capsys):
    """One that went to its end, one that collapsed, one that diverged."""
    own, trial = project / "outputs" / "results", {"recipe": "trial"}
    names = [
        leave(own, run_id="trial-good", **trial),
        leave(own, run_id="trial-collapsed", constant=["best"], **trial),
        leave(own, run_id="trial-diverged", **{**trial, **DIVERGED}),
    ]
    assert results.main(["publish"]) == 0
    assert all((project / "results" / "runs" / f"{name}.json").exists() for name in names)
    assert "diverged: the loss, the gradient or a score" in (project / "results" / "tables" / "runs.md").read_text()
    assert capsys.readouterr().err.count("published: trial-") == 3


def test_a_shortened_run_of_before_the_list_of_caveats_is_kept_back():
    older = record(**{**GOOD, "resolved": {"recipe": {"max_steps": 9}}})
    del older["caveats"]
    (told,) = objections(parse_run(older))
    assert told.startswith("shortened: ")


def test_a_timing_of_random_weights_is_no_real_run():
    (told,) = objections(parse_run(record(**{**GOOD, "status": "timed", "model_random_init": True})))
    assert told.startswith("random weights: ")


@pytest.mark.parametrize(
    "command", ["tables", "claims", "diagnostics", "figures figure3", "tables --table table1", "study"]
)
def test_showing_writes_nothing_that_is_tracked(command, project, capsys):
    before = tracked(project)
    assert results.main(command.split()) == 0
    assert tracked(project) == before
    if command == "tables":
        assert "play1" in capsys.readouterr().out  # but shown it is


@pytest.mark.parametrize(
    "command", ["study --lines --write", "tables --write", "diagnostics --output docs/RESULTS.md", "study --write"]
)
def test_what_is_written_is_made_of_published_runs_alone(command, project):
    assert results.main(command.split()) == 0
    pages = {name: text for name, text in tracked(project).items() if name.endswith(".md")}
    assert [name for name, text in pages.items() if b"play1" in text] == []


def test_publishing_takes_the_good_run_and_leaves_play_out(project, capsys):
    before = tracked(project)
    name = leave(project / "outputs" / "results", run_id="good-one", variant="goodone")
    assert results.main(["publish"]) == 0
    said = capsys.readouterr().err
    assert all(reason in said for reason in PLAY)
    assert f"published: {name}\n" in said
    assert f"1 of {len(PLAY) + 1} runs in outputs/results published" in said
    after = tracked(project)
    assert {Path(path).name for path in after.keys() - before.keys()} == {"good-one.json"}
    assert "goodone" in (project / "results" / "tables" / "runs.md").read_text()
    assert results.main(["publish"]) == 0
    assert "good-one: it is published already" in capsys.readouterr().err
    assert tracked(project) == after


def test_a_published_run_is_not_displaced_in_what_is_shown(project, capsys):
    leave(project / "results", run_id="twice", variant="published_one")
    leave(project / "outputs" / "results", run_id="twice", variant="own_one")
    assert results.main(["tables"]) == 0
    out = capsys.readouterr().out
    assert "published_one" in out
    assert "own_one" not in out


def test_a_benchmark_is_published_only_if_asked_for(project, monkeypatch, capsys):
    def measure(part, what):
        shutil.copytree(runs.ROOT / "results" / "bench", what.output, dirs_exist_ok=True)

    monkeypatch.setattr(bench, "measure", measure)
    before = tracked(project)
    assert bench.main(["padding"]) == 0
    assert tracked(project) == before
    assert "adding" in capsys.readouterr().out
    assert bench.main(["padding", "--write"]) == 0


def test_runs_go_below_outputs_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert runs.compose_without_hydra([])["results_dir"] == "outputs/results"
