"""Show runs: tables, figures, claims, diagnostics, the report, the dashboard.

    python scripts/results.py tables [--table table1] [--model minilm] [--format text|markdown|csv|latex|json]
    python scripts/results.py figures figure3 [--output FILE.png|.svg|.pdf]
    python scripts/results.py demo                                       what the runs of `make demo` show
    python scripts/results.py claims [--output docs/RESULTS.md]          which of the paper's claims hold by arithmetic
    python scripts/results.py diagnostics [--output docs/RESULTS.md]     do the regularisers hold, do the scores agree
    python scripts/results.py study [--lines]                            is LoRA² better: docs/STUDY.md, its pictures
    python scripts/results.py report                                     everything on one page, with no network
    python scripts/results.py dashboard [--push --entity ME]             a W&B workspace and report, as code
    python scripts/results.py publish                                    the good ones of your runs into results/

Shown are the published runs (results/) and your own (outputs/results). What goes into a tracked file is made of the
published ones alone.

Exit codes: 0 done, 1 `--check` found a stale block or the server refused, 2 a mistake of the user's.
"""

import argparse
import sys
from pathlib import Path

from lora2.analysis import publish
from lora2.analysis.tables.build import NAMES
from lora2.common.errors import UserError
from lora2.common.rendering import SUFFIXES, form_for
from lora2.common.terminal import guarded
from lora2.runs.places import DEMO, OWN, PUBLISHED

