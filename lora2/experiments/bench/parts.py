"""The parts of the benchmark, each measured into a file of its own folder; torch is imported by what is measured.

steps: whole training steps of every method, interleaved. memory: their peaks, a process each. padding: our batches
against the released ones over a recipe. growth: step time over k, r, batch, length and layers. gpu: time, kernels and
busy time of every method's step on a GPU, eager and captured; only where it is named.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lora2.common.errors import UserError
from lora2.common.rendering import write_text

ANYWHERE = ("steps", "memory", "padding", "growth")
PARTS = (*ANYWHERE, "gpu")
SHAPES = ("minilm_32x64", "deberta_16x64", "deberta_32x128", "roberta_16x64")
DTYPES = ("fp32", "bf16")
PEERS = (
    "ours", "ours_plain", "ours_fused", "ours_full_score", "naive", "adalora", "peft_adalora", "peft_lora", "bitfit",
    "full",
)  # fmt: skip
PADDED_TASKS = ("mrpc", "cola")
LEAST_ROUNDS = 4
LATEST = "latest.json"  # of steps and memory, in the benchmark's folder


@dataclass(frozen=True)
class Benchmark:
    """What is to be measured.

    Attributes:
        shapes, dtypes, peers: names of backbones with their batches, of number formats, of methods.
        rounds: timed rounds; every method does one step in each.
        data_dir: the official GLUE download, for padding; None: synthetic data.
        configs: the folder of settings, for padding.
        output: the folder that takes the figures.
    """

    shapes: Sequence[str]
    dtypes: Sequence[str]
    peers: Sequence[str]
    rounds: int
    data_dir: Path | None
    configs: Path
    output: Path


def check(parts: Sequence[str], what: Benchmark) -> None:
    """Refuse names that do not exist.

    Raises:
        UserError: lists all of them.
    """
    given = {
        "parts": (parts, PARTS),
        "--shapes": (what.shapes, SHAPES),
        "--dtypes": (what.dtypes, DTYPES),
        "--peers": (what.peers, PEERS),
    }
    found = [
        f"{field}: got {name!r}; choose from {', '.join(allowed)}"
        for field, (names, allowed) in given.items()
        for name in names
        if name not in allowed
    ]
    if what.rounds < LEAST_ROUNDS:
        found.append(f"--rounds: got {what.rounds}; give at least {LEAST_ROUNDS}: --rounds 30")
    if found:
        raise UserError("; ".join(found))


def measure(part: str, what: Benchmark) -> None:
    """Measure one of PARTS into its file."""
    what.output.mkdir(parents=True, exist_ok=True)
    if part == "steps":
        from lora2.experiments.bench.collect import collect, write_steps

        write_steps(collect(what.shapes, what.dtypes, what.peers, what.rounds, _tell), what.output / LATEST)
    elif part == "memory":
        from lora2.experiments.bench.collect import collect_memory, write_steps

        write_steps(collect_memory(what.shapes, what.dtypes, what.peers, _tell), what.output / LATEST)
    elif part == "padding":
        from lora2.experiments.bench.padding import compare_padding

        data = "demo" if what.data_dir is None else "local"
        rows = [compare_padding(task, data, what.data_dir, what.configs, _tell) for task in PADDED_TASKS]
        write_text(what.output / "padding.json", json.dumps(rows, indent=1) + "\n")
    elif part == "gpu":
        from lora2.experiments.bench.gpu import SHAPES as GPU_SHAPES
        from lora2.experiments.bench.gpu import measure_gpu

        write_text(what.output / "gpu.json", json.dumps(measure_gpu(GPU_SHAPES, what.rounds, _tell), indent=1) + "\n")
    else:
        from lora2.experiments.bench.growth import growth

        figures = growth(max(LEAST_ROUNDS, what.rounds // 4), _tell)
        write_text(what.output / "growth.json", json.dumps(figures, indent=1) + "\n")


def _tell(text: str) -> None:
    """One line of progress, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
