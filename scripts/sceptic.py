"""What a sceptic asks of LoRA²'s runs: `python scripts/sceptic.py [--output docs/RESULTS.md]`.

Prints the table, or with --output writes it between the sceptic:begin/end markers of a markdown file. Exit codes: 0
done, 2 a mistake of the user's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone works without being installed

from lora2.analysis.diagnostics import diagnostics_table
from lora2.common.errors import UserError
from lora2.common.rendering import SUFFIXES, render, write_block
from lora2.common.terminal import guarded
from lora2.runs.reader import load_runs

ROOT = Path(__file__).resolve().parents[1]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(
        description="Regularisers, likeness of the scales and agreement of scores, over training."
    )
    cli.add_argument("--results", type=Path, default=ROOT / "results", help="folder with runs/")
    cli.add_argument("--output", type=Path, help="markdown file whose sceptic block is replaced: docs/RESULTS.md")
    cli.add_argument(
        "--format", choices=tuple(SUFFIXES), default="markdown", help="of what is printed without --output"
    )
    cli.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")
    return cli


def run(args: argparse.Namespace) -> int:
    """Read, then print or write."""
    if not args.results.is_dir():
        raise UserError(f"--results: no folder {args.results}; it holds runs/")
    runs, warnings = load_runs(args.results / "runs")
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    table = diagnostics_table(runs)
    if args.output is None:
        print(render([table], args.format), end="")
    else:
        write_block(args.output, "sceptic", render([table], "markdown"))
        print(f"wrote {args.output}: {table.footnotes[0]}", file=sys.stderr)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return guarded(run, parser().parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
