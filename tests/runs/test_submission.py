"""Files for the GLUE server from a saved run: as many rows as it wants, in the order of the test file."""

from dataclasses import replace
from itertools import cycle, islice

import pytest
from helpers.exporting import make_run

from lora2.glue import data
from lora2.glue.raw import RawSplit
from lora2.glue.tasks import TASKS
from scripts import export


@pytest.fixture
def home(tmp_path):
    return make_run(tmp_path, "bert", "mixed")


def with_tests(rows: int):
    """load_raw of a download whose test file repeats the first 60 demo examples."""
    raw = data.load_raw("rte", "demo", None)
    short = [" ".join(text.split()[:8]) for text in raw.splits["train"].texts[0][:60]]  # the model has 40 positions
    texts = (list(islice(cycle(short), rows)),) * 2
    return lambda *arguments, **options: replace(
        raw, splits={**raw.splits, "test": RawSplit(texts, None)}, fingerprint=f"test-{rows}", source="local"
    )


def command(home, tmp_path, *more: str) -> int:
    folders = ["--results", str(home.results), "--outputs", str(home.outputs), "--output", str(tmp_path / "files")]
    return export.main(["submission", home.run_id, *folders, *more])


def test_rows_are_in_the_order_of_the_file(home, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "load_raw", with_tests(TASKS["rte"].rows["test"]))
    assert command(home, tmp_path, "--data-dir", str(tmp_path)) == 0
    lines = (tmp_path / "files" / "RTE.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "index\tprediction"
    assert [int(line.split("\t")[0]) for line in lines[1:]] == list(range(3000))
    labels = [line.split("\t")[1] for line in lines[1:]]
    assert set(labels) <= {"entailment", "not_entailment"}
    assert all(label == labels[index % 60] for index, label in enumerate(labels))  # equal text, equal prediction
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'files' / 'RTE.tsv'}\n"
    assert "synthetic" in err


def test_a_test_file_of_another_size_is_a_mistake(home, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "load_raw", with_tests(7))
    assert command(home, tmp_path, "--data-dir", str(tmp_path)) == 2
    assert "7 for rte/test, the server expects 3000" in capsys.readouterr().err
