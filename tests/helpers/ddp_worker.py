"""What one process of a run does, step by step, noted for test_many_processes.py; torchrun starts this file.

The runs are those of the real command. Only their order is made up, the signal that stops one of them, and the memory
that a process lacks.
"""

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from helpers.runs import compose, resolve_elsewhere
from torch import Tensor

import lora2.models.logits
from lora2.config.schema import RunConfig
from lora2.training.evaluate import Evaluator
from lora2.training.run import run
from lora2.training.state import trained_parameters
from lora2.training.step import TrainStep

STOPPED_IN, FAILING_IN = 4, 3  # steps
DRY = ("+model.architecture.hidden_dropout_prob=0", "+model.architecture.attention_probs_dropout_prob=0")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def settings(data: Path, *overrides: str) -> RunConfig:
    """Eight steps: a batch of 32, then one of the single example that is left over, and so on; a budget on LoRA²."""
    return resolve_elsewhere(
        compose(
            "model=tiny", "task=rte", "data=local", f"data.dir={data}", "rank=k1", "recipe.precision=fp32",
            "recipe.epochs=4", "recipe.batch_size=32", "recipe.eval_every=3", "recipe.cls_dropout=0", "recipe.lr=0.01",
            "budget.t_i=1", "budget.t_f=2", "budget.interval=1", "checkpoint.every_steps=3",
            "results_dir=results", "output_dir=outputs", *overrides,
        )
    )  # fmt: skip


class Notes:
    """What happened here, by kind."""

    def __init__(self) -> None:
        self.steps: list[dict[str, str]] = []  # after each: hashes of weights, importance and masks
        self.evaluated: list[list[int]] = []  # in each evaluation of a split: the examples that were scored here
        self.written: list[str] = []
        self.codes: list[int] = []


@contextmanager
def noted(before_step: Callable[[int], object] = lambda step: None) -> Iterator[Notes]:
    """Inside, runs are noted; `before_step` is called with the number of each step."""
    notes = Notes()
    step, logits, collate = TrainStep.__call__, Evaluator.logits, lora2.models.logits.collate

    def noted_step(self: TrainStep, batch: Any, index: int, clock: Any) -> Any:
        before_step(index)
        losses = step(self, batch, index, clock)
        notes.steps.append(held(self))
        return losses

    def noted_logits(*arguments: Any) -> Any:
        notes.evaluated.append([])
        return logits(*arguments)

    def noted_collate(split: object, indices: Any, **options: Any) -> dict[str, Tensor]:
        notes.evaluated[-1] += indices.tolist()
        return collate(split, indices, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainStep, "__call__", noted_step)
        patch.setattr(Evaluator, "logits", noted_logits)
        patch.setattr(lora2.models.logits, "collate", noted_collate)
        yield notes


def held(train_step: TrainStep) -> dict[str, str]:
    """Hashes of what must be the same in all processes."""
    state = train_step.method.stateful.state_dict()
    masks = {name: x for name, x in state.items() if name == "keep"}
    importance = {name: x for name, x in state.items() if name != "keep"}
    parts = {"weights": trained_parameters(train_step.method), "importance": importance, "masks": masks}
    return {name: digest(tensors) for name, tensors in parts.items()}


def digest(tensors: dict[str, Tensor]) -> str:
    return hashlib.sha256(b"".join(tensors[name].detach().numpy().tobytes() for name in sorted(tensors))).hexdigest()


def note_writing(notes: Notes, folder: Path) -> None:
    """From now on, note what this process changes below `folder`."""

    def changed(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITING):
            return
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir") and not isinstance(arguments[0], int):
            path = Path(os.fsdecode(arguments[0])).absolute()
            if path.is_relative_to(folder):
                notes.written.append(f"{event} {path.relative_to(folder)}")

    sys.addaudithook(changed)


def in_folder(folder: Path, cfg: RunConfig) -> int:
    """The run's exit code; its results are below `folder`."""
    os.chdir(folder)
    return run(cfg)


def failing(folder: Path, cfg: RunConfig, port: str) -> int:
    """The exit code of a process of its own; process 1 has too little memory, and the others know nothing of it."""
    child = os.fork()  # nothing was computed here so far, and no thread started
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def lack(step: int) -> None:
        if step == FAILING_IN and os.environ["RANK"] == "1":
            raise MemoryError("nothing left")

    os.environ.pop("TORCHELASTIC_USE_AGENT_STORE", None)  # the processes meet at a port of their own
    os.environ["MASTER_PORT"] = port
    with noted(lack):
        sys.exit(in_folder(folder, cfg))


def main(folder: Path, port: str) -> None:
    """The runs, each in a folder of its own; one is stopped by a signal to process 1 alone, then asked for again."""
    rank = os.environ["RANK"]
    dropout = settings(folder / "glue")
    code = failing(folder / "failed", dropout, port)
    end_training, Accelerator.end_training = Accelerator.end_training, lambda self: None  # the group lives on
    runs = {"dry": settings(folder / "glue", *DRY), "whole": dropout, "stopped": dropout, "resumed": dropout}

    def stop(step: int) -> None:
        if name == "stopped" and step == STOPPED_IN and rank == "1":
            os.kill(os.getpid(), signal.SIGTERM)

    with noted(stop) as notes:
        if rank == "1":
            note_writing(notes, folder)
        notes.codes.append(code)
        for name, cfg in runs.items():
            if name == "resumed":
                Accelerator.end_training = end_training
            notes.codes.append(in_folder(folder / name.replace("stopped", "resumed"), cfg))
    (folder / f"notes-{rank}.json").write_text(json.dumps(vars(notes)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
