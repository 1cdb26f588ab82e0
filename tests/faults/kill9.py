"""Kill runs with SIGKILL at random moments, and compare what comes out with undisturbed runs.

    python tests/faults/kill9.py [--kills 20] [--methods lora2,adalora,sora] [--seed N]

Dropout, pruning and length-grouped batches are on, and a checkpoint is written after every step. After its random
moment, every other kill waits for a checkpoint or a record that is just being written. Every record must be that of
the undisturbed run, bit for bit without its clocks, and so must the weights be. Figures: results/faults.json, "kill9".
"""

import os
import random
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from common import Progress, left_behind, options
from figures import merge_figures
from starter import Starter

SETTINGS = (
    "model=tiny", "data=demo", "task=rte", "rank=k1", "recipe.precision=fp32", "recipe.batch_size=8",
    "recipe.epochs=2", "recipe.max_steps=240", "recipe.eval_every=40", "checkpoint.every_steps=1",
)  # fmt: skip
PRUNING = ("budget.t_i=30", "budget.t_f=60", "budget.interval=3")
LIVES = 5  # before a run's next life comes from a new starter, with other hashes
AIM = 1.0  # seconds to wait for something half-written
SHARE = 0.6  # of the training that all killed lives together should get through


@dataclass
class Victim:
    """A run in a folder of its own that is killed again and again.

    Attributes:
        kills: how often so far.
        writing: how often while a checkpoint or the record was being written.
    """

    method: str
    seed: int
    folder: Path
    kills: int = 0
    writing: int = 0

    def begin(self, starter: Starter) -> int:
        """Start or resume it; returns its process id."""
        pruning = PRUNING if self.method != "sora" else ()  # which has gates instead
        overrides = [*SETTINGS, *pruning, f"method={self.method}", f"seed={self.seed}"]
        return starter.start(overrides, self.folder, self.log)

    def end(self, starter: Starter, pid: int, seconds: float) -> bool:
        """Let it run, and kill it after so long; whether it ended before."""
        code = starter.wait(pid, seconds)
        if code is None:
            patience = time.monotonic() + (AIM if self.kills % 2 else 0)
            while time.monotonic() < patience and not self.half_written():
                pass
            os.kill(pid, signal.SIGKILL)
            code = starter.wait(pid, 60)
        if code not in (0, -signal.SIGKILL):
            raise RuntimeError(f"{self.method}: exit code {code}, see {self.log}")
        if code != 0:
            self.kills += 1
            self.writing += self.half_written()
        return code == 0

    def half_written(self) -> bool:
        """Whether a checkpoint or a record is there that has not got its name yet."""
        return any((*self.folder.glob("outputs/*/checkpoints/.*"), *self.folder.glob("outputs/results/runs/.*")))

    @property
    def log(self) -> Path:
        """Its output, of all lives."""
        return self.folder.with_suffix(".log")

    @property
    def step(self) -> int:
        """Of its last checkpoint; 0 without one."""
        return max((int(path.name[5:]) for path in self.folder.glob("outputs/*/checkpoints/step-*")), default=0)


def undisturbed(run: Victim) -> tuple[float, float]:
    """Do a run that nobody kills; returns the seconds to its first checkpoint, and all of them."""
    starter, begun, first = Starter(), time.monotonic(), 0.0
    pid = run.begin(starter)
    while not run.step and starter.wait(pid, 0.01) is None:
        first = time.monotonic() - begun
    if not run.end(starter, pid, 3600):
        raise RuntimeError(f"{run.method}: hangs, see {run.log}")
    starter.close()
    return first, time.monotonic() - begun


def longest_life(kills: int, first: float, whole: float) -> float:
    """Seconds w + first such that lives of a random part of them get, all together, through SHARE of the training.

    A life of uniform length in [0, first + w] trains for w² / 2(first + w) seconds on average.
    """
    each = 2 * SHARE * (whole - first) / kills
    return first + each / 2 + (each**2 / 4 + each * first) ** 0.5


def torment(run: Victim, kills: int, longest: float, chance: random.Random, progress: Progress) -> None:
    """Kill the run up to so many times, then let it end."""
    starter, lives, ended = Starter(), 0, False
    while not ended:
        if lives == LIVES:
            starter.close()
            starter, lives = Starter(), 0
        lives += 1
        spared = run.kills == kills
        pid = run.begin(starter)
        ended = run.end(starter, pid, 3600 if spared else chance.uniform(0, longest))
        if spared and not ended:
            raise RuntimeError(f"{run.method}: hangs, see {run.log}")
        if not ended:
            progress(f"{run.method}: killed, the last checkpoint is of step {run.step}")
    starter.close()


def main() -> int:
    """Exit code: 0 all results identical, 1 not."""
    parser = options(__doc__)
    parser.add_argument("--kills", type=int, default=20, help="of each method")
    parser.add_argument("--methods", default="lora2,adalora,sora")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6, help="of the moments; default: the clock's")
    chosen = parser.parse_args()
    methods, chance = chosen.methods.split(","), random.Random(chosen.seed)
    progress, tally = Progress(len(methods) * chosen.kills), {"tried": 0, "identical": 0, "while_writing": 0}
    home = Path(tempfile.mkdtemp(prefix="lora2-kill9-"))
    for method in methods:
        left, seed = chosen.kills, 0
        while left:  # a run that ends before it was killed often enough is followed by one with another seed
            whole, killed = (Victim(method, seed, home / f"{method}-{seed}-{kind}") for kind in ("whole", "killed"))
            torment(killed, left, longest_life(left, *undisturbed(whole)), chance, progress)
            tally["tried"] += killed.kills
            tally["while_writing"] += killed.writing
            tally["identical"] += killed.kills if left_behind(killed.folder) == left_behind(whole.folder) else 0
            left, seed = left - killed.kills, seed + 1
    merge_figures(chosen.figures, {"kill9": {**tally, "methods": methods, "seed": chosen.seed}})
    print(f"{tally['identical']} of {tally['tried']} kills survived, {tally['while_writing']} while writing; {home}")
    return int(tally["identical"] != tally["tried"])


if __name__ == "__main__":
    raise SystemExit(main())
