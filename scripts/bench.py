"""Benchmark: whole training steps of every method, interleaved; results/bench/latest.json, a table and a plot.

`python scripts/bench.py [--shapes minilm_32x64,deberta_16x64] [--dtypes fp32,bf16] [--rounds 30]`
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # so that a clone works without being installed

SHAPES = ("minilm_32x64", "deberta_16x64", "deberta_32x128", "roberta_16x64")
PEERS = ("ours", "ours_plain", "ours_fused", "naive", "peft_adalora", "peft_lora", "bitfit", "full")
OURS = ("ours_plain", "ours_fused")  # `ours` picks between these; they are shown, not compared


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(description="Time whole training steps of every method side by side.")
    cli.add_argument("--shapes", default="minilm_32x64,deberta_16x64", help=f"of {', '.join(SHAPES)}")
    cli.add_argument("--dtypes", default="fp32,bf16", help="fp32, bf16")
    cli.add_argument("--peers", default=",".join(PEERS))
    cli.add_argument("--rounds", type=int, default=30, help="timed rounds; every method does one step in each")
    cli.add_argument("--no-memory", action="store_true", help="leave out the peak memory, one process a method")
    cli.add_argument("--output", type=Path, default=ROOT / "results" / "bench" / "latest.json")
    return cli


def main() -> int:
    """Exit code: 0 done, 2 an unknown name."""
    args = parser().parse_args()
    shapes, dtypes, peers = args.shapes.split(","), args.dtypes.split(","), args.peers.split(",")
    for field, given, allowed in (
        ("shapes", shapes, SHAPES),
        ("dtypes", dtypes, ("fp32", "bf16")),
        ("peers", peers, PEERS),
    ):
        unknown = [name for name in given if name not in allowed]
        if unknown or args.rounds < 4:
            what = (
                f"--{field}: got {unknown[0]!r}; allowed are {', '.join(allowed)}"
                if unknown
                else "--rounds: at least 4"
            )
            print(f"error: {what}", file=sys.stderr)
            return 2
    from lora2.bench.report import collect, write

    write(collect(shapes, dtypes, peers, args.rounds, memory=not args.no_memory), args.output)
    print(f"wrote {args.output} and, beside it, a table and a plot", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
