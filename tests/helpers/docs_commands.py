"""What the documentation tells its readers to type, and how each command is tried.

KINDS is the table: a script that is quick is run, of the others the options, settings or jobs are checked. A command
that is in no table fails.
"""

import argparse
import importlib
import itertools
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import yaml
from helpers import runs

from lora2.config.resolve import resolve

ROOT = runs.ROOT
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:make|python|pip|uv|torchrun) [^`\n]+)`")
NOT_SHELL = ("text", "diff", "python", "yaml")  # words after a fence's backticks; none at all means commands
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")  # before a command: CUDA_VISIBLE_DEVICES=0
Words = Sequence[str]


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """(what stands after the backticks, text) of every fenced block."""
    return ((match[1].strip(), match[2]) for match in FENCE.finditer(page.read_text(encoding="utf-8")))


def commands(page: Path) -> list[str]:
    """Every line of a block of commands, and every command within a sentence."""
    lines = [line for language, text in blocks(page) if _is_shell(language) for line in text.splitlines()]
    sentences = FENCE.sub("", page.read_text(encoding="utf-8"))
    return list(dict.fromkeys([*(line for line in lines if line.strip()), *INLINE.findall(sentences)]))


def _is_shell(language: str) -> bool:
    if language and language.split()[0] not in NOT_SHELL:
        raise AssertionError(f"```{language}: allowed are {', '.join(NOT_SHELL)}, or nothing for commands")
    return not language


# ------------------------------------------------------------------------------------------- how a script is tried


def run(script: str, arguments: Words) -> None:
    """It is quick: done, in the folder of the test."""
    assert importlib.import_module(f"scripts.{script}").main(list(arguments)) == 0


def parse(script: str, arguments: Words) -> argparse.Namespace:
    """It takes long or needs a run, a key or a network: its options are the documented ones."""
    args: argparse.Namespace = importlib.import_module(f"scripts.{script}").parse(list(arguments))
    return args


def list_jobs(script: str, arguments: Words) -> None:
    """It runs many jobs: they compose."""
    assert importlib.import_module(f"scripts.{script}").jobs(parse(script, arguments))


def compose(script: str, arguments: Words) -> None:
    """A run or a multirun: its settings compose and hold together; what only shows them is run."""
    if {"--help", "--cfg", "--resolved"} & set(arguments):
        assert runs.command(*arguments, cwd=Path.cwd()).returncode == 0
    elif "-sc" in arguments:
        assert re.fullmatch(r"(un)?install=(bash|fish|zsh)", arguments[-1])
    else:
        overrides = [word for word in arguments if word not in ("-m", "--dry-run", "...")]
        launcher = [word for word in overrides if word.startswith("hydra")]
        if "-m" in arguments:
            _check_launcher(launcher)
            given = {key: value for key, _, value in (word.partition("=") for word in overrides)}
            rest = [word for word in overrides if word not in launcher and not word.startswith("experiment=")]
            assert runs.expand(given.get("experiment"), rest)
        else:
            resolve(runs.compose(*overrides))


def _check_launcher(overrides: Words) -> None:
    """A launcher of ours, and settings that it has."""
    if overrides:
        name = overrides[0].removeprefix("hydra/launcher=")
        settings = yaml.safe_load((runs.CONFIGS / "hydra" / "launcher" / f"{name}.yaml").read_text())
        assert {word.partition("=")[0].removeprefix("hydra.launcher.") for word in overrides[1:]} <= settings.keys()


KINDS: dict[tuple[str, str | None], Callable[[str, Words], object]] = {  # by script and command
    ("train", None): compose,
    ("experiment", "run"): list_jobs,
    ("experiment", "time"): list_jobs,
    ("experiment", "tune"): parse,  # tests/experiments/test_tune.py
    ("experiment", "study"): parse,  # needs what a search has written; tests/experiments/test_tune.py
    ("experiment", "plan"): run,
    ("experiment", "status"): run,
    ("results", "tables"): run,
    ("results", "figures"): run,
    ("results", "claims"): run,
    ("results", "diagnostics"): run,
    ("results", "study"): parse,  # may write; tests/analysis/study
    ("results", "report"): parse,  # seconds, and tests/analysis/test_report.py
    ("results", "publish"): parse,  # writes; tests/analysis/test_published.py
    ("results", "dashboard"): parse,  # seconds, and tests/analysis/test_dashboard.py
    ("export", "lora"): parse,
    ("export", "merged"): parse,
    ("export", "submission"): parse,
    ("export", "verify"): parse,
    ("bench", None): parse,
}
TOOLS = ("awk", "rm", "touch", "code=$?", "exit")  # in the Makefile; not ours to try


# -------------------------------------------------------------------------------------------- how a line is tried


def try_command(words: Words) -> None:
    """Try one command line, split into words.

    Raises:
        AssertionError, SystemExit, UserError: it would not work.
    """
    while words and ASSIGNMENT.fullmatch(words[0]):
        words = words[1:]
    match list(words):
        case ["make", *rest]:
            for line in expanded(rest):
                try_command(line)
        case [python, "-m", "pip", *rest] if "python" in python:
            check_extras(rest)
        case [python, "-m", module, *_] if "python" in python:
            assert importlib.util.find_spec(module)
        case [python, script, *rest] if "python" in python and script.startswith("scripts/"):
            name = Path(script).stem
            command = None if (name, None) in KINDS else rest[0]
            KINDS[name, command](name, rest)
        case [python, "tests/mutants.py", *rest] if "python" in python:
            assert set(rest) <= {"--only", "issue2"}
        case [python, "tests/try_peft.py", _] if "python" in python:
            assert (ROOT / "tests" / "try_peft.py").is_file()
        case [python, script] if "python" in python and script.startswith("tests/faults/"):
            assert (ROOT / script).is_file()
        case ["torchrun" | "accelerate", *rest]:
            compose("train", rest[rest.index("scripts/train.py") + 1 :])
        case ["pip" | "uv", *rest]:
            check_extras(rest)
        case ["eval", text]:
            try_command(shlex.split(text.removeprefix("$(").removesuffix(")")))
        case [tool, *_] if tool in TOOLS:
            pass
        case _:
            pytest.fail(
                f"{shlex.join(words)}: unknown command; say in tests/helpers/docs_commands.py how it is to be tried"
            )


def expanded(arguments: Words) -> Iterator[list[str]]:
    """The command lines that make would start."""
    command = ["make", "-n", "--no-print-directory", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.replace("\\\n", " ").splitlines():
        parts = [line] if line.startswith("awk") else line.split(";")
        yield from (shlex.split(part) for part in parts if part.strip() and not re.match(r"make(\[\d+\])?:", part))


def check_extras(arguments: Words) -> None:
    """Extras that pip or uv is asked for are there, and pinned versions are ours."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [extra for word in arguments if word.startswith(".[") for extra in word[2:-1].split(",")]
    named += [extra for flag, extra in itertools.pairwise(arguments) if flag == "--extra"]
    assert set(named) <= set(project["optional-dependencies"])
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert {word for word in arguments if "==" in word} <= set(pins)
