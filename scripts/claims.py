"""The claims audit: `python scripts/claims.py [--output docs/RESULTS.md] [--json] [--check]`.

Prints the audit, or with --output writes it between the claims:begin/end markers of a markdown file, which is created
when missing. Exit codes: 0 done, 1 `--check` found a stale block, 2 a mistake of the user's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone works without being installed

from lora2.analysis.claims.audit import as_table, audit
from lora2.common.errors import UserError
from lora2.common.rendering import SUFFIXES, read_text, render, replace_block, write_text
from lora2.common.terminal import guarded

ROOT = Path(__file__).resolve().parents[1]
SKELETON = "# Results\n\n## Claims of the paper, recomputed\n\n<!-- claims:begin -->\n<!-- claims:end -->\n"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(description="Which of the paper's claims hold by arithmetic.")
    cli.add_argument("--results", type=Path, default=ROOT / "results", help="folder with paper/")
    cli.add_argument(
        "--output", type=Path, help="markdown file whose claims block is replaced, for example docs/RESULTS.md"
    )
    cli.add_argument(
        "--format", choices=tuple(SUFFIXES), default="markdown", help="of what is printed without --output"
    )
    cli.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")
    cli.add_argument(
        "--check", action="store_true", help="with --output: write nothing, exit 1 when the block is stale"
    )
    return cli


def run(args: argparse.Namespace) -> int:
    """Audit, then print or write."""
    if args.check and not args.output:
        raise UserError("--check: needs --output FILE, the file whose block is to be checked")
    if not (args.results / "paper").is_dir():
        raise UserError(
            f"--results: no folder {args.results / 'paper'}; allowed is the folder that holds paper/: --results DIR"
        )
    table = as_table(audit(args.results / "paper"))
    if args.output is None:
        print(render([table], args.format), end="")
        return 0
    old = read_text(args.output) if args.output.exists() else SKELETON
    new = replace_block(old, "claims", render([table], "markdown"), args.output)
    if args.check:
        stale = old != new or not args.output.exists()
        if stale:
            print(
                f"{args.output}: the claims block is stale; run scripts/claims.py --output {args.output}",
                file=sys.stderr,
            )
        return int(stale)
    write_text(args.output, new)
    print(f"wrote {args.output}: {table.footnotes[0]}", file=sys.stderr)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return guarded(run, parser().parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
