"""A sweep goes on after a failure, skips what is done, sees what runs elsewhere, and says all that by its exit code."""

import itertools
import json
from pathlib import Path

import pytest
from filelock import FileLock
from helpers import fake_records, runs
from helpers.runs import expand

from lora2.config.identity import run_id
from lora2.config.overrides import shell_command
from lora2.experiments import status_view
from lora2.experiments.cost.estimate import estimate
from lora2.experiments.run_process import Ended
from lora2.experiments.status import survey
from lora2.experiments.sweep import run_jobs, state_counts
from lora2.runs.lock import held_locks
from lora2.runs.record import record_path
from scripts import experiment

DATA = "f" * 64
TRAIN = runs.ROOT / "scripts" / "train.py"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def jobs():
    return expand("table4", ["task=rte", "data=demo", "model=tiny", "recipe=demo"], seeds=1)


def leave_record(job, state="ok", data=DATA, error="it broke"):
    """A record as a run of the job would leave it."""
    path = record_path(job.cfg.results_dir, run_id(job.cfg, data))
    path.parent.mkdir(parents=True, exist_ok=True)
    record = fake_records.record(
        run_id=path.stem,
        status=state,
        error=None if state == "ok" else error,
        task=job.cfg.task,
        data=job.cfg.data.source,
        hashes={"data": data},
    )
    path.write_text(json.dumps(record), encoding="utf-8")


def test_a_failing_job_does_not_stop_the_others(jobs, capfd):
    started = []

    def start(overrides):
        started.append(overrides)
        return Ended(1, "it diverged") if "method.targets=qv" in overrides else Ended(0)

    clock = itertools.count(step=5)  # seconds at every look
    assert run_jobs(survey(jobs), start, TRAIN, now=lambda: float(next(clock))) == 1
    assert started == [job.overrides for job in jobs]
    said = capfd.readouterr().err
    left = "about 0:00:{:02} left for {}\n"
    failed = "FAILED: method.targets=qv seed=0: it diverged\n"
    second = f"[2/4] method.targets=qv seed=0; {left.format(15, '3 jobs')}{failed}"
    assert f"[1/4] method.targets=qk seed=0\n{second}[3/4]" in said  # before the first is done nothing is known
    assert f"[4/4] method.targets=all seed=0; {left.format(5, '1 job')}" in said  # 5 s a job, the failed one left out
    summary = "4 runs: 3 done now, 0 done before, 1 failed\n  method.targets=qv seed=0: it diverged\n    "
    assert said.split(summary)[1] == f"{shell_command(TRAIN, jobs[1].overrides)}\n"


def test_all_done_is_zero(jobs):
    assert run_jobs(survey(jobs), lambda overrides: Ended(0), TRAIN) == 0


def test_what_is_done_is_not_started(jobs, capfd):
    leave_record(jobs[0])
    leave_record(jobs[1], "failed")
    statuses = survey(jobs)
    assert [item.state for item in statuses] == ["done", "failed", "to do", "to do"]
    assert state_counts(statuses) == "1 done, 0 running, 1 failed, 2 to do"
    started = []
    assert run_jobs(statuses, lambda overrides: started.append(overrides) or Ended(0), TRAIN) == 0
    assert started == [job.overrides for job in jobs[1:]]
    assert "4 runs: 3 done now, 1 done before, 0 failed" in capfd.readouterr().err


def test_a_record_of_other_data_is_another_run(jobs):
    leave_record(jobs[0], data="a" * 64)
    leave_record(jobs[1], data="b" * 64)
    assert [item.state for item in survey(jobs)] == ["done", "done", "to do", "to do"]
    other = expand("table4", ["task=rte", "data=demo", "model=tiny", "recipe=demo", "recipe.lr=0.5"], seeds=1)
    assert {item.state for item in survey(other)} == {"to do"}


