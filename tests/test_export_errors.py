"""The export's mistakes of the user's: exit code 2, one message, nothing written."""

import json
from pathlib import Path

import pytest
import torch
from exporting import Home, change, make_run
from safetensors.torch import load_file, save_file

from scripts import export as cli


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_run(tmp_path, "bert", "mixed")


@pytest.fixture
def refused(home: Home, capsys: pytest.CaptureFixture[str]):
    """refused(*arguments): the message of a command that ends with exit code 2; nothing on standard output."""

    def check(*arguments: str, run: str = home.run_id) -> str:
        code = cli.main([run, "--results", str(home.results), *arguments])
        said = capsys.readouterr()
        assert (code, said.out) == (2, "")
        assert said.err.startswith("error: ")
        assert said.err.count("error") == 1
        assert "Traceback" not in said.err
        return said.err

    return check


def test_unknown_run(refused):
    assert "bert-mixed-rte" in refused(run="bert-mixed-rt")


def test_record_that_is_no_record(refused, tmp_path: Path):
    (tmp_path / "x.json").write_text("{}")
    assert "not a run record" in refused(run=str(tmp_path / "x.json"))


def test_other_method(home: Home, refused):
    path = home.results / "runs" / f"{home.run_id}.json"
    change(home, config=json.loads(path.read_text())["config"] | {"method": "bitfit"})
    assert "its method is bitfit" in refused()


def test_failed_run(home: Home, refused):
    change(home, status="failed", error="diverged")
    assert "diverged" in refused()


def test_settings_of_another_version(home: Home, refused):
    path = home.results / "runs" / f"{home.run_id}.json"
    config = json.loads(path.read_text())["config"]
    config["resolved"]["task_version"] = 3
    change(home, config=config)
    assert "task_version" in refused()


def test_other_backbone(home: Home, refused):
    change(home, hashes={"frozen_weights": "0" * 64})
    assert "not the one the run was trained on" in refused()


@pytest.mark.parametrize("length", [0, 100, 2000])
def test_damaged_weights(home: Home, refused, length: int):
    home.weights.write_bytes(home.weights.read_bytes()[:length])
    assert "best.safetensors: damaged" in refused()


def test_missing_weights_and_where_they_are(home: Home, refused, tmp_path: Path):
    assert "--outputs" in refused("--which", "last")
    assert "--outputs" in refused("--outputs", str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda w: w | {"lora2.more": torch.zeros(1)}, "has an unknown lora2.more"),
        (lambda w: {k: v for k, v in w.items() if k != "classifier.bias"}, "lacks classifier.bias"),
        (lambda w: w | {"classifier.bias": torch.zeros(3)}, r"classifier.bias should be (2,)"),
        (lambda w: w | {"classifier.bias": torch.full((2,), torch.nan)}, r"classifier.bias should be (2,) finite"),
    ],
)
def test_weights_of_something_else(home: Home, refused, edit, message: str):
    save_file(edit(load_file(home.weights)), home.weights)
    assert message in refused()


def test_foreign_folder_is_left_alone(home: Home, refused, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    assert "no earlier export" in refused("--output", str(tmp_path / "mine"))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_push_refuses_a_bad_name_before_any_work(home: Home, refused):
    assert "--push" in refused("--push", "no//such name")
    assert not (home.outputs / home.run_id / "export").exists()
