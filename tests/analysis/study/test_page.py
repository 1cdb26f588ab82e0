"""docs/STUDY.md and the README's lines: a golden page, findings that follow the numbers, links that lead somewhere."""

from __future__ import annotations

import re

import pytest
from helpers.fake_records import PAPERS, ROOT, results_folder, save
from helpers.fake_study import shared, study_run, timed, trials, tuned

from lora2.analysis.study.models import model_studies
from lora2.analysis.study.page import study_page
from lora2.analysis.study.pictures import draw_pictures
from lora2.analysis.study.publish import show_study
from lora2.analysis.study.readme import readme_block, readme_table
from lora2.runs.reader import parse_run
from scripts import results as script

GOLDEN = ROOT / "tests" / "analysis" / "golden" / "study.md"
ALL = [*shared(), *tuned(), *trials(), *timed()]


def page(records, model=None):
    return study_page(model_studies([parse_run(record) for record in records], PAPERS, model))


def finding(text, number, model="minilm"):
    part = text.split(f"### {model}\n")[1].split("\n\n")[0]
    return next(line for line in part.splitlines() if line.startswith(f"{number}. "))


def test_golden_page():
    """Renew it with `python tests/analysis/study/test_page.py`, and read what changed."""
    assert page(ALL) == GOLDEN.read_text(encoding="utf-8")


def test_every_number_s_record_is_linked():
    linked = set(re.findall(r"\(\.\./results/runs/([^)]*)\.json\)", page(ALL)))
    assert linked == {record["run_id"] for record in ALL if record["status"] != "timed"}


def test_nothing_is_ever_significant():
    assert "significan" not in page(ALL).lower()


def test_scores_that_nobody_re_derived_are_marked():
    verified = [{**record, "verified": {"passed": True}} for record in shared()]
    assert "°" not in page(verified)
    (line,) = [line for line in page([shared()[0], *verified[1:]]).splitlines() if "°" in line and "|" in line]
    assert line.count("°") == 1


def test_findings_follow_the_numbers():
    text = page(shared())
    assert "LoRA² k=1 is not told apart from LoRA r=1" in finding(text, 1)
    assert "LoRA² k=8 is 3.22 points above LoRA r=8 (1.30 to 5.13)" in finding(text, 2)
    assert "not run yet" in finding(text, 3)
    assert "1 of 30 runs collapsed to one prediction: LoRA r=8 on RTE 1." in finding(text, 5)
    swap = {"lora2_k8": "lora_r8", "lora_r8": "lora2_k8"}
    scores = [(record["config"], 100 * record["metrics"]["best"]["accuracy"]) for record in shared()]
    turned = [study_run(swap.get(c["variant"], c["variant"]), c["task"], c["seed"], score) for c, score in scores]
    assert "LoRA² k=8 is 3.22 points behind LoRA r=8 (−5.13 to −1.30)" in finding(page(turned), 2)
    assert "None of 30 runs collapsed or diverged." in finding(page(turned), 5)


def test_at_its_best_the_other_method_may_catch_up():
    text = page(ALL)
    assert "LoRA² k=8 is not told apart from LoRA r=8 (+0.22" in finding(text, 3)
    assert "A step of LoRA² k=8 takes 0.90 of LoRA r=8's." in finding(text, 5)


def test_one_method_alone_at_its_best_is_no_pair_and_has_run():
    alone = [record for record in tuned() if record["config"]["variant"] == "lora2_k8"]
    assert "3. Each method at its best: no pair yet; `make tune MODEL=minilm`" in finding(page([*shared(), *alone]), 3)


def test_what_collapsed_or_diverged_is_counted_among_the_trials():
    (line,) = [line for line in page(ALL).splitlines() if line.startswith("| MRPC | LoRA² k=8 | 0.001 | 81.00 |")]
    assert "| 0.0005 to 0.001 | ×2 | 2 of 9 |" in line


