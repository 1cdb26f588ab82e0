"""Hydra's -m through every launcher: a process for each job, failures told with their reasons, no work done twice."""

import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers import runs

from lora2.config.resolve import resolve
from lora2.experiments.launchers import Note, Watch
from lora2.experiments.run_process import Ended
from lora2.runs.record import read_record
from scripts import train

COMMON = ("-m", "task=rte", "recipe=demo", "recipe.max_steps=2", "rank=k1")
REASON = "model: cannot load roberta_large"  # where there is no hub; a mistake that shows before would stop the sweep
NO_HUB = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": "hub"}
TRAINED = ": ok: accuracy "  # said once by every run that trains


def needs(launcher: str) -> None:
    if importlib.util.find_spec(f"hydra_plugins.hydra_{launcher}_launcher") is None:
        pytest.skip(f"hydra-{launcher}-launcher is not installed: pip install -e '.[launchers]'")


@pytest.fixture(scope="module")
def two_sweeps(tmp_path_factory) -> tuple[Path, list[subprocess.CompletedProcess[str]]]:
    """The same two jobs by two sweeps at the same time, with one results folder: Hydra's own launcher and joblib."""
    needs("joblib")
    path = tmp_path_factory.mktemp("sweeps")
    sweeps = (("model=roberta_large,tiny",), ("model=tiny,roberta_large", "hydra/launcher=joblib"))
    with ThreadPoolExecutor() as pool:
        ended = pool.map(lambda given: runs.command(*COMMON, *runs.folders(path), *given, cwd=path, **NO_HUB), sweeps)
    return path, list(ended)


def test_a_failure_is_told_at_once_and_at_the_end_with_its_reason(two_sweeps):
    for sweep in two_sweeps[1]:
        assert sweep.returncode == 1
        assert sweep.stdout.startswith("### Results of 2 jobs\n")
        assert "Traceback" not in sweep.stderr
        told, summary = sweep.stderr.split("2 jobs, 1 failed\n")
        assert re.search(
            rf"^\[\d/2.*\] FAILED after \d+ s: .* model=roberta_large: .*{re.escape(REASON)}", told, re.MULTILINE
        )
        assert summary.count(REASON) == 1


def test_the_sweep_that_did_the_job_ends_with_its_number(two_sweeps):
    cell = re.compile(r"^\| model=tiny \| [\d.]+ \(n=1\) ‡ \|$", re.MULTILINE)
    assert any(cell.search(sweep.stdout) for sweep in two_sweeps[1])  # the other may have ended before it


def test_two_sweeps_at_once_do_not_do_a_job_twice(two_sweeps):
    path, (basic, joblib) = two_sweeps
    (record,) = (read_record(file) for file in (path / "results" / "runs").iterdir())
    assert (record.status, record.config.model) == ("ok", "tiny")
    logs = [file.read_text() for file in (path / "outputs" / "sweeps").glob("*/*.log")]
    assert len(logs) == 2
    assert sum(text.count(TRAINED) for text in (basic.stderr, *logs)) == 1
    told = r"\] (done|left to another process) after .*model=tiny"
    assert all(re.search(told, sweep.stderr) for sweep in (basic, joblib))
    assert TRAINED not in joblib.stderr  # what its jobs say would be mixed up on the terminal


def test_submitit_does_the_same_and_skips_what_is_done(two_sweeps):
    needs("submitit")
    path, _ = two_sweeps
    given = ("model=roberta_large,tiny", "hydra/launcher=submitit_local", "hydra.sweep.dir=elsewhere")
    sweep = runs.command(*COMMON, *runs.folders(path), *given, cwd=path, **NO_HUB)
    assert sweep.returncode == 1
    assert "] done after " in sweep.stderr
    assert f": {REASON}" in sweep.stderr.split("2 jobs, 1 failed\n")[1]
    (log,) = {line.split("; see ")[1] for line in sweep.stderr.splitlines() if "; see " in line}
    assert "done already" in Path(log).with_name("1.log").read_text()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["seed=range(0,0)"], "seed=range(0,0): a sweep over no value has no job"),
        (
            ["method.impl=wrong", "seed=0,1"],
            "2 jobs (method.impl=wrong ...): configuration: method.impl: got",
        ),
        (["recipe.max_steps=1", "seed=0,1"], "2 jobs (lora2_k1 seed=0 ...): budget.t_i, budget.t_f"),
    ],
)
def test_a_sweep_that_cannot_run_starts_nothing_and_a_dry_run_says_the_same(given, reason, tmp_path):
    for more in ([], ["--dry-run"]):
        sweep = runs.command(*COMMON, *given, "model=tiny", *more, cwd=tmp_path)
        assert sweep.returncode == 2, sweep.stderr
        assert sweep.stderr.count("error: ") == 1
        assert not list(tmp_path.glob("**/*.json"))
    assert reason.partition(": ")[2] in sweep.stderr


