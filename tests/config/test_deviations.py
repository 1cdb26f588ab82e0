"""What a run does otherwise than its recipe says is known; a recipe by another name is whatever its run does."""

import pytest
from helpers import runs
from helpers.runs import CONFIGS, compose_without_hydra

from lora2.config.compose import options, read_option
from lora2.config.deviations import deviation_notes, deviations, has_fewer_epochs
from lora2.config.resolve import resolve

CHANGED = {
    "recipe.lr=0.01": {"recipe.lr": (0.001, 0.01)},
    "recipe.precision=fp32": {"recipe.precision": ("bf16", "fp32")},
    "recipe.epochs=2": {"recipe.epochs": (5, 2)},
    "recipe.eval_every=10": {"recipe.eval_every": (None, 10)},
    "recipe=authors recipe.warmup_steps=5": {"recipe.warmup_ratio": (0.1, None), "recipe.warmup_steps": (None, 5)},
    "rank.alpha=4": {"rank.alpha": (16, 4)},
    "rank.r=4": {"rank.r": (8, 4)},
    "budget.beta1=0.5": {"budget.beta1": (0.85, 0.5)},
    "budget.t_i=3": {"budget.t_i": (600, 3)},
    "method.init=paper": {"method.init": ("orthogonal", "paper")},
    "method.penalty.form=norm": {"method.penalty.form": ("squared", "norm")},
    "method=sora method.sparse_lambda=1": {"method.sparse_lambda": (10, 1)},
    "method=adalora rank.r=20": {"rank.r": (12, 20)},
    "experiment=table4 recipe=authors_short task=rte": {
        "recipe.epochs": (50, 20),
        "recipe.precision": ("fp32", "bf16"),
    },
    "experiment=init recipe.lr=0.01": {"recipe.lr": (0.001, 0.01)},
    "experiment=sweep_r rank.r=4 recipe.epochs=1 task=rte": {"recipe.epochs": (50, 1)},
    "selection=heldout": {"selection": ("dev", "heldout")},
    "model.keep_head=true": {"model.keep_head": (False, True)},
}
AS_NAMED = (
    "", "recipe=authors", "recipe=authors fidelity=released", "row=adalora_r8 recipe=authors", "row=houlsby_b8",
    "method=lora rank.r=4", "method=lora method.targets=qv", "budget=none", "budget.score=full", "rank=k1",
    "method.penalty.terms=[uv]", "method=lora ++budget.t_i=3", "recipe.accumulation=2", "recipe.max_steps=4", "seed=3",
    "method.impl=plain", "init_from=x", "recipe.name=mine recipe.lr=0.01 recipe.epochs=1 rank.alpha=4", "method=head",
    "experiment=table4", "experiment=sweep_r rank.r=4", "experiment=init recipe.name=mine recipe.lr=1",
    "budget.score=magnitude budget.beta1=0.5", "budget.score=sensitivity budget.beta2=0.5",
    "init_from=x method.init=paper", "method.penalty.weight=0 method.penalty.form=norm recipe.name=mine",
)  # fmt: skip


def found(line: str):
    tree = compose_without_hydra(line.split())
    return deviations(tree, resolve(tree), CONFIGS)


@pytest.mark.parametrize("line", CHANGED)
def test_what_a_table_would_show_under_the_recipes_name_is_known(line):
    assert found(line) == CHANGED[line]
    (note,) = deviation_notes("short", found(line))
    assert note.startswith("recipe short, changed: ")
    assert all(f"{path} {done} instead of {said}" in note for path, (said, done) in CHANGED[line].items())


@pytest.mark.parametrize("line", AS_NAMED)
def test_what_the_names_say_or_what_changes_nothing_is_no_deviation(line):
    assert found(line) == {}
    assert deviation_notes("short", {}) == []


def test_fewer_epochs_end_a_run_early_and_more_do_not():
    assert has_fewer_epochs(found("recipe.epochs=4"))
    assert not has_fewer_epochs(found("recipe.epochs=6"))
    assert not has_fewer_epochs(found("recipe.lr=0.01"))


def test_every_recipe_has_the_name_of_its_file():
    assert all(read_option("recipe", name, CONFIGS)["name"] == name for name in options("recipe", CONFIGS))


@pytest.mark.parametrize("name", [name for name in options("experiment", CONFIGS) if name != "table2"])  # times alone
def test_no_experiment_changes_a_recipe_and_keeps_its_name(name):
    for job in runs.expand(name):
        assert found(" ".join(job.overrides)) == {}, job.label
