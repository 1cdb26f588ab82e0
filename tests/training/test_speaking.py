"""What a run says from its first line to its last, on the screen and in its log; nothing of it is in the record."""

import json
import re
import shlex
from pathlib import Path

import pytest
from helpers.clocks import without_clocks
from helpers.runs import ROOT, TINY, compose, folders

from lora2.config.resolve import resolve
from lora2.runs.record import RunRecord, read_record
from lora2.training.run import LOG, run
from scripts import export

EXPORT = ROOT / "scripts" / "export.py"


def settings(path: Path, *more: str):
    return resolve(compose(*TINY, *folders(path), *more))


def only_record(path: Path) -> RunRecord:
    (file,) = (path / "results" / "runs").glob("*.json")
    return read_record(file)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Path, RunRecord]:
    """A finished run: its folder and its record."""
    path = tmp_path_factory.mktemp("run")
    assert run(settings(path), export=EXPORT) == 0
    return path, only_record(path)


@pytest.fixture
def said(done) -> list[str]:
    """What it said, as its log has it."""
    path, record = done
    return [line.split("  ", 1)[1] for line in (path / "outputs" / record.run_id / LOG).read_text().splitlines()]


def test_it_begins_with_its_name_and_five_lines(done, said):
    record = done[1]
    start = said.index(record.run_id)
    device, data, steps, rate, trains = said[start + 1 : start + 6]
    assert re.fullmatch(rf"  device  {re.escape(record.provenance['device'])}; fp32", device)
    assert data == "  data    RTE, data=demo: 1,024 train, 256 validation rows"
    assert steps == "  steps   4 of 32 examples, 0.125 epochs; evaluated every 32"
    recipe = record.config.resolved["recipe"]
    warmup = int(recipe["warmup_ratio"] * 4)
    schedule = f"up over {warmup:,} steps, then linearly down to 0" if warmup else "linearly down to 0"
    assert rate == f"  rate    {recipe['lr']:g}, {schedule}; one group at 20 times it"
    counts = record.counts
    whole = counts.backbone + counts.head + counts.adapter
    share = (
        f"adapter {counts.adapter:,} ({counts.adapter / whole:.2%}), head {counts.head:,} ({counts.head / whole:.2%})"
    )
    assert trains == f"  trains  {share} of {whole:,} parameters"
    assert said[start + 6].startswith("step 4/4  loss ")


def test_it_ends_with_a_table_whose_command_runs(done, said, capsys):
    record = done[1]
    (end,) = (i for i, line in enumerate(said) if line.startswith(f"{record.run_id}: ok: accuracy "))
    rows = dict(line.split(maxsplit=1) for line in said[end + 1 :])
    assert list(rows) == ["best", "last", "trained", "record", "export"]
    assert len({len(line) - len(line.split(maxsplit=1)[1]) for line in said[end + 1 :]}) == 1  # aligned
    best = record.metrics.best["accuracy"]
    assert rows["best"] == f"accuracy {best:.4f}  step {record.metrics.best_step}"
    assert rows["last"] == f"accuracy {record.metrics.last['accuracy']:.4f}  step 4"
    assert read_record(Path(rows["record"])) == record
    _, script, *words = shlex.split(rows["export"])
    assert Path(script).resolve() == EXPORT
    assert export.main(words) == 0
    assert (Path(capsys.readouterr().out.strip()) / "adapter_config.json").is_file()


def test_quiet_says_the_result_alone_and_the_record_is_the_same(done, capsys):
    path, record = done
    log = path / "outputs" / record.run_id / LOG
    before = log.read_text()
    capsys.readouterr()
    assert run(settings(path, "log=quiet", "force=true"), export=EXPORT) == 0
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith(f"{record.run_id}: ok: accuracy ")
    again = without_clocks(only_record(path))
    assert again["config"]["resolved"].pop("force")
    expected = without_clocks(record)
    expected["config"]["resolved"].pop("force")
    assert json.dumps(again, sort_keys=True) == json.dumps(expected, sort_keys=True)
    after = log.read_text()
    assert after.startswith(before)  # the log grows
    assert "  step 4/4  loss " in after[len(before) :]


def test_a_failure_is_said_also_when_quiet(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lora2.training.step.task_loss", lambda task, logits, labels: logits.sum(-1) * float("nan"))
    assert run(settings(tmp_path, "log=quiet")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"tiny-rte-.*: failed: .*not finite", line)


def test_no_record_and_no_name_knows_how_much_was_said(done):
    record = done[1]
    assert "log" not in record.config.resolved
    assert "run.log" not in record.model_dump_json()