@pytest.mark.parametrize("folder", ["run=1", "my out, [2]"])
def test_a_sweep_with_folders_of_any_name_runs(folder, tmp_path):
    given = ("model=tiny", "budget=none", f"results_dir={folder}/r", f"output_dir={folder}/o", "seed=range(0,2)")
    sweep = runs.command(*COMMON, *given, cwd=tmp_path)
    assert sweep.returncode == 0, sweep.stderr
    assert len(list((tmp_path / folder / "r" / "runs").iterdir())) == 2
    assert [path.name for path in tmp_path.iterdir()] == [folder]  # nothing of Hydra's or the sweep's anywhere else


def test_a_launcher_that_is_not_installed_is_a_clear_mistake(tmp_path):
    sweep = runs.command(
        *COMMON, "model=tiny", "hydra/launcher=joblib", "hydra.launcher._target_=hydra_plugins.none.X", cwd=tmp_path
    )
    assert sweep.returncode == 1
    assert "pip install -e '.[launchers]'" in sweep.stderr
    assert "Traceback" not in sweep.stderr


def test_slurm_is_asked_for_a_gpu_and_for_a_warning_before_the_end(tmp_path):
    """A stand-in for sbatch keeps the script that it gets and refuses it."""
    needs("submitit")
    for name, body in (("srun", ""), ("sbatch", "cp $1 asked.sh; exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    given = (*COMMON, "model=tiny", "seed=0,1", "hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu")
    sweep = runs.command(*given, cwd=tmp_path, PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    asked = (tmp_path / "asked.sh").read_text().splitlines()
    wanted = "array=0-1%2", "partition=gpu", "gpus-per-node=1", "time=240", "signal=USR2@120"
    assert {f"#SBATCH --{option}" for option in wanted} <= set(asked)
    assert sweep.returncode == 1
    assert sweep.stderr.startswith("error: the launcher broke down: ")
    assert "Traceback" not in sweep.stderr


def test_ray_does_every_job_and_says_how_it_ended(tmp_path):
    needs("ray")
    given = (
        *COMMON,
        "model=tiny",
        "budget=none",
        "seed=0,1",
        "hydra/launcher=ray",
        "hydra.launcher.ray.remote.num_gpus=0",
    )
    sweep = runs.command(*given, cwd=tmp_path)
    assert sweep.returncode == 0, sweep.stderr
    assert "2 jobs, 0 failed" in sweep.stderr
    assert len(list((tmp_path / "outputs" / "results" / "runs").iterdir())) == 2


def test_ray_takes_an_environment_of_its_own(tmp_path):
    if importlib.util.find_spec("hydra_plugins.hydra_ray_launcher") is not None:
        pytest.skip("it is installed here")
    sweep = runs.command(*COMMON, "model=tiny", "budget=none", "seed=0,1", "hydra/launcher=ray", cwd=tmp_path)
    assert sweep.returncode == 1
    assert "pip install hydra-ray-launcher==1.2.2, in an environment of its own" in sweep.stderr
    assert "Traceback" not in sweep.stderr


@pytest.mark.parametrize("name", ["joblib", "submitit_local", "submitit_slurm"])
def test_our_launchers_take_the_place_of_the_plugins(name):
    needs(name.partition("_")[0])
    from hydra.core.plugins import Plugins

    train.prefer_own_launchers()
    composed = runs.compose_hydra(f"hydra/launcher={name}")  # a warning would be an error here
    launcher = Plugins.instance()._instantiate(composed.hydra.launcher)
    assert type(launcher).__module__.startswith("hydra_plugins")


def test_dry_run_lists_the_jobs_of_any_multirun(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ["train.py", "-m", "data=hub", "task=rte,cola", "method=lora2,lora", "seed=0,1", "--dry-run"]
    monkeypatch.setattr("sys.argv", [*given, "hydra/launcher=joblib"])
    assert train.main() == 0
    out, err = capsys.readouterr()
    assert [line.split("data=hub ")[1] for line in out.splitlines()] == [
        f"task={task} method={method} seed={seed}"
        for task in ("rte", "cola")
        for method in ("lora2", "lora")
        for seed in (0, 1)
    ]
    assert all(re.match(r"to do +– +(390|1,340) steps", line) for line in out.splitlines())
    assert err == "0 done, 0 running, 0 failed, 8 to do\n"
    assert not (tmp_path / "results" / "runs").exists()


@pytest.mark.parametrize("given", [["task=rte", "data=hub"], ["experiment=table3", "task=rte"]])
def test_dry_run_and_hydra_mean_the_same_run(given, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py", "-m", *given, "--dry-run"])
    assert train.main() == 0
    first = capsys.readouterr().out.splitlines()[0].split("steps  ")[1]
    first = shlex.split(first)
    assert f"seed={resolve(runs.compose(*first)).seed}" in first


# ------------------------------------------------------------------------------------------------------- one process


@pytest.mark.parametrize(
    ("code", "interrupted"),
    [(-signal.SIGINT, True), (130, True), (143, True), (138, True), (140, True), (1, False), (-signal.SIGKILL, False)],
)
def test_only_signals_that_ask_to_stop_are_interruptions(code, interrupted):
    """A run that the system has killed for its memory, or that crashed, has failed."""
    assert Ended(code).interrupted is interrupted


RUN = """
import signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: (print("checkpoint", flush=True), sys.exit(138)))
print("ready", flush=True)
time.sleep(60)
"""
SWEEP = """
from pathlib import Path
from lora2.experiments.run_process import start_run
print(start_run(Path("run.py"), []))
"""


def test_an_interrupted_sweep_waits_for_the_runs_checkpoint(tmp_path):
    """The signal goes to the sweep alone; a terminal would send it to both."""
    (tmp_path / "run.py").write_text(RUN)
    environment = {**os.environ, "PYTHONPATH": str(runs.ROOT)}
    command = [sys.executable, "-c", SWEEP]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as sweep:
        assert sweep.stdout.readline() == "ready\n"
        sweep.send_signal(signal.SIGINT)
        assert sweep.communicate(timeout=120)[0] == "checkpoint\nEnded(code=138, reason='exit code 138')\n"


def test_the_jobs_of_a_sweep_are_counted_with_the_time_that_is_left(tmp_path, capsys):
    clock = iter([0.0, 30.0, 50.0, 60.0])
    watch = Watch(tmp_path, total=3, now=lambda: next(clock))
    for job in range(3):
        (tmp_path / f"{job}.json").write_text(json.dumps({"job": "j", "code": 0, "reason": "", "seconds": 1.0}))
        watch._look()
    told = [line.partition("]")[0] for line in capsys.readouterr().err.splitlines()]
    assert told == ["[1/3, about 0:01:00 left", "[2/3, about 0:00:25 left", "[3/3"]


def test_a_note_is_told_while_the_sweep_goes_on(tmp_path, capsys):
    told = threading.Event()
    with Watch(tmp_path) as watch:
        (tmp_path / "3.json").write_text(json.dumps({"job": "seed=0", "code": 3, "reason": "busy", "seconds": 1.4}))
        for _ in range(100):
            if told.wait(0.1) or watch._notes:
                break
        assert watch._notes == {"3": Note("seed=0", 3, "busy", 1.4)}
        assert capsys.readouterr().err == "[1] left to another process after 1 s: seed=0: busy\n"
    assert watch.finish() == 0
    assert not tmp_path.exists()
