"""What a person sees while a run goes on: one line on a terminal, without colours, and nothing in a pipe."""

import io
import re

import pytest
from helpers import training
from helpers.toys import Mlp


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("no_color", [False, True])
def test_one_line_tells_step_rate_loss_metric_and_budget_without_colours(no_color, monkeypatch):
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.stderr", screen := Terminal())
    model = Mlp()
    training.fit(model, training.lora2(model))
    shown = screen.getvalue()
    assert "\x1b[" not in shown.replace("\x1b[A", "")  # the cursor may move, nothing is coloured
    assert shown.count("\n") == 1  # everything before it is written over
    last = shown.rstrip("\n").rpartition("\r")[2]
    left, numbers = r"\[\d\d:\d\d<00:00, .*step", r"loss \d\.\d+ accuracy [01]\.\d+ budget 6\b"
    assert re.search(f"rte: 100%.* 12/12 {left}.* {numbers}", last)


def test_a_pipe_gets_nothing(capsys):
    model = Mlp()
    training.fit(model, training.lora2(model))
    assert capsys.readouterr() == ("", "")