def test_the_second_comparison_s_runs_are_made_by_the_study_s_command():
    lines = page(ALL).splitlines()
    start = "python scripts/experiment.py"
    shared_row = "row=lora_r8 task=mrpc,rte seed=0,1,2 data=local data.dir=../glue"
    assert f"{start} run study_minilm --model minilm {shared_row}" in lines
    assert f"{start} study --model minilm row=lora_r8 task=mrpc,rte data=local data.dir=../glue" in lines


def test_margins_are_counted_by_verdict():
    assert finding(page(shared()), 4).endswith("1 contradicted, 1 supported.")
    few = [record for record in shared() if record["config"]["seed"] < 2]
    assert finding(page(few), 4).endswith("2 not judged (too few seeds).")
    one = [record for record in shared() if record["config"]["task"] == "mrpc"]
    assert finding(page(one), 4).endswith("2 not judged (one task).")
    assert "points above" not in finding(page(one), 2)


def test_what_has_no_runs_names_its_command():
    text = page([])
    assert "### minilm\nNo runs yet: `make sweep EXPERIMENT=study_minilm`." in text
    assert "### mpnet\nNo runs yet: `make sweep EXPERIMENT=study_authors MODEL=mpnet`." in text


def test_a_study_of_marked_runs_alone_says_so():
    records = [study_run("lora2_k8", "mrpc", 0, 80.0, model="tiny", model_random_init=True, data="demo")]
    assert "No run without a caveat yet, 1 run(s) (synthetic, random weights) left out" in page(records)
    assert "## tiny" not in page(records).replace("### tiny", "")


def test_methods_that_ran_on_no_common_task_have_no_picture_of_cost(tmp_path):
    apart = [study_run("lora2_k8", "mrpc", 0, 80.0), study_run("lora_r8", "rte", 0, 60.0)]
    (study,) = model_studies([parse_run(record) for record in apart], PAPERS, "minilm")
    named = set(re.findall(r'figures/([^"]*)"', study_page([study])))
    assert named == {path.name for path in draw_pictures(study, tmp_path)}
    assert not any("cost" in name for name in named)


def test_the_page_tells_what_the_encoder_was_tuned_on():
    runs = [study_run("full", "rte", seed, 70.0, model="mpnet", recipe="authors_short") for seed in (0, 1)]
    limits = page(runs).split("## Limits\n")[1]
    assert limits.startswith("MPNet has DeBERTaV3-base's shapes")
    assert "AllNLI, Quora and SQuAD among them: scores on MNLI, QQP and QNLI are not clean." in limits
    assert "AllNLI, Quora and SQuAD" in readme_table(model_studies(list(map(parse_run, runs)), PAPERS, "mpnet"))


def test_the_page_says_whose_adalora_it_is():
    assert "AdaLoRA is this project's, on LoRA²'s stacks" in page([])


def test_lines_say_what_holds_what_was_trained_and_what_was_not():
    runs = [parse_run(record) for record in ALL]
    holds, trained, missing, _, picture = readme_block(model_studies(runs, PAPERS), PAPERS, ["minilm"]).splitlines()
    assert "of 27 claims of the paper, 8 hold, 6 hold only if …, 12 do not hold, 1 cannot be checked" in holds
    assert "minilm, at one shared rate (MRPC, RTE; 3 seeds): LoRA² k=1 is" in trained
    assert "minilm, each method at its best (MRPC, RTE; 3 seeds): LoRA² k=8 is not told apart" in trained
    assert "deberta_v3_base, roberta_large" in missing
    assert "mpnet, at one shared rate (`make sweep EXPERIMENT=study_authors MODEL=mpnet`)" in missing
    assert 'src="results/figures/study_minilm_tuned.svg"' in picture


