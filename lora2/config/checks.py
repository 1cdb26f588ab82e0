"""What is wrong with settings, a sentence for each problem: of the wrong type, or unusable alone or together."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lora2.config.initial import STARTABLE
from lora2.config.methods import method_problems
from lora2.glue.tasks import TASKS

SIZES = {  # what must be in an architecture, and the least of it
    "vocab_size": 5,  # four special tokens and a word
    "hidden_size": 1,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 1,
    "max_position_embeddings": 4,
}
COMMIT = re.compile(r"[0-9a-f]{40}")
FILLED = ("recipe", "rank", "method", "budget", "seed")  # what a recipe's row may fill
NO_ROW = ", and the recipe has none for this task"
RESERVED_POSITIONS = dict.fromkeys(  # they count their positions from pad_token_id + 1
    ("roberta", "mpnet", "xlm-roberta", "xlm-roberta-xl", "camembert", "data2vec-text", "roberta-prelayernorm"), 2
)


def task_problems(task: object, source: object) -> list[str]:
    """Say what is wrong with the task's name, if anything.

    Args:
        task: the name.
        source: where its data comes from; one's own files have a task of any other name.
    """
    is_glue = isinstance(task, str) and task in TASKS
    if source == "files":
        return [f"data.name: got {task!r}, a task of GLUE; choose another name: data.name=my-task"] if is_glue else []
    if is_glue:
        return []
    return [f"task: got {task!r}; choose one of {', '.join(TASKS)}, for example task=rte"]


def schema_problems(error: ValidationError, *, task_known: bool) -> list[str]:
    """Put each of pydantic's errors into our words.

    Args:
        error: what the typed tree said.
        task_known: whether there is such a task; without one, what no recipe could fill is not the user's fault.
    """
    found = [_explain(item) for item in error.errors() if item["loc"] != ("task",)]
    return [text for text in found if task_known or NO_ROW not in text]


def combination_problems(values: Mapping[str, Any]) -> list[str]:
    """Say what cannot be used, alone or together, though each value is of the right type.

    Args:
        values: every setting by its dotted path, whether right or wrong by itself.
    """
    found = method_problems(values) + _source_problems(values) + _size_problems(values) + _recipe_problems(values)
    if isinstance(values.get("results_dir"), str) and _exists(str(Path(values["results_dir"], "paper")), Path.is_dir):
        found.append(
            f"results_dir: got {values['results_dir']!r}, where the published records lie beside the papers' numbers; "
            f"give another folder: results_dir=outputs/results; make publish then takes the good runs"
        )
    folders = {name: values.get(name) for name in ("results_dir", "output_dir")}
    return found + [x for name, folder in folders.items() if isinstance(folder, str) for x in _unwritable(name, folder)]


def _explain(item: Mapping[str, Any]) -> str:
    """One pydantic error in our words: field, what it got, what is allowed, how to set it."""
    loc = [str(part) for part in item["loc"]]
    if item["type"] == "union_tag_invalid":
        key, tags = item["ctx"]["discriminator"].strip("'"), item["ctx"]["expected_tags"].replace("'", "")
        return f"{loc[0]}.{key}: got {item['ctx']['tag']!r}; choose one of {tags}: {loc[0]}.{key}=..."
    if loc[0] in ("method", "data"):
        del loc[1:2]  # the union's tag, the method's name or the data's source: not a key of the section
    if loc[:2] == ["method", "targets"]:
        del loc[2:3]  # as above
    path = ".".join(loc)
    if item["type"] == "extra_forbidden":
        return f"{path}: unknown key; use one that --cfg job shows for this section"
    if item["type"] == "missing" or item["input"] is None:
        recipe = NO_ROW if loc[0] in FILLED else ""
        return f"{path}: no value{recipe}; set {path}=..."
    if item["type"] == "string_pattern_mismatch":
        return f"{path}: got {item['input']!r}; use letters, digits and . _ - only: {path}=NAME"
    message = item["msg"][0].lower() + item["msg"][1:]
    rule = message.replace("input should be", "it must be").replace("input", "value")
    key = ".".join(part for part in loc if not part.isdigit())  # of a list, the whole is set
    return f"{path}: got {item['input']!r}; {rule}: {key}=..."


def _source_problems(values: Mapping[str, Any]) -> list[str]:
    """Where data and weights come from."""
    found, path, revision = [], values.get("model.path"), values.get("model.revision")
    if values.get("data.source") == "local" and not _exists(values.get("data.dir"), Path.is_dir):
        found.append(
            f"data.dir: {_got(values.get('data.dir'))}; data=local needs the folder that holds CoLA/, MRPC/ ...: "
            f"data.dir=DIR, or use data=hub or data=demo"
        )
    for key in ("data.train", "data.dev"):
        if isinstance(values.get(key), str) and not _exists(values[key], Path.is_file):
            found.append(f"{key}: {values[key]!r} is no file; give a .csv, .tsv, .json or .parquet: {key}=FILE")
    if values.get("data.on_bad_row") == "drop" and values.get("data.source") in ("hub", "demo"):
        found.append(
            f"data.on_bad_row: got 'drop'; data={values['data.source']} has no bad rows to drop; set "
            f"data.on_bad_row=refuse, or use data=local"
        )
    if values.get("model.keep_head") is True and values.get("model.random_init") is True:
        found.append("model.keep_head: got true, but random weights have no trained head; set model.keep_head=false")
    method = values.get("method.name")
    if values.get("init_from") is not None and method not in STARTABLE:
        found.append(
            f"init_from: got {values['init_from']!r} for method={method}; only {' and '.join(STARTABLE)} can start "
            f"from a run: method=lora, or init_from=null"
        )
    if path is not None and not _exists(path, Path.is_dir):
        found.append(f"model.path: {_got(path)}; give one with config.json, model.safetensors and tokenizer.json")
    from_hub = path is None and values.get("model.package") is None and values.get("model.random_init") is False
    if from_hub and values.get("model.hub_id") is not None and not COMMIT.fullmatch(str(revision)):
        found.append(
            f"model.revision: got {revision!r}; a hub model is pinned by its commit, 40 hexadecimal digits that its "
            f"page lists: model.revision=COMMIT"
        )
    return found


def _size_problems(values: Mapping[str, Any]) -> list[str]:
    """The architecture, and what depends on it."""
    if "model.name" not in values or values.get("model.model_type") is None:
        return []
    sizes = {name: values.get(f"model.architecture.{name}") for name in SIZES}
    wrong = {name: size for name, size in sizes.items() if type(size) is not int or size < SIZES[name]}
    if wrong:
        return [
            f"model.architecture.{name}: got {size!r}; give a whole number from {SIZES[name]}: "
            f"model.architecture.{name}=SIZE"
            for name, size in wrong.items()
        ]
    found, hidden, heads = [], values["model.architecture.hidden_size"], sizes["num_attention_heads"]
    if hidden % heads:
        found.append(
            f"model.architecture.num_attention_heads: got {heads}; it must divide hidden_size={hidden}: "
            f"model.architecture.num_attention_heads=SIZE"
        )
    for name in ("rank.k", "rank.r"):
        size = values.get(name)
        if type(size) is int and size > hidden:
            found.append(f"{name}: got {size}; it can be at most the model's hidden size {hidden}: {name}=SIZE")
    return found + _length_problems(values)


def _length_problems(values: Mapping[str, Any]) -> list[str]:
    """Sequences longer than the model has positions for; one with relative positions alone takes any length."""
    if values.get("model.architecture.position_biased_input") is False:
        return []
    length, limit = values.get("recipe.max_length"), values["model.architecture.max_position_embeddings"]
    limit -= RESERVED_POSITIONS.get(values.get("model.model_type"), 0)  # type: ignore[arg-type]
    if type(length) is not int or length <= limit:
        return []
    return [
        f"recipe.max_length: got {length}; use {limit} or less, as the model has {limit} positions: "
        f"recipe.max_length={limit}"
    ]


def _recipe_problems(values: Mapping[str, Any]) -> list[str]:
    """Batch and warm-up."""
    found = []
    warmups = [name for name in ("warmup_steps", "warmup_ratio") if values.get(f"recipe.{name}") is not None]
    if len(warmups) == 2 or (not warmups and values.get("task") in TASKS):  # no recipe has a row for another task
        found.append("recipe.warmup_steps, recipe.warmup_ratio: set exactly one of the two, and the other to null")
    batch, parts = values.get("recipe.batch_size"), values.get("recipe.accumulation")
    if type(batch) is int and type(parts) is int and 1 <= batch < parts:
        found.append(
            f"recipe.accumulation: got {parts}; use up to recipe.batch_size={batch}, as a batch has no more parts than "
            f"examples: recipe.accumulation=PARTS"
        )
    return found


def _got(folder: object) -> str:
    return "no value" if folder in (None, "") else f"{folder!r} is not a folder"


def _exists(path: object, kind: Callable[[Path], bool]) -> bool:
    """Say whether there is a folder (Path.is_dir) or a file (Path.is_file) of this name."""
    try:
        return isinstance(path, str) and path != "" and kind(Path(path))
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return False


def _unwritable(field: str, folder: str) -> list[str]:
    if not folder:
        return [f"{field}: no value; name a folder that you may write: {field}=DIR"]
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write-test-{id(path)}"
        probe.touch()
        probe.unlink()
    except (OSError, ValueError) as error:  # ValueError: a zero byte
        reason = error.strerror if isinstance(error, OSError) else error
        return [f"{field}: cannot write into {folder!r} ({reason}); choose a folder you may write, {field}=DIR"]
    return []