@pytest.mark.parametrize("code", [-2, -15, 130, 138, 143])
def test_an_interrupt_stops_the_sweep(jobs, code, capfd):
    started = []
    assert run_jobs(survey(jobs), lambda overrides: started.append(overrides) or Ended(code), TRAIN) == 130
    assert len(started) == 1
    assert "goes on from here" in capfd.readouterr().err


@pytest.mark.parametrize("code", [-9, 137, -11, 1])
def test_a_job_that_died_does_not_stop_the_sweep(jobs, code, capfd):
    """-9 is the system's out-of-memory killer."""
    started = []
    assert run_jobs(survey(jobs), lambda overrides: started.append(overrides) or Ended(code), TRAIN) == 1
    assert len(started) == len(jobs)
    assert f"{len(jobs)} failed" in capfd.readouterr().err


def test_a_job_in_another_process_is_left_alone(jobs, capfd):
    leave_record(jobs[0])
    folder = Path(jobs[1].cfg.output_dir) / run_id(jobs[1].cfg, DATA)
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        assert held_locks(Path(jobs[1].cfg.output_dir)) == {folder.name}
        statuses = survey(jobs)
        assert [item.state for item in statuses] == ["done", "running", "to do", "to do"]
        assert run_jobs(statuses, lambda overrides: Ended(0), TRAIN) == 0
    assert "4 runs: 2 done now, 1 done before, 0 failed, 1 left to another process\n" in capfd.readouterr().err
    assert survey(jobs)[1].state == "to do"


def test_a_job_that_another_process_has_begun_meanwhile_is_left_to_it(jobs, capfd):
    ended = {True: Ended(3, "busy"), False: Ended(0)}
    assert run_jobs(survey(jobs), lambda overrides: ended["method.targets=qk" in overrides], TRAIN) == 0
    said = capfd.readouterr().err
    assert "left to another process: method.targets=qk seed=0\n" in said
    assert "4 runs: 3 done now, 0 done before, 0 failed, 1 left to another process\n" in said


def test_the_first_run_of_a_task_is_known_by_its_readable_name(jobs):
    folder = Path(jobs[2].cfg.output_dir) / run_id(jobs[2].cfg, DATA)
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"):
        assert [item.state for item in survey(jobs)] == ["to do", "to do", "running", "to do"]


def test_damaged_records_are_left_out(jobs):
    leave_record(jobs[0])
    runs_folder = Path(jobs[0].cfg.results_dir) / "runs"
    (runs_folder / "half.json").write_text('{"run_id": ', encoding="utf-8")
    (runs_folder / "list.json").write_text("[]", encoding="utf-8")
    assert [item.state for item in survey(jobs)][:2] == ["done", "to do"]
    record_path(jobs[1].cfg.results_dir, run_id(jobs[1].cfg, DATA)).write_text("{", encoding="utf-8")
    assert survey(jobs)[1].state == "to do"


def test_what_diverged_is_not_done_again_unless_asked_for(jobs, capsys):
    leave_record(jobs[0])
    leave_record(jobs[1], "failed", error="step 3: the loss is not finite")
    leave_record(jobs[2], "failed")
    statuses = survey(jobs)
    assert [item.state for item in statuses] == ["done", "diverged", "failed", "to do"]
    assert state_counts(statuses) == "1 done, 0 running, 1 diverged, 1 failed, 1 to do"
    started = []
    assert run_jobs(statuses, lambda words: started.append(words) or Ended(0), TRAIN) == 0
    assert started == [job.overrides for job in jobs[2:]]
    told = "4 runs: 2 done now, 1 done before, 0 failed, 1 diverged before (force=true does all runs again)\n"
    assert told in capsys.readouterr().err
    assert estimate(statuses, lambda cfg: None)[1].left == 0.0
    view = status_view.as_table("table4", statuses)
    assert "~ method.targets=qv seed=0: step 3: the loss is not finite" in view.footnotes
    again = expand("table4", ["task=rte", "data=demo", "model=tiny", "recipe=demo", "force=true"], seeds=1)
    assert survey(again)[1].state == "failed"


