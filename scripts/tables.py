"""Tables from results/: `python scripts/tables.py [--table table1] [--model minilm] [--format csv|latex | --json]`.

Without --table: everything that ran. Exit codes: 0 done, 1 `--check` found a stale block, 2 a mistake of the user's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone works without being installed

from lora2.analysis.tables.build import NAMES, build
from lora2.common.errors import UserError
from lora2.common.rendering import SUFFIXES, read_text, render, replace_block, write_text
from lora2.common.terminal import guarded
from lora2.runs.reader import load_runs

ROOT = Path(__file__).resolve().parents[1]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(description="Tables from run records and the papers' numbers.")
    cli.add_argument(
        "--table", choices=NAMES, default="runs", help="runs (everything that ran, default) or a printed table"
    )
    cli.add_argument("--results", type=Path, default=ROOT / "results", help="folder with runs/ and paper/")
    cli.add_argument("--model", help="only this model, for example minilm")
    cli.add_argument("--format", choices=tuple(SUFFIXES), default="markdown")
    cli.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")
    target = cli.add_mutually_exclusive_group()
    target.add_argument("--output", type=Path, help="write to this file instead of standard output")
    target.add_argument("--write", action="store_true", help="write to RESULTS/tables/<table>.<suffix>")
    target.add_argument(
        "--readme", type=Path, help="replace the block between the results:begin/end markers of this file"
    )
    cli.add_argument(
        "--check", action="store_true", help="with --readme: write nothing, exit 1 when the block is stale"
    )
    return cli


def run(args: argparse.Namespace) -> int:
    """Build, render and put the table where it was asked for."""
    if not args.results.is_dir():
        raise UserError(
            f"--results: no folder {args.results}; allowed is the folder that holds runs/ and paper/: --results DIR"
        )
    if args.check and not args.readme:
        raise UserError("--check: needs --readme FILE, the file whose block is to be checked")
    runs, warnings = load_runs(args.results / "runs")
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    form = "markdown" if args.readme else args.format
    text = render(build(args.table, runs, args.results / "paper", args.model), form)
    if args.readme:
        return update_readme(args.readme, text, args.check)
    path = args.results / "tables" / f"{args.table}{SUFFIXES[form]}" if args.write else args.output
    if path is None:
        print(text, end="")
        return 0
    write_text(path, text)
    print(f"wrote {path}", file=sys.stderr)
    return 0


def update_readme(path: Path, table: str, check: bool) -> int:
    """Replace the generated block of a hand-written file, or only say whether it is stale."""
    old = read_text(path)
    new = replace_block(old, "results", table, path)
    if check:
        if old != new:
            print(f"{path}: the results block is stale; run python scripts/tables.py --readme {path}", file=sys.stderr)
        return int(old != new)
    write_text(path, new)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return guarded(run, parser().parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
