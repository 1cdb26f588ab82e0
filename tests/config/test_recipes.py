"""Recipes: every value of the authors' scripts, the steps they lead to, and how rows are chosen for task and method."""

from pathlib import Path
from typing import get_args

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pydantic import BaseModel

from lora2.common.errors import UserError
from lora2.config.methods import MethodConfig
from lora2.config.resolve import resolve
from lora2.config.schema import RunConfig
from lora2.glue.tasks import TASKS

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
RECIPES = sorted((CONFIGS / "recipe").glob("*.yaml"))
SECTIONS = get_args(get_args(MethodConfig)[0])
METHODS = {name: section for section in SECTIONS for name in get_args(section.model_fields["name"].annotation)}

COLUMNS = [
    "recipe.lr",
    "recipe.epochs",
    "method.penalty.weight",
    "budget.t_i",
    "budget.t_f",
    "budget.interval",
    "recipe.warmup_steps",
    "recipe.warmup_ratio",
    "rank.alpha",
    "recipe.max_length",
    "recipe.weight_decay",
    "recipe.cls_dropout",
    "seed",
    "rank.r",
    "budget.target_rank",
    "recipe.eval_every",
]
# scripts/run_debertav3_{task}.sh of github.com/Godz-z/LoRA-2 @8b8cfbb7
AUTHORS = {
    "mnli": (5e-4, 7, 0.1, 8000, 50000, 100, 1000, None, 16, 256, 0, 0.15, 6, 8, 3, 3000),
    "sst2": (8e-4, 24, 0.1, 6000, 22000, 100, 1000, None, 16, 128, 0.01, 0, 6, 8, 2, 3000),
    "cola": (8e-4, 25, 0.1, 800, 3500, 10, 100, None, 32, 64, 0, 0.10, 6, 4, 3, 100),
    "qqp": (8e-4, 20, 0.1, 8000, 25000, 100, 2000, None, 16, 320, 0.01, 0.15, 6, 8, 3, 3000),
    "qnli": (1.2e-3, 5, 0.1, 2000, 8000, 100, 500, None, 32, 512, 0.01, 0.1, 6, 8, 2, 1000),
    "rte": (1.2e-3, 50, 0.3, 600, 1800, 1, 200, None, 32, 320, 0.01, 0.2, 4, 4, 3, 100),
    "mrpc": (1e-3, 30, 0.1, 600, 1800, 1, None, 0.1, 32, 320, 0.01, 0, 6, 8, 1, 300),
    "stsb": (2.2e-3, 25, 0.3, 800, 2000, 10, 100, None, 32, 128, 0.1, 0.2, 6, 4, 1, 100),
}
# NLU/scripts/run_debertav3_{task}.sh of github.com/QingruZhang/AdaLoRA @d10f5ebe, where they differ from the above
ADALORA = {
    "mnli": {"rank.r": 3, "budget.target_rank": 1},
    "sst2": {"rank.r": 2, "budget.target_rank": 1},
    "cola": {"rank.r": 3, "budget.target_rank": 1},
    "qqp": {"rank.r": 2, "budget.target_rank": 1, "recipe.epochs": 5},
    "qnli": {"rank.r": 2, "budget.target_rank": 1, "recipe.lr": 5e-4},
    "rte": {"rank.r": 2, "budget.target_rank": 1, "seed": 6},
    "mrpc": {"rank.r": 2, "budget.target_rank": 1},
    "stsb": {"rank.r": 2, "budget.target_rank": 1},
}
STEPS = {
    "mnli": 85904,
    "sst2": 50520,
    "cola": 6700,
    "qqp": 227420,
    "qnli": 16370,
    "rte": 3900,
    "mrpc": 3450,
    "stsb": 4500,
}
# lr, epochs, γ, t_i, ΔT, t_f: AdaLoRA, Table 8
TABLE8 = {
    "mnli": (5e-4, 7, 0.1, 8000, 100, 50000),
    "rte": (1.2e-3, 50, 0.3, 600, 1, 1800),
    "qnli": (1.2e-3, 5, 0.1, 2000, 100, 8000),
    "mrpc": (1e-3, 30, 0.1, 600, 1, 1800),
    "qqp": (5e-4, 5, 0.1, 8000, 100, 25000),
    "sst2": (8e-4, 24, 0.1, 6000, 100, 22000),
    "cola": (5e-4, 25, 0.5, 800, 10, 3500),
    "stsb": (2.2e-3, 25, 0.1, 800, 10, 2000),
}
# batch, epochs, lr, length: LoRA, Table 9, "RoBERTa large LoRA"
TABLE9 = {
    "mnli": (4, 10, 3e-4, 128),
    "sst2": (4, 10, 4e-4, 128),
    "mrpc": (4, 20, 3e-4, 512),
    "cola": (4, 20, 2e-4, 128),
    "qnli": (4, 10, 2e-4, 512),
    "qqp": (4, 20, 3e-4, 512),
    "rte": (8, 20, 4e-4, 512),
    "stsb": (8, 30, 2e-4, 512),
}
# lr, epochs, batch: DCFT's RoBERTa-large scripts; r = 8, target 2, seed 6, all else as AUTHORS
DCFT = {
    "mnli": (5e-4, 7, 32),
    "sst2": (8e-4, 30, 32),
    "cola": (8e-4, 25, 32),
    "qqp": (8e-4, 30, 32),
    "qnli": (5e-4, 5, 16),
    "rte": (1.2e-3, 50, 32),
    "mrpc": (1e-3, 30, 32),
    "stsb": (2.2e-3, 25, 32),
}


