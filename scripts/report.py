"""The report: `python scripts/report.py [--results DIR] [--output FILE.html]` writes results/report.html, one page that
needs no server and no network.

Exit codes: 0 done, 2 a mistake of the user's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone works without being installed

from lora2.analysis.html.page import write_page
from lora2.common.errors import UserError
from lora2.common.terminal import guarded

ROOT = Path(__file__).resolve().parents[1]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(description="One HTML page from run records, the paper's numbers and the benchmark.")
    cli.add_argument("--results", type=Path, default=ROOT / "results", help="folder with runs/, paper/ and bench/")
    cli.add_argument("--output", type=Path, help="default: RESULTS/report.html")
    return cli


def run(args: argparse.Namespace) -> int:
    """Read, write, and say where the page lies."""
    if not args.results.is_dir():
        raise UserError(f"--results: no folder {args.results}; it holds runs/, paper/ and bench/")
    output = args.output or args.results / "report.html"
    write_page(args.results, output)
    print(f"wrote {output} ({output.stat().st_size / 2**20:.1f} MiB)", file=sys.stderr)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return guarded(run, parser().parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
