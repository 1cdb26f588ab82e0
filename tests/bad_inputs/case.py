"""What a bad input is, and when the answer to it is clear."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["config", "data", "checkpoint", "record", "model folder", "environment"]


@dataclass(frozen=True)
class BadInput:
    """One mistake.

    Attributes:
        what: what is wrong.
        command: a script's name without .py, then its arguments; `train` composes without Hydra, `hydra` is
            scripts/train.py itself. It is run in an empty folder of its own.
        says: parts of the message: the field or file, what is allowed, how to mend it.
        prepare: puts files into the folder.
        needs_torch: whether it cannot be known before torch is imported.
        code: the exit code; 3 means that another process is doing what was asked for.
    """

    what: str
    kind: Kind
    command: str
    says: tuple[str, str, str]
    prepare: Callable[[Path], None] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    needs_torch: bool = False
    code: int = 2

    @property
    def name(self) -> str:
        """Unique in the table."""
        return f"{self.kind}: {self.what}"


@dataclass(frozen=True)
class Answer:
    """What the command did: exit code, both outputs, whether torch was imported, the records that it wrote."""

    code: int
    out: str
    err: str
    torch: bool
    records: list[str]

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def faults(case: BadInput, answer: Answer) -> list[str]:
    """What is wrong with the answer; nothing if it is clear."""
    said = answer.err
    before, _, _ = said.partition("error: ")  # argparse's usage, and what a run notes about its settings
    odd = [x for x in before.splitlines() if ": note: " not in x] if not before.startswith("usage: ") else []
    found = {
        f"exit code {answer.code}": answer.code != case.code,
        "something on standard output": answer.out != "",
        "a traceback": "Traceback" in said,
        "not one error": said.count("error: ") != 1,
        f"more than the error: {odd}": bool(odd),
        "torch was imported": answer.torch and not case.needs_torch,
        f"a record was written: {answer.records}": bool(answer.records),
    }
    missing = [f"does not say {part!r}" for part in case.says if part not in said]
    return [name for name, wrong in found.items() if wrong] + missing
