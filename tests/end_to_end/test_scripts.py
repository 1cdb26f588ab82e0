"""The five entry points: no logic of their own, no path edits, and names that the rooms know."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import runs
from helpers.runs import CONFIGS, ROOT, expand

from lora2.experiments.bench import parts
from lora2.experiments.bench.peers import PEERS, SHAPES
from lora2.glue.tasks import TASKS
from scripts import bench, experiment, export, results

SCRIPTS = runs.ROOT / "scripts"


def test_there_are_five_and_none_edits_the_path():
    files = {path.name: path.read_text(encoding="utf-8") for path in SCRIPTS.iterdir() if path.is_file()}
    assert files.keys() == {"train.py", "experiment.py", "results.py", "export.py", "bench.py"}
    assert [name for name, text in files.items() if "sys.path" in text] == []


def test_the_library_does_not_count_parent_folders():
    """`Path(__file__).parent` and `with_name` find what lies in the package; `parents[2]` would leave it."""
    counting = [
        f"{path}:{node.lineno}"
        for path in (runs.ROOT / "lora2").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "parents"
    ]
    assert counting == []


@pytest.mark.parametrize("script", [experiment, results, export, bench])
def test_help_is_told(script, capsys):
    with pytest.raises(SystemExit) as end:
        script.main(["--help"])
    assert end.value.code == 0
    assert "usage: " in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["plann", "table1"], ["plan"], ["plan", "table1", "--dry-run"]])
def test_a_wrong_command_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        experiment.main(arguments)
    assert end.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_the_benchmarks_names_are_those_of_its_parts():
    assert set(parts.PEERS) <= PEERS.keys()
    assert set(parts.SHAPES) <= SHAPES.keys()


def test_the_benchmark_measures_and_publishes_each_part(monkeypatch, tmp_path, capsys):
    done = []
    monkeypatch.setattr(bench, "measure", lambda part, what: done.append((part, what.output)))
    monkeypatch.setattr(bench, "publish_benchmark", lambda part, folder, page: done.append((part, page and page.name)))
    assert bench.main(["padding", "--output", str(tmp_path)]) == 0
    assert bench.main(["padding", "--write"]) == 0
    own = runs.ROOT / "results" / "bench"
    assert done == [("padding", tmp_path), ("padding", None), ("padding", own), ("padding", "RESULTS.md")]
    assert bench.main(["--rounds", "3"]) == 2


@pytest.mark.parametrize("part", parts.PARTS)
def test_each_part_of_the_benchmark_ends_in_its_file_and_in_the_page(part, monkeypatch, tmp_path):
    from lora2.experiments.bench import collect, gpu, growth, padding

    figures = {"rounds": {part: {}}}
    monkeypatch.setattr(collect, "collect", lambda *_: figures)
    monkeypatch.setattr(collect, "collect_memory", lambda *_: figures)
    monkeypatch.setattr(padding, "compare_padding", lambda task, data, *_: {"task": task, "data": data})
    monkeypatch.setattr(growth, "growth", lambda rounds, tell: {"rounds": rounds})
    monkeypatch.setattr(gpu, "measure_gpu", lambda shapes, rounds, tell: {"rounds": rounds, "shapes": len(shapes)})
    monkeypatch.setattr("lora2.analysis.benchmark.padding_table", json.dumps)
    monkeypatch.setattr("lora2.analysis.benchmark.growth_table", json.dumps)
    monkeypatch.setattr("lora2.analysis.benchmark.gpu_table", json.dumps)
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "RESULTS.md"
    page.write_text("before\n<!-- bench:begin -->\n<!-- bench:end -->\nafter\n")
    assert bench.main([part, "--rounds", "40", "--write"]) == 0
    told = {
        "steps": "### Targets",
        "memory": "### Targets",
        "padding": '[{"task": "mrpc", "data": "demo"}, {"task": "cola", "data": "demo"}]',
        "growth": '{"rounds": 10}',
        "gpu": '{"rounds": 40, "shapes": 4}',
    }
    assert told[part] in page.read_text()
    file = "latest" if part in ("steps", "memory") else part
    written = json.loads((tmp_path / "results" / "bench" / f"{file}.json").read_text())
    assert written if file == part else part in written["rounds"]


def test_the_report_is_written_where_it_is_asked_for(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("lora2.analysis.html.page.plotting_library", lambda: "")
    page = tmp_path / "page.html"
    assert results.main(["report", "--output", str(page)]) == 0
    assert "</html>" in page.read_text()
    assert f"wrote {page} (" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------- where a setting comes from


def resolved(arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> int:
    from scripts import train

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments, "--resolved"])
    return train.main()


def test_resolved_shows_every_setting_with_its_origin(monkeypatch, tmp_path, capsys):
    given = ["experiment=table3", "row=lora2_k8_unpruned", "task=rte", "fidelity=released", "recipe.lr=0.5"]
    assert resolved(given, monkeypatch, tmp_path) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    ends = {
        "model.name": "model/deberta_v3_base.yaml (experiment/table3.yaml)",
        "task": "command line",
        "recipe.lr": "command line",
        "recipe.epochs": "recipe authors, row rte",
        "recipe.name": "fidelity released",
        "rank.k": "rank/k1.yaml (experiment/table3.yaml)",
        "method.name": "method/lora2.yaml (row/lora2_k8_unpruned.yaml)",
        "budget": "budget/none.yaml (row/lora2_k8_unpruned.yaml)",
        "tracker.name": "tracker/none.yaml (default)",
        "tracker.project": "default",
        "experiment": "experiment/table3.yaml",
        "selection": "train.yaml (default)",
    }
    assert {name for name, origin in ends.items() if not lines[name].endswith(f"  {origin}")} == set()
    assert "0.5" in lines["recipe.lr"]
    assert not (tmp_path / "results" / "runs").exists()


def test_resolved_is_of_one_run(monkeypatch, tmp_path, capsys):
    assert resolved(["-m", "task=rte,mrpc"], monkeypatch, tmp_path) == 2
    assert "--resolved: shows the settings of one run; leave out -m" in capsys.readouterr().err


def test_the_help_of_train_names_tasks_groups_and_examples_that_compose(tmp_path, monkeypatch):
    (tmp_path / "glue").mkdir()
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "train.py"), "--help"], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert ", ".join(TASKS) in lines
    for group in ("model", "method", "recipe", "data", "tracker"):
        options = ", ".join(sorted(path.stem for path in (CONFIGS / group).glob("*.yaml")))
        assert f"{group}: {options}" in lines
    examples = [line.split()[2:] for line in lines if line.startswith("python scripts/train.py ")]
    assert len(examples) == 3
    for words in examples:
        jobs = expand(None, [word for word in words if word != "-m"])
        assert len(jobs) == (12 if "-m" in words else 1)


@pytest.mark.parametrize("command", ["claims", "diagnostics", "tables"])
def test_a_terminal_gets_aligned_text_that_fits_and_markdown_on_request(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    given = [command, "--results", str(ROOT / "results")]
    assert results.main(given) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "| --- |" not in text
    assert results.main([*given, "--format", "markdown"]) == 0
    assert "| --- |" in capsys.readouterr().out
