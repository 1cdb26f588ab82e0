"""The report's page without a browser: what stands beside what, where links lead, and that no text becomes markup."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.fake_records import ROOT, results_folder
from helpers.report_pages import PLANTED, STEPS, Page, made_up

from lora2.analysis.html.curves import POINTS
from lora2.analysis.html.page import build_page
from lora2.common.errors import UserError

LIBRARY = "window.vegaEmbed = null;"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def page(results: Path) -> Page:
    return Page(build_page(results, LIBRARY))


def test_ours_stands_below_the_paper_s_row_with_distance_verdict_and_count(page: Page) -> None:
    printed, ours = (row for row in page.rows("Table 1") if row["Method"].startswith("LoRA² (k=8)"))
    assert (printed["Whose"], printed["MRPC"]) == ("paper|table1 (H)", "91.42")
    assert printed["Average"] == "89.68|⚠ entries: 89.43"
    mean, spread, distance, verdict, last = ours["MRPC"].split("|")
    assert (mean, spread, distance) == ("91.17", "± 1.26, n = 3", "Δ −0.25")
    assert (verdict, last) == ("reproduced", "last 90.17")
    assert ours["QQP"] == "–"
    assert ours["Average"] == "–"


def test_a_method_that_did_not_run_has_dashes(page: Page) -> None:
    _, ours = (row for row in page.rows("Table 1") if row["Method"].startswith("SoRA (r=8)"))
    assert ours.pop("Method") == "SoRA (r=8)|sora_r8"
    assert ours.pop("Whose") == "not run"
    assert set(ours.values()) == {"–"}


def test_only_runs_of_the_paper_s_model_on_real_data_stand_beside_its_numbers(page: Page) -> None:
    for caption, rows in page.tables.items():
        texts = "".join(text for row in rows for text in row)
        if "minilm" in caption or "SYNTHETIC" in caption:
            assert "paper" not in texts
        if caption.startswith("Table 1"):
            assert "81.00" not in texts  # MiniLM's
            assert "99.00" not in texts  # the demo's
    shown = page.sections["runs"].partition("Every finished run")[2]
    assert len(re.findall(r"not comparable with the paper(?!')", shown)) == 2  # the badge, not the sentence below it
    assert shown.count("synthetic data") == 1
    captions = [plot["caption"] for view in page.charts["figure3"]["views"].values() for plot in view]
    assert not any("minilm" in caption for caption in captions)


def test_every_link_leads_somewhere(page: Page, results: Path) -> None:
    assert len(page.ids) == len(set(page.ids))
    inside = [link[1:] for link in page.links if link.startswith("#")]
    assert set(inside) <= set(page.ids)
    records = [link for link in page.links if link.startswith("runs/")]
    assert len(records) == 10
    assert all((results / link).is_file() for link in records)
    rest = set(page.links) - {f"#{link}" for link in inside} - set(records)
    assert rest == {"data:,", "https://arxiv.org/abs/2408.06854"}


def test_every_number_of_ours_is_a_link_to_its_setting(page: Page) -> None:
    settings = [link for link in page.links if link.startswith("#setting-")]
    cells = [text for rows in page.tables.values() for row in rows for text in row if "n = " in text]
    assert len(settings) == len(cells) >= 10


def test_text_of_a_record_never_becomes_markup(page: Page) -> None:
    assert page.tags.count("script") == 3
    assert "img" not in page.tags
    assert PLANTED in page.sections["records"]
    assert PLANTED in page.sections["runs"]
    assert PLANTED in str(page.charts)  # as data


def test_only_the_page_s_own_scripts_may_run(page: Page) -> None:
    _, library, own = page.scripts
    assert library == LIBRARY
    for script in (library, own):
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in page.policy
    assert page.policy.startswith("default-src 'none';")
    assert "'unsafe-inline'" not in page.policy.replace("style-src 'unsafe-inline'", "")


def test_damaged_and_failed_records_are_told_not_hidden(page: Page) -> None:
    head = page.sections["answer"]
    assert "damaged.json: left out" in head
    assert "8 of 9" in head
    assert "1 oom" in page.sections["table1"]
    assert "no memory" in page.sections["records"]


def test_figure_3_has_every_task_and_the_correlation_of_ours(page: Page) -> None:
    views = page.charts["figure3"]["views"]
    assert list(views) == ["mrpc", "mnli", "qqp", "sst2"]  # what ran is what the menu opens on
    paper, ours = views["mrpc"]
    assert paper["rows"] == ours["rows"]
    assert "n=3" in ours["caption"]
    assert "Pearson 1.00" in ours["caption"]
    (alone,) = views["mnli"]  # and no place for a map that there is not
    assert alone["caption"].endswith("Ours on deberta_v3_base: not run.")


def test_curves_hold_every_run_and_training_losses_are_thinned(page: Page) -> None:
    views = page.charts["curves"]["views"]
    (metric,), (loss,), (penalty,), (budget,) = (views[f"0|{name}"] for name in ("metric", "loss", "penalty", "budget"))
    assert metric["caption"] == "MRPC; deberta_v3_base, data=hub; recipe authors: 3 run(s)."
    assert metric["rows"][0]["value"] == [81.0, 82.0, 83.0, 84.0, 85.0]
    assert len(loss["rows"][0]["step"]) == min(POINTS, len(STEPS))
    assert set(penalty["rows"][0]["value"]) == {0.75}
    assert budget["rows"][0]["value"][-1] == 600 - STEPS[-1]


def test_printed_numbers_enter_the_cost_plot_only_for_the_paper_s_model(page: Page) -> None:
    views = [view[0] for key, view in page.charts["cost"]["views"].items() if key.endswith("|adapter")]
    with_paper = {
        view["caption"]: view["rows"] for view in views if any(row["whose"] == "paper" for row in view["rows"])
    }
    assert with_paper.keys() == {f"{task}; deberta_v3_base, data=hub; recipe authors" for task in ("MRPC", "RTE")}
    assert all("minilm" in view["caption"] for view in views if view["caption"] not in with_paper)
    ours = [row for row in with_paper["MRPC; deberta_v3_base, data=hub; recipe authors"] if row["whose"] == "ours"]
    assert {(row["method"], row["n"]) for row in ours} == {("LoRA² k=8", 3), ("BitFit", 1)}


def test_claims_and_benchmark_are_there(page: Page) -> None:
    verdicts = [row["Verdict"] for row in page.rows("Do the paper")]
    assert verdicts.count("holds") == 8
    assert any(row["Peer"] == "LoRA² as released" for row in page.rows("A whole training step"))


def test_the_same_files_give_the_same_page(results: Path) -> None:
    assert build_page(results, LIBRARY) == build_page(results, LIBRARY)


def test_an_empty_folder_gives_a_page_that_says_so(tmp_path: Path) -> None:
    empty = Page(build_page(results_folder(tmp_path), LIBRARY))
    assert "0 of 0" in empty.sections["answer"]
    for section, text in {
        "table1": "Nothing of ours has run here yet",
        "runs": "No run yet",
        "answer": "make sweep EXPERIMENT=study_minilm makes the first",
        "sceptic": "No finished run of LoRA² was followed",
        "curves": "holds its evaluations yet",
        "bench": "No benchmark yet",
        "records": "No record yet",
    }.items():
        assert text in empty.sections[section]
    assert "the paper's numbers, nothing of ours ran" in empty.charts["cost"]["views"]["0|adapter"][0]["caption"]


def test_a_damaged_benchmark_is_named(tmp_path: Path) -> None:
    results = results_folder(tmp_path)
    (results / "bench").mkdir()
    (results / "bench" / "latest.json").write_text('{"spread": 3}', encoding="utf-8")
    with pytest.raises(UserError, match=r"latest\.json: not a benchmark's result"):
        build_page(results, LIBRARY)


def test_the_report_starts_without_torch() -> None:
    code = (
        "import sys; import lora2.analysis.html.page; print({'torch', 'transformers', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_mistake_ends_in_one_message_and_exit_2() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "results.py"), "report", "--results", "/nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "error: " in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
