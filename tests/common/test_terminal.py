"""What a person sees while a run goes on: a bar on a terminal, lines in a pipe, no colours anywhere."""

import io
import re

import pytest
from helpers import training
from helpers.toys import Mlp


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("no_color", [False, True])
def test_the_bar_tells_epoch_step_best_loss_rate_and_budget_without_colours(no_color, monkeypatch):
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.stderr", screen := Terminal())
    model = Mlp()
    training.fit(model, training.lora2(model))
    shown = screen.getvalue()
    assert "\x1b[" not in shown.replace("\x1b[A", "")  # the cursor may move, nothing is coloured
    last = shown.rstrip("\n").rpartition("\r")[2]
    numbers = r"best [01]\.\d+ loss \d\.\d+ lr \d\.\de-\d\d budget 6\b"
    assert re.search(rf"rte epoch 4/4 .* 12/12 00:00 .*, {numbers}", last)
    assert shown.count("rte evaluating …") == 3  # after steps 5, 10 and 12


def test_past_evaluations_stay_above_the_bar(monkeypatch):
    monkeypatch.setattr("sys.stderr", screen := Terminal())
    model = Mlp()
    state = training.fit(model, training.lora2(model))
    lines = [line.rpartition("\r")[2] for line in screen.getvalue().split("\n")]
    kept = [line.split("  ")[0] for line in lines if line.startswith("step ")]
    assert kept == [f"step {row['step']}/12" for row in state.history["eval"]]


def test_a_pipe_gets_a_line_for_each_evaluation_and_nothing_on_standard_output(capsys):
    model = Mlp()
    state = training.fit(model, training.lora2(model))
    out, err = capsys.readouterr()
    assert out == ""
    number = r"\d\.\d+"
    line = rf"step (\d+)/12  loss {number}  lr \d\.\de-\d\d  accuracy {number}  .*best.*  ETA \d:\d\d:\d\d"
    steps = [int(re.fullmatch(line, said)[1]) for said in err.splitlines()]
    assert steps == [row["step"] for row in state.history["eval"]] == [5, 10, 12]