@pytest.fixture
def configure(tmp_path):
    def make(*overrides):
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            composed = compose("train", ["model=tiny", f"output_dir={tmp_path}", f"results_dir={tmp_path}", *overrides])
        return resolve(OmegaConf.to_container(composed, resolve=True))

    return make


def at(cfg, path):
    """The value at a dotted path."""
    node = cfg.model_dump()
    for part in path.split("."):
        node = node[part]
    return node


def is_field(path, methods):
    """Whether a path is a field of the run's settings, for at least one of the methods."""
    first, *rest = path.split(".")
    if first == "method":
        return any(_within(METHODS[name], rest) for name in methods)
    return _within(RunConfig, [first, *rest])


def _within(section, parts):
    if not parts:
        return True
    field = section.model_fields.get(parts[0]) if issubclass(section, BaseModel) else None
    if field is None:
        return False
    inner = [
        t for t in (field.annotation, *get_args(field.annotation)) if isinstance(t, type) and issubclass(t, BaseModel)
    ]
    return len(parts) == 1 or any(_within(section, parts[1:]) for section in inner)


def test_there_are_seven_recipes():
    assert [p.stem for p in RECIPES] == [
        "adalora_paper", "authors", "authors_short", "dcft_roberta", "demo", "lora_table9", "short",
    ]  # fmt: skip


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_row_is_named_and_filled_with_real_settings(path):
    recipe = yaml.safe_load(path.read_text())
    assert recipe["name"] == path.stem
    for row, values in recipe["tasks"].items():
        task, _, method = row.partition(".")
        assert task in {"all", *TASKS}
        assert method in {"", *METHODS}
        wrong = [setting for setting in values if not is_field(setting, [method] if method else METHODS)]
        assert wrong == []


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_starts_with_what_it_is(path):
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("name", ["authors", "adalora_paper", "lora_table9", "dcft_roberta"])
def test_every_value_of_a_published_recipe_has_its_source(name):
    lines = (CONFIGS / "recipe" / f"{name}.yaml").read_text().split("tasks:\n")[1].splitlines()
    assert [line for line in lines if line.startswith("    ") and " # " not in line] == []


@pytest.mark.parametrize("task", AUTHORS)
def test_authors_is_the_scripts_value_by_value(task, configure):
    cfg = configure("recipe=authors", f"task={task}")
    assert {path: at(cfg, path) for path in COLUMNS} == dict(zip(COLUMNS, AUTHORS[task], strict=True))
    fixed = (cfg.recipe.batch_size, cfg.budget.beta1, cfg.budget.beta2, cfg.method.init, cfg.method.lam_lr_scale)
    assert fixed == (32, 0.85, 0.85, "paper", 1)
    chosen = (
        cfg.recipe.precision,
        cfg.recipe.padding,
        cfg.recipe.group_by_length,
        cfg.budget.scale,
        cfg.method.targets,
    )
    assert chosen == ("fp32", "dynamic", True, "strict", "all")


@pytest.mark.parametrize("task", ["cola", "mrpc", "rte", "stsb"])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_authors_short_is_authors_but_for_epochs_phases_and_precision(task, method, configure):
    whole, short = (
        configure(f"recipe={name}", f"task={task}", f"method={method}") for name in ("authors", "authors_short")
    )
    assert short.recipe.epochs == {"cola": 8, "mrpc": 10, "rte": 20, "stsb": 8}[task] < whole.recipe.epochs
    changed = {"name": "authors_short", "epochs": short.recipe.epochs, "precision": "bf16"}
    same = {"recipe": whole.recipe.model_copy(update=changed)}
    if whole.budget is not None:
        same["budget"] = whole.budget.model_copy(update={"scale": "auto"})
    assert short == whole.model_copy(update=same)


@pytest.mark.parametrize("task", ADALORA)
def test_adalora_has_its_own_scripts_values(task, configure):
    cfg = configure("recipe=authors", f"task={task}", "method=adalora")
    expected = dict(zip(COLUMNS, AUTHORS[task], strict=True)) | ADALORA[task]
    assert {path: at(cfg, path) for path in COLUMNS} == expected


@pytest.mark.parametrize("task", STEPS)
def test_steps_follow_from_the_official_sizes(task, configure):
    cfg = configure("recipe=authors", f"task={task}")
    total = cfg.recipe.total_steps(TASKS[task].rows["train"])
    assert total == STEPS[task]
    assert cfg.budget.t_i + cfg.budget.t_f < total


