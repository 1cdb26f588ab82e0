"""The dashboard as code: what it shows is what is logged, its JSON is the golden one, pushing needs a key."""

import dataclasses
import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from helpers import fake_records, training
from helpers.toys import Mlp

from lora2.runs.reader import parse_run
from scripts import results as cli

GOLDEN = Path(__file__).parent / "golden" / "dashboard.json"
KEYS = ("xAxis", "yAxis", "metricRegex", "groupBy", "groupAgg")
NEWLINE = "\n"


@pytest.fixture(scope="module")
def dashboard():
    pytest.importorskip("wandb_workspaces", reason="needs pip install -e '.[dashboards]'")
    with warnings.catch_warnings():  # it uses pydantic's old decorators
        warnings.simplefilter("ignore", DeprecationWarning)
        from lora2.analysis import dashboard

    return dashboard


@pytest.fixture(scope="module")
def built(dashboard) -> dict[str, Any]:
    """Workspace and report of three made-up runs, as JSON."""
    ranks = {f"layer.{layer}.{matrix}": 8 - 4 * layer for layer in range(2) for matrix in ("query", "ffn_w2")}
    runs = [fake_records.record(seed=seed, ranks=ranks) for seed in range(2)] + [
        fake_records.deberta(task="rte"),
        fake_records.deberta(task="rte", status="timed"),
    ]
    report = dashboard.wandb_report("me", "lora2-glue", [parse_run(run) for run in runs], fake_records.PAPERS)
    workspace = dashboard.wandb_workspace("me", "lora2-glue")
    return {"workspace": dashboard.as_json(workspace), "report": dashboard.as_json(report)}


def condition(each: dict[str, Any]) -> str:
    """One condition of a filter, as text."""
    return f"{each['key']['section']} {each['key']['name']} {each['op']} {each['value']}"


def outline(node: Any) -> Any:
    """Panels, headings and filters, without what the library adds to each."""
    if isinstance(node, list):
        return [outline(item) for item in node]
    if "viewType" in node:
        config = node["config"]
        keys = (*config.get("metrics", ()), *(config[key] for key in KEYS if key in config))
        return f"{node['viewType']}: {config['chartTitle']} <- {', '.join(keys)}"
    if node["type"] == "panel-grid":
        metadata = node["metadata"]
        filters = [each["filters"]["filters"] for each in metadata["runSets"]]
        wanted = [" and ".join(map(condition, all_of)) for all_of in filters]
        return {"runsets": wanted, "panels": outline(metadata["panelBankSectionConfig"]["panels"])}
    text = node.get("content") or "".join(child["text"] for child in node["children"])
    return f"{node['type']}: {text.partition(NEWLINE)[0]}"


def test_golden(built, tmp_path):
    sections = built["workspace"]["spec"]["section"]["panelBankConfig"]["sections"]
    found = {
        "workspace": {section["name"]: outline(section["panels"]) for section in sections},
        "report": outline(built["report"]["spec"]["blocks"]),
    }
    (tmp_path / "dashboard.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    assert found == json.loads(GOLDEN.read_text()), f"if it should be so, copy {tmp_path}/dashboard.json to {GOLDEN}"


def test_no_run_and_no_project_is_asked_for_on_the_server(built):
    """A runset with a project would be looked up there; one without is the report's own."""
    grids = [block["metadata"] for block in built["report"]["spec"]["blocks"] if block["type"] == "panel-grid"]
    assert len(grids) == 4
    assert all("project" not in runset for grid in grids for runset in grid["runSets"])


def test_the_report_holds_the_tables_and_the_ranks(built):
    texts = [block["content"] for block in built["report"]["spec"]["blocks"] if block["type"] == "markdown-block"]
    (table1,) = (text for text in texts if text.startswith("### Table 1"))
    assert "[lora2_k8] | – | paper (table1, H) | 1.33M |" in table1
    assert "| 90.00 (n=1) |" in table1
    (ranks,) = (text for text in texts if "n=2" in text.splitlines()[0])
    assert ranks.splitlines()[2:5] == ["| layer | 0 | 1 |", "| --- | --- | --- |", "| Query | █ 8 | ▒ 4 |"]


def logged() -> set[str]:
    """Every key of a short run of the real loop."""
    keys: set[str] = set()
    model = Mlp()
    trainer = training.trainer(model, training.lora2(model, score="full"))
    control = dataclasses.replace(trainer.control, log=lambda step, numbers: keys.update(numbers))
    dataclasses.replace(trainer, control=control).fit()
    return keys


def test_every_curve_is_logged_and_every_logged_number_has_its_curve(built):
    sections = built["workspace"]["spec"]["section"]["panelBankConfig"]["sections"]
    configs = [panel["config"] for section in sections for panel in section["panels"]]
    shown = {key for config in configs for key in config.get("metrics", ())}
    patterns = [config["metricRegex"] for config in configs if "metricRegex" in config]
    keys = logged()
    assert {key for key in shown if not key.startswith("eval/")} == {
        key for key in keys if not key.startswith(("eval/", "rank/"))
    }
    assert {key for key in keys if key.startswith("eval/")} <= shown
    ranks = [key for key in keys if key.startswith("rank/")]
    assert len(ranks) == 6
    assert all(sum(re.fullmatch(pattern, key) is not None for pattern in patterns) == 1 for key in ranks)


# -------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def no_key(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_the_command_writes_both_and_needs_no_key(dashboard, no_key, tmp_path, capsys):
    assert cli.main(["dashboard", "--output", str(tmp_path / "made")]) == 0
    paths = capsys.readouterr().out.splitlines()
    assert [Path(path).name for path in paths] == ["workspace.json", "report.json"]
    assert all(json.loads(Path(path).read_text())["spec"] for path in paths)


def test_push_without_a_key_is_refused_before_anything_is_written(no_key, tmp_path, capsys):
    assert cli.main(["dashboard", "--push", "--entity", "me", "--output", str(tmp_path / "made")]) == 2
    assert "no W&B key" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_push_saves_both_or_says_what_the_server_said(dashboard, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert cli.main(["dashboard", "--push"]) == 2
    assert "--entity" in capsys.readouterr().err
    given = ["dashboard", "--push", "--entity", "me", "--output", str(tmp_path)]

    def save(self):
        saved.append(type(self).__name__)
        if type(self).__name__ == refused:
            raise ValueError("no such team")
        return self

    for kind in (dashboard.workspaces.Workspace, dashboard.reports.Report):
        monkeypatch.setattr(kind, "save", save)
        monkeypatch.setattr(kind, "url", "https://example.org")
    saved, refused = [], None
    assert cli.main(given) == 0
    assert saved == ["Workspace", "Report"]
    assert capsys.readouterr().out.splitlines()[-2:] == ["https://example.org"] * 2
    refused = "Report"
    assert cli.main(given) == 1
    assert "the report is not saved (ValueError: no such team)" in capsys.readouterr().err