def test_lines_without_a_study_and_with_the_paper_s_models():
    text = readme_block(model_studies([], PAPERS), PAPERS, ["deberta_v3_base", "roberta_large"])
    assert "nothing over seeds yet" in text
    assert "own encoders" not in text
    assert "<picture>" not in text


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with a study's records, whose page and README the command may write."""
    (tmp_path / "results").mkdir()
    save(results_folder(tmp_path / "results"), *ALL)
    (tmp_path / "docs").mkdir()
    blocks = "".join(f"<!-- {name}:begin -->\n<!-- {name}:end -->\n" for name in ("study", "results"))
    (tmp_path / "README.md").write_text(f"# top\n{blocks}below\n")
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_showing_is_not_writing(project, capsys):
    before = sorted(project.rglob("*"))
    assert script.main(["study"]) == 0
    assert "## Findings" in capsys.readouterr().out
    assert script.main(["study", "--lines"]) == 0
    assert capsys.readouterr().out.startswith("- **By arithmetic**")
    assert sorted(project.rglob("*")) == before


def test_a_record_that_is_not_published_is_linked_where_it_lies(project, capsys):
    assert script.main(["study"]) == 0
    name = re.search(r"\]\(\.\./results/runs/([^)]*)\)", capsys.readouterr().out)[1]
    own = project / "outputs" / "results" / "runs"
    own.mkdir(parents=True)
    (project / "results" / "runs" / name).rename(own / name)
    assert script.main(["study"]) == 0
    said = capsys.readouterr().out
    assert f"](outputs/results/runs/{name})" in said
    assert f"](../results/runs/{name})" not in said
    assert "](../results/runs/" in said


def test_the_page_is_written_with_its_pictures_and_checked(project):
    page_path = project / "docs" / "STUDY.md"
    assert script.main(["study", "--check"]) == 1
    assert script.main(["study", "--write"]) == 0
    assert script.main(["study", "--check"]) == 1  # the README
    assert script.main(["study", "--lines", "--write"]) == 0
    assert script.main(["study", "--check"]) == 0
    named = set(re.findall(r'(?:src|srcset)="\.\./([^"]*)"', page_path.read_text()))
    assert named == {path.relative_to(project).as_posix() for path in (project / "results" / "figures").iterdir()}
    page_path.write_text(page_path.read_text().replace("3.22", "9.99"))
    assert script.main(["study", "--check"]) == 1


def test_the_lines_go_into_the_readme_s_block(project):
    assert script.main(["study", "--lines", "--write"]) == 0
    text = (project / "README.md").read_text()
    assert text.startswith("# top\n<!-- study:begin -->\n- **By arithmetic**")
    assert "| Method | Adapter params | MRPC acc, best / last | RTE acc, best / last |" in text
    assert "Made by `make tune MODEL=minilm` and `make study MODEL=minilm`." in text
    assert text.endswith("<!-- results:end -->\nbelow\n")


def test_own_runs_are_shown_and_never_written(project, capsys):
    own = project / "outputs" / "results"
    own.mkdir(parents=True)
    (own / "runs").mkdir()
    save(own, study_run("sora_r8", "mrpc", 0, 80.0))
    assert script.main(["study"]) == 0
    assert "SoRA r=8" in capsys.readouterr().out
    assert script.main(["study", "--write"]) == 0
    assert "| SoRA r=8 |" not in (project / "docs" / "STUDY.md").read_text()


def test_results_without_the_papers_numbers_are_one_message(tmp_path, capsys):
    assert script.main(["study", "--results", str(tmp_path)]) == 2
    assert "no folder" in capsys.readouterr().err


def test_the_published_page_is_what_its_records_give(capsys):
    assert script.main(["study", "--check"]) == 0, capsys.readouterr().err


def test_show_study_takes_one_model(project, capsys):
    assert show_study([project / "results"], "mpnet", lines=False) == 0
    assert "minilm" not in capsys.readouterr().out


if __name__ == "__main__":
    GOLDEN.write_text(page(ALL), encoding="utf-8")
