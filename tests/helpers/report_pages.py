"""A results folder made up for the report, and its page taken apart."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from helpers.fake_records import ROOT, deberta, record, results_folder, save

from lora2.analysis.paper import load_figure3
from lora2.core.matrices import MATRICES

PLANTED = '<script>window.planted = 1</script><img src=x onerror="window.planted = 1">'
STEPS = range(10, 510, 10)
RANKS = {
    f"layer.{layer}.{matrix}": ranks[layer]
    for matrix, ranks in load_figure3(ROOT / "results" / "paper").panels["mrpc"].items()
    for layer in range(12)
}


def history(main: str) -> dict[str, list[dict[str, float]]]:
    """What a run leaves behind step by step."""
    return {
        "train": [{"step": step, "loss/task": 1 / step, "loss/orth_PQ": 0.5, "loss/orth_uv": 0.25} for step in STEPS],
        "eval": [{"step": step, main: 0.8 + step / 10_000} for step in STEPS if step % 100 == 0],
        "monitor": [{"step": step, "budget": 600 - step, **{f"rank/{key}": 3.0 for key in RANKS}} for step in STEPS],
    }


def made_up(path: Path) -> Path:
    """Runs of the paper's model on two tasks, of MiniLM, on synthetic data; one that failed, one with markup in every
    text, one damaged file; a benchmark.
    """
    results = results_folder(path)
    for seed, accuracy in enumerate((0.900, 0.910, 0.925)):
        scores = {"accuracy": accuracy, "f1": 0.93}
        save(results, deberta(seed=seed, best=scores, ranks=RANKS, history=history("accuracy"), setting_id="mrpc"))
    save(
        results,
        deberta(variant="bitfit", best={"accuracy": 0.87, "f1": 0.9}, setting_id="bits"),
        deberta(task="rte", best={"accuracy": 0.88}, setting_id="rte", status="oom", metrics=None, error="no memory"),
        deberta(task="rte", best={"accuracy": 0.88}, setting_id="rte2", history=history("accuracy")),
        record(
            history=history("accuracy"), ranks={f"layer.{layer}.{m}": layer for layer in range(6) for m in MATRICES}
        ),
        deberta(status="timed", metrics=None, setting_id="timed", run_id="timed"),
        record(data="demo", synthetic=True, best={"accuracy": 0.99, "f1": 0.98}),
        record(variant=PLANTED, notes=[PLANTED], run_id="planted", setting_id=PLANTED, provenance={"device": PLANTED}),
    )
    (results / "runs" / "damaged.json").write_text(json.dumps({PLANTED: 1}), encoding="utf-8")
    shutil.copytree(ROOT / "results" / "bench", results / "bench")
    return results


class Page(HTMLParser):
    """A page's ids, links, tags and scripts, the text of its sections, and its tables: `tables[caption]` has the cells
    of each row, header first, a cell's lines joined by "|".
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self.policy = ""
        self.sections: dict[str, str] = {"": ""}
        self.tables: dict[str, list[list[str]]] = {}
        self._section = self._caption = self._open = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values["href"]] if "href" in values else []
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"]
        if tag in ("caption", "th", "td", "script"):
            self._open = tag
        if tag == "section":
            self._section = values["id"]
            self.sections[self._section] = ""
        elif tag == "script":
            self.scripts.append("")
        elif tag == "caption":
            self._caption = ""
        elif tag == "tr":
            self.tables.setdefault(self._caption, []).append([])
        elif tag in ("th", "td"):
            self.tables[self._caption][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._open:
            self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts[-1] += data
            return
        data = data.replace("\N{NO-BREAK SPACE}", " ")
        self.sections[self._section] += data
        if self._open == "caption":
            self._caption += data
        elif self._open in ("th", "td") and data.strip():
            row = self.tables[self._caption][-1]
            row[-1] += f"|{data.strip()}" if row[-1] else data.strip()

    def rows(self, caption: str) -> list[dict[str, str]]:
        """The rows of the table whose caption begins so, by column title."""
        header, *lines = next(rows for name, rows in self.tables.items() if name.startswith(caption))
        titles = [title.split("|")[0] for title in header]
        return [dict(zip(titles, line, strict=True)) for line in lines]

    @property
    def charts(self) -> dict[str, Any]:
        """The data of every chart."""
        data: dict[str, Any] = json.loads(self.scripts[0])
        return data
