"""Files for the GLUE server from a saved run: as many rows as it wants, each at the index that its file gives it."""

import json
import random
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest
from helpers.exporting import make_run
from helpers.toys import encoder
from transformers.utils import logging as transformers_logging

from lora2.glue import data
from lora2.glue.raw import RawSplit
from lora2.glue.tasks import TASKS
from lora2.models import logits
from lora2.runs import restore
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


def test_a_test_file_of_another_size_is_a_mistake_before_the_model_is_loaded(home, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "load_raw", with_tests(7))
    monkeypatch.setattr(restore, "open_run", lambda *_: pytest.fail("opened the run"))
    assert command(home, tmp_path, "--data-dir", str(tmp_path)) == 2
    assert "7 for rte/test, the server expects 3000" in capsys.readouterr().err


def test_a_shuffled_test_file_gives_the_same_submission(home, tmp_path, monkeypatch):
    """The stand-in for the model tells texts of an odd number of tokens from others."""
    monkeypatch.setattr(logits, "compute_logits", lambda _, split, **__: np.eye(2)[split.lengths % 2])
    rows = [f"{i}\t{'word ' * (1 + i % 7)}\tword" for i in range(TASKS["rte"].rows["test"])]
    first = submitted(home, tmp_path, "first", rows)
    expected = ["entailment" if i % 7 % 2 else "not_entailment" for i in range(len(rows))]  # 5 + i % 7 tokens
    assert first.splitlines()[1:] == [f"{i}\t{label}" for i, label in enumerate(expected)]
    assert submitted(home, tmp_path, "second", random.Random(1).sample(rows, len(rows))) == first


def test_a_doubled_index_is_a_mistake_before_the_model_is_loaded(home, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(restore, "open_run", lambda *_: pytest.fail("opened the run"))
    rows = [f"{min(i, 2998)}\ta\tb" for i in range(TASKS["rte"].rows["test"])]
    assert command(home, tmp_path, "--data-dir", str(download(tmp_path / "glue", rows))) == 2
    assert "RTE/test.tsv: index must hold every number from 0 once; 2998 there twice" in capsys.readouterr().err


def test_runs_of_one_task_have_a_folder_each(home, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, "load_raw", with_tests(TASKS["rte"].rows["test"]))
    another = make_run(tmp_path, "bert", "full")
    for which, made in (("best", home), ("best", another), ("best", home)):
        places = ["--results", str(made.results), "--outputs", str(made.outputs), "--data-dir", str(tmp_path)]
        assert export.main(["submission", made.run_id, "--which", which, *places]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [f"outputs/submission/{made.run_id}/best/RTE.tsv" for made in (home, another, home)]
    assert all((tmp_path / path).is_file() for path in printed)


def test_no_file_is_replaced_in_a_folder_of_the_users(home, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(restore, "open_run", lambda *_: pytest.fail("opened the run"))
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "RTE.tsv").write_text("of another run")
    assert command(home, tmp_path, "--data-dir", str(tmp_path)) == 2
    said = capsys.readouterr().err
    assert f"--output: {tmp_path / 'files' / 'RTE.tsv'} is there already" in said
    assert "another --output DIR" in said
    assert (tmp_path / "files" / "RTE.tsv").read_text() == "of another run"


def test_what_is_wrong_with_the_run_is_told(home, tmp_path, monkeypatch, capsys):
    record = home.results / "runs" / f"{home.run_id}.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"caveats": ["shortened"], "constant": ["best"]}))
    monkeypatch.setattr(data, "load_raw", with_tests(TASKS["rte"].rows["test"]))
    assert command(home, tmp_path, "--data-dir", str(tmp_path)) == 0
    said = capsys.readouterr().err
    assert "shortened, collapsed: " in said
    assert "one and the same prediction" in said


def test_a_trained_head_is_not_reported_as_new(home, tmp_path, capfd):
    """transformers does so when it loads an encoder without one, before the run's own is put in."""
    encoder("bert").base_model.save_pretrained(tmp_path / "encoder")
    (tmp_path / "encoder" / "tokenizer.json").touch()
    record = home.results / "runs" / f"{home.run_id}.json"
    written = json.loads(record.read_text())
    written["config"]["resolved"]["model"] |= {"random_init": False, "path": str(tmp_path / "encoder")}
    record.write_text(json.dumps(written))
    transformers_logging.set_verbosity_warning()
    capfd.readouterr()
    restore.backbone(restore.open_run(home.run_id, "best", home.results, home.outputs))
    assert capfd.readouterr().err == ""


def submitted(home, folder: Path, name: str, rows: list[str]) -> str:
    """What is submitted for a download with these rows in its test file."""
    places = ["--results", str(home.results), "--outputs", str(home.outputs), "--output", str(folder / name)]
    glue = download(folder / f"glue-{name}", rows)
    assert export.main(["submission", home.run_id, *places, "--data-dir", str(glue)]) == 0
    return (folder / name / "RTE.tsv").read_text(encoding="utf-8")


def download(folder: Path, test: list[str]) -> Path:
    """An RTE download."""
    (folder / "RTE").mkdir(parents=True)
    for name in ("train", "dev"):
        header = "index\tsentence1\tsentence2\tlabel"
        (folder / "RTE" / f"{name}.tsv").write_text(f"{header}\n0\ta\tb\tentailment\n")
    (folder / "RTE" / "test.tsv").write_text("\n".join(["index\tsentence1\tsentence2", *test]))
    return folder
