"""What is made of a results folder, printed or written: tables, Figure 3, claims, diagnostics, the page, the dashboard.

Each function here is one command; it ends in a file or on standard output, and what it has to say beside that goes to
standard error.
"""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lora2.analysis.tables.build import build
from lora2.common.errors import UserError
from lora2.common.rendering import read_text, render, replace_block, write_block, write_text
from lora2.common.voice import say
from lora2.common.wandb_key import has_wandb_key
from lora2.runs.places import read_places

CLAIMS_PAGE = "# Results\n\n## Claims of the paper, recomputed\n\n<!-- claims:begin -->\n<!-- claims:end -->\n"


def publish_table(
    name: str, results: Path, model: str | None, form: str, output: Path | None, also: Sequence[Path] = ()
) -> None:
    """Print a table, or write it to a file.

    Args:
        name: "runs" (everything that ran) or a printed table, "table1".
        results: the folder with runs/ and paper/.
        model: leave out every other model.
        form: "text", "markdown", "csv", "latex" or "json".
        output: the file; None: standard output.
        also: further results folders whose runs are shown.
    """
    text = _table(name, results, model, form, also)
    if output is None:
        print(text, end="")
        return
    write_text(output, text)
    say(f"wrote {output}")


def publish_figure3(
    results: Path, model: str | None, variant: str, recipe: str | None, output: Path, also: Sequence[Path] = ()
) -> None:
    """Draw the final ranks beside the paper's Figure 3, and say for each panel what was drawn.

    Args:
        results: the folder with runs/ and paper/.
        model: of our side; None: the paper's if it has runs, else the one with most.
        variant: of our side, "lora2_k8".
        recipe: leave out the runs of other recipes.
        output: a .png, .svg or .pdf.
        also: further results folders whose runs are shown.
    """
    _require_results(results, "runs/ and paper/")
    from lora2.analysis.figure3 import agreement, draw_figure3, model_to_show, panels
    from lora2.analysis.paper import load_figure3

    runs = read_places([results, *also])
    figure = load_figure3(results / "paper")
    drawn = panels(figure, runs, model or model_to_show(figure, runs, variant), variant, recipe)
    draw_figure3(drawn, output)
    for panel in drawn:
        if panel.ours is None:
            print(f"{panel.task}: not run")
            continue
        others = f" ({panel.left_out} run(s) of other settings left out)" if panel.left_out else ""
        print(f"{panel.task}: {panel.label}: {agreement(panel)}{others}")
    print(f"wrote {output}")


def publish_demo(results: Path, output: Path) -> None:
    """Print what the demo's runs show, draw it, and print what to type next.

    Args:
        results: the folder with the demo's runs/.
        output: a .png, .svg or .pdf.
    """
    from lora2.analysis.demo import bars, demo_cells, draw_demo, next_commands, sentences

    tasks = demo_cells(read_places([results]))
    for task, cells in tasks.items():
        print(bars(task, cells))
        print("\n".join(sentences(task, cells)))
    draw_demo(tasks, output)
    print(f"picture: {output}")
    print("\n".join(["next:", *(f"  {line}" for line in next_commands(tasks))]))


def publish_claims(results: Path, form: str, page: Path | None, *, check: bool) -> int:
    """Print the claims audit, or put it into a page, which is created when it is missing.

    Args:
        results: the folder with paper/.
        form: of what is printed without a page.
        page: the markdown file whose claims block is replaced.
        check: write nothing.

    Returns:
        1 when `check` finds the page's block stale, else 0.
    """
    if not (results / "paper").is_dir():
        raise UserError(
            f"--results: no folder {results / 'paper'}; give the folder that holds paper/, for example --results DIR"
        )
    from lora2.analysis.claims.audit import as_table, audit

    table = as_table(audit(results / "paper"))
    if page is None:
        print(render([table], form), end="")
        return 0
    old = read_text(page) if page.exists() else CLAIMS_PAGE
    new = replace_block(old, "claims", render([table], "markdown"), page)
    if not check:
        write_text(page, new)
        say(f"wrote {page}: {table.sentences[0]}")
        return 0
    stale = old != new or not page.exists()
    if stale:
        say(f"{page}: the claims block is stale; run scripts/results.py claims --output {page}")
    return int(stale)


