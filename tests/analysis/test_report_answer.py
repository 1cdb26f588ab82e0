"""The head of the page follows the study's numbers, and its charts open on what there is to see."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from helpers.fake_records import PAPERS, ROOT, deberta, record, results_folder, save
from helpers.fake_study import SCORES, SEEDS, shared, study_run, trials, tuned
from helpers.report_pages import RANKS, Page, history

from lora2.analysis.claims.audit import as_table, audit
from lora2.analysis.html.answer import answer, study_chart
from lora2.analysis.html.page import build_page
from lora2.analysis.methods import mark_of, method_name, style_name
from lora2.analysis.study.models import model_studies
from lora2.runs.reader import parse_run

LIBRARY = "window.vegaEmbed = null;"
CLAIMS = as_table(audit(PAPERS))
MARKED = re.compile(r'style="fill:var\(--m-([^)]+)\)"><path d="([^"]+)"/></svg><span[^>]*>[^<]*</span><small>([^<]+)<')


def first_sentence(records: list[dict[str, Any]]) -> str:
    return answer(model_studies([parse_run(each) for each in records], PAPERS), CLAIMS, []).text


def moved(points: Callable[[str], float], seeds: tuple[int, ...] = SEEDS) -> list[dict[str, Any]]:
    """The shared comparison, with LoRA²'s scores those of its peer and `points` of the variant above them."""
    peers = {"lora2_k1": "lora_r1", "lora2_k8": "lora_r8"}
    return [
        study_run(variant, task, seed, SCORES[peers.get(variant, variant), task][seed] + points(variant) + 0.01 * seed)
        for variant, task in SCORES
        for seed in seeds
        if variant != "full"
    ]


@pytest.mark.parametrize(
    ("points", "begins", "counts"),
    [
        ({"lora2_k1": 3.0, "lora2_k8": 3.0}, "Yes, on minilm", "higher in 2 of 2 pairs, lower in 0"),
        ({"lora2_k1": -3.0, "lora2_k8": 3.0}, "In part, on minilm", "higher in 1 of 2 pairs, lower in 1"),
        ({"lora2_k1": -3.0, "lora2_k8": -3.0}, "No, on minilm", "higher in 0 of 2 pairs, lower in 2"),
    ],
)
def test_the_first_sentence_follows_the_numbers(points, begins, counts):
    said = first_sentence(moved(lambda variant: points.get(variant, 0.0) + (variant in points) * 0.02))
    assert said.startswith(begins)
    assert counts in said
    assert "MRPC, RTE; 3 seeds" in said


def test_what_the_seeds_do_not_tell_apart_is_undecided():
    records = moved(lambda variant: 0.0)
    for index, each in enumerate(records):
        if each["config"]["method"] == "lora2":
            each["metrics"]["best"]["accuracy"] += (-1) ** index * 0.05
    assert first_sentence(records).startswith("Undecided, on minilm")


def test_one_seed_answers_nothing():
    said = first_sentence(moved(lambda variant: 9.0, seeds=(0,)))
    assert said.startswith("Not known yet")
    assert "1 seed" in said


def test_without_a_study_the_sentence_says_what_is_missing():
    assert first_sentence([record()]) == (
        "Not known yet: no study over seeds has run; `make sweep EXPERIMENT=study_minilm` makes the first."
    )


def test_each_method_at_its_best_answers_before_the_shared_rate():
    assert "at one shared rate" in first_sentence(shared())
    assert "each method at its best" in first_sentence([*shared(), *tuned()])


