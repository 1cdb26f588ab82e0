"""Table 2: every method's steps timed in turn on the same batches, in one process."""

from pathlib import Path

import pytest
from helpers import runs
from helpers.runs import expand, grid

from lora2.analysis.tables.build import parts
from lora2.common.errors import UserError
from lora2.experiments.bench.measure import Runner
from lora2.experiments.status import survey
from lora2.runs.finished import finished_run
from lora2.runs.reader import load_runs
from lora2.runs.record import read_record
from scripts import experiment

TINY = ["--model", "tiny", "--data", "demo", "task=stsb", "recipe.max_steps=6", "recipe.max_length=32"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Timed once: the results folder."""
    monkeypatch.chdir(tmp_path)
    assert experiment.main(["time", "table2", *TINY]) == 0
    return tmp_path / "outputs" / "results"


def test_every_method_is_timed_on_the_same_batches(folder: Path, capsys):
    records = [read_record(path) for path in sorted(folder.glob("runs/*.json"))]
    rows = {word.removeprefix("row=").removesuffix("_peft") for word in grid("table2")["row"]}
    assert {record.config.variant for record in records} == rows
    assert {record.status for record in records} == {"timed"}
    assert len({(record.tokens, record.padded_tokens, record.steps) for record in records}) == 1
    for record in records:
        assert record.timing.seconds_per_step > 0
        assert sum(record.timing.shares.values()) == pytest.approx(1, abs=0.05)
    kept = {record.config.variant: sum(record.ranks.values()) for record in records if record.ranks}
    assert kept["lora2_k8"] < 8 * 2 * 6  # its schedule was fitted to the rounds, and met
    with pytest.raises(UserError, match="only the steps of this run were timed, nothing was trained"):
        finished_run(records[0].run_id, folder)
    table = next(part for part in parts("table2", load_runs(folder / "runs")[0], runs.ROOT / "results" / "paper")[1:])
    assert set(table.variants) == rows


def test_what_is_timed_is_done_until_asked_again(folder: Path, capsys):
    jobs = expand("table2", ["model=tiny", "data=demo", *TINY[4:]])
    assert {standing.state for standing in survey(jobs)} == {"done"}
    before = {path: path.read_bytes() for path in folder.glob("runs/*.json")}
    assert experiment.main(["time", "table2", *TINY]) == 0
    assert "timed already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.glob("runs/*.json")} == before
    next(iter(before)).unlink()
    assert experiment.main(["time", "table2", *TINY]) == 0
    assert set(folder.glob("runs/*.json")) == set(before)


def test_every_seed_has_its_comparison(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert experiment.main(["time", "table2", *TINY, "--seeds", "2", "row=bitfit,lora2_k1"]) == 0
    found = [read_record(path) for path in (tmp_path / "outputs" / "results" / "runs").iterdir()]
    assert sorted((record.config.seed, record.config.variant) for record in found) == [
        (seed, variant) for seed in (0, 1) for variant in ("bitfit", "lora2_k1")
    ]
    assert {record.notes[-1] for record in found} == {
        "timed in turn with bitfit, lora2_k1: 4 rounds after 2 that are not counted"
    }


def test_a_task_that_fails_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    step = Runner.step

    def full(self, batch, index):
        if batch.parts[0].labels.is_floating_point():
            raise MemoryError("no room")
        return step(self, batch, index)

    monkeypatch.setattr(Runner, "step", full)
    arguments = [x for x in TINY if not x.startswith("task")]
    assert experiment.main(["time", "table2", *arguments, "task=stsb,rte", "row=bitfit,lora2_k1"]) == 1
    assert "stsb: oom: MemoryError: no room" in capsys.readouterr().err
    assert len(list((tmp_path / "outputs" / "results" / "runs").iterdir())) == 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("recipe.max_steps=2", "recipe.max_steps: got 2; timing takes 4 to 1000 rounds"),
        ("recipe.max_steps=null", "recipe.max_steps: got None; timing takes"),
        ("recipe.accumulation=2", "recipe.accumulation: got 2; timing allows 1"),
        ("recipe.batch_size=16,32", "recipe: adalora_r8 and adalora_r8 on stsb differ in it"),
        ("model=tiny,minilm", "model: adalora_r8 and adalora_r8 on stsb differ in it; choose one"),
    ],
)
def test_what_cannot_be_timed_is_refused(setting, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [x for x in TINY[2:] if not x.startswith(setting.partition("=")[0] + "=")]
    assert (
        experiment.main(
            ["time", "table2", *arguments, setting, *([] if setting.startswith("model") else ["--model", "tiny"])]
        )
        == 2
    )
    assert message in capsys.readouterr().err
