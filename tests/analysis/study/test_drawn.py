"""The study's pictures: what they are made of, that they are written for both themes, and the same twice."""

from __future__ import annotations

import math
from functools import partial

import pytest
from helpers.fake_records import PAPERS
from helpers.fake_study import ADAPTERS, RATES, shared, timed, trials, tuned
from matplotlib.figure import Figure

from lora2.analysis.methods import mark_of
from lora2.analysis.study import pictures
from lora2.analysis.study.courses_drawn import by_rate, draw_rates, good_range, rate_scores
from lora2.analysis.study.drawing import LIGHT, THEMES, draw
from lora2.analysis.study.gather import SHARED, gather
from lora2.analysis.study.gather import trials as gathered_trials
from lora2.analysis.study.models import model_studies
from lora2.analysis.study.pictures import draw_pictures
from lora2.analysis.study.scores_drawn import cost_points, draw_cost, draw_dots, pareto, step_seconds
from lora2.common.errors import UserError
from lora2.runs.reader import parse_run

RUNS = [parse_run(record) for record in [*shared(), *tuned(), *trials(), *timed()]]


def test_pareto_keeps_what_nothing_cheaper_beats():
    assert pareto([(3.0, 70.0), (1.0, 60.0), (2.0, 65.0), (2.5, 64.0), (2.0, 61.0)]) == [
        (1.0, 60.0),
        (2.0, 65.0),
        (3.0, 70.0),
    ]
    assert pareto([(1.0, 60.0), (2.0, 60.0)]) == [(1.0, 60.0)]


def test_cost_is_of_methods_that_ran_everywhere():
    study = gather("minilm", SHARED, [run for run in RUNS if (run.variant, run.task) != ("full", "rte")])
    seconds = step_seconds("minilm", study.tasks, RUNS)
    found = {point.variant: point for point in cost_points(study, seconds)}
    assert "full" not in found
    assert found["lora2_k8"].score == pytest.approx(((82 + 83 + 82.4) / 3 + (58 + 57 + 58.6) / 3) / 2)
    assert {name: point.parameters for name, point in found.items()} == {name: ADAPTERS[name] for name in found}
    assert (found["lora2_k8"].seconds, found["lora_r1"].seconds) == (pytest.approx(0.9), None)


def test_times_are_of_steps_timed_side_by_side_on_all_tasks():
    assert step_seconds("minilm", ("mrpc", "rte", "cola"), RUNS) == {}
    assert step_seconds("mpnet", ("mrpc",), RUNS) == {}
    assert step_seconds("minilm", ("mrpc",), RUNS) == pytest.approx({"lora2_k8": 0.9, "lora_r8": 1.0})


def test_rates_as_good_as_the_best_hang_together():
    rates = by_rate(gathered_trials("minilm", RUNS))["mrpc"]["lora2_k8"]
    assert rate_scores(rates) == pytest.approx({**RATES, 0.01: -math.inf})
    assert good_range(rates) == (0.0005, 0.001)
    gap = {0.0001: rates[0.001], 0.0005: rates[0.004], 0.001: rates[0.001], 0.004: rates[0.0005]}
    assert good_range(gap)[0] == 0.0001  # the first of equals is the best; what lies beyond a gap is not in its range
    assert good_range(gap)[1] == 0.0001


def test_a_rate_is_as_good_as_its_best_setting():
    records = [record for record in trials() if record["status"] == "ok"]
    for record in records:
        record["config"]["resolved"]["recipe"]["lr"] = 0.001
    rates = by_rate(gathered_trials("minilm", map(parse_run, records)))["mrpc"]["lora2_k8"]
    assert rate_scores(rates) == pytest.approx({0.001: 81.0})


def test_every_picture_is_written_twice_and_the_same_again(tmp_path):
    (study,) = model_studies(RUNS, PAPERS, "minilm")
    first, again = (draw_pictures(study, tmp_path / name) for name in ("first", "again"))
    names = {"shared", "tuned", "cost", "ranks", "rates"}
    assert {path.name for path in first} == {
        f"study_minilm_{what}{dark}.svg" for what in names for dark in ("", "_dark")
    }
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    light, dark = (tmp_path / "first" / f"study_minilm_shared{suffix}.svg" for suffix in ("", "_dark"))
    assert light.read_bytes() != dark.read_bytes()
    assert 'width="576pt"' in light.read_text()  # 800 px


@pytest.mark.parametrize("theme", THEMES)
def test_a_method_has_its_colour_and_mark_in_every_picture(theme):
    (study,) = model_studies(RUNS, PAPERS, "minilm")
    for content in (
        partial(draw_dots, study=study.studies[0]),
        partial(draw_cost, points=study.costs),
        partial(draw_rates, rates=study.trials),
    ):
        figure = Figure(layout="constrained")
        content(figure, theme)
        looks = {(line.get_color(), line.get_marker()) for axes in figure.axes for line in axes.lines}
        marks = {mark for _, mark in looks} - {"|", "x", "None", "", None}
        assert (theme.colour("lora2_k8"), "o") in looks
        assert marks <= {mark_of(variant).matplotlib for variant in ADAPTERS}
        known = {theme.colour(variant) for variant in ADAPTERS}
        assert {colour for colour, mark in looks if mark in marks} <= known


def test_a_picture_says_what_it_is_and_of_which_machine(monkeypatch, tmp_path):
    titles: list[str] = []

    def listen(name, height, content, folder):
        figure = Figure(layout="constrained")
        content(figure, LIGHT)
        titles.append(figure.get_suptitle())
        return []

    monkeypatch.setattr(pictures, "draw", listen)
    (study,) = model_studies(RUNS, PAPERS, "minilm")
    draw_pictures(study, tmp_path)
    assert len(titles) == 5
    assert all(title.startswith("minilm: ") for title in titles)
    assert sum("on a test's" in title for title in titles) == 4  # of the search's trials the table tells


def test_no_run_no_picture(tmp_path):
    (study,) = model_studies([], PAPERS, "mpnet")
    assert draw_pictures(study, tmp_path) == []


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        draw("x", 2.0, partial(_nothing), tmp_path / "file")


def _nothing(figure, theme):
    figure.subplots()
