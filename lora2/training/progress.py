"""How a run tells where it is: a bar on a terminal, lines elsewhere and in its log, and a file for `make status`.

Nothing here reads the device: losses are those that the history has read already. What is due by the clock (a line
once a minute, the file every few seconds) is done by a thread, so that a long evaluation is not silent.
"""

import math
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

from lora2.common.environment import first_process
from lora2.common.voice import VOICE, hears, note, say
from lora2.core import keys
from lora2.runs.progress import RunProgress, duration, remove_progress, write_progress
from lora2.training.state import TrainState

FILE_SECONDS = 5.0  # from one file to the next
BAR = "{desc} |{bar:6}| {n_fmt}/{total_fmt} {remaining} {rate_fmt}{postfix}"  # fits 80 columns, but for the budget
LINE_SECONDS = 60.0  # the longest silence outside a terminal


@dataclass(frozen=True)
class Course:
    """What is known of a run before its first step: the task and its main metric, steps in all and of an epoch."""

    task: str
    metric: str
    total: int
    epoch: int


class Progress:
    """The progress of one run, from entering to leaving the context.

    Args:
        course: of the run.
        state: where it begins; the loop carries it on.
        folder: takes the file that other processes read; None for none.
        now: reads a clock in seconds.
    """

    def __init__(
        self, course: Course, state: TrainState, folder: Path | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._course, self._state, self._folder, self._now = course, state, folder, now
        self._begun_at, self._begun, self._said = state.steps, now(), now()
        self._evaluating = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_again_and_again, daemon=True)
        self._points = len(state.history["train"])  # that were told
        self._write = VOICE.write

    def __enter__(self) -> "Progress":
        hidden = not (first_process() and hears("normal") and sys.stderr.isatty())
        self._bar: tqdm[Any] = tqdm(
            desc=self._epoch(),
            total=self._course.total,
            initial=self._state.steps,
            disable=hidden,
            dynamic_ncols=True,
            bar_format=BAR,
        )
        if not hidden:
            VOICE.write = lambda text: tqdm.write(text, file=sys.stderr)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._bar.close()
        VOICE.write = self._write
        if self._folder is not None and first_process():
            remove_progress(self._folder)

    def step(self) -> None:
        """Tell that a step was done; its loss is known where it is a point of the history."""
        if self._thread.ident is None and first_process():
            self._thread.start()  # after the first step: by then the processes that make batches have been forked
        self._bar.update()
        if len(self._state.history["train"]) > self._points:
            self._points = len(self._state.history["train"])
            self._renew_bar()
            say(self.line(), at="debug")

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Inside, an evaluation goes on; afterwards its result is told."""
        self._evaluating = True
        self._bar.set_description_str(f"{self._course.task} evaluating …")
        yield
        self._evaluating = False
        self._renew_bar()
        say(self.line())
        self._said = self._now()

    def look(self) -> None:
        """Do what is due by the clock: the file, and a line where none was said for a minute."""
        if self._folder is not None:
            write_progress(self._folder, self._snapshot())
        if self._now() - self._said >= LINE_SECONDS:
            tell = say if self._bar.disable else note  # the bar says it on a terminal
            tell(self.line())
            self._said = self._now()

    def line(self) -> str:
        """Write where the run is: step, loss, metrics, learning rate, estimate of the time that is left."""
        state, left = self._state, self.seconds_left()
        parts = [f"step {state.steps:,}/{self._course.total:,}"]
        for point in state.history["train"][-1:]:
            parts += [f"loss {point[keys.TASK_LOSS]:.3f}", f"lr {point[keys.LEARNING_RATE]:.1e}"]
        parts += [f"{name} {value:.4f}" for name, value in state.last.items()]
        if state.best:
            new = state.best_step == state.steps
            parts.append("the best so far" if new else f"best {self._best():.4f} at {state.best_step:,}")
        parts.append("ETA unknown" if left is None else f"ETA {duration(left)}")
        return "  ".join([*parts, "evaluating …"] if self._evaluating else parts)

    def seconds_left(self) -> float | None:
        """Estimate the seconds to the end, by the steps that this process has done; None before the first."""
        done = self._state.steps - self._begun_at
        if done == 0:
            return None
        return (self._now() - self._begun) / done * (self._course.total - self._state.steps)

    def _snapshot(self) -> RunProgress:
        """What other processes are told."""
        state = self._state
        return RunProgress(
            step=state.steps,
            total=self._course.total,
            seconds_left=self.seconds_left(),
            loss=next((point[keys.TASK_LOSS] for point in state.history["train"][-1:]), None),
            metrics=state.last,
            best=state.best,
            evaluating=self._evaluating,
            host=socket.gethostname(),
            written=time.time(),
        )

    def _best(self) -> float:
        """The main metric of the best evaluation so far."""
        return self._state.best[self._course.metric]

    def _renew_bar(self) -> None:
        """Put what is known into the bar, the most wanted first: a narrow terminal cuts its end."""
        state = self._state
        shown = [f"best {self._best():.3f}"] if state.best else []
        for point in state.history["train"][-1:]:
            shown += [f"loss {point[keys.TASK_LOSS]:.3f}", f"lr {point[keys.LEARNING_RATE]:.1e}"]
        shown += [f"budget {seen[keys.BUDGET]:.0f}" for seen in state.history["monitor"][-1:] if keys.BUDGET in seen]
        self._bar.set_description_str(self._epoch(), refresh=False)
        self._bar.set_postfix_str(" ".join(shown), refresh=False)

    def _epoch(self) -> str:
        course = self._course
        epochs, begun = math.ceil(course.total / course.epoch), self._state.steps // course.epoch + 1
        return f"{course.task} epoch {min(begun, epochs)}/{epochs}"

    def _look_again_and_again(self) -> None:
        self.look()
        while not self._over.wait(FILE_SECONDS):
            self.look()
