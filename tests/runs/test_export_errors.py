"""Mistakes in an export that must leave no trace; the others are in tests/bad_inputs/."""

import json
from pathlib import Path

import pytest
from helpers.exporting import Home, make_run

from scripts import export as cli


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_run(tmp_path, "bert", "mixed")


def test_foreign_folder_is_left_alone(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    assert cli.main(["lora", home.run_id, "--results", str(home.results), "--output", str(tmp_path / "mine")]) == 2
    assert "mine exists and is no earlier export; choose a new or empty folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("no//such name", "--push: got 'no//such name'"), ("me/mine", "--push: no login at the hub")],
)
def test_push_is_refused_before_any_work(
    name: str, message: str, home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(home.results / "none"))
    assert cli.main(["lora", home.run_id, "--results", str(home.results), "--push", name]) == 2
    assert message in capsys.readouterr().err
    assert not (home.outputs / home.run_id / "export").exists()


def test_only_runs_whose_weights_are_here_are_proposed(home: Home, capsys: pytest.CaptureFixture[str]):
    data = json.loads((home.results / "runs" / f"{home.run_id}.json").read_text())
    twin = home.results / "runs" / "bert-mixed-rt.json"
    twin.write_text(json.dumps({**data, "run_id": twin.stem}))
    assert cli.main(["lora", "bert-mixed-rt3", "--results", str(home.results)]) == 2
    assert capsys.readouterr().err.endswith(f"Nearest: {home.run_id}\n")