# ------------------------------------------------------------------------------------------------------- refused jobs

TOO_SHORT = ["table3", "--model", "tiny", "task=rte", "--data", "demo", "recipe.max_steps=30", "--seeds", "2"]


def test_what_is_wrong_for_every_job_is_told_once_and_nothing_starts(monkeypatch, capsys):
    monkeypatch.setattr(experiment, "start", lambda *arguments: pytest.fail("something was started"))
    assert experiment.main(["run", *TOO_SHORT]) == 2
    said = capsys.readouterr().err
    assert said.count("budget.t_i=600 and budget.t_f=1800 do not fit into the 30 optimizer steps") == 1
    assert said.startswith("error: 10 jobs (method.penalty.terms=[uv] seed=0 ...): ")


def test_a_dry_run_and_status_know_refused_jobs(capsys):
    assert experiment.main(["run", *TOO_SHORT, "--dry-run"]) == 2
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["refused"] * 10
    assert err.startswith("table3: 0 done, 0 running, 0 failed, 0 to do, 10 refused\nerror: 10 jobs (")
    assert experiment.main(["status", *TOO_SHORT]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "### table3: 0 done, 0 running, 0 failed, 0 to do, 10 refused; hours left unknown"
    assert "| method.penalty.terms=[uv] | !! | – |" in lines
    assert lines[-1].startswith("- ! 10 jobs (")


def test_the_cure_that_is_told_works(monkeypatch):
    started = []
    monkeypatch.setattr(experiment, "start", lambda overrides: started.append(overrides) or Ended(0))
    assert experiment.main(["run", *TOO_SHORT, "budget.scale=auto", "--own-process"]) == 0
    assert len(started) == 10


def test_data_and_weights_that_are_not_there_are_told_once(tmp_path, capsys):
    (tmp_path / "glue").mkdir()
    assert experiment.main(["run", "table3", "--data", "local", "--data-dir", "glue", "model=minilm"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: 25 jobs (method.penalty.terms=[uv] task=mrpc seed=0 ...): ")
    assert said.count("error: ") == 1
    assert said.count("25 jobs") == 4  # a reason for each task
    (tmp_path / "model").mkdir()
    assert experiment.main(["run", "table4", "--data", "demo", "recipe=demo", "model.path=model"]) == 2
    assert "error: 80 jobs (" in capsys.readouterr().err


def test_wrong_settings_are_told_once(capsys):
    assert experiment.main(["run", "table3", "recipe.lr=-1"]) == 2
    assert capsys.readouterr().err.count("recipe.lr: got -1") == 1


# -------------------------------------------------------------------------------------------------------- the commands


def test_dry_run_lists_and_runs_nothing(monkeypatch, capsys):
    monkeypatch.setattr(experiment, "start", lambda *arguments: pytest.fail("something was started"))
    assert experiment.main(["run", "table3", "--seeds", "2", "--model", "roberta_large", "task=rte", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 10
    assert all(line.startswith("to do") and "3,900 steps" in line for line in lines)
    assert lines[0].endswith("experiment=table3 model=roberta_large task=rte 'method.penalty.terms=[uv]' seed=0")
    assert err == "table3: 0 done, 0 running, 0 failed, 10 to do\n"


def test_run_does_what_is_missing_with_the_settings_of_the_command_line(monkeypatch, capsys):
    started = []
    monkeypatch.setattr(experiment, "start", lambda overrides: started.append(" ".join(overrides)) or Ended(0))
    leave_record(expand("table4", ["model=tiny", "data=demo", "task=rte", "recipe=demo"], seeds=1)[0])
    chosen = ["--seeds", "1", "--model", "tiny", "task=rte", "--data", "demo", "recipe=demo"]
    assert experiment.main(["run", "table4", *chosen, "--own-process"]) == 0
    assert [text.split("recipe=demo ")[1] for text in started] == [
        f"method.targets={targets} seed=0" for targets in ("qv", "qkv", "all")
    ]
    assert all(text.startswith("experiment=table4 model=tiny data=demo") for text in started)
    assert "table4: 1 done, 0 running, 0 failed, 3 to do\n" in capsys.readouterr().err


def test_json_of_a_sweep_goes_with_a_dry_run(capsys):
    assert experiment.main(["run", "table3", "--json"]) == 2
    assert "--json: goes with --dry-run" in capsys.readouterr().err


def test_status_shows_the_sum_first_then_a_sign_for_each_seed_and_a_legend(capsys, monkeypatch):
    jobs = expand("table4", ["task=rte"], seeds=3)
    leave_record(jobs[0])
    leave_record(jobs[len(jobs) // 3], "oom")  # the first cell's second seed
    monkeypatch.setenv("COLUMNS", "80")
    status = ["status", "table4", "task=rte", "--seeds", "3", "--watch"]  # --watch is for terminals
    assert experiment.main(status) == 0
    piped = capsys.readouterr().out.splitlines()
    assert experiment.main([*status, "--format", "text"]) == 0
    text = capsys.readouterr().out.splitlines()
    total = "table4: 1 done, 0 running, 1 failed, 10 to do; hours left unknown"
    legend, broken = (
        "+ done, > running, ~ diverged, x failed, . to do, ! refused",
        "x method.targets=qk seed=1: it broke",
    )
    assert (piped[0], text[0]) == (f"### {total}", total)
    assert {"| method.targets=qk | +x. | – |", "| method.targets=qv | ... | – |"} <= set(piped)
    assert piped[-2:] == [f"- {legend}", f"- {broken}"]
    rows = [line.split() for line in text if line.startswith("method.targets=q")]
    assert rows[:2] == [["method.targets=qk", "+x.", "–"], ["method.targets=qv", "...", "–"]]
    assert text[-2:] == [legend, broken]


def test_dry_run_as_json(capsys):
    assert experiment.main(["run", "table3", "--seeds", "1", "task=rte", "--dry-run", "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [run["state"] for run in runs] == ["to do"] * 5
    assert {run["steps"] for run in runs} == {3900}


def test_status_has_a_column_for_each_task(capsys):
    leave_record(expand("figure3", seeds=1)[1])
    assert experiment.main(["status", "figure3", "--seeds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| Method | mnli | qqp | mrpc | sst2 | Hours left |"
    assert lines[4] == "| lora2_k8 | . | + | . | . | – |"


def test_status_renews_itself_in_place_on_a_terminal_and_fits_it(monkeypatch, capsys):
    views = []

    def wait(seconds):
        views.append(capsys.readouterr().out)
        if len(views) == 2:
            raise KeyboardInterrupt
        leave_record(expand("table4", ["task=rte"], seeds=1)[0])

    monkeypatch.setattr(status_view.time, "sleep", wait)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "4")
    assert experiment.main(["status", "table4", "task=rte", "--seeds", "1", "--watch"]) == 0
    first, second = views
    assert first.startswith(status_view.HOME)
    assert first.count("\n") == 3  # the first three lines fit, and the one below them
    assert "method.targets=qk" not in first
    assert "table4: 0 done, 0 running, 0 failed, 4" + status_view.REST_OF_LINE in first
    assert "table4: 1 done, 0 running, 0 failed, 3" + status_view.REST_OF_LINE in second


def test_status_as_json(capsys):
    leave_record(expand("table4", ["task=rte"], seeds=1)[0], "failed")
    assert experiment.main(["status", "table4", "task=rte", "--seeds", "1", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["runs"][:2]
    assert (first["state"], first["error"], first["overrides"][-1]) == ("failed", "it broke", "seed=0")
    assert (second["state"], second["error"]) == ("to do", None)
