"""Mistakes in settings and on command lines: what is typed, and what the message must say."""

from pathlib import Path

from bad_inputs.case import BadInput

TINY = "model=tiny data=demo task=rte rank=k1 recipe.max_steps=4 recipe.precision=fp32"
LONG = "a" * 300


def _setting(what: str, overrides: str, *says: str) -> BadInput:
    return BadInput(what, "config", f"train {TINY} {overrides}", says)


def _command(what: str, command: str, *says: str) -> BadInput:
    return BadInput(what, "config", command, says)


def _file_in_the_way(folder: Path) -> None:
    (folder / "file").touch()


SETTINGS = (
    _setting("unknown task", "task=rtee", "task: got 'rtee'", "choose one of cola, sst2", "task=rte"),
    _setting("two tasks", "task=[rte,mrpc]", "task: got ['rte', 'mrpc']", "choose one of cola", "task=rte"),
    _setting("no task", "task=null", "task: got None", "choose one of cola", "task=rte"),
    _setting("k = 0", "rank.k=0", "rank.k: got 0", "it must be greater than or equal to 1", "rank.k="),
    _setting("k a fraction", "rank.k=1.5", "rank.k: got 1.5", "it must be a valid integer", "rank.k="),
    _setting("no k", "rank.k=null", "rank.k: no value", "LoRA² needs an outer width", "rank.k=8"),
    _setting("k above the model", "rank.k=33", "rank.k: got 33", "at most the model's hidden size 32", "rank.k="),
    _setting("r above the model", "rank.r=1000", "rank.r: got 1000", "at most the model's hidden size 32", "rank.r="),
    _setting("unknown size", "rank=k3", "rank: got 'k3'", "choose one of k1, k8", "rank=..."),
    _setting("target 0", "budget.target_rank=0", "budget.target_rank: got 0", "greater than 0", "budget.target_rank="),
    _setting(
        "target above the start",
        "budget.target_rank=9",
        "budget.target_rank: got 9",
        "above the initial rank.r=8",
        "lower budget.target_rank",
    ),
    _setting(
        "schedule too long",
        "budget.scale=strict recipe.max_steps=30",
        "budget.t_i=600 and budget.t_f=1800",
        "t_i >= 0 and t_f >= 1 with t_i + t_f < 30",
        "or budget.scale=auto",
    ),
    _setting("one step", "recipe.max_steps=1", "budget.t_i, budget.t_f", "has room for no schedule", "budget=none"),
    _setting(
        "precision misspelled",
        "recipe.precision=bf61",
        "recipe.precision: got 'bf61'",
        "it must be 'fp32', 'bf16' or 'fp16'",
        "recipe.precision=",
    ),
    _setting("negative rate", "recipe.lr=-1", "recipe.lr: got -1", "greater than 0", "recipe.lr="),
    _setting("rate not a number", "recipe.lr=nan", "recipe.lr: got nan", "a finite number", "recipe.lr="),
    _setting("rate a word", "recipe.lr=fast", "recipe.lr: got 'fast'", "a valid number", "recipe.lr="),
    _setting("rate a truth", "recipe.lr=true", "recipe.lr: got True", "a valid number", "recipe.lr="),
    _setting("rate an open list", "recipe.lr=[", "recipe.lr: got '['", "write a number, a word", "recipe.lr="),
    _setting("empty batch", "recipe.batch_size=0", "recipe.batch_size: got 0", "equal to 1", "recipe.batch_size="),
    _setting(
        "more parts than examples",
        "recipe.accumulation=64",
        "recipe.accumulation: got 64",
        "use up to recipe.batch_size=32",
        "recipe.accumulation=",
    ),
    _setting("no row", "row=null", "row: got row=null", "choose one of adalora_r2", "or leave it out"),
    _setting("a number for a method", "method=2", "method: got method=2", "choose one of adalora", "method=..."),
    _setting("a list for a name", "method.name=[a]", "method.name: got ['a']", "must be a word", "method.name=NAME"),
    _setting(
        "a number for a recipe's row",
        "recipe.tasks.all=5",
        "recipe.tasks.all: got 5",
        "holds settings by their names",
        "recipe.tasks.all={recipe.lr",
    ),
    _setting(
        "rows that are none", "recipe.tasks=5", "recipe.tasks: got 5", "holds settings by their names", "recipe.tasks="
    ),
    _setting(
        "a number to replay", "fidelity.set=5", "fidelity.set: got 5", "holds settings by their names", "fidelity.set="
    ),
    _setting(
        "two warm-ups",
        "recipe.warmup_steps=5 recipe.warmup_ratio=0.1",
        "recipe.warmup_steps, recipe.warmup_ratio",
        "exactly one of the two",
        "the other to null",
    ),
    _setting("dropout 1", "recipe.cls_dropout=1", "recipe.cls_dropout: got 1", "less than 1", "recipe.cls_dropout="),
    _setting(
        "longer than the model's positions",
        "model=minilm recipe.max_length=513",
        "recipe.max_length: got 513",
        "use 512 or less, as the model has 512 positions",
        "recipe.max_length=512",
    ),
    _setting("padding", "recipe.padding=longest", "recipe.padding: got 'longest'", "'dynamic' or", "recipe.padding="),
    _setting("negative seed", "seed=-1", "seed: got -1", "greater than or equal to 0", "seed="),
    _setting("huge seed", "seed=4294967296", "seed: got 4294967296", "less than 4294967296", "seed="),
    _setting("unknown method", "method=lora3", "method: got 'lora3'", "choose one of adalora, bitfit", "method=..."),
    _setting(
        "unknown matrices",
        "method.targets=every",
        "method.targets: got 'every'",
        "it must be 'all', 'qk', 'qv' or 'qkv'",
        "method.targets=",
    ),
    _setting(
        "unknown regulariser",
        "method.penalty.terms=[uv,xy]",
        "method.penalty.terms.1: got 'xy'",
        "it must be 'uv', 'UV' or 'PQ'",
        "method.penalty.terms=",
    ),
    _setting(
        "half a rank for PEFT",
        "method=adalora method.impl=peft budget.target_rank=2.5",
        "budget.target_rank: got 2.5",
        "PEFT's AdaLoRA takes whole numbers",
        "budget.target_rank=2",
    ),
    _setting(
        "printed schedule for PEFT",
        "method=adalora method.impl=peft budget.schedule=printed",
        "budget.schedule: got 'printed'",
        "PEFT's AdaLoRA needs the released one",
        "budget.schedule=released",
    ),
    _setting("unknown selection", "selection=test", "selection: got 'test'", "'dev' or 'heldout'", "selection="),
    _setting("unknown tracker", "tracker=mlflow", "tracker: got 'mlflow'", "choose one of none, tensor", "tracker=..."),
    _setting("no minutes", "checkpoint.every_minutes=0", "checkpoint.every_minutes: got 0", "greater than 0", "="),
    _setting("misspelled key", "recipe.learning_rate=1", "recipe.learning_rate", "choose one of those", "--cfg job"),
    _setting("no equals sign", "rte", "rte: ", "write settings as group=option or key=value", "task=rte"),
    _setting("appended key", "+more=1", "more: unknown key", "use one that", "--cfg job"),
    _setting(
        "heads that do not divide",
        "model.architecture.hidden_size=33",
        "model.architecture.num_attention_heads: got 2",
        "it must divide hidden_size=33",
        "model.architecture.num_attention_heads=",
    ),
    _setting(
        "architecture without a size",
        "model.architecture.hidden_size=null",
        "model.architecture.hidden_size: got None",
        "give a whole number from 1",
        "model.architecture.hidden_size=",
    ),
    _setting("name with a path", "model.name=../../x", "model.name: got '../../x'", "letters, digits", "model.name="),
    _setting(
        "project with a path", "tracker=wandb tracker.project=../x", "tracker.project: got '../x'", "letters", "="
    ),
    _setting("package with a path", "model.package=../evil", "model.package: got '../evil'", "letters", "="),
    _setting(
        "hub model without a commit",
        "model=roberta_large model.revision=main",
        "model.revision: got 'main'",
        "pinned by its commit, 40 hexadecimal digits",
        "model.revision=COMMIT",
    ),
    _setting(
        "results nowhere", "results_dir=", "results_dir: no value", "a folder that you may write", "results_dir=DIR"
    ),
    BadInput(
        "outputs below a file",
        "config",
        f"train {TINY} output_dir=file/x",
        ("output_dir: cannot write into 'file/x'", "choose a folder you may write", "output_dir=DIR"),
        _file_in_the_way,
    ),
    _setting(
        "results with a long name", f"results_dir={LONG}", "results_dir: cannot write", "a folder you may", "=DIR"
    ),
    # scripts/train.py itself, where Hydra speaks first
    _command(
        "Hydra: misspelled key", "hydra recipe.learning_rate=1", "recipe.learning_rate", "see all keys", "--cfg job"
    ),
    _command("Hydra: unknown option", "hydra model=bert_huge", "model/bert_huge", "Available options", "minilm"),
    _command("Hydra: no equals sign", "hydra rte", "rte", "write settings as", "for example task=rte"),
    _command("Hydra: no such value", "hydra task=${nope}", "nope", "see all keys with", "--cfg job"),
    _command("Hydra: a variable", "hydra model.name=${oc.env:HOME}", "oc.env", "see all keys with", "--cfg job"),
    _command("Hydra: a section less", "hydra ~recipe task=rte", "recipe: no value", "set recipe=", "recipe"),
    # the other commands
    _command(
        "run: experiment", "experiment run table9", "experiment: got 'table9'", "choose one of ablation", "experiment="
    ),
    _command("run: setting", "experiment run table3 task=nope", "task: got 'nope'", "choose one of cola", "task=rte"),
    _command("run: no seed", "experiment run table3 --seeds 0", "--seeds: got 0", "from 1", "--seeds 5"),
    _command(
        "run: seed a word", "experiment run table3 seed=a", "seed: got 'a'", "seeds are whole numbers", "seed=0,1"
    ),
    _command(
        "status: no data",
        "experiment status table3 --data local",
        "data.dir: no value",
        "data=local needs",
        "data.dir=",
    ),
    _command(
        "run: a sweep of no job",
        "experiment run table3 seed=range(0,0)",
        "seed=range(0,0)",
        "give it at least one",
        "seed=choice(a,b)",
    ),
    _command(
        "run: a sweep that cannot be listed",
        "experiment run table3 recipe.lr=interval(0,1)",
        "recipe.lr: got 'interval(0,1)'",
        "a sweep needs values that can be listed",
        "recipe.lr=choice(a,b)",
    ),
    _command(
        "run: too few steps for every job",
        "experiment run table3 recipe.max_steps=30",
        "50 jobs (",
        "t_i >= 0 and t_f >= 1",
        "budget.scale=auto",
    ),
    _command(
        "sweep: too few steps for every job",
        f"hydra -m {TINY} budget.scale=strict seed=0,1",
        "2 jobs (",
        "t_i >= 0 and t_f >= 1",
        "budget.scale=auto",
    ),
    _command(
        "dry run: several values without -m",
        f"hydra {TINY} seed=0,1 --dry-run",
        "seed=0,1: got several values",
        "give one",
        "sweep with -m",
    ),
    _command("run: nothing there", "experiment run demo --data local --data-dir .", "10 jobs", "STS-B", "data.dir"),
    _command("plan: GPU", "experiment plan table3 --gpu T1000", "--gpu: got 'T1000'", "choose one of", "A100"),
    _command(
        "plan: share of what", "experiment plan table3 --utilisation 0.5", "--utilisation", "of which", "--gpu A100"
    ),
    _command(
        "plan: share",
        "experiment plan table3 --gpu A100 --utilisation 2",
        "--utilisation: got 2",
        "a share above 0",
        "up to 1",
    ),
    _command(
        "tables: results",
        "results tables --results no",
        "--results: no folder no",
        "the folder that holds runs/",
        "--results DIR",
    ),
    _command("tables: name", "results tables --table table9", "--table", "invalid choice: 'table9'", "'table1'"),
    _command("claims: results", "results claims --results no", "--results: no folder", "paper", "--results DIR"),
    _command(
        "figures: results",
        "results figures figure3 --results no",
        "--results: no folder no",
        "the folder",
        "--results DIR",
    ),
    _command("figures: form", "results figures figure3 --output x.bmp", "--output: got 'x.bmp'", "one of .png", ".svg"),
    _command("bench: shape", "bench steps --shapes huge", "--shapes: got 'huge'", "choose from minilm", "32x64"),
    _command("bench: rounds", "bench steps --rounds 1", "--rounds: got 1", "at least 4", "--rounds 30"),
    _command("claims: check", "results claims --check", "--check: needs", "--output FILE", "the file whose block"),
    _command("claims: form", "results claims --format html", "--format", "invalid choice: 'html'", "'latex'"),
    _command(
        "diagnostics: page",
        "results diagnostics --output no/page.md",
        "no/page.md: cannot be read",
        "a text file",
        "give",
    ),
    _command(
        "tables: output", "results tables --output /proc/no/x.md", "/proc/no/x.md: cannot be written", "a file", "give"
    ),
    _command("figures: name", "results figures figure4", "figure", "invalid choice: 'figure4'", "'figure3'"),
    _command(
        "figures: output", "results figures figure3 --output /proc/no/x.png", "/proc/no/x.png: cannot", "a file", "give"
    ),
)
