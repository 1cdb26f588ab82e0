"""results/ -> one HTML page. A pure function of the folder: the same files give the same page."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from lora2.analysis.claims.audit import as_table, audit
from lora2.analysis.claims.checks import FAILS, HOLDS, OPEN
from lora2.analysis.diagnostics import diagnostics_table, monitored
from lora2.analysis.html.answer import answer, study_chart
from lora2.analysis.html.benchmark import ratio_chart, ratio_table, read_benchmark
from lora2.analysis.html.charts import colour_of, method_colours
from lora2.analysis.html.cost import cost_and_quality
from lora2.analysis.html.curves import learning_curves
from lora2.analysis.html.html_table import Column, HtmlRow, HtmlTable, text_cell
from lora2.analysis.html.rank_maps import figure3, own_maps
from lora2.analysis.html.records import by_setting
from lora2.analysis.html.scores import READING, filled, score_table, verdicts
from lora2.analysis.methods import mark_of
from lora2.analysis.paper import load_figure3
from lora2.analysis.study.models import model_studies
from lora2.analysis.tables.build import Part, parts
from lora2.common.rendering import read_text, write_text
from lora2.common.table import Table
from lora2.runs.places import load_places
from lora2.runs.reader import Run, load_runs

HERE = Path(__file__).parent
ABLATIONS = ("table2", "table3", "table4")
TONES = {HOLDS: "good", OPEN: "muted"}

GLOBALS = "window.vegaEmbed = vegaEmbed;"  # what page.js uses of the library


@dataclass(frozen=True, slots=True)
class Fact:
    """One number at the head of the page, and the section that it comes from."""

    value: str
    label: str
    href: str


def write_page(results: Path, output: Path, also: Sequence[Path] = ()) -> None:
    """Write the page of a results folder, with the runs of others; its links lead from `output` to the records."""
    links = [quote(Path(os.path.relpath(place / "runs", output.parent)).as_posix()) for place in (results, *also)]
    write_text(output, build_page(results, plotting_library(), links[0], dict(zip(links[1:], also, strict=True))))


def plotting_library() -> str:
    """Put Vega, Vega-Lite and Vega-Embed together as one script; takes seconds."""
    import vl_convert

    # A function of its own, so that the library's top-level names do not meet the page's.
    return f"(() => {{\n{vl_convert.javascript_bundle(GLOBALS)}\n}})();"


def build_page(
    results: Path, library: str, runs_link: str = "runs", also: Mapping[str, Path] = MappingProxyType({})
) -> str:
    """Build the page as HTML; a damaged record costs a warning in it.

    Args:
        results: the folder that holds runs/, paper/ and bench/.
        library: the plotting library's script.
        runs_link: the way from the page to the records.
        also: further results folders whose runs are shown, by the way to their records.

    Raises:
        UserError: the paper's numbers or the benchmark cannot be read.
    """
    links: dict[str, str] = {}
    for way, place in reversed([(runs_link, results), *also.items()]):
        links |= {run.run_id: way for run in load_runs(place / "runs")[0]}
    runs, warnings = load_places([results, *also.values()])
    papers = results / "paper"
    benchmark = read_benchmark(results / "bench" / "latest.json")
    table1 = [part for part in parts("table1", runs, papers) if part.layout.papers]
    every_run = parts("runs", runs, papers)
    claims, settings = as_table(audit(papers)), by_setting(runs)
    studies = model_studies(runs, papers)
    clean = sorted({run.model for run in runs if run.status == "ok" and not run.caveats})
    charts = [
        study_chart(studies),
        figure3(load_figure3(papers), runs),
        own_maps(settings),
        learning_curves(runs),
        cost_and_quality([*every_run, *(part for part in table1 if not part.cells)]),
    ]
    if benchmark:
        charts.append(ratio_chart(benchmark))
    scripts = {"library": library, "page": read_text(HERE / "page.js")}
    return _template().render(
        policy=_policy(*scripts.values()),
        style=Markup(read_text(HERE / "style.css") + method_colours()),
        answer=answer(studies, claims, clean),
        scripts={name: Markup(text) for name, text in scripts.items()},
        reading=READING,
        facts=_facts(runs, table1, claims),
        table1=[score_table(part) for part in table1],
        every_run=[score_table(part) for part in every_run],
        ablations=[score_table(part) for name in ABLATIONS for part in parts(name, runs, papers)],
        charts={chart.name: chart for chart in charts},
        chart_data={chart.name: chart.data() for chart in charts},
        benchmark=ratio_table(benchmark) if benchmark else None,
        claims=_claims(claims),
        sceptic=_sceptic(runs),
        settings=settings,
        warnings=warnings,
        links=links,
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.filters["unbroken"] = _unbroken
    environment.filters["coded"] = _coded
    environment.filters["colour"] = lambda variant: colour_of(variant).removeprefix("@")
    environment.filters["path"] = lambda variant: mark_of(variant).path
    environment.filters["quote"] = lambda text: quote(text, safe="")
    return environment.get_template("page.html")


def _unbroken(text: str) -> str:
    """Numbers, which may break after a comma and nowhere else."""
    return text.replace(" ", "\N{NO-BREAK SPACE}").replace(",\N{NO-BREAK SPACE}", ", ")


def _coded(text: str) -> Markup:
    """A sentence whose commands stand between backticks."""
    form = (Markup("{}"), Markup("<code>{}</code>"))
    return Markup("").join(form[index % 2].format(part) for index, part in enumerate(text.split("`")))


def _policy(*scripts: str) -> str:
    """The page's content security policy: these scripts run and no others, and nothing is fetched from anywhere."""
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts)
    allowed = " ".join(f"'sha256-{each}'" for each in hashes)
    rest = "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {allowed}; {rest}"


