"""What a run tells while it goes on, by a clock that the test turns; the screen itself is in common/test_terminal."""

import json
import math
from dataclasses import dataclass

import pytest
from helpers import training
from helpers.toys import Mlp

from lora2.common.voice import logged, speaking
from lora2.core import keys
from lora2.runs.progress import NAME
from lora2.training.loop import RunControl
from lora2.training.progress import FILE_SECONDS, LINE_SECONDS, Course, Progress
from lora2.training.state import TrainState

COURSE = Course(task="rte", metric="accuracy", total=100, epoch=25)


@dataclass
class Clock:
    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


def trained(steps: int, **fields: object) -> TrainState:
    """A state after so many steps, with a loss at the last one."""
    state = TrainState(steps=steps, **fields)
    state.history["train"].append({keys.STEP: steps, keys.LEARNING_RATE: 1e-3, keys.TASK_LOSS: 0.5})
    return state


def test_a_line_tells_step_loss_rate_metrics_best_and_time_left():
    clock, state = Clock(), TrainState()
    progress = Progress(COURSE, state, now=clock)
    assert progress.line() == "step 0/100  ETA unknown"
    clock.seconds, state.steps = 50.0, 20
    state.history["train"].append({keys.STEP: 20, keys.LEARNING_RATE: 2e-4, keys.TASK_LOSS: 0.625})
    assert progress.line() == "step 20/100  loss 0.625  lr 2.0e-04  ETA 0:03:20"
    state.last = state.best = {"accuracy": 0.75}
    state.best_step = 20
    assert "  accuracy 0.7500  the best so far  " in progress.line()
    state.last, state.steps = {"accuracy": 0.5}, 25
    assert progress.line() == "step 25/100  loss 0.625  lr 2.0e-04  accuracy 0.5000  best 0.7500 at 20  ETA 0:02:30"


def test_a_resumed_run_estimates_by_its_own_steps():
    clock, state = Clock(), trained(60)
    progress = Progress(COURSE, state, now=clock)
    assert progress.seconds_left() is None
    clock.seconds, state.steps = 10.0, 70
    assert progress.seconds_left() == pytest.approx(30.0)


def test_outside_a_terminal_there_is_a_line_at_least_once_a_minute(capsys):
    clock, state = Clock(), trained(10)
    with Progress(COURSE, state, now=clock) as progress:
        said = []
        for second in range(0, 600, int(FILE_SECONDS)):
            clock.seconds = float(second)
            progress.look()
            said += [second] * len(capsys.readouterr().err.splitlines())
    silences = [after - before for before, after in zip([0, *said], said, strict=False)]
    assert len(said) >= 9
    assert max(silences) <= LINE_SECONDS


def test_an_evaluation_counts_as_a_line_and_a_long_one_is_not_silent(capsys):
    clock, state = Clock(), trained(10)
    with Progress(COURSE, state, now=clock) as progress:
        clock.seconds = LINE_SECONDS - 1
        with progress.evaluating():
            clock.seconds = 2 * LINE_SECONDS
            progress.look()
            assert capsys.readouterr().err.rstrip().endswith("evaluating …")
            state.last = state.best = {"accuracy": 0.5}
        assert "accuracy 0.5000" in capsys.readouterr().err
        clock.seconds += LINE_SECONDS - 1
        progress.look()
        assert capsys.readouterr().err == ""


def test_the_file_tells_where_the_run_is_and_goes_with_it(tmp_path):
    clock, state = Clock(), trained(20, last={"accuracy": 0.5}, best={"accuracy": 0.75})
    with Progress(COURSE, state, tmp_path, clock) as progress:
        clock.seconds, state.steps = 10.0, 40
        progress.look()
        told = json.loads((tmp_path / NAME).read_text())
        assert (told["step"], told["total"], told["loss"], told["seconds_left"]) == (40, 100, 0.5, 30.0)
        assert (told["metrics"], told["best"]) == ({"accuracy": 0.5}, {"accuracy": 0.75})
        assert told["evaluating"] is False
        with progress.evaluating():
            progress.look()
            assert json.loads((tmp_path / NAME).read_text())["evaluating"] is True
    assert list(tmp_path.iterdir()) == []


def test_the_file_goes_also_when_the_run_breaks(tmp_path):
    def breaks() -> None:
        with Progress(COURSE, trained(5), tmp_path) as progress:
            progress.step()
            progress.look()
            raise RuntimeError("diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        breaks()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("level", "screen", "log"), [("quiet", 0, 3), ("normal", 3, 3), ("debug", 15, 15)])
def test_evaluations_are_in_the_log_and_debug_adds_each_loss(level, screen, log, tmp_path, capsys):
    model = Mlp()
    with speaking(level), logged(tmp_path / "run.log"):
        training.fit(model, training.lora2(model))
    assert len(capsys.readouterr().err.splitlines()) == screen  # 12 steps, 3 evaluations
    assert len((tmp_path / "run.log").read_text().splitlines()) == log


def test_what_is_told_reads_no_loss_from_the_device_beside_the_points_of_the_history(monkeypatch):
    """A loss is read in one place only, which is called at the points of the history."""
    from lora2.training.history import LossHistory

    looked: list[int] = []
    note = LossHistory.note
    monkeypatch.setattr(LossHistory, "note", lambda self, *rest: (looked.append(rest[0]), note(self, *rest)))
    monkeypatch.setattr("lora2.training.loop.HISTORY_POINTS", 3)
    model = Mlp()
    with speaking("debug"):
        state = training.fit(model, training.lora2(model))
    assert looked == [row[keys.STEP] for row in state.history["train"]] == [4, 8, 12]
    assert all(math.isfinite(row[keys.TASK_LOSS]) for row in state.history["train"])


def test_a_run_without_a_folder_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = Mlp()
    assert RunControl().folder is None
    training.fit(model, training.lora2(model))
    assert list(tmp_path.iterdir()) == []
