"""The process without lora2, and the questions to it."""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from safetensors.numpy import load_file

from lora2.common.errors import UserError
from lora2.runs.verify.compare import Logits

SCRIPT = Path(__file__).with_name("outside.py")
QUIET = {
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_OFFLINE": "1",  # all that it needs is here
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}


@dataclass(frozen=True)
class Rederived:
    """What stock libraries answered.

    Attributes:
        logits: by dev split, (n, c).
        labels: by dev split, as they read them, n of them.
        scores: metrics by name, as fractions.
        packages: their versions.
    """

    logits: dict[str, Logits]
    labels: dict[str, list[float]]
    scores: dict[str, float]
    packages: dict[str, str]


class OutsideProcess:
    """Runs outside.py as long as the context lasts; it loads its libraries once, for any number of runs.

    What `datasets` and `evaluate` cache, and what the process says, goes to a folder that is removed.
    """

    def __enter__(self) -> "OutsideProcess":
        self._scratch = tempfile.TemporaryDirectory(prefix="lora2-verify-")
        caches = dict.fromkeys(("HF_DATASETS_CACHE", "HF_METRICS_CACHE", "HF_MODULES_CACHE"), self._scratch.name)
        self._said = Path(self._scratch.name, "said.txt")
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                cwd=self._scratch.name,
                env={**os.environ, **QUIET, **caches},
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()
        self._scratch.cleanup()

    def ask(self, folder: Path) -> Rederived | str:
        """Have the job in a folder done.

        Returns:
            What was re-derived, or what a library raised over it.

        Raises:
            UserError: the process is gone.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended; the answer is missing too
            print(folder, file=self._process.stdin, flush=True)
        if self._process.stdout.readline() != "done\n":
            raise UserError(self._end())
        result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        if "error" in result:
            return str(result["error"])
        return Rederived(logits=load_file(folder / "logits.safetensors"), **result)

    def _end(self) -> str:
        code = self._process.wait()
        lines = self._said.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
        return (
            f"the process that re-derives the score ended with code {code} ({lines[-1]}), where "
            f"-9 is a lack of memory; try again"
        )
