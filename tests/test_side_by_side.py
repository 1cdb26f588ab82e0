"""Table 2: every method's steps timed in turn on the same batches, in one process."""

import json
from pathlib import Path

import pytest
import runs

from lora2.experiments import expand, grid
from lora2.progress import survey
from lora2.records import read_record
from lora2.runfiles import load_runs
from lora2.tables import parts
from scripts.time_methods import main

TINY = ["--model", "tiny", "--data", "demo", "task=stsb", "recipe.max_steps=6", "recipe.max_length=32"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Timed once: the results folder."""
    monkeypatch.chdir(tmp_path)
    assert main(["table2", *TINY]) == 0
    return tmp_path / "results"


def test_every_method_is_timed_on_the_same_batches(folder: Path, capsys):
    records = [read_record(path) for path in sorted(folder.glob("runs/*.json"))]
    assert {record.config.variant for record in records} == set(grid("table2")["row"])
    assert {record.status for record in records} == {"timed"}
    assert len({(record.tokens, record.positions, record.steps) for record in records}) == 1
    for record in records:
        assert record.timing.seconds_per_step > 0
        assert sum(record.timing.shares.values()) == pytest.approx(1, abs=0.05)
    kept = {record.config.variant: sum(record.ranks.values()) for record in records if record.ranks}
    assert kept["lora2_k8"] < 8 * 2 * 6  # its schedule was fitted to the rounds, and met
    table = next(part for part in parts("table2", load_runs(folder / "runs")[0], runs.ROOT / "results" / "paper")[1:])
    assert set(table.variants) == set(grid("table2")["row"])


def test_what_is_timed_is_done_until_asked_again(folder: Path, capsys):
    jobs = expand("table2", ["model=tiny", "data=demo", *TINY[4:]])
    assert {standing.state for standing in survey(jobs)} == {"done"}
    before = {path: path.read_bytes() for path in folder.glob("runs/*.json")}
    assert main(["table2", *TINY]) == 0
    assert "timed already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.glob("runs/*.json")} == before
    one = next(iter(before))
    one.write_text(json.dumps(json.loads(before[one]) | {"status": "cancelled"}), encoding="utf-8")
    assert main(["table2", *TINY]) == 0
    assert read_record(one).status == "timed"
    trained = json.loads(before[one]) | {"status": "ok"}
    one.write_text(json.dumps(trained), encoding="utf-8")
    assert main(["table2", *TINY]) == 2
    assert "is of a trained run; allowed is another folder: results_dir=DIR" in capsys.readouterr().err
    assert json.loads(one.read_text()) == trained


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("recipe.max_steps=2", "recipe.max_steps: got 2; allowed are 4 to 1000 rounds"),
        ("recipe.max_steps=null", "recipe.max_steps: got None; allowed"),
        ("recipe.accumulation=2", "recipe: timing takes accumulation 1"),
        ("model=tiny,minilm", "model: timing side by side takes one model"),
    ],
)
def test_what_cannot_be_timed_is_refused(setting, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [x for x in TINY[2:] if not x.startswith(setting.partition("=")[0] + "=")]
    assert main(["table2", *arguments, setting, *([] if setting.startswith("model") else ["--model", "tiny"])]) == 2
    assert message in capsys.readouterr().err
