"""The documentation does what it says: its commands are tried, its examples are applied and run."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import docs_commands
from helpers.docs_commands import PAGES, ROOT, blocks, commands, try_command
from helpers.toys import encoder

from lora2.common.errors import UserError
from lora2.experiments.status import STATES
from lora2.runs.caveats import FALLEN

GUIDE = ROOT / "docs" / "CONTRIBUTING.md"
COPIED = ("lora2", "scripts", "configs")
TRIED = {  # command, split into words -> the last page that has it; the guide's runs are done below
    tuple(shlex.split(line, comments=True)): page.name
    for page in PAGES
    for line in commands(page)
    if not (page == GUIDE and line.startswith("python scripts/train.py"))
}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """A folder with what the quick scripts read and write, and the one that stands for the GLUE download beside it."""
    folder = tmp_path_factory.mktemp("docs") / "project"
    (folder.parent / "glue").mkdir()
    for name in ("results", "docs"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "README.md", folder)
    (folder / "my").mkdir()
    for name in ("train", "dev"):
        (folder / "my" / f"{name}.csv").write_text("question,passage,label\na,b,yes\nc,d,no\n")
    model = encoder("bert")
    model.config.max_position_embeddings = 128  # a recipe's length
    model.save_pretrained(folder / "my" / "model")
    (folder / "my" / "model" / "tokenizer.json").write_text("{}")
    return folder


@pytest.mark.parametrize("words", TRIED, ids=[f"{page}: {shlex.join(words)}" for words, page in TRIED.items()])
def test_command(words, results, monkeypatch):
    monkeypatch.chdir(results)
    monkeypatch.setattr("scripts.results.ROOT", results)
    try_command(words)


@pytest.mark.parametrize(
    "line",
    [
        "make mrcp",
        "make plan EXPERIMENT=table1 ARGS='--gpus A100'",
        "make sweep EXPERIMENT=table9",
        "python scripts/train.py task=rtee",
        "python scripts/train.py -m task=rte hydra/launcher=joblib hydra.launcher.jobs=4",
        "python scripts/export.py lora RUN_ID --form merged --to x",
        "python scripts/results.py table",
        "python scripts/bencch.py steps",
        "python -m pip install -e '.[launcher]'",
        "conda install lora2",
    ],
)
def test_a_command_that_would_not_work_is_noticed(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((AssertionError, SystemExit, UserError, KeyError, pytest.fail.Exception)):
        try_command(shlex.split(line, comments=True))


def test_the_readme_says_what_status_counts_and_what_is_published():
    readme = (ROOT / "README.md").read_text()
    (counted,) = re.findall(r"^make status .*# (.*)$", readme, re.MULTILINE)
    places = [counted.index(state) for state in STATES if state != "refused"]
    assert places == sorted(places)
    (taken,) = re.findall(r"^make publish .*# (.*)$", readme, re.MULTILINE)
    assert all(kind in taken for kind in FALLEN)


def test_every_page_has_commands_and_every_target_its_line():
    assert {"README.md", "USE.md", "CONTRIBUTING.md"} <= set(TRIED.values())
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*?[^\\])$", makefile, re.MULTILINE | re.DOTALL)[1].replace("\\\n", " ").split()
    assert {name for name in targets if not re.search(rf"^{re.escape(name)}:.* ## ", makefile, re.MULTILINE)} == set()


def test_completion_knows_groups_and_options():
    """What a shell asks at TAB."""
    line = "python scripts/train.py model="
    asked = {**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))}
    command = [sys.executable, "scripts/train.py", "-sc", "query=bash"]
    done = subprocess.run(command, cwd=ROOT, env=asked, capture_output=True, text=True, check=False)
    assert "model=minilm" in done.stdout.split()


# ------------------------------------------------------------------------------------------- the guide's examples


def sections() -> dict[str, list[tuple[str, str]]]:
    """The fenced blocks below each heading of the guide that says how to add something."""
    pieces = re.split(r"^## (.*)\n", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    texts = dict(zip(pieces[::2], pieces[1::2], strict=True))
    fence = docs_commands.FENCE
    return {
        title: [(match[1].strip(), match[2]) for match in fence.finditer(text)]
        for title, text in texts.items()
        if title.startswith("Add a ")
    }


@pytest.mark.parametrize("title", sections())
def test_an_example_is_short(title):
    added = [
        line.removeprefix("+")
        for language, text in sections()[title]
        for line in text.splitlines()
        if (language == "diff" and re.match(r"\+(?!\+\+ )", line)) or "file=" in language
    ]
    assert 0 < sum(bool(line.strip()) for line in added) < 30


RUN = """
import json, runpy, sys
for sys.argv[1:] in json.loads(sys.argv[1]):
    try:
        runpy.run_path("scripts/train.py", run_name="__main__")
    except SystemExit as end:
        assert end.code == 0
from pathlib import Path
from lora2.runs.reader import load_runs
from lora2.analysis.tables.build import build
print([table.header for table in build("runs", load_runs(Path("outputs/results/runs"))[0], Path("results/paper"))])
"""


def test_the_examples_apply_and_run(tmp_path):
    for name in COPIED:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "paper").symlink_to(ROOT / "results" / "paper")
    for language, text in blocks(GUIDE):
        if language == "diff":
            command = ["git", "apply", "-"]
            done = subprocess.run(command, cwd=tmp_path, input=text, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        elif "file=" in language:
            (tmp_path / language.split("file=")[1]).write_text(text, encoding="utf-8")
    lines = [line for line in commands(GUIDE) if line.startswith("python scripts/train.py")]
    arguments = [shlex.split(line, comments=True)[2:] for line in lines]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", RUN, json.dumps(arguments)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "WNLI acc" in done.stdout
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "outputs" / "results" / "runs").iterdir())]
    made = [(record["config"]["model"], record["config"]["task"], record["config"]["variant"]) for record in records]
    assert made == [("electra_small", "rte", "lora2_k8"), ("tiny", "rte", "ia3"), ("tiny", "wnli", "lora2_k8")]
    assert all(record["status"] == "ok" and all(record["checks"].values()) for record in records)
    assert len(records[0]["ranks"]) == 6 * 2


def test_the_ten_lines_of_the_page_are_those_of_the_example():
    """The example itself runs in test_examples.py."""
    example = (ROOT / "examples" / "ten_lines.py").read_text(encoding="utf-8").replace("  # noqa: E402", "")
    shown = [text for language, text in blocks(ROOT / "docs" / "USE.md") if language == "python"]
    assert [text for text in shown if "inject(model" in text and text.strip() in example]
