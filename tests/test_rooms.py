"""The rooms of lora2/ and the arrows between them: who may import whom, and who must start without torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "lora2"
ROOMS = ("common", "core", "glue", "config", "models", "runs", "training", "experiments")  # each sees those before it
SEES = {room: {*ROOMS[: index + 1]} for index, room in enumerate(ROOMS)}
SEES["analysis"] = {"common", "core", "glue", "runs", "analysis"}

HEAVY = {"torch", "transformers", "accelerate", "datasets", "evaluate", "peft", "hydra", "wandb"}
PARTS = (  # what must be known, or drawn, in well under a second
    "lora2",
    "lora2.core.keys",
    "lora2.core.matrices",
    "lora2.core.terms",
    "lora2.core.budget",
    "lora2.core.counts",
    "lora2.glue.batches",
    "lora2.glue.data",
    "lora2.glue.tasks",
    "lora2.runs.format",
    "lora2.runs.reader",
    "lora2.runs.record",
    "lora2.runs.lock",
    "lora2.training.run",
    "lora2.experiments.status",
    "lora2.runs.submission",
    "lora2.runs.export.publish",
    "lora2.runs.verify.command",
    "lora2.runs.verify.verdict",
    "lora2.experiments.run_process",
    "lora2.experiments.launchers",
    "lora2.experiments.sweep",
    "lora2.experiments.status_view",
    "lora2.experiments.timing",
    "lora2.experiments.cost.show",
    "lora2.experiments.bench.parts",
)
WHOLE = ("common", "config", "analysis")  # rooms of which this holds for every file
NEEDS_WANDB = {"lora2.analysis.dashboard"}


def modules(folder: Path) -> Iterator[tuple[str, Path]]:
    """(dotted name, file) of every module below a folder."""
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imported(path: Path) -> Iterator[str]:
    """Every module of the project that a file names in an import, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_file_stands_in_a_room():
    assert {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"} == {"__init__.py", *SEES}


def test_imports_point_to_the_left():
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {name}"
        for room, seen in SEES.items()
        for _, path in modules(PACKAGE / room)
        for name in imported(path)
        if name.startswith("lora2.") and name.split(".")[1] not in seen
    ]
    assert wrong == []


def test_tests_mirror_the_rooms():
    tests = Path(__file__).parent
    found = {path.name for path in tests.iterdir() if path.is_dir() and any(path.glob("**/test_*.py"))}
    assert found == {*SEES, "end_to_end"}


@pytest.mark.parametrize(
    "name", [*PARTS, *(name for room in WHOLE for name, _ in modules(PACKAGE / room) if name not in NEEDS_WANDB)]
)
def test_starts_without_torch(name):
    code = f"import sys, {name}; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "[]"
