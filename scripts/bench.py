"""Benchmarks, into results/bench/ and docs/RESULTS.md.

`python scripts/bench.py [steps] [memory] [padding] [growth] [--shapes …] [--dtypes fp32,bf16] [--rounds 30]`
steps: whole training steps of every method, interleaved; memory: their peaks, a process each; padding: our batches
against the released ones over a recipe (--data-dir GLUE); growth: step time over k, r, batch, length and layers.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone works without being installed

from lora2.analysis.benchmark import write_tables
from lora2.common.rendering import write_block, write_text

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("steps", "memory", "padding", "growth")
SHAPES = ("minilm_32x64", "deberta_16x64", "deberta_32x128", "roberta_16x64")
PEERS = ("ours", "ours_plain", "ours_fused", "ours_full_score", "naive", "peft_adalora", "peft_lora", "bitfit", "full")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(description="Time whole training steps of every method side by side.")
    cli.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all of them if none is named")
    cli.add_argument("--shapes", default="minilm_32x64,deberta_16x64", help=f"of {', '.join(SHAPES)}")
    cli.add_argument("--dtypes", default="fp32,bf16", help="fp32, bf16")
    cli.add_argument("--peers", default=",".join(PEERS))
    cli.add_argument("--rounds", type=int, default=30, help="timed rounds; every method does one step in each")
    cli.add_argument("--data-dir", type=Path, help="the official GLUE download, for padding; else synthetic demo data")
    cli.add_argument("--output", type=Path, default=ROOT / "results" / "bench", help="folder")
    return cli


def mistakes(args: argparse.Namespace) -> list[str]:
    """Names that do not exist."""
    given = {
        "parts": (args.parts, PARTS),
        "--shapes": (args.shapes.split(","), SHAPES),
        "--dtypes": (args.dtypes.split(","), ("fp32", "bf16")),
        "--peers": (args.peers.split(","), PEERS),
    }
    found = [
        f"{field}: got {name!r}; allowed are {', '.join(allowed)}"
        for field, (names, allowed) in given.items()
        for name in names
        if name not in allowed
    ]
    return found + ([] if args.rounds >= 4 else [f"--rounds: got {args.rounds}; allowed is at least 4: --rounds 30"])


def main() -> int:
    """Exit code: 0 done, 2 an unknown name."""
    args = parser().parse_args()
    if problems := mistakes(args):
        print(f"error: {'; '.join(problems)}", file=sys.stderr)
        return 2
    parts = args.parts or PARTS
    args.output.mkdir(parents=True, exist_ok=True)
    shapes, dtypes, peers = args.shapes.split(","), args.dtypes.split(","), args.peers.split(",")
    latest = args.output / "latest.json"
    if "steps" in parts:
        from lora2.experiments.bench.collect import collect, write_steps

        write_tables(write_steps(collect(shapes, dtypes, peers, args.rounds, tell), latest), latest)
    if "memory" in parts:
        from lora2.experiments.bench.collect import collect_memory, write_steps

        write_tables(write_steps(collect_memory(shapes, dtypes, peers, tell), latest), latest)
    if "padding" in parts:
        from lora2.experiments.bench.padding import compare_padding

        data = "demo" if args.data_dir is None else "local"
        rows = [compare_padding(task, data, args.data_dir, tell) for task in ("mrpc", "cola")]
        write_text(args.output / "padding.json", json.dumps(rows, indent=1) + "\n")
    if "growth" in parts:
        from lora2.experiments.bench.growth import growth

        write_text(args.output / "growth.json", json.dumps(growth(max(4, args.rounds // 4), tell), indent=1) + "\n")
    from lora2.analysis.benchmark import results_block

    results = ROOT / "docs" / "RESULTS.md"
    write_block(results, "bench", results_block(args.output))
    print(f"wrote {args.output} and {results}", file=sys.stderr)
    return 0


def tell(text: str) -> None:
    """One line of progress, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