def publish_diagnostics(results: Path, form: str, page: Path | None, also: Sequence[Path] = ()) -> None:
    """Print the regularisers, the likeness of the scales and the agreement of the scores, or put them into a page.

    Args:
        results: the folder with runs/.
        form: of what is printed without a page.
        page: the markdown file whose sceptic block is replaced.
        also: further results folders whose runs are shown.
    """
    _require_results(results, "runs/")
    from lora2.analysis.diagnostics import diagnostics_table

    runs = read_places([results, *also])
    table = diagnostics_table(runs)
    if page is None:
        print(render([table], form), end="")
        return
    write_block(page, "sceptic", render([table], "markdown"))
    say(f"wrote {page}: {table.sentences[0]}")


def publish_report(results: Path, output: Path | None, also: Sequence[Path] = ()) -> None:
    """Write everything on one page that needs no server and no network: RESULTS/report.html if `output` is None."""
    _require_results(results, "runs/, paper/ and bench/")
    from lora2.analysis.html.page import write_page

    page = output or results / "report.html"
    write_page(results, page, also)
    say(f"wrote {page} ({page.stat().st_size / 2**20:.1f} MiB)")


def publish_dashboard(
    results: Path, output: Path, project: str, entity: str, *, push: bool, also: Sequence[Path] = ()
) -> int:
    """Write the W&B workspace and report as JSON into a folder, and print their paths.

    Args:
        results: the folder with runs/ and paper/.
        output: the folder for the two files.
        project: the W&B project that the runs were logged to.
        entity: its user or team.
        push: save both on the server too, under the stored key.
        also: further results folders whose runs are shown.

    Returns:
        1 when the server refuses, else 0.
    """
    _check_dashboard(results, entity, push)
    from lora2.analysis.dashboard import as_json, wandb_report, wandb_workspace

    runs = read_places([results, *also])
    built = {
        "workspace": wandb_workspace(entity, project),
        "report": wandb_report(entity, project, runs, results / "paper"),
    }
    for name, thing in built.items():
        path = output / f"{name}.json"
        write_text(path, json.dumps(as_json(thing), indent=1, ensure_ascii=False) + "\n")
        print(path)
    return _push(built) if push else 0


def publish_benchmark(part: str, folder: Path, page: Path | None) -> None:
    """Make tables of what the benchmark has measured, and print them or put them into a page.

    Args:
        part: what was measured last: "steps", "memory", "padding", "growth" or "gpu".
        folder: the benchmark's figures.
        page: the markdown file whose bench block is replaced; None: standard output.
    """
    from lora2.analysis.benchmark import results_block, write_tables

    latest = folder / "latest.json"
    if part in ("steps", "memory"):
        write_tables(json.loads(latest.read_text()), latest)
    if page is None:
        print(results_block(folder))
    else:
        write_block(page, "bench", results_block(folder))


def _table(name: str, results: Path, model: str | None, form: str, also: Sequence[Path] = ()) -> str:
    _require_results(results, "runs/ and paper/")
    runs = read_places([results, *also])
    return render(build(name, runs, results / "paper", model), form)


def _require_results(results: Path, content: str) -> None:
    if not results.is_dir():
        raise UserError(f"--results: no folder {results}; give the folder that holds {content}: --results DIR")


def _check_dashboard(results: Path, entity: str, push: bool) -> None:
    """Refuse what cannot work before anything is built."""
    if not (results / "paper").is_dir():
        raise UserError(f"--results: no folder {results / 'paper'}; it holds the paper's numbers")
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise UserError("wandb-workspaces is not installed; pip install -e '.[dashboards]'")
    if push and not has_wandb_key():
        raise UserError("--push: no W&B key here; run `wandb login`, or set WANDB_API_KEY")
    if push and not entity:
        raise UserError("--push: needs --entity NAME, the W&B user or team of the project")


def _push(built: dict[str, Any]) -> int:
    """Save on the server; the addresses go to standard output."""
    for name, thing in built.items():
        try:
            print(thing.save().url)
        except Exception as error:  # of wandb's many kinds: no right, no such project, no network
            say(f"error: --push: the {name} is not saved ({type(error).__name__}: {error}); its JSON is written")
            return 1
    return 0
