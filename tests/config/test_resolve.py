"""The steps from a composed dict to a RunConfig: each alone, none changing its input, and the origins they note."""

import copy
from typing import Any

import pytest
from helpers.runs import CONFIGS, compose

from lora2.config.compose import compose_with_origins
from lora2.config.resolve import Draft, apply_fidelity, drop_unused, fill_from_recipe, resolve_with_origins
from lora2.config.tree import flatten

ROWS = {
    "all": {"recipe.lr": 1, "rank.r": 8},
    "rte": {"recipe.lr": 2},
    "all.lora": {"rank.r": 4},
    "rte.lora": {"recipe.lr": 3},
}


def tree(method: str = "lora", **recipe: Any) -> dict[str, Any]:
    settings = {"name": "r", "lr": None, "warmup_steps": None, "warmup_ratio": None, "tasks": ROWS} | recipe
    budget = {"name": "cubic", "target_rank": 2}
    return {
        "task": "rte",
        "method": {"name": method},
        "rank": {"k": 1, "r": None},
        "budget": budget,
        "recipe": settings,
    }


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("method", "row_of_lr", "row_of_r"), [("lora", "rte.lora", "all.lora"), ("lora2", "rte", "all")]
)
def test_the_most_special_row_fills_what_is_null(method, row_of_lr, row_of_r):
    filled = fill_from_recipe(Draft(tree(method), {}))
    assert filled.tree["recipe"]["lr"] == ROWS[row_of_lr]["recipe.lr"]
    assert filled.tree["rank"]["r"] == ROWS[row_of_r]["rank.r"]
    assert filled.origins == {"recipe.lr": f"recipe r, row {row_of_lr}", "rank.r": f"recipe r, row {row_of_r}"}
    assert "tasks" not in filled.tree["recipe"]


def test_a_warm_up_that_the_user_chose_stands_alone():
    rows = {"all": {"recipe.warmup_ratio": 0.1}}
    assert fill_from_recipe(Draft(tree(tasks=rows), {})).tree["recipe"]["warmup_ratio"] == 0.1
    assert fill_from_recipe(Draft(tree(tasks=rows, warmup_steps=5), {})).tree["recipe"]["warmup_ratio"] is None


def test_fidelity_replaces_what_was_chosen_and_renames_the_recipe():
    fidelity = {"name": "released", "set": {"recipe.lr": 7, "method.absent": 1}}
    draft = apply_fidelity(Draft({**tree(lr=5), "fidelity": fidelity}, {"recipe.lr": "command line"}))
    assert (draft.tree["recipe"]["lr"], draft.tree["recipe"]["name"]) == (7, "r-released")
    assert draft.tree["method"] == {"name": "lora"}
    assert draft.origins["recipe.lr"] == "fidelity released"
    assert "fidelity" not in draft.tree


def test_what_a_method_has_no_use_for_is_dropped_and_what_it_lacks_is_named():
    assert drop_unused(Draft(tree("bitfit"), {})).tree["rank"] is None
    dropped = drop_unused(Draft(tree("lora"), {})).tree
    assert (dropped["rank"]["k"], dropped["budget"]) == (None, None)
    assert drop_unused(Draft(tree("lora2"), {})).tree["budget"] == {"target_rank": 2}
    (problem,) = drop_unused(Draft({**tree("lora2"), "budget": None}, {})).problems
    assert problem.startswith("budget: no value; lora2 needs it")


def test_no_step_changes_its_input():
    for overrides in (["fidelity=released"], ["method=bitfit"], ["budget=none", "method=lora"]):
        composed = compose(*overrides)
        before = copy.deepcopy(composed)
        resolve_with_origins(composed, {})
        assert composed == before


def test_every_setting_has_an_origin():
    composed, origins = compose_with_origins(["task=rte", "method=lora", "recipe=lora_table9"], CONFIGS)
    cfg, found = resolve_with_origins(composed, origins)
    assert found.keys() == flatten(cfg.model_dump(mode="json")).keys()
    assert found["method.name"] == "method/lora.yaml (command line)"
    assert found["budget"] == "not used by lora"
    assert found["rank.k"] == "not used by lora"
    assert found["model.name"] == "model/minilm.yaml (default)"
