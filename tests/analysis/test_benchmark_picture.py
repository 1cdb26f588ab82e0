"""The benchmark's picture: our step over each peer's, with quartiles, on one scale, and the machine named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_records import ROOT
from matplotlib.figure import Figure

from lora2.analysis.benchmark import VARIANTS, peer_name, plot
from lora2.analysis.methods import ALL_STYLES, mark_of, style_name

RESULT: dict[str, Any] = json.loads((ROOT / "results" / "bench" / "latest.json").read_text())


@pytest.fixture(scope="module")
def figure(tmp_path_factory: pytest.TempPathFactory) -> Figure:
    drawn: list[Figure] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda self, path, **options: drawn.append(self))
        plot(RESULT, Path("picture.png"))
    return drawn[0]


def test_it_has_a_title_and_names_the_machine(figure: Figure):
    assert figure.get_suptitle().startswith("A whole training step")
    assert RESULT["machine"]["device"] in figure.get_supxlabel()
    assert "quartiles" in figure.get_supxlabel()


def test_all_panels_share_one_scale(figure: Figure):
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert len(panels) == sum(map(len, RESULT["spread"].values()))
    assert len({axes.get_xlim() for axes in panels}) == len({axes.get_ylim() for axes in panels}) == 1


def test_a_peer_has_its_median_its_quartiles_and_its_look(figure: Figure):
    (axes,) = (axes for axes in figure.axes if axes.get_title().startswith("minilm_32x64, fp32"))
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    by_row = {(float(line.get_ydata()[0]), len(line.get_xdata())): line for line in axes.lines[1:]}
    for peer, spread in RESULT["spread"]["minilm_32x64"]["fp32"].items():
        row, style = names.index(peer_name(peer)), ALL_STYLES[style_name(VARIANTS[peer])]
        quartiles, median = by_row[row, 2], by_row[row, 1]
        assert list(quartiles.get_xdata()) == [spread["q1"], spread["q3"]]
        assert list(median.get_xdata()) == [spread["median"]]
        assert (median.get_color(), median.get_marker()) == (style.light, mark_of(VARIANTS[peer]).matplotlib)