def _facts(runs: Sequence[Run], table1: Sequence[Part], claims: Table) -> list[Fact]:
    trained = [run for run in runs if run.status != "timed"]
    done = sum(run.status == "ok" for run in trained)
    ran, printed = filled(table1)
    said = verdicts(table1)
    words = ", ".join(f"{count} {verdict}" for verdict, count in said.most_common()) or "nothing to compare yet"
    return [
        Fact(f"{done} of {len(trained)}", "runs finished", "#records"),
        Fact(f"{ran} of {printed}", "cells of Table 1 run on the paper's model", "#table1"),
        Fact(str(said.total()), f"numbers beside the paper's: {words}", "#table1"),
        Fact(str(len(claims.rows)), f"claims: {claims.sentences[0].partition(': ')[2]}", "#claims"),
    ]


def _claims(table: Table) -> HtmlTable:
    """The audit with a colour for each verdict."""
    verdict = table.header.index("Verdict")
    plain = _plain(table)
    rows = []
    for row in plain.rows:
        cells = list(row.cells)
        cells[verdict] = replace(cells[verdict], tone=_tone(cells[verdict].text))
        rows.append(HtmlRow(tuple(cells)))
    return replace(plain, rows=tuple(rows))


def _sceptic(runs: Sequence[Run]) -> HtmlTable:
    """The diagnostics with the mark of each run's method."""
    plain = _plain(diagnostics_table(runs))
    pairs = zip(plain.rows, monitored(runs), strict=True)
    rows = tuple(HtmlRow((replace(row.cells[0], variant=run.variant), *row.cells[1:])) for row, run in pairs)
    return replace(plain, rows=rows)


def _plain(table: Table) -> HtmlTable:
    """A table of text as a table of the page."""
    return HtmlTable(
        caption=table.title,
        columns=tuple(map(Column, table.header)),
        rows=tuple(HtmlRow(tuple(map(text_cell, row))) for row in table.rows),
        sentences=table.sentences,
        footnotes=table.footnotes,
    )


def _tone(verdict: str) -> str:
    return "bad" if verdict.startswith(FAILS) else TONES.get(verdict, "warn")
