"""Figure 3: grids from records, which runs stand for a panel, correlation, and the files that are drawn."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.fake_records import PAPERS, ROOT, deberta

from lora2.analysis.figure3 import agreement, draw_figure3, model_to_show, panels, rank_grid
from lora2.analysis.paper import load_figure3
from lora2.common.errors import UserError
from lora2.core.matrices import MATRICES
from lora2.runs.reader import Run, parse_run

FIGURE = load_figure3(PAPERS)


def run_of(ranks: dict[str, int], **changes: object) -> Run:
    return parse_run(deberta(ranks=ranks, **changes))


def flat(layers: int, rank: int) -> dict[str, int]:
    return {f"layer.{layer}.{matrix}": rank for layer in range(layers) for matrix in MATRICES}


def printed(task: str) -> dict[str, int]:
    panel = FIGURE.panels[task]
    return {f"layer.{layer}.{name}": rank for name, ranks in panel.items() for layer, rank in enumerate(ranks)}


def test_grid_follows_the_paper_s_arrangement() -> None:
    grid = rank_grid(run_of(printed("mnli")))
    assert grid.shape == (6, 12)
    assert grid.sum() == 216
    assert grid[0].tolist() == list(FIGURE.panels["mnli"]["query"])
    assert grid[5].tolist() == list(FIGURE.panels["mnli"]["ffn_w2"])


def test_a_matrix_that_is_not_adapted_is_zero() -> None:
    assert rank_grid(run_of({"layer.1.query": 3})).tolist() == [[0, 3], *[[0, 0]] * 5]


@pytest.mark.parametrize("key", ["layer.x.query", "layer.0.pooler", "query", "layers.0.query"])
def test_foreign_rank_keys_are_named(key: str) -> None:
    with pytest.raises(UserError, match=r"layer\.<number>"):
        rank_grid(run_of({key: 1}))


def test_equal_ranks_correlate_perfectly() -> None:
    drawn = {panel.task: panel for panel in panels(FIGURE, [run_of(printed("mrpc"))], "deberta_v3_base", "lora2_k8")}
    assert drawn["mrpc"].pearson == pytest.approx(1.0)
    assert drawn["mrpc"].spearman == pytest.approx(1.0)
    assert agreement(drawn["mrpc"]) == "Pearson 1.00, Spearman 1.00 with the paper"
    assert agreement(drawn["qqp"]) == "not run"
    assert list(drawn) == ["mnli", "qqp", "mrpc", "sst2"]


def test_six_layers_are_drawn_without_a_correlation() -> None:
    panel = panels(FIGURE, [run_of(flat(6, 2), model="minilm")], "minilm", "lora2_k8")[2]
    assert panel.ours is not None
    assert panel.ours.shape == (6, 6)
    assert panel.pearson is None
    assert agreement(panel) == "correlation not computed: 6 layers, the paper has 12"


def test_a_constant_side_has_no_correlation() -> None:
    panel = panels(FIGURE, [run_of(flat(12, 2))], "deberta_v3_base", "lora2_k8")[2]
    assert agreement(panel) == "correlation not computed: one side is constant"


def test_seeds_of_one_setting_are_averaged_and_the_rest_left_out() -> None:
    runs = [
        run_of(flat(12, 2), run_id="1", seed=1),
        run_of(flat(12, 4), run_id="2", seed=2),
        run_of(flat(12, 8), run_id="3", setting_id="b"),
        run_of(flat(12, 8), run_id="4", data="demo", synthetic=True),
        run_of(flat(12, 8), run_id="5", status="failed"),
        run_of(flat(12, 8), run_id="6", variant="lora2_k1"),
    ]
    panel = panels(FIGURE, runs, "deberta_v3_base", "lora2_k8")[2]
    assert panel.ours is not None
    assert np.unique(panel.ours).tolist() == [3.0]
    assert panel.left_out == 2
    assert "n=2" in panel.label


def test_another_model_is_shown_only_while_the_papers_has_no_run() -> None:
    small = [run_of(flat(6, 2), model="minilm"), run_of(flat(6, 2), model="tiny"), run_of(flat(6, 2), model="tiny")]
    assert model_to_show(FIGURE, small, "lora2_k8") == "tiny"
    assert model_to_show(FIGURE, small[:2], "lora2_k8") == "minilm"
    assert model_to_show(FIGURE, [*small, run_of(flat(12, 2))], "lora2_k8") == "deberta_v3_base"
    assert model_to_show(FIGURE, small, "lora2_k1") == "deberta_v3_base"


def test_synthetic_data_is_drawn_only_when_there_is_nothing_else_and_says_so() -> None:
    panel = panels(FIGURE, [run_of(flat(12, 8), data="demo", synthetic=True)], "deberta_v3_base", "lora2_k8")[2]
    assert "SYNTHETIC DATA" in panel.label


def test_unknown_suffix_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="suffix must be one of"):
        draw_figure3(panels(FIGURE, [], "m", "v"), tmp_path / "figure.jpg")


def cli(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "results.py"), "figures", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_png_and_svg_are_written_with_every_label(tmp_path: Path) -> None:
    drawn = panels(FIGURE, [run_of(printed("mrpc"))], "deberta_v3_base", "lora2_k8")
    some = drawn[1:3]  # one panel that did not run, one that did
    draw_figure3(some, tmp_path / "a" / "figure3.png")
    assert (tmp_path / "a" / "figure3.png").read_bytes().startswith(b"\x89PNG")
    for name in ("one.svg", "two.svg"):
        draw_figure3(some, tmp_path / name)
    text = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert text == (tmp_path / "two.svg").read_text(encoding="utf-8")
    for label in ("Query", "Attn.Output", "FF.W2", "QQP", "MRPC", "not run", "Pearson 1.00", "final rank"):
        assert label in text


def test_no_frame_is_drawn_for_what_did_not_run(tmp_path: Path) -> None:
    draw_figure3(panels(FIGURE, [run_of(printed("mrpc"))], "deberta_v3_base", "lora2_k8"), tmp_path / "figure3.svg")
    text = (tmp_path / "figure3.svg").read_text(encoding="utf-8")
    assert text.count(">layer<") == 5  # four of the paper's, one of ours
    assert text.index("MRPC: the paper") < text.index("MNLI: the paper")  # what ran stands first
    assert "ours trained on" in text


def test_cli_draws_and_reports(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "paper").symlink_to(PAPERS)
    (tmp_path / "runs" / "bad.json").write_text(json.dumps([1]), encoding="utf-8")
    done = cli("figure3", "--results", tmp_path, "--output", tmp_path / "figure3.svg")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "figure3.svg").read_text(encoding="utf-8")
    assert text.count("not run") == 4
    assert all(f"{task}: the paper" in text for task in ("MNLI", "QQP", "MRPC", "SST-2"))
    assert "mnli: not run" in done.stdout
    assert "bad.json" in done.stderr
