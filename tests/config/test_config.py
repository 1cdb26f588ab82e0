"""Every yaml composes and resolves; mistakes are reported together; a run's name follows what matters."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from helpers.runs import CONFIGS, ROOT, compose

from lora2.common.errors import UserError
from lora2.config.identity import IDENTITY_FREE, run_id, setting_id
from lora2.config.resolve import resolve
from lora2.config.schema import RunConfig
from lora2.glue.tasks import TASKS

FILES = sorted(path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.yaml"))
OPTIONS = [(path.parent.name, path.stem) for path in FILES if len(path.parts) == 2]
RECIPES = [name for group, name in OPTIONS if group == "recipe"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # results_dir and output_dir are relative, and resolve looks whether it can write there


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    return compose()


# ------------------------------------------------------------------------------------------------- every yaml file


def test_no_yaml_is_left_out():
    launchers = [path for path in FILES if path.parent.as_posix() == "hydra/launcher"]  # test_multirun.py
    assert len(OPTIONS) + len(launchers) + 1 == len(FILES) >= 28  # train.yaml, and one level of groups
    assert {group for group, _ in OPTIONS} >= {
        "budget", "data", "fidelity", "method", "model", "rank", "recipe", "tracker",
    }  # fmt: skip


@pytest.mark.parametrize(("group", "name"), OPTIONS, ids=["/".join(option) for option in OPTIONS])
def test_every_option_composes_and_resolves(group, name, tmp_path):
    overrides = [f"{group}={name}", "task=rte"]
    if group == "recipe":
        task = next(task for task in TASKS if task in rows(name) or "all" in rows(name))
        overrides = [f"recipe={name}", f"task={task}", f"method={method_of(name)}"]
    if (group, name) == ("data", "local"):
        overrides.append(f"data.dir={tmp_path}")
    if (group, name) == ("data", "files"):
        (tmp_path / "a.csv").touch()
        overrides += [f"data.{split}={tmp_path / 'a.csv'}" for split in ("train", "dev")]
    if (group, name) == ("model", "hub"):
        sizes = yaml.safe_load((CONFIGS / "model" / "minilm.yaml").read_text())
        (tmp_path / "hub").mkdir()
        (tmp_path / "hub" / "config.json").write_text(json.dumps({"model_type": "bert"} | sizes["architecture"]))
        overrides.append(f"model.path={tmp_path / 'hub'}")
    cfg = resolve(compose(*overrides))
    chosen = getattr(cfg, group, None)
    if group in ("model", "method", "tracker", "recipe"):
        assert chosen.name == name
    elif group == "data":
        assert cfg.data.source == name
    elif group == "budget":
        assert (cfg.budget is None) == (name == "none")
    elif group == "rank":
        assert f"k{cfg.rank.k}" == name


def rows(recipe: str) -> dict[str, Any]:
    return yaml.safe_load((CONFIGS / "recipe" / f"{recipe}.yaml").read_text()).get("tasks") or {}


def method_of(recipe: str) -> str:
    """The method a recipe is for, where it is not LoRA²."""
    return {"adalora_paper": "adalora", "lora_table9": "lora"}.get(recipe, "lora2")


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_row_of_every_recipe_resolves(recipe):
    found = rows(recipe)
    tasks = [task for task in TASKS if task in found] or list(TASKS)
    composed = compose(f"recipe={recipe}", f"method={method_of(recipe)}")
    for task in tasks:
        cfg = resolve(composed | {"task": task})
        for path, value in found.get(task, {}).items():
            assert flat(cfg)[path] == value, (task, path)
    named = {row.split(".")[0] for row in found} - {"all"}
    assert named <= set(TASKS)


def flat(cfg: RunConfig | dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every setting by its dotted path."""
    items = (cfg.model_dump() if isinstance(cfg, RunConfig) else cfg).items()
    leaves: dict[str, Any] = {}
    for key, value in items:
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


def test_a_recipe_fills_only_what_the_user_left_open():
    cfg = resolve(compose("recipe=short", "recipe.lr=0.5", "rank.r=3", "budget.target_rank=1", "seed=7"))
    assert (cfg.recipe.lr, cfg.rank.r, cfg.budget.target_rank, cfg.seed) == (0.5, 3, 1, 7)
    assert resolve(compose("recipe=short")).recipe.lr == rows("short")["all"]["recipe.lr"]


def test_methods_without_rank_or_budget_get_none():
    cfg = resolve(compose("method=bitfit"))
    assert (cfg.rank, cfg.budget, cfg.variant) == (None, None, "bitfit")
    cfg = resolve(compose("method=lora2", "budget=none"))
    assert cfg.budget is None
    assert cfg.variant == "lora2_k8_unpruned"


