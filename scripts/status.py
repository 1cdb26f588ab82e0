"""How far an experiment is, cell by cell: `python scripts/status.py table3 [--seeds 5] [--model minilm] [--watch]`.

`+` done, `>` running, `x` failed, `.` to do. Hours are known once something ran here, or after scripts/plan.py --probe.
With --watch it renews itself in place until all is done.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone works without being installed

from lora2.cli import guarded
from lora2.estimate import Estimate, estimate, hours, this_device
from lora2.progress import Standing, State, survey
from lora2.sweep import add_selection, counts, select

SIGNS: dict[State, str] = {"done": "+", "running": ">", "failed": "x", "to do": "."}
CLEAR = "\x1b[2J\x1b[H"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(description="Done, running, failed and to do, and the hours left.")
    add_selection(cli)
    cli.add_argument("--watch", action="store_true", help="renew every 10 seconds; only on a terminal")
    return cli


def view(name: str, standings: list[Standing]) -> str:
    """The whole picture as text."""
    estimates = estimate(standings, this_device(standings))
    cells: dict[str, list[Estimate]] = {}
    for item in estimates:
        cells.setdefault(item.standing.job.cell, []).append(item)
    width = max(len(cell) for cell in cells)
    lines = [f"{cell:{width}}  {signs(items)}  {left(items)}" for cell, items in cells.items()]
    failed = [error(item.standing) for item in estimates if item.standing.state == "failed"]
    return "\n".join([*lines, *failed, f"{name}: {counts(standings)}; {left(estimates)}"]) + "\n"


def signs(items: list[Estimate]) -> str:
    """One sign for each seed."""
    return "".join(SIGNS[item.standing.state] for item in items)


def left(items: list[Estimate]) -> str:
    """Hours that are still to be spent."""
    total = hours([item.left for item in items])
    return "hours left unknown" if total is None else f"{total:.1f} h left"


def error(standing: Standing) -> str:
    """Why a run failed."""
    return f"x {standing.job.label}: {(standing.record or {}).get('error')}"


def run(args: argparse.Namespace) -> int:
    """Show once, or again and again."""
    while True:
        standings = survey(select(args))
        text, live = view(args.experiment, standings), args.watch and sys.stdout.isatty()
        print(f"{CLEAR}{text}" if live else text, end="", flush=True)
        if not live or all(standing.state == "done" for standing in standings):
            return 0
        time.sleep(10)


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return guarded(run, parser().parse_intermixed_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