ROOT = Path(__file__).resolve().parents[1]
OUTPUTS = OWN.parent


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    description, _, usage = (__doc__ or "").partition("\n")
    cli = argparse.ArgumentParser(
        description=description, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = cli.add_subparsers(metavar="COMMAND", required=True)
    for name, (help_text, add_options, run) in COMMANDS.items():
        command = commands.add_parser(name, help=help_text)
        command.set_defaults(run=run)
        command.add_argument(
            "--results", type=Path, help="folder with runs/ and paper/; default: results, outputs/results"
        )
        add_options(command)
    return cli.parse_args(argv)


def tables(args: argparse.Namespace) -> int:
    """Print or write a table."""
    results = _published(args)
    if args.write:
        form = args.format or "markdown"
        output = results / "tables" / f"{args.table}{SUFFIXES[form]}"
        publish.publish_table(args.table, results, args.model, form, output)
    else:
        publish.publish_table(args.table, results, args.model, _form(args), args.output, _own(args))
    return 0


def figures(args: argparse.Namespace) -> int:
    """Draw Figure 3."""
    results = _published(args)
    if args.write:
        output, also = results / "figures" / "figure3.png", []
    else:
        output, also = args.output or OUTPUTS / "figures" / "figure3.png", _own(args)
    publish.publish_figure3(results, args.model, args.variant, args.recipe, output, also)
    return 0


def demo(args: argparse.Namespace) -> int:
    """Show what the demo's runs say."""
    results = args.results or DEMO
    publish.publish_demo(results, args.output or results / "demo.png")
    return 0


def claims(args: argparse.Namespace) -> int:
    """Recompute the paper's claims."""
    if args.check and not args.output:
        raise UserError("--check: needs --output FILE, the file whose block is to be checked")
    return publish.publish_claims(_published(args), _form(args), args.output, check=args.check)


def diagnostics(args: argparse.Namespace) -> int:
    """Ask what a sceptic asks."""
    publish.publish_diagnostics(_published(args), _form(args), args.output, [] if args.output else _own(args))
    return 0


def study(args: argparse.Namespace) -> int:
    """Print, write or check the page of the study, or the README's lines."""
    from lora2.analysis.study import publish as pages

    page, readme = ROOT / "docs" / "STUDY.md", ROOT / "README.md"
    if args.check:
        return pages.check_study(_published(args), page, readme)
    if args.write:
        return pages.write_readme(_published(args), readme) if args.lines else pages.write_study(_published(args), page)
    return pages.show_study([_published(args), *_own(args)], args.model, lines=args.lines)


def report(args: argparse.Namespace) -> int:
    """Write the page."""
    publish.publish_report(_published(args), args.output, _own(args))
    return 0


def dashboard(args: argparse.Namespace) -> int:
    """Write the W&B workspace and report, and save them on the server if asked."""
    return publish.publish_dashboard(
        _published(args), args.output, args.project, args.entity, push=args.push, also=_own(args)
    )


def publish_own(args: argparse.Namespace) -> int:
    """Take clean, full, real runs into results/, and make its tables, its pictures and the pages anew."""
    from lora2.analysis.published import publish_runs
    from lora2.analysis.study.publish import write_all

    results = _published(args)
    publish_runs(args.source, results, ROOT / "docs" / "RESULTS.md")
    return write_all(results, ROOT / "docs" / "STUDY.md", ROOT / "README.md")


def _published(args: argparse.Namespace) -> Path:
    """The results folder that is asked for, or the project's."""
    return args.results or ROOT / PUBLISHED


def _form(args: argparse.Namespace) -> str:
    """The format that is asked for; else aligned text on a terminal, and markdown in a pipe or a file."""
    chosen: str | None = args.format
    return chosen or ("markdown" if args.output else form_for(sys.stdout))


def _own(args: argparse.Namespace) -> list[Path]:
    """What is shown beside the published runs."""
    return [] if args.results else [OWN]


def _tables_options(cli: argparse.ArgumentParser) -> None:
    cli.add_argument("--table", choices=NAMES, default="runs", help="runs (everything that ran) or a printed table")
    cli.add_argument("--model", help="only this model, for example minilm")
    _add_format(cli)
    target = cli.add_mutually_exclusive_group()
    target.add_argument("--output", type=Path, help="write to this file instead of standard output")
    target.add_argument("--write", action="store_true", help="write to RESULTS/tables/<table>.<suffix>")


def _figures_options(cli: argparse.ArgumentParser) -> None:
    cli.add_argument("figure", choices=("figure3",))
    cli.add_argument("--model", help="model of our side (default: the paper's if it has runs, else the one with most)")
    cli.add_argument("--variant", default="lora2_k8", help="method of our side, for example lora2_k8 or lora2_k1")
    cli.add_argument("--recipe", help="only runs of this recipe")
    target = cli.add_mutually_exclusive_group()
    target.add_argument("--output", type=Path, help="default: outputs/figures/figure3.png")
    target.add_argument(
        "--write", action="store_true", help="write to RESULTS/figures/figure3.png, of published runs alone"
    )


def _demo_options(cli: argparse.ArgumentParser) -> None:
    cli.add_argument("--output", type=Path, help="the picture (default: outputs/demo/demo.png)")


def _claims_options(cli: argparse.ArgumentParser) -> None:
    cli.add_argument("--output", type=Path, help="markdown file whose claims block is replaced: docs/RESULTS.md")
    _add_format(cli)
    cli.add_argument("--check", action="store_true", help="with --output: write nothing, exit 1 when it is stale")


def _diagnostics_options(cli: argparse.ArgumentParser) -> None:
    cli.add_argument("--output", type=Path, help="markdown file whose sceptic block is replaced: docs/RESULTS.md")
    _add_format(cli)


def _study_options(cli: argparse.ArgumentParser) -> None:
    cli.add_argument("--lines", action="store_true", help="the README's three lines and picture instead of the page")
    target = cli.add_mutually_exclusive_group()
    target.add_argument("--model", help="print only this model, for example tiny")
    target.add_argument(
        "--write", action="store_true", help="docs/STUDY.md and its pictures, or the README's block, of published runs"
    )
    target.add_argument("--check", action="store_true", help="write nothing, exit 1 when docs/STUDY.md is stale")


def _report_options(cli: argparse.ArgumentParser) -> None:
    cli.add_argument("--output", type=Path, help="default: RESULTS/report.html")


def _dashboard_options(cli: argparse.ArgumentParser) -> None:
    cli.add_argument("--output", type=Path, default=Path("outputs/dashboard"), help="folder for the two JSON files")
    cli.add_argument("--project", default="lora2-glue", help="the W&B project that the runs were logged to")
    cli.add_argument("--entity", default="", help="the W&B user or team of the project; needed by --push")
    cli.add_argument("--push", action="store_true", help="save both on the server; needs a key")


def _add_format(cli: argparse.ArgumentParser) -> None:
    cli.add_argument(
        "--format", choices=tuple(SUFFIXES), help="of what is printed; default: text on a terminal, else markdown"
    )
    cli.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")


def _publish_options(cli: argparse.ArgumentParser) -> None:
    cli.add_argument("--from", dest="source", type=Path, default=OWN, metavar="DIR", help=f"default: {OWN}")


COMMANDS = {
    "tables": ("tables of runs beside the papers' numbers", _tables_options, tables),
    "figures": ("final ranks beside the paper's Figure 3", _figures_options, figures),
    "demo": ("what the runs of make demo show: bars, two sentences, a picture", _demo_options, demo),
    "claims": ("which of the paper's claims hold by arithmetic", _claims_options, claims),
    "diagnostics": ("regularisers, likeness of the scales, agreement of the scores", _diagnostics_options, diagnostics),
    "study": ("is LoRA² better than methods of its size: a page, its pictures, three lines", _study_options, study),
    "report": ("one HTML page of runs, the paper's numbers and the benchmark", _report_options, report),
    "dashboard": ("a W&B workspace and report of all runs, as JSON or on the server", _dashboard_options, dashboard),
    "publish": ("clean, full, real runs into results/, and all that is made of them", _publish_options, publish_own),
}


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    args = parse(argv)
    return guarded(args.run, args)


if __name__ == "__main__":
    sys.exit(main())
