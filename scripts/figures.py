"""Figures from results/: `python scripts/figures.py figure3 [--model minilm] [--variant lora2_k8] [--output
FILE.png|.svg|.pdf]`.

Exit codes: 0 done, 2 a mistake of the user's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone works without being installed

from lora2.analysis.figure3 import agreement, draw_figure3, model_to_show, panels
from lora2.analysis.paper import load_figure3
from lora2.common.errors import UserError
from lora2.common.terminal import guarded
from lora2.runs.reader import load_runs

ROOT = Path(__file__).resolve().parents[1]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(description="Figures from run records and the paper's numbers.")
    cli.add_argument("figure", choices=("figure3",))
    cli.add_argument("--model", help="model of our side (default: the paper's if it has runs, else the one with most)")
    cli.add_argument("--variant", default="lora2_k8", help="method of our side, for example lora2_k8 or lora2_k1")
    cli.add_argument("--recipe", help="only runs of this recipe")
    cli.add_argument("--results", type=Path, default=ROOT / "results", help="folder with runs/ and paper/")
    cli.add_argument("--output", type=Path, help="default: RESULTS/figures/figure3.png")
    return cli


def run(args: argparse.Namespace) -> int:
    """Read, draw, and say per panel what was drawn."""
    if not args.results.is_dir():
        raise UserError(
            f"--results: no folder {args.results}; allowed is the folder that holds runs/ and paper/: --results DIR"
        )
    runs, warnings = load_runs(args.results / "runs")
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    figure = load_figure3(args.results / "paper")
    model = args.model or model_to_show(figure, runs, args.variant)
    drawn = panels(figure, runs, model, args.variant, args.recipe)
    output = args.output or args.results / "figures" / "figure3.png"
    draw_figure3(drawn, output)
    for panel in drawn:
        others = f" ({panel.left_out} run(s) of other settings left out)" if panel.left_out else ""
        print(
            f"{panel.task}: {panel.label}: {agreement(panel)}{others}"
            if panel.ours is not None
            else f"{panel.task}: not run"
        )
    print(f"wrote {output}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return guarded(run, parser().parse_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
