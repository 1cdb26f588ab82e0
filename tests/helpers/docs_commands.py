"""What the documentation tells its readers to type, and how each command is tried.

KINDS is the table. A script that is quick is run as it stands; a training is checked as it stands and then done in
short, on random weights, synthetic data and few steps. Of what needs a key, a hub or an hour the options are read, with
the test that does the rest. A command that is in no table fails.
"""

import argparse
import functools
import importlib
import itertools
import re
import shlex
import shutil
import subprocess
import tomllib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest
import yaml
from helpers import runs
from helpers.demo_records import SEEN

from lora2.config.resolve import resolve
from lora2.runs.places import DEMO
from lora2.training.run import run as train

ROOT = runs.ROOT
OWN = "outputs/results"
SHORT = ("model=tiny", "data=demo", "recipe=demo", "recipe.max_steps=4", "init_from=null", f"results_dir={OWN}")
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


def time_in_short(script: str, arguments: Words) -> None:
    """It measures many jobs: they compose, and two of its methods are timed in short."""
    args = parse(script, arguments)
    assert importlib.import_module(f"scripts.{script}").jobs(args)
    run(script, ["time", args.experiment, "task=rte", "row=lora2_k8,lora_r8", *SHORT])


def do_first(script: str, arguments: Words) -> None:
    """It runs many jobs: they compose, and the first is done in short."""
    jobs = importlib.import_module(f"scripts.{script}").jobs(parse(script, arguments))
    train_in_short(jobs[0].overrides)


def compose(script: str, arguments: Words) -> None:
    """A run or a multirun: its settings hold together, and it is done in short; what only shows them is run."""
    if {"--help", "--cfg", "--resolved"} & set(arguments):
        assert runs.command(*arguments, cwd=Path.cwd()).returncode == 0
    elif "-sc" in arguments:
        assert re.fullmatch(r"(un)?install=(bash|fish|zsh)", arguments[-1])
    else:
        overrides = [word for word in arguments if word not in ("-m", "--dry-run", "...")]
        if "-m" in arguments:
            launcher = [word for word in overrides if word.startswith("hydra")]
            _check_launcher(launcher)
            given = {key: value for key, _, value in (word.partition("=") for word in overrides)}
            rest = [word for word in overrides if word not in launcher and not word.startswith("experiment=")]
            overrides = list(runs.expand(given.get("experiment"), rest)[0].overrides)
        resolve(runs.compose(*overrides))
        train_in_short(overrides)


def train_in_short(overrides: Iterable[str]) -> None:
    """Train what is asked for on random weights, synthetic data and few steps, unless that is done."""
    kept = [word for word in overrides if not word.startswith(("model", "data", "recipe=", "init_from"))]
    assert train(resolve(runs.compose(*kept, *SHORT))) == 0


def export(script: str, arguments: Words) -> None:
    """A short run stands for RUN_ID; what goes to a server is only read."""
    parse(script, arguments)
    if "--push" not in arguments:
        train_in_short(["task=rte", "method=lora2"])
        name = min(Path(OWN, "runs").glob("tiny-rte-lora2_k8-*.json")).stem
        run(script, [name if word == "RUN_ID" else word for word in arguments])


def dashboard(script: str, arguments: Words) -> None:
    """Written with a library that uses pydantic's old decorators; what goes to a server is only read."""
    parse(script, arguments)
    if "--push" not in arguments and importlib.util.find_spec("wandb_workspaces"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            run(script, arguments)


def show_demo(script: str, arguments: Words) -> None:
    """The records that the real demo was seen to leave stand for the user's own."""
    shutil.copytree(SEEN, DEMO / "runs", dirs_exist_ok=True)
    run(script, arguments)


def show(script: str, arguments: Words) -> None:
    """It shows what ran, and is done with the folder's own results."""
    run(script, ["results" if word == "DIR" else word for word in arguments])


def _check_launcher(overrides: Words) -> None:
    """A launcher of ours, and settings that it has."""
    if overrides:
        name = overrides[0].removeprefix("hydra/launcher=")
        settings = yaml.safe_load((runs.CONFIGS / "hydra" / "launcher" / f"{name}.yaml").read_text())
        for word in overrides[1:]:
            *sections, key = word.partition("=")[0].removeprefix("hydra.launcher.").split(".")
            assert key in functools.reduce(lambda tree, section: tree[section], sections, settings), word


KINDS: dict[tuple[str, str | None], Callable[[str, Words], object]] = {  # by script and command
    ("train", None): compose,
    ("experiment", "run"): do_first,
    ("experiment", "time"): time_in_short,
    ("experiment", "tune"): parse,  # tests/experiments/test_tune.py
    ("experiment", "study"): parse,  # needs what a search has written; tests/experiments/test_tune.py
    ("experiment", "plan"): run,
    ("experiment", "status"): run,
    ("results", "tables"): run,
    ("results", "figures"): run,
    ("results", "demo"): show_demo,
    ("results", "claims"): run,
    ("results", "diagnostics"): run,
    ("results", "study"): run,
    ("results", "report"): show,
    ("results", "publish"): run,
    ("results", "dashboard"): dashboard,
    ("export", "lora"): export,
    ("export", "merged"): export,
    ("export", "submission"): parse,  # the server has a test set of real data alone: tests/runs/test_submission.py
    ("export", "verify"): export,
    ("bench", None): parse,  # minutes: tests/experiments/test_bench.py measures each part in short
}
JOINTS = (";", "||", "&&")
TOOLS = ("awk", "echo", "rm", "touch", "code=$?", "exit")  # in the Makefile; not ours to try


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
        case [python, script, *_] if "python" in python and script.startswith(("tests/faults/", "tests/cuda_standin/")):
            assert (ROOT / script).is_file()
        case ["env", *rest]:
            try_command(rest)
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
        if not re.match(r"make(\[\d+\])?:", line):
            yield from [["awk"]] if line.startswith("awk") else split_line(line)


def split_line(line: str) -> Iterator[list[str]]:
    """The commands of a line of the shell, without what joins them."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = [word for word in lexer if word not in "{}"]
    for joined, command in itertools.groupby(words, key=JOINTS.__contains__):
        if not joined:
            yield list(command)


def check_extras(arguments: Words) -> None:
    """Extras that pip or uv is asked for are there, and pinned versions are ours."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [extra for word in arguments if word.startswith(".[") for extra in word[2:-1].split(",")]
    named += [extra for flag, extra in itertools.pairwise(arguments) if flag == "--extra"]
    assert set(named) <= set(project["optional-dependencies"])
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    pins.append("hydra-ray-launcher==1.2.2")  # of an environment of its own, docs/USE.md
    asked = {word.replace("===", "==").removesuffix("+cpu") for word in arguments if "==" in word}
    assert asked <= set(pins)