def test_the_study_s_picture_has_every_seed_mean_and_interval():
    chart = study_chart(model_studies([parse_run(each) for each in [*shared(), *tuned()]], PAPERS))
    assert next(iter(chart.selects[0].options.values())) == "minilm: Each method at its best"
    mrpc, rte = chart.views["1"]
    rows = [row for row in rte.rows if row["method"] == "LoRA r=8"]
    seeds = {row["seed"]: (row["score"], row["collapsed"]) for row in rows if "seed" in row}
    assert {seed: score for seed, (score, _) in seeds.items()} == pytest.approx({0: 55.0, 1: 54.0, 2: 52.7})
    assert [collapsed for _, collapsed in seeds.values()] == [False, False, True]
    (mean,) = (row for row in rows if "mean" in row)
    assert mean["mean"] == pytest.approx((55 + 54 + 52.7) / 3)
    assert mean["low"] < mean["mean"] < mean["high"]
    assert mrpc.words["order"] == ["full", "LoRA² k=1", "LoRA r=1", "LoRA² k=8", "LoRA r=8"]


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A study, a search, a run of one epoch, one of a user's own task, the paper's model on one task."""
    results = results_folder(tmp_path_factory.mktemp("results"))
    shutil.copytree(ROOT / "results" / "bench", results / "bench")
    course = {"history": history("accuracy"), "ranks": RANKS}
    one_epoch = {"recipe": "short1", "setting_id": "one", "resolved": {"recipe": {"epochs": 1}}}
    save(results, *shared(), *tuned(), *trials(), deberta(ranks=RANKS, history=history("accuracy")))
    save(results, record(variant="lora2_k8_unpruned", **course), record(**one_epoch, history=history("accuracy")))
    save(results, record(task="reviews", data="files", variant="lora_r8", method="lora", **course))
    return build_page(results, LIBRARY)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_one_colour_and_one_mark_for_a_method_in_every_chart_and_table(page: Page, html: str):
    looks: dict[str, set[tuple[str, str]]] = {}
    for chart in page.charts.values():
        for view in chart["views"].values():
            for words in (plot["words"] for plot in view if "methods" in plot["words"]):
                for label, colour, mark in zip(words["methods"], words["colours"], words["marks"], strict=True):
                    looks.setdefault(label, set()).add((colour.removeprefix("@--m-"), mark))
    for colour, mark, variant in MARKED.findall(html):
        looks.setdefault(method_name(variant), set()).add((colour, mark))
    assert {"LoRA² k=8", "LoRA² k=8 unpruned", "LoRA r=8", "BitFit", "SoRA r=1"} <= looks.keys()
    assert {name for name, seen in looks.items() if len(seen) != 1} == set()
    assert looks["LoRA² k=8"] == {(style_name("lora2_k8"), mark_of("lora2_k8").path)}
    for colour in {colour for seen in looks.values() for colour, _ in seen}:
        assert f"--m-{colour}: light-dark(" in html


def test_charts_open_on_what_has_data(page: Page):
    assert set(page.charts) == {"study", "figure3", "ranks", "curves", "cost", "bench"}
    for name, chart in page.charts.items():
        first = next(iter(chart["views"].values()))
        assert all(plot["rows"] for plot in first), name
    assert next(iter(page.charts["figure3"]["views"])) == "mrpc"


def test_tables_of_which_nothing_ran_are_folded(page: Page, html: str):
    folded = re.findall(r"<summary>([^<]+): nothing of ours yet</summary>", html)
    assert folded
    assert not any(caption.startswith("Table 1") for caption in folded)
    assert not any("not run" in cell for caption in folded for row in page.tables[caption] for cell in row)


def test_a_run_of_one_epoch_and_a_trial_are_no_learning_curves(page: Page, html: str):
    curves = page.charts["curves"]["views"]
    captions = [view[0]["caption"] for view in curves.values()]
    assert not any("short1" in caption or "trial" in caption for caption in captions)
    assert "Left out: 1 run(s) of one epoch" in page.sections["curves"]


def test_a_task_of_one_s_own_has_its_curve_under_its_own_name(page: Page):
    (metric,) = (
        view[0]
        for key, view in page.charts["curves"]["views"].items()
        if key.endswith("|metric") and view[0]["caption"].startswith("reviews; minilm, data=files")
    )
    assert metric["rows"][0]["value"] == [81.0, 82.0, 83.0, 84.0, 85.0]
    assert metric["words"]["y"] == "acc on dev, in percent"


def test_the_pareto_line_joins_what_nothing_cheaper_beats(page: Page):
    (rows,) = (
        view[0]["rows"]
        for key, view in page.charts["cost"]["views"].items()
        if key.endswith("|adapter") and view[0]["caption"] == "MRPC; minilm, data=local; recipe short3"
    )
    front = {row["method"] for row in rows if row["front"]}
    assert front == {"LoRA r=1", "LoRA r=8", "LoRA² k=8", "full"}
    assert {row["method"] for row in rows} - front == {"LoRA² k=1"}


def test_the_sceptic_s_questions_are_asked(page: Page):
    assert "Regularisers are eq. 5 as printed" in page.sections["sceptic"]
    assert any(row["Run"].startswith("minilm, mrpc, lora2_k8") for row in page.rows("What a sceptic asks"))


def test_the_benchmark_s_table_is_folded(html: str):
    folded = html.partition("Every shape, type and peer")[2]
    assert "A whole training step, ours against each peer" in folded.partition("</details>")[0]
