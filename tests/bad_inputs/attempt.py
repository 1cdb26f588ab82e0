"""Makes every mistake of the table in one process and prints the answers as JSON: `python attempt.py`.

One process, because starting Python ninety times would take minutes; the cases that need no torch come first, so that
an answer tells whether torch was imported for it.
"""

import contextlib
import importlib.util
import io
import json
import os
import runpy
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
CACHE = tempfile.TemporaryDirectory()
os.environ |= {  # before the hub's client reads them
    "CUDA_VISIBLE_DEVICES": "",
    "HF_ENDPOINT": "http://127.0.0.1:9",  # nobody listens there
    "HF_HOME": CACHE.name,
    "HF_HUB_CACHE": CACHE.name,
    "OMP_NUM_THREADS": "1",
}

from bad_inputs import ALL  # noqa: E402
from bad_inputs.case import Answer, BadInput, faults  # noqa: E402
from bad_inputs.cures import CURES, Session, Started  # noqa: E402


def answer(case: BadInput) -> Answer:
    """Run one command in a folder of its own."""
    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as name, _standing_in(Path(name)), _variables(case):
        if case.prepare is not None:
            case.prepare(Path(name))
        before = set(Path(name).rglob("*.json"))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = _code(*case.command.split())
        written = sorted(path.name for path in set(Path(name).rglob("runs/*.json")) - before)
    return Answer(code, out.getvalue(), err.getvalue(), "torch" in sys.modules, written)


def cured(case: BadInput) -> str:
    """What the command still says with its cure behind it; nothing if the run starts."""
    err = io.StringIO()
    with tempfile.TemporaryDirectory() as name, _standing_in(Path(name)), _variables(case):
        if case.prepare is not None:
            case.prepare(Path(name))
        sys.modules["lora2.training.session"] = Session  # type: ignore[assignment]
        try:
            with contextlib.redirect_stdout(err), contextlib.redirect_stderr(err):
                _train((*case.command.split()[1:], *CURES[case.name].split()))
        except Started:
            return ""
        finally:
            del sys.modules["lora2.training.session"]
    return err.getvalue()


def _code(script: str, *arguments: str) -> int:
    """Exit code of a command; that of a crash is 1, with its name on standard error."""
    try:
        return _train(arguments) if script == "train" else _script(script, arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    except Exception as error:
        print(f"Traceback: {type(error).__name__}: {error}", file=sys.stderr)
        return 1


def _train(overrides: tuple[str, ...]) -> int:
    """scripts/train.py without Hydra, which takes half a second for each command."""
    from helpers.runs import compose_without_hydra

    from lora2.common.terminal import guarded
    from lora2.config.resolve import resolve
    from lora2.training.run import run

    return guarded(lambda _: run(resolve(compose_without_hydra(overrides))), None)  # type: ignore[arg-type]


def _script(name: str, arguments: tuple[str, ...]) -> int:
    path = ROOT / "scripts" / f"{'train' if name == 'hydra' else name}.py"
    sys.argv = [str(path), *arguments]
    runpy.run_path(str(path), run_name="__main__")
    return 0


@contextlib.contextmanager
def _standing_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def _variables(case: BadInput) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(case.environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def hide(package: str) -> None:
    """Make a package look as if it were not installed, whether it is or not."""
    real = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *rest: None if name == package else real(name, *rest)


def main() -> None:
    """All answers, by the names of the cases."""
    hide("trackio")
    uncured = {case.name: cured(case) for case in ALL if case.name in CURES}  # before a case that imports torch
    answers = {case.name: answer(case) for case in ALL}
    clear = sum(not faults(case, answers[case.name]) for case in ALL)
    plain = {name: given.plain() for name, given in answers.items()}
    json.dump({"tried": len(ALL), "clear": clear, "answers": plain, "uncured": uncured}, sys.stdout)


if __name__ == "__main__":
    main()