@pytest.mark.parametrize("task", TABLE8)
def test_adalora_paper_is_table_8(task, configure):
    cfg = configure("recipe=adalora_paper", f"task={task}", "method=adalora")
    r, b = cfg.recipe, cfg.budget
    assert (r.lr, r.epochs, cfg.method.penalty.weight, b.t_i, b.interval, b.t_f) == TABLE8[task]
    assert (r.batch_size, cfg.rank.r, b.target_rank) == (32, 12, 8)
    assert cfg.variant == "adalora_r8"


@pytest.mark.parametrize("task", TABLE9)
def test_lora_table9_is_table_9(task, configure):
    cfg = configure("recipe=lora_table9", f"task={task}", "method=lora")
    assert (cfg.recipe.batch_size, cfg.recipe.epochs, cfg.recipe.lr, cfg.recipe.max_length) == TABLE9[task]
    assert (cfg.recipe.warmup_ratio, cfg.rank.alpha) == (0.06, 16)
    assert cfg.variant == "lora_r8_modules-qv"


@pytest.mark.parametrize("task", DCFT)
def test_dcft_roberta_is_the_scripts_value_by_value(task, configure):
    cfg = configure("recipe=dcft_roberta", f"task={task}")
    own = {"rank.r": 8, "budget.target_rank": 2, "seed": 6, "recipe.lr": DCFT[task][0], "recipe.epochs": DCFT[task][1]}
    expected = dict(zip(COLUMNS, AUTHORS[task], strict=True)) | own
    assert {path: at(cfg, path) for path in COLUMNS} == expected
    assert cfg.recipe.batch_size == DCFT[task][2]


def test_what_the_user_sets_wins_over_every_row(configure):
    cfg = configure("recipe=authors", "task=qnli", "method=adalora", "recipe.lr=1e-5", "rank.r=7", "seed=1")
    assert (cfg.recipe.lr, cfg.rank.r, cfg.seed) == (1e-5, 7, 1)


def test_a_row_does_not_add_the_other_kind_of_warm_up(configure):
    cfg = configure("recipe=authors", "task=rte", "recipe.warmup_ratio=0.06")
    assert (cfg.recipe.warmup_ratio, cfg.recipe.warmup_steps) == (0.06, None)


def test_fidelity_released_replays_the_runner(configure):
    cfg = configure("recipe=authors", "task=mrpc", "fidelity=released")
    recipe, penalty = cfg.recipe, cfg.method.penalty
    assert (recipe.cls_dropout, recipe.padding, recipe.group_by_length) == (0.15, "max_length", False)
    assert (penalty.form, penalty.terms, penalty.weight) == ("norm", ("uv",), 0.1)
    assert recipe.name == "authors-released"


@pytest.mark.parametrize("method", sorted(METHODS))
def test_fidelity_released_suits_every_method(method, configure):
    cfg = configure(f"method={method}", "fidelity=released")
    assert cfg.recipe.cls_dropout == 0.15


def test_fidelity_sets_only_real_settings():
    for path in (CONFIGS / "fidelity").glob("*.yaml"):
        fidelity = yaml.safe_load(path.read_text())
        assert fidelity["name"] == path.stem
        assert [setting for setting in fidelity["set"] if not is_field(setting, METHODS)] == []


@pytest.mark.parametrize(
    ("variant", "overrides"),
    {
        "lora_r1": ["method=lora", "rank.r=1"],
        "lora_r8_modules-qv": ["method=lora", "method.targets=qv"],
        "adalora_r2": ["method=adalora", "rank.r=4", "budget.target_rank=2"],
        "sora_r8": ["method=sora"],
        "sora_r8_modules-qkv": ["method=sora", "method.targets=qkv"],
        "houlsby_b8": ["method=houlsby", "method.bottleneck=8"],
        "pfeiffer_b64": ["method=pfeiffer", "method.bottleneck=64"],
        "full": ["method=full"],
        "lora2_k1": ["rank=k1", "method.penalty.terms=[PQ,UV,uv]"],
        "lora2_k1_reg-uv+UV": ["rank=k1", "method.penalty.terms=[UV,uv]"],
        "lora2_k1_reg-PQ": ["rank=k1", "method.penalty.terms=[PQ]"],
        "lora2_k8_reg-none": ["method.penalty.terms=[]"],
        "lora2_k8_reg-UV+PQ_modules-qk": ["method.penalty.terms=[PQ,UV]", "method.targets=qk"],
    }.items(),
)
def test_variants_are_named_as_the_tables_rows(variant, overrides, configure):
    assert configure(*overrides).variant == variant


def test_outer_width_is_no_setting_of_other_methods(configure):
    assert configure("method=lora", "rank=k1") == configure("method=lora", "rank=k8")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=lora", "method.targets=x"], r"method\.targets: got 'x'"),
        (["method=full", "+method.full=1"], r"method\.full: unknown key"),
        (["method=adalora", "method.penalty.weight=-1"], r"method\.penalty\.weight: got -1"),
        (["method=houlsby", "method.bottleneck=0"], r"method\.bottleneck: got 0"),
        (["budget.target_rank=9"], r"budget\.target_rank: got 9, above the initial rank\.r=8"),
    ],
)
def test_messages_name_the_field_as_the_user_writes_it(overrides, message, configure):
    with pytest.raises(UserError, match=message):
        configure(*overrides)
