"""What the demo says at its end: only what its records show."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.fake_records import record

from lora2.analysis.demo import STORY, bars, demo_cells, draw_demo, next_commands, sentences
from lora2.common.errors import UserError
from lora2.core.matrices import MATRICES
from lora2.runs.caveats import MARK
from lora2.runs.reader import Run, parse_run

SCORES = {
    "head": (0.31, 0.33), "lora2_k1": (0.52, 0.58), "lora_r1": (0.61, 0.59), "lora2_k8": (0.86, 0.84),
    "lora_r8": (0.83, 0.85),
}  # fmt: skip
PRUNED = {f"layer.{layer}.{matrix}": 4 * layer for layer in range(2) for matrix in MATRICES}  # 24 of 96, 6 emptied


def demo_runs(**scores: tuple[float, ...]) -> list[Run]:
    """A run for each method and seed, with these scores after the last step."""
    return [
        parse_run(
            record(
                task="stsb",
                data="demo",
                synthetic=True,
                variant=name,
                setting_id=name,
                seed=seed,
                best={"pearson": value + 0.01},  # record() takes 0.01 off for the last step
                ranks=PRUNED if name.startswith("lora2") else {},
                resolved={"rank": {"r": 8}},
            )
        )
        for name, values in scores.items()
        for seed, value in enumerate(values)
    ]


def test_an_order_that_every_seed_shows_is_told_as_one():
    cells = demo_cells(demo_runs(**SCORES))["stsb"]
    first, second = sentences("stsb", cells)
    assert first == "STS-B (synthetic), Pearson: head alone 32.0 < LoRA² k=1 55.0 < LoRA² k=8 85.0"
    assert second.startswith(
        "at the same size LoRA² k=1 55.0 beside LoRA r=1 60.0, LoRA² k=8 85.0 beside LoRA r=8 84.0"
    )
    assert second.endswith("LoRA² k=8 kept 24 of 96 singular values, emptied 6 of 12 matrices")


@pytest.mark.parametrize("better", [(0.30, 0.58), (0.20, 0.25)])
def test_an_order_that_a_seed_does_not_show_is_not_told(better):
    """One seed of k=1 below the head, or both."""
    cells = demo_cells(demo_runs(**SCORES | {"lora2_k1": better}))["stsb"]
    first, _ = sentences("stsb", cells)
    assert "head alone 32.0 ? LoRA² k=1" in first
    assert " < LoRA² k=8" in first


def test_runs_of_another_model_never_stand_for_the_demos():
    ours = demo_runs(**SCORES)
    others = [replace(run, model="tiny", seed=run.seed + 5, run_id=f"tiny-{run.run_id}") for run in ours * 3]
    assert demo_cells([*others, *ours]) == demo_cells(ours)
    assert bars("stsb", demo_cells(others)["stsb"]).startswith("tiny on STS-B")


def test_a_caveat_is_marked_in_bars_and_sentences():
    runs = [
        replace(run, caveats=(*run.caveats, "collapsed")) if (run.variant, run.seed) == ("lora_r1", 0) else run
        for run in demo_runs(**SCORES)
    ]
    cells = demo_cells(runs)["stsb"]
    lines = bars("stsb", cells).splitlines()
    assert [MARK in line for line in lines] == [False, False, False, True, False, False, True]
    assert lines[-1].startswith(f"  {MARK} collapsed: ")
    assert f"LoRA r=1 59.0 {MARK}" in sentences("stsb", cells)[1]


def test_what_did_not_run_is_left_out():
    cells = demo_cells(demo_runs(head=(0.3,), lora_r8=(0.8,)))["stsb"]
    first, second = sentences("stsb", cells)
    assert first.endswith("head alone 30.0")
    assert second == ""
    assert [line[2:12].strip() for line in bars("stsb", cells).splitlines()[1:]] == ["head alone", "LoRA r=8"]


def test_a_failed_run_is_no_result():
    failed = record(variant="head", status="failed", metrics=None)
    with pytest.raises(UserError, match="make demo"):
        demo_cells([parse_run(failed)])


def test_bars_are_as_long_as_the_scores():
    cells = demo_cells(demo_runs(**SCORES | {"head": (-0.1, -0.1)}))["stsb"]
    drawn = [line.count("█") for line in bars("stsb", cells).splitlines()[1:]]
    assert drawn[0] == 0
    assert max(drawn) == drawn[3]
    assert drawn[1] / drawn[3] == pytest.approx(55 / 85, abs=0.02)


def test_the_picture_is_drawn_and_the_export_is_of_a_lora2_run(tmp_path):
    tasks = demo_cells(demo_runs(**SCORES))
    draw_demo(tasks, tmp_path / "demo.svg")
    text = (tmp_path / "demo.svg").read_text(encoding="utf-8")
    assert all(title in text for title in ("LoRA² k=1", "LoRA r=8", "STS-B", "synthetic", "FF.W2"))
    assert next_commands(tasks)[0].startswith(f"make export RUN={tasks['stsb']['lora2_k8'].runs[0].run_id}")


def test_a_demo_without_its_adapters_is_drawn_too(tmp_path):
    tasks = demo_cells(demo_runs(head=(0.3,)))
    draw_demo(tasks, tmp_path / "demo.png")
    assert (tmp_path / "demo.png").is_file()
    assert not any("export" in line for line in next_commands(tasks))
    assert STORY[0] in tasks["stsb"]
