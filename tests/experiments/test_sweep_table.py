"""A sweep ends with its table; `status` tells where the running jobs are, on this machine or another."""

import json
import socket
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from helpers import fake_records
from helpers.runs import expand

from lora2.config.identity import run_id
from lora2.experiments import status_view
from lora2.experiments.run_process import Ended
from lora2.experiments.status import survey
from lora2.experiments.sweep_table import results_table
from lora2.runs.caveats import CAVEATS, MARK
from lora2.runs.progress import STALE_SECONDS, RunProgress, write_progress
from lora2.runs.record import record_path
from scripts import experiment

DATA = "f" * 64
TOLD = RunProgress(
    step=1200,
    total=3900,
    seconds_left=3725.0,
    loss=0.5,
    metrics={"accuracy": 0.5812},
    best={"accuracy": 0.6},
    evaluating=False,
    host=socket.gethostname(),
    written=0.0,
)
NOW = 1000.0


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.time", lambda: NOW)
    monkeypatch.setattr("lora2.experiments.cost.estimate.measure", lambda configs: None)  # of hours, not asked here
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def jobs():
    return expand("table4", ["task=rte,cola", "data=demo", "model=tiny", "recipe=demo"], seeds=2)


def leave_record(job, score, **changes):
    """A record as a finished run of the job would leave it, with a score of its task's main metric."""
    metric = {"rte": "accuracy", "cola": "matthews"}[job.cfg.task]
    path = record_path(job.cfg.results_dir, run_id(job.cfg, DATA))
    path.parent.mkdir(parents=True, exist_ok=True)
    metrics = {"best": {metric: score}, "last": {metric: 0.0}, "best_step": 1, "main": metric}
    record = fake_records.record(
        run_id=path.stem,
        task=job.cfg.task,
        seed=job.cfg.seed,
        data=job.cfg.data.source,
        hashes={"data": DATA},
        **{"metrics": metrics, **changes},
    )
    path.write_text(json.dumps(record), encoding="utf-8")


def test_cells_are_means_and_deviations_over_seeds_with_their_number(jobs):
    mine = [job for job in jobs if "method.targets=qk" in job.axes]
    rte = [job for job in mine if job.cfg.task == "rte"]
    for job, score in zip(rte, (0.5, 0.6), strict=True):
        leave_record(job, score)
    leave_record(next(job for job in mine if job.cfg.task == "cola"), 0.25)
    table = results_table("table4", survey(jobs))
    assert table.header == ("Method", "RTE accuracy", "CoLA matthews")
    deviation = statistics.stdev([50, 60])
    assert table.rows[0] == ("method.targets=qk", f"55.00 ± {deviation:.2f} (n=2) {MARK}", f"25.00 (n=1) {MARK}")
    assert {row[1:] for row in table.rows[1:]} == {("–", "–")}
    assert table.footnotes == (f"{MARK} synthetic: {CAVEATS['synthetic']}.",)


def test_seeds_that_diverged_are_counted_beside_the_mean_of_the_others(jobs):
    first, second = [job for job in jobs if "method.targets=qk" in job.axes and job.cfg.task == "rte"]
    lost = {"status": "failed", "error": "step 3: the loss is not finite", "metrics": None}
    leave_record(first, 0.5)
    leave_record(second, 0.6, **lost)
    table = results_table("table4", survey(jobs))
    assert table.rows[0][1] == f"50.00 (n=1; 1 diverged) {MARK}"
    assert any(note.startswith(f"{MARK} diverged: ") for note in table.footnotes)
    leave_record(first, 0.5, **lost)
    assert results_table("table4", survey(jobs)).rows[0][1] == f"– (n=0; 2 diverged) {MARK}"