@pytest.mark.parametrize(
    ("overrides", "variant"),
    [
        (("rank=k1",), "lora2_k1"),
        (("rank=k1", "method.penalty.terms=[UV,uv]"), "lora2_k1_reg-uv+UV"),
        (("rank=k8", "method.penalty.terms=[]"), "lora2_k8_reg-none"),
        (("rank=k1", "method.targets=qkv"), "lora2_k1_modules-qkv"),
        (("method=head",), "head"),
    ],
)
def test_the_variant_names_the_row_of_a_table(overrides, variant):
    assert resolve(compose(*overrides)).variant == variant


def test_total_steps_rounds_the_last_batch_up_and_obeys_the_limit():
    recipe = resolve(compose("recipe.epochs=3", "recipe.batch_size=32")).recipe
    assert recipe.total_steps(64) == 6
    assert recipe.total_steps(65) == 9
    assert recipe.model_copy(update={"max_steps": 5}).total_steps(65) == 5


# ------------------------------------------------------------------------------------------------------- mistakes


def problems(composed: dict[str, Any]) -> str:
    with pytest.raises(UserError) as error:
        resolve(composed)
    return str(error.value)


WRONG = {
    "task": "rtee",
    "rank.k": 0,
    "recipe.lr": -1.0,
    "recipe.precision": "bf61",
    "recipe.padding": "longest",
    "recipe.batch_size": 2.5,
    "budget.interval": 0,
    "budget.beta1": 1.0,
    "method.penalty.form": "cubed",
    "method.targets": "everything",
    "seed": -1,
    "tracker.name": "mlflow",
}


