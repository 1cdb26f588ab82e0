"""A setting that somebody typed and that changes nothing is told; a default that changes nothing is not."""

import subprocess

import pytest
from helpers import runs
from helpers.runs import CONFIGS, compose

from lora2.config.resolve import resolve_with_origins
from lora2.config.schedule import limit_notes
from lora2.config.unused import given_settings, unused_settings

IDLE = {
    "rank.k=4 method=lora": "rank.k: given, but without effect here (not used by lora)",
    "rank.r=4 method=bitfit": "rank.r: given, but without effect here (not used by bitfit)",
    "budget.target_rank=2 method=lora": "budget.target_rank: given, but without effect here (not used by lora)",
    "recipe.padding=dynamic fidelity=released": "recipe.padding: given, but without effect here (fidelity released)",
    "data.dir=x data=demo": "data.dir: given, but without effect here (data=demo reads no folder)",
    "model=tiny model.hub_id=a/b": "model.hub_id: given, but without effect here (model.random_init=true",
    "model.path=. model.package=abc": "model.package: given, but without effect here (the weights come",
    "model.hub_id=a/b": "model.hub_id: given, but without effect here (the weights come from model.package)",
    "method=adalora budget.score=reduced": "budget.score: given, but without effect here (adalora has one score",
    "model.architecture.num_hidden_layers=2": "model.architecture.num_hidden_layers: given, but without effect here",
    "tracker=none +tracker.project=x": "tracker.project: given, but without effect here (tracker=none logs nowhere)",
    "method.penalty.terms=[] method.penalty.weight=0.3": "method.penalty.weight: given",
    "method.penalty.weight=0 method.penalty.form=norm": "method.penalty.form: given",
    "method.penalty.weight=0 method.penalty.terms=[uv]": "method.penalty.terms: given",
    "budget.score=magnitude budget.beta1=0.5": "budget.beta1: given, but without effect here (budget.score=magnitude",
    "budget.score=magnitude budget.beta2=0.5": "budget.beta2: given",
    "budget.score=sensitivity budget.beta2=0.5": "budget.beta2: given",
    "init_from=x method.init=paper": "method.init: given, but without effect here (the factors start as those of",
}
USED = (
    "rank=k8 method=lora", "rank=k1 method=full", "budget=none method=lora", "rank.k=4", "rank.r=4 method=lora",
    "budget.target_rank=2", "recipe.lr=0.1", "model.path=.", "method.penalty.weight=0", "method.penalty.terms=[]",
    "data.dir=null", "rank.k=null method=lora", "model=tiny model.architecture.num_hidden_layers=3",
    "output_dir=o results_dir=r num_workers=1 seed=3 selection=heldout",
)  # fmt: skip


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def told(line: str) -> list[str]:
    given = given_settings(line.split(), CONFIGS)
    cfg, origins = resolve_with_origins(compose(*line.split()), given)
    return unused_settings(cfg, given, origins)


@pytest.mark.parametrize("line", IDLE)
def test_what_does_nothing_is_told_once(line):
    (note,) = told(line)
    assert note.startswith(IDLE[line])


@pytest.mark.parametrize("line", USED)
def test_what_is_used_or_a_default_is_not_told(line):
    assert told(line) == []


@pytest.mark.parametrize(("steps", "count"), [(300, 1), (161, 1), (160, 0), (100, 0), (None, 0)])
def test_a_limit_beyond_the_last_epoch_is_told(steps, count):
    recipe = resolve_with_origins(compose("recipe=short"), {})[0].recipe.model_copy(update={"max_steps": steps})
    notes = limit_notes(recipe, 1024)
    assert len(notes) == count
    assert all(f"recipe.max_steps={steps}: given, but" in note and "end after 160 steps" in note for note in notes)


@pytest.mark.parametrize(
    "line",
    [
        "mrpc METHOD=lora K=4",
        "mrpc METHOD=full K=1",
        "mrpc SEEDS=3",
        "table1 K=4",
        "sweep METHOD=lora",
        "demo K=4",
        "demo ARGS=--dry-run",
        "table1 EXPERIMENT=table3",
        "table2 EXPERIMENT=table3",
        "tables DATA=hub",
        "report K=1",
        "claims MODEL=tiny",
        "figure3 RECIPE=short",
        "sceptic SEEDS=2",
        "study-page MODEL=tiny",
        "publish RUN=x",
        "dashboard MODEL=tiny",
        "export DATA_DIR=x",
        "verify MODEL=tiny",
        "submission SEED=1",
        "bench MODEL=tiny",
        "padding MODEL=tiny",
    ],
)
def test_make_refuses_a_variable_that_it_would_ignore(line):
    command = ["make", "-n", *line.split()]
    done = subprocess.run(command, cwd=runs.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"{line.split()[-1]}: {line.split()[0]} has no use for it" in done.stderr


def test_make_gives_each_method_its_own_size():
    def words(*line: str) -> str:
        return subprocess.run(["make", "-n", *line], cwd=runs.ROOT, capture_output=True, text=True, check=True).stdout

    assert "rank.k=4" in words("mrpc", "K=4")
    assert "rank.k=" not in words("mrpc", "METHOD=lora")
    assert "rank.r=4" in words("mrpc", "METHOD=lora", "R=4")
