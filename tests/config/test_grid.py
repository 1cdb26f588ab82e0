"""Every experiment expands, composes as Hydra composes it, resolves, and one job of each runs."""

import re
import subprocess
import sys

import pytest
import yaml
from helpers import runs
from helpers.runs import CONFIGS, expand, grid
from helpers.runs import compose_without_hydra as compose

from lora2.analysis.paper import load_table
from lora2.common.errors import UserError
from lora2.config.compose import compose_with_origins, options, read_option
from lora2.config.grid import experiments
from lora2.config.identity import run_id
from lora2.config.resolve import resolve
from lora2.training.run import run

JOBS = {
    "ablation_contributions": 80, "demo": 10, "figure3": 20, "importance": 80, "importance_cheap": 36, "init": 8,
    "lora_mnli_init": 15, "methods": 11, "roberta_large": 240, "sceptic": 5, "study_authors": 200, "study_minilm": 48,
    "sweep_k": 120, "sweep_r": 80, "table1": 400, "table2": 56, "table3": 100, "table4": 80, "unpruned": 80,
}  # fmt: skip
COMMAND = r"# make ({name}|sweep EXPERIMENT={name}|study MODEL=mpnet)( DATA=local DATA_DIR=\.\./glue)?"
TINY = ["model=tiny", "data=demo", "task=rte", "recipe=demo", "recipe.max_steps=2", "recipe.precision=fp32"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_experiment_is_known_with_its_number_of_jobs():
    assert {name: len(expand(name)) for name in experiments(CONFIGS)} == JOBS
    assert len(options("row", CONFIGS)) == 20


def test_a_seed_comes_after_the_other():
    seeds = [job.cfg.seed for job in expand("study_minilm")]
    assert seeds == [0] * 16 + [1] * 16 + [2] * 16


@pytest.mark.parametrize("name", JOBS)
def test_each_file_begins_with_its_command(name):
    lines = (runs.CONFIGS / "experiment" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# @package _global_"
    assert re.fullmatch(COMMAND.format(name=name), lines[1])
    assert read_option("experiment", name, CONFIGS)["experiment"] == name


@pytest.mark.parametrize("name", JOBS)
def test_jobs_compose_as_hydra_composes_them(name):
    every_cell = list({job.cell.replace(f"task={job.cfg.task}", ""): job for job in expand(name)}.values())
    for job in every_cell:
        assert compose(job.overrides) == runs.compose(*job.overrides)
        assert resolve(compose(job.overrides)) == job.cfg


def test_a_recipe_built_on_another_composes_as_hydra_composes_it():
    words = ["recipe=authors_short", "task=rte"]
    assert compose(words) == runs.compose(*words)
    origins = compose_with_origins(words, CONFIGS)[1]
    assert origins["recipe.max_grad_norm"] == "recipe/authors.yaml (command line)"
    assert origins["recipe.precision"] == "recipe/authors_short.yaml (command line)"


@pytest.mark.parametrize("row", options("row", CONFIGS))
def test_rows_are_named_by_their_variant(row):
    variant = resolve(compose([f"row={row}", "recipe=authors"])).variant
    exceptions = {
        "no_projection": "adalora_r1",
        "adalora_r2_peft": "adalora_r2",
        "adalora_r8_peft": "adalora_r8",
        "no_regulariser": "lora2_k8_reg-none",
        "full_importance": "lora2_k8_score-full",
    }
    assert variant == exceptions.get(row, row)


def test_the_study_has_the_rows_of_table1_and_the_papers_shapes():
    study, paper = expand("study_authors"), load_table("table1", runs.ROOT / "results" / "paper")
    assert {job.cfg.variant for job in study} == set(paper.rows)
    assert {(job.cfg.model.name, job.cfg.recipe.name) for job in study} == {("mpnet", "authors_short")}
    assert [job.cfg.seed for job in study] == [seed for seed in range(5) for _ in range(40)]


@pytest.mark.parametrize("name", ["table1", "table3", "table4"])
def test_a_printed_table_is_covered_cell_by_cell(name):
    paper = load_table(name, runs.ROOT / "results" / "paper")
    assert {(job.cfg.variant, job.cfg.task) for job in expand(name)} == {
        (variant, task) for variant in paper.rows for task in paper.columns
    }
    assert {job.cfg.model.name for job in expand(name)} == {paper.model}


def test_rows_of_table2_and_of_roberta_large_have_the_papers_names():
    for name, ours in (("table2", "table2"), ("roberta_large", "roberta_large")):
        printed = load_table(name, runs.ROOT / "results" / "paper").rows.keys()
        assert len(printed & {job.cfg.variant for job in expand(ours)}) == {"table2": 2, "roberta_large": 4}[name]


@pytest.mark.parametrize("name", JOBS)
def test_one_job_of_each_experiment_runs_two_steps(name):
    job = expand(name, [*TINY, "init_from=null"], seeds=1)[-1]
    assert run(job.cfg) == 0


def test_the_user_replaces_and_adds_axes():
    jobs = expand("table3", ["task=rte,mrpc", "rank.r=4", "recipe.lr=1e-3,2e-3"], seeds=2)
    assert len(jobs) == 5 * 2 * 2 * 2
    assert {job.cfg.rank.r for job in jobs} == {4}
    assert {job.cfg.seed for job in jobs} == {0, 1}
    assert expand("table3", ["task=rte"], seeds=1)[0].overrides == (
        "experiment=table3", "task=rte", "method.penalty.terms=[uv]", "seed=0",
    )  # fmt: skip


def test_two_names_of_one_setting_are_one_job():
    assert len(expand("table1", ["row=lora_r8", "rank=k1,k8"], seeds=1)) == 8
    assert len({run_id(job.cfg, "") for job in expand("table1")}) == 400


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("table9",), "experiment: got 'table9'; choose one of ablation_contributions"),
        (("table3", ["nonsense"]), "nonsense: write settings as group=option or key=value"),
        (("table3", ["+a=1"]), "a: unknown key"),
        (("table3", ["recipe.lrr=1"]), "recipe.lrr: no such setting"),
        (("table3", ["model=bort"]), "model: got 'bort'; choose one of deberta_v3_base"),
        (("table3", ["recipe.lr=-1"]), "recipe.lr: got -1"),
        (("table3", ["seed=a,b"]), "seed: got 'a'"),
        (("table3", ["seed=4294967296"]), "seed: got '4294967296'"),
        (("table3", ["seed=range(0,0)"]), "seed=range(0,0): a sweep over no value has no job"),
        (
            ("table3", ["recipe.lr=interval(0,1)"]),
            "recipe.lr: got 'interval(0,1)'; a sweep needs values that can be listed",
        ),
        (("table3", ["recipe.eval_every=${nope}"]), "'nope' not found"),
        (("table3", [], 0), "--seeds: got 0"),
    ],
)
def test_mistakes_name_the_field(arguments, message):
    with pytest.raises(UserError, match=re.escape(message)):
        expand(*arguments)


def test_an_experiment_needs_a_grid(monkeypatch):
    monkeypatch.setattr("lora2.config.grid.read_option", lambda group, option, configs: {})
    with pytest.raises(UserError, match="no hydra"):
        grid("table1")


def test_hydra_reads_the_same_grid():
    with (runs.CONFIGS / "experiment" / "table4.yaml").open(encoding="utf-8") as file:
        params = yaml.safe_load(file)["hydra"]["sweeper"]["params"]
    assert params == {"method.targets": "qk,qv,qkv,all", "task": "cola,mrpc,stsb,rte", "seed": "0,1,2,3,4"}


def test_a_listing_imports_no_torch():
    code = f"""
import sys
from pathlib import Path
from lora2.config.grid import expand
expand("table1", configs=Path({str(CONFIGS)!r}))
print({{"torch", "transformers"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=runs.ROOT, check=True)
    assert done.stdout == "set()\n"