def put(composed: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of `composed` with one setting replaced."""
    key, _, rest = path.partition(".")
    return composed | {key: put(composed[key], rest, value) if rest else value}


def test_many_mistakes_are_reported_at_once(base):
    composed = base
    for path, value in WRONG.items():
        composed = put(composed, path, value)
    text = problems(put(composed, "recipe.learning_rate", 1.0))
    assert text.startswith(f"{len(WRONG) + 1} problems in the configuration:")
    assert all(f"\n  {path}: got {value!r}" in text for path, value in WRONG.items())
    assert "recipe.learning_rate: unknown key" in text


@pytest.mark.parametrize("path", WRONG)
def test_one_mistake_names_its_field_and_what_it_got(path, base):
    text = problems(put(base, path, WRONG[path]))
    assert text.startswith(f"configuration: {path}: got {WRONG[path]!r}; ")
    assert "\n" not in text


def test_combinations_are_reported_together(base, tmp_path):
    (tmp_path / "file").touch()
    composed = base
    for path, value in {
        "budget.target_rank": 9,
        "data.source": "local",
        "model.path": "nowhere",
        "recipe.warmup_steps": 5,
        "recipe.warmup_ratio": 0.5,
        "recipe.accumulation": 64,
        "results_dir": str(tmp_path / "file" / "x"),
    }.items():
        composed = put(composed, path, value)
    text = problems(composed)
    fields = [
        "budget.target_rank",
        "data.dir",
        "model.path",
        "recipe.warmup_steps",
        "recipe.accumulation",
        "results_dir",
    ]
    assert text.startswith(f"{len(fields)} problems")
    assert all(f"\n  {field}" in text for field in fields)


def test_wrong_values_and_wrong_combinations_are_reported_together(base):
    composed = put(put(base, "rank.k", 0), "budget.target_rank", 9)
    text = problems(put(composed, "data.source", "local"))
    assert all(field in text for field in ("rank.k: got 0", "budget.target_rank: got 9", "data.dir: no value"))


def test_lora2_needs_an_outer_width(base):
    assert "rank.k: no value" in problems(put(base, "rank.k", None))


def test_a_value_that_nobody_gives_is_named(base):
    composed = put(base, "recipe.tasks", {})
    assert "recipe.lr: no value, and the recipe has none for this task; set recipe.lr=..." in problems(composed)


@pytest.mark.parametrize("lost", ["budget", "rank", "recipe", "method", "data", "model"])
def test_a_missing_section_is_a_user_error(lost, base):
    """`~budget` on the command line takes the whole group away."""
    assert lost in problems({key: value for key, value in base.items() if key != lost})


@pytest.mark.parametrize("task", [["rte", "mrpc"], None, 3])
def test_a_task_that_is_no_name_is_a_user_error(task, base):
    assert "task" in problems(base | {"task": task})


# ------------------------------------------------------------------------------------------------- names of runs

OTHER = {  # another allowed value of each setting that is a word or null
    "model.name": "other",
    "step": "eager",
    "deterministic": False,
    "log": "quiet",
    "model.model_type": "roberta",
    "model.hub_id": "someone/something",
    "model.revision": "0123456789abcdef",
    "model.package": "other_package",
    "model.path": "a/folder",
    "task": "rte",
    "method.targets": "qk",
    "method.init": "paper",
    "method.impl": "fused",
    "method.penalty.terms": ["uv"],
    "method.penalty.form": "norm",
    "budget.scale": "strict",
    "budget.schedule": "printed",
    "budget.score": "full",
    "recipe.name": "other",
    "recipe.max_steps": 7,
    "recipe.warmup_steps": 3,
    "recipe.warmup_ratio": 0.2,
    "recipe.padding": "max_length",
    "recipe.precision": "fp16",
    "recipe.eval_every": 10,
    "recipe.cls_dropout": 0.1,
    "tracker.name": "wandb",
    "data.source": "hub",
    "experiment": "other",
    "results_dir": "elsewhere",
    "output_dir": "elsewhere",
    "data.dir": "elsewhere",
    "data.on_bad_row": "drop",
    "tracker.project": "other",
    "checkpoint.every_steps": 5,
    "selection": "heldout",
    "init_from": "some-run",
}


def other(path: str, value: Any) -> Any:
    if path in OTHER:
        assert OTHER[path] != value, path
        return OTHER[path]
    if isinstance(value, bool):
        return not value
    assert isinstance(value, int | float), f"{path}: add another value for it to OTHER"
    return value + 1 if isinstance(value, int) else value / 2 + 0.01


def settings() -> Iterator[tuple[str, bool]]:
    """(dotted path, whether it must change the name) of every setting of a LoRA² run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lora2.config.checks._unwritable", lambda field, folder: [])
        for path in flat(resolve(compose())).keys() - {"method.name"}:  # another method has other settings
            yield path, path.split(".")[0] not in {*IDENTITY_FREE, "data"}


@pytest.mark.parametrize(("path", "matters"), sorted(settings()))
def test_the_name_follows_what_can_change_the_numbers(path, matters, base):
    cfg = resolve(base)
    changed = RunConfig.model_validate(put(cfg.model_dump(), path, other(path, flat(cfg)[path])))
    assert (run_id(changed, "data") != run_id(cfg, "data")) == matters
    assert (setting_id(changed, "data") != setting_id(cfg, "data")) == (matters and path != "seed")


def test_every_method_has_a_name_of_its_own(base):
    methods = [name for group, name in OPTIONS if group == "method"]
    names = {run_id(resolve(compose(f"method={name}")), "data") for name in methods}
    assert len(names) == len(methods)


def test_adalora_by_peft_keeps_the_name_it_had_before_there_was_a_choice(base, monkeypatch):
    named = []
    dumps = json.dumps
    monkeypatch.setattr(
        "lora2.config.identity.json.dumps", lambda settings, **how: named.append(settings) or dumps(settings, **how)
    )
    ids = {run_id(resolve(compose("method=adalora", *impl)), "data") for impl in ((), ("method.impl=peft",))}
    assert len(ids) == 2
    assert [settings["method"].get("impl") for settings in named] == ["stacked", None]


def test_a_record_from_before_there_was_a_choice_is_pefts():
    settings = resolve(compose("method=adalora")).model_dump()
    del settings["method"]["impl"]
    assert RunConfig.model_validate(settings).method.impl == "peft"


def test_a_record_from_before_lora2s_implementation_was_renamed_is_read_and_keeps_its_name(base):
    cfg = resolve(base)
    settings = cfg.model_dump()
    settings["method"]["path"] = settings["method"].pop("impl")
    older = RunConfig.model_validate(settings)
    assert older == cfg
    assert run_id(older, "data") == run_id(cfg, "data") == "minilm-mrpc-lora2_k8-s0-6af09d23fb8d"


def test_the_folder_of_the_published_records_takes_no_run(tmp_path):
    (tmp_path / "published" / "paper").mkdir(parents=True)
    with pytest.raises(UserError, match=r"results_dir: got 'published', where the published records lie"):
        resolve(compose("results_dir=published"))


def test_only_these_settings_are_free():
    free = {"experiment", "results_dir", "output_dir", "num_workers", "force", "tracker", "checkpoint"}
    free |= {"step", "deterministic", "log"}
    assert set(IDENTITY_FREE) == free


def test_the_data_is_named_by_its_content(base):
    cfg = resolve(base)
    assert run_id(cfg, "one") != run_id(cfg, "two")
    assert setting_id(cfg, "one") != setting_id(cfg, "two")
    assert run_id(cfg, "one") == run_id(resolve(base), "one")
    assert run_id(cfg, "one").startswith("minilm-mrpc-lora2_k8-s0-")


def test_the_version_of_a_task_is_part_of_the_name(base, monkeypatch):
    from dataclasses import replace

    cfg = resolve(base)
    before = run_id(cfg, "data")
    monkeypatch.setattr("lora2.config.task.TASKS", {**TASKS, "mrpc": replace(TASKS["mrpc"], version=2)})
    assert run_id(cfg, "data") != before


def test_seeds_share_a_setting(base):
    first, second = (resolve(base | {"seed": seed}) for seed in (0, 1))
    assert setting_id(first, "data") == setting_id(second, "data")
    assert run_id(first, "data") != run_id(second, "data")


def test_the_configuration_imports_neither_torch_nor_hydra():
    heavy = "{'torch', 'hydra', 'omegaconf', 'transformers'}"
    code = f"import sys, lora2.config.schema, lora2.training.run; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
