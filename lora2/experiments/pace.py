"""How long a sweep will take still, by the steps of its jobs and the seconds of those that are done."""

import time
from collections.abc import Callable, Sequence

from lora2.config.grid import Job
from lora2.experiments.refusals import steps_of
from lora2.experiments.status import JobStatus
from lora2.runs.progress import duration


class Pace:
    """Seconds per step of a sweep's jobs, its own where there are any, else those of earlier runs.

    Args:
        statuses: of all jobs of the sweep; the finished ones have a record with a clock.
        now: reads a clock in seconds.
    """

    def __init__(self, statuses: Sequence[JobStatus], now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._last = now, now()
        self._own: list[tuple[float, int]] = []
        runs = [status.run for status in statuses if status.state == "done" and status.run is not None]
        self._earlier = [(run.timing.wall_s, run.steps) for run in runs if run.timing is not None]

    def start(self) -> None:
        """Begin a job."""
        self._last = self._now()

    def done(self, job: Job) -> None:
        """Note that the job that was begun last has been done."""
        self._own.append((self._now() - self._last, steps_of(job.cfg)))

    def left(self, jobs: Sequence[Job]) -> str:
        """Say how long these jobs will take; nothing while that is unknown."""
        known = self._own or self._earlier
        steps = sum(count for _, count in known)
        if not steps:
            return ""
        seconds = sum(spent for spent, _ in known) / steps * sum(steps_of(job.cfg) for job in jobs)
        return f"; about {duration(seconds)} left for {len(jobs)} {'job' if len(jobs) == 1 else 'jobs'}"