def test_a_sweep_ends_with_its_table_on_standard_output(jobs, monkeypatch, capsys):
    def start(overrides):
        leave_record(next(job for job in jobs if job.overrides == overrides), 0.5)
        return Ended(0)

    monkeypatch.setattr(experiment, "start", start)
    given = ["task=rte,cola", "--data", "demo", "--model", "tiny", "recipe=demo", "--seeds", "2"]
    jobs[:] = expand("table4", ["model=tiny", "data=demo", "task=rte,cola", "recipe=demo"], seeds=2)
    assert experiment.main(["run", "table4", "--own-process", *given]) == 0
    out = capsys.readouterr().out
    assert out.startswith("### Results of table4\n")
    assert out.count("50.00 ± 0.00 (n=2)") == 2 * 4


def test_an_interrupted_sweep_ends_at_once(monkeypatch, capsys):
    monkeypatch.setattr(experiment, "start", lambda overrides: Ended(130))
    given = ["--own-process", "task=rte", "--data", "demo", "--model", "tiny", "recipe=demo"]
    assert experiment.main(["run", "table4", *given]) == 130
    assert capsys.readouterr().out == ""


def tell(job, **changes):
    """What a run of the job has last told of itself; its folder."""
    folder = Path(job.cfg.output_dir) / run_id(job.cfg, DATA)
    folder.mkdir(parents=True)
    write_progress(folder, replace(TOLD, **changes))
    return folder


def lines_of(jobs):
    """The news below the table."""
    return [line for line in status_view.as_table("table4", survey(jobs)).footnotes if jobs[0].label in line]


def test_a_run_on_this_machine_shows_step_metric_and_time_left(jobs):
    folder = tell(jobs[0], written=NOW - 3)
    with FileLock(folder / ".lock"):
        assert survey(jobs)[0].state == "running"
        assert lines_of(jobs) == [f"> {jobs[0].label}: step 1,200/3,900, accuracy 0.5812, ETA 1:02:05"]


def test_a_run_on_another_machine_that_shares_the_folder_shows_without_a_lock(jobs):
    tell(jobs[0], host="gpu7", written=NOW - 3, evaluating=True)
    assert [item.state for item in survey(jobs)][:2] == ["running", "to do"]
    where = "step 1,200/3,900, accuracy 0.5812, evaluating, ETA 1:02:05, on gpu7"
    assert lines_of(jobs) == [f"> {jobs[0].label}: {where}"]


def test_a_held_lock_with_an_old_file_is_told_as_stale(jobs):
    folder = tell(jobs[0], written=NOW - STALE_SECONDS - 60)
    with FileLock(folder / ".lock"):
        (line,) = lines_of(jobs)
    assert line.endswith("accuracy 0.5812, stale: no sign of it for 0:02:00")


@pytest.mark.parametrize(
    ("host", "age"), [(socket.gethostname(), 3), ("gpu7", STALE_SECONDS + 1)], ids=["killed here", "silent elsewhere"]
)
def test_a_run_that_was_killed_is_to_do_and_shows_how_far_it_was(host, age, jobs):
    tell(jobs[0], host=host, written=NOW - age)
    assert survey(jobs)[0].state == "to do"
    (line,) = lines_of(jobs)
    assert line.startswith(f". {jobs[0].label}: step 1,200/3,900")
    assert "stopped there without a word" in line


def test_a_run_before_its_first_step_is_running(jobs):
    folder = Path(jobs[0].cfg.output_dir) / run_id(jobs[0].cfg, DATA)
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        assert lines_of(jobs) == [f"> {jobs[0].label}: before its first step, or after its last"]


def test_the_json_of_status_has_the_progress(jobs, capsys):
    tell(jobs[0], host="gpu7", written=NOW)
    given = ["task=rte,cola", "data=demo", "model=tiny", "recipe=demo", "--seeds", "2"]
    assert experiment.main(["status", "table4", *given, "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["runs"][:2]
    assert (first["state"], first["progress"]["step"], first["progress"]["host"]) == ("running", 1200, "gpu7")
    assert second["progress"] is None
