"""Tables on a terminal: aligned, no wider than it, every number in one piece."""

import subprocess
import sys

import pytest

from lora2.common.rendering import form_for, render
from lora2.common.screen import to_screen
from lora2.common.table import Table

TASKS = ("CoLA", "MRPC", "RTE", "STS-B", "MNLI", "QNLI")
WIDE = Table(
    title="A title that says something, at some length, about what stands in the table below it",
    header=("Method", "Value", *TASKS),
    rows=tuple(
        (method, value, *(f"{60 + len(task)}.25 / {i}.5 ± 0.41 (n=3)" for i, task in enumerate(TASKS)))
        for method in ("lora2_k8_unpruned", "lora_r8")
        for value in ("best", "last")
    ),
    footnotes=("a note " * 20,),
)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_table_fits_its_width_and_breaks_no_number(width):
    text = to_screen([WIDE], width)
    assert max(map(len, text.splitlines())) <= width
    words = set(text.split())
    assert all(word in words for row in WIDE.rows for cell in row for word in cell.split())
    assert all(text.count(task) == 1 for task in TASKS)  # each column once


def test_what_does_not_fit_stands_below_with_the_names_of_its_rows():
    text = to_screen([WIDE], 60)
    heads = [line.split() for line in text.splitlines() if line.startswith("Method")]
    assert len(heads) > 1
    assert all(head[:2] == ["Method", "Value"] for head in heads)  # it takes both to tell the rows apart
    assert [name for head in heads for name in head[2:]] == list(TASKS)


def test_columns_are_aligned_numbers_to_the_right():
    table = Table(title="t", header=("Method", "Steps"), rows=(("head", "5"), ("lora2_k8", "1,234")))
    lines = to_screen([table], 80).splitlines()
    assert lines[2:] == ["Method    Steps", "─" * 15, "head          5", "lora2_k8  1,234"]


def test_long_sentences_are_wrapped_between_words():
    sentence = "the mean of the values over seeds " * 4
    table = Table(title="t", header=("Claim", "How"), rows=((sentence, sentence),))
    text = to_screen([table], 60)
    assert max(map(len, text.splitlines())) <= 60
    assert set(text.replace("─", "").split()) == {*sentence.split(), "t", "Claim", "How"}


def test_markup_in_a_cell_is_text():
    table = Table(title="t", header=("Method",), rows=(("[bold]LoRA[/bold] [lora_r1]",), (":smile:",)))
    assert "[bold]LoRA[/bold] [lora_r1]" in to_screen([table], 80)
    assert ":smile:" in to_screen([table], 80)


def test_a_terminal_gets_text_and_a_pipe_markdown(monkeypatch):
    assert form_for(sys.stdout) == "markdown"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert form_for(sys.stdout) == "text"
    monkeypatch.setenv("COLUMNS", "60")
    assert render([WIDE], "text") == to_screen([WIDE], 60)


def test_rich_is_imported_by_the_table_that_needs_it():
    code = "import sys; from scripts import experiment, results, train; print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
