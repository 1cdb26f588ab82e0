"""Measure speed, memory and padding, into outputs/bench; with --write into results/bench and docs/RESULTS.md.

`python scripts/bench.py [steps] [memory] [padding] [growth] [gpu] [--shapes …] [--dtypes fp32,bf16] [--rounds 30]`
What each part measures: lora2/experiments/bench/parts.py. Exit codes: 0 done, 2 an unknown name.
"""

import argparse
import sys
from pathlib import Path

from lora2.analysis.publish import publish_benchmark
from lora2.common.terminal import guarded
from lora2.common.voice import say
from lora2.experiments.bench.parts import ANYWHERE, PARTS, PEERS, SHAPES, Benchmark, check, measure
from lora2.training.environment import forget_variables

ROOT = Path(__file__).resolve().parents[1]


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    cli = argparse.ArgumentParser(description="Time whole training steps of every method side by side.")
    cli.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; none: all but gpu, which needs one")
    cli.add_argument("--shapes", default="minilm_32x64,deberta_16x64", help=f"of {', '.join(SHAPES)}")
    cli.add_argument("--dtypes", default="fp32,bf16", help="fp32, bf16")
    cli.add_argument("--peers", default=",".join(PEERS))
    cli.add_argument("--rounds", type=int, default=30, help="timed rounds; every method has a turn in each")
    cli.add_argument("--data-dir", type=Path, help="the official GLUE download, for padding; else synthetic demo data")
    target = cli.add_mutually_exclusive_group()
    target.add_argument("--output", type=Path, default=Path("outputs/bench"), help="folder; default: outputs/bench")
    target.add_argument("--write", action="store_true", help="write to results/bench and docs/RESULTS.md")
    return cli.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    """Measure the parts one after the other, and make tables of each."""
    output = ROOT / "results" / "bench" if args.write else args.output
    what = Benchmark(
        shapes=args.shapes.split(","),
        dtypes=args.dtypes.split(","),
        peers=args.peers.split(","),
        rounds=args.rounds,
        data_dir=args.data_dir,
        configs=ROOT / "configs",
        output=output,
    )
    check(args.parts, what)
    for note in forget_variables():  # so that what is measured is what a run does
        say(f"note: {note}")
    for part in args.parts or ANYWHERE:
        measure(part, what)
        publish_benchmark(part, output, ROOT / "docs" / "RESULTS.md" if args.write else None)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return guarded(run, parse(argv))


if __name__ == "__main__":
    sys.exit(main())
