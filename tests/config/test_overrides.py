"""One grammar for command lines: any path goes through every command and comes out as it was."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import runs
from helpers.runs import CONFIGS, compose_hydra
from helpers.runs import compose_without_hydra as compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lora2.common.errors import UserError
from lora2.config.grid import expand
from lora2.config.overrides import WRITTEN, literal_paths, parse, quote, shell_command
from lora2.config.resolve import resolve
from lora2.experiments.launchers import new_folder

PATHS = ("data.dir", "data.train", "data.dev", "model.path", "init_from", "results_dir", "output_dir")
ODD = (
    "my glue", "run=1", "a,b", "[x]", "{y}", "(z)", "it's", '"quoted"', "'quoted'", "gl\u00fc\u00e9 \u6570\u636e",
    "a:b", "2024", "1e5", "true", "null.d", "${HOME}", r"\${x}", r"back\slash", "~user", "a b,c=d[e]'f\"",
    "choice(a,b)", "glob(*)", "range(0,3)",
    "%d", "#hash", "a;b", "&", "|x", "$HOME", "`date`", "!x", " lead", "trail ", "new\nline", "\\",
)  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1).filter(
    lambda text: text != "null"
)


@given(TEXT)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example("a\\")
@example("\\${x}")
@example("\\\\${x}'")
def test_a_quoted_text_is_read_back_as_it_was(text):
    word = quote("data.dir", text)
    read = OverridesParser.create().parse_override(word)
    assert not read.is_sweep_override()
    tree = OmegaConf.to_container(OmegaConf.create({"dir": read.value()}), resolve=True)
    assert tree == {"dir": text}
    assert compose([word])["data"]["dir"] == text


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("key", PATHS)
def test_hydra_and_our_composer_take_any_path(key, text, here):
    (here / text).mkdir()
    section, _, name = key.rpartition(".")
    (word,) = literal_paths([f"{key}={text}"])
    group = ["data=files"] if key in ("data.train", "data.dev") else []
    hydras = OmegaConf.to_container(compose_hydra(*group, word), resolve=False)
    hydras.pop("hydra")
    for tree in (OmegaConf.to_container(OmegaConf.create(hydras), resolve=True), compose([*group, f"{key}={text}"])):
        assert (tree[section] if section else tree)[name] == text
    assert literal_paths([word]) == [word]


@pytest.mark.parametrize("text", ["new folder", "out=1", "a,b", "[x", "2024", "choice(a,b)"])
@pytest.mark.parametrize("key", WRITTEN)
def test_a_folder_that_is_still_to_be_made_may_have_any_name(key, text, here):
    assert compose([f"{key}={text}"])[key] == text


def test_what_is_meant_for_the_grammar_is_left_alone(here):
    words = [
        "data.dir='a b'", "data.dir=null", "data.dir=", "model.path=m1,m2", "model.path=choice(m1,m2)",
        "data.dir=${output_dir}/x", "task=rte,mrpc", "recipe.lr=1e-3", "-m",
    ]  # fmt: skip
    assert literal_paths(words) == words
    assert parse("model.path=m1,m2", CONFIGS).words == ("model.path=m1", "model.path=m2")
    assert compose(["data.dir=${output_dir}/x"])["data"]["dir"] == "outputs/x"


@pytest.mark.parametrize(
    "word",
    [
        "seed=range(0,3)", "seed=0,1", "method.impl=choice(auto,plain)", "method=glob(l*)", "seed=sort(3,1,2)",
        "seed=range(0,2,0.5)", "method.penalty.terms=[uv],[uv,UV]", "recipe.lr=1e-3,2e-3", "seed=range(0,0)",
    ],
)  # fmt: skip
def test_a_sweep_has_the_jobs_that_hydra_makes_of_it(word):
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra._internal.utils import create_config_search_path

    Plugins.instance()
    loader = ConfigLoaderImpl(create_config_search_path(str(CONFIGS)))
    read = OverridesParser.create(loader).parse_overrides([word])
    hydras = [job[0] for batch in BasicSweeper.split_arguments(read, None) for job in batch]
    assert list(parse(word, CONFIGS).words) == hydras


@pytest.mark.parametrize("words", 
    [
        ["++recipe.lr=0.5"], ["~tracker"], ["method.penalty={weight: 0.5}"], ["task='rte'"], ["~row"],
        ["row=lora_r8", "~row"], ["seed=+1"], ["seed=1_0"], ["seed=int(1)"], ["seed=${rank.k}"], ["seed=null"],
        ["++recipe.tasks.rte.seed=3"],
    ],
)  # fmt: skip
def test_what_hydra_composes_our_composer_composes_alike(words):
    assert compose(words) == runs.compose(*words)


@pytest.mark.parametrize("seed", ["+1", "1_0", "int(1)", "${rank.k}", "null,1"])
def test_a_seed_is_what_a_run_reads(seed):
    composed = [resolve(compose([f"seed={each}"])).seed for each in seed.split(",")]
    assert [job.cfg.seed for job in expand(None, [f"seed={seed}"], configs=CONFIGS)] == composed


@pytest.mark.parametrize(
    "word",
    ["row=null", "model=1", "tracker=5", "rank=[k1]", "~budget=none", "model@model=tiny", "+row=lora_r8", "+task=rte"],
)
def test_what_is_no_choice_is_refused_by_the_composer_and_the_script_alike(word, here, capfd):
    with pytest.raises(UserError, match=r"choose one of|there is one already"):
        compose([word])
    done = runs.command(word, cwd=here)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_what_is_not_in_the_grammar_is_refused_with_a_quoted_form_that_is():
    with pytest.raises(UserError, match=r"model.hub_id: got 'a=b'; .*: model.hub_id='a=b'") as error:
        compose(["model.hub_id=a=b"])
    assert compose([str(error.value).rsplit(": ", 1)[1]])["model"]["hub_id"] == "a=b"


# ------------------------------------------------------------------------------------------------------ the shell


@pytest.mark.parametrize("text", ["my glue/run=1", "it's a,b [x]", "$HOME `date`", 'say "hi"'])
def test_a_printed_command_runs_when_it_is_pasted(text, here):
    """A script that prints its words stands for scripts/train.py."""
    (here / text).mkdir(parents=True)
    script = here / "my scripts" / "show.py"
    script.parent.mkdir()
    script.write_text("import json, sys; print(json.dumps(sys.argv[1:]))")
    job = expand(None, [f"data.dir={text}", "data=local", "seed=1", "task=mrpc"], configs=CONFIGS)[0]
    line = shell_command(script, job.overrides)
    done = subprocess.run(["bash", "-c", line], cwd=here, capture_output=True, text=True, check=True)
    assert compose(json.loads(done.stdout))["data"]["dir"] == text


@pytest.mark.parametrize("text", ["my glue", "run=1", "a,b", "it's", "[x]", "a$b", 'say "hi"'])
@pytest.mark.parametrize("target", ["mrpc", "plan", "sweep", "table3", "padding"])
def test_make_gives_any_folder_as_one_word(text, target):
    done = subprocess.run(
        ["make", "-n", "--no-print-directory", target, f"DATA_DIR={text}", "VENV=nowhere"],
        cwd=runs.ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (line,) = [x for x in done.stdout.replace("\\\n", " ").splitlines() if text.split("'")[0] in x and "scripts/" in x]
    words = shlex.split(line.partition(";")[0].lstrip("@"))
    assert f"data.dir={text}" in words or words[words.index("--data-dir") + 1] == text


def test_a_sweeps_notes_are_below_the_output_folder(here, monkeypatch):
    monkeypatch.delenv("LORA2_SWEEP", raising=False)
    folder = new_folder(Path("my out"))
    assert folder.parent == here / "my out" / "sweeps"
    assert os.environ.pop("LORA2_SWEEP") == str(folder)
    assert compose_hydra("output_dir='my out'").hydra.sweep.dir == "my out"


def test_the_grammar_needs_no_torch():
    code = "import sys; from lora2.config.overrides import quote; quote('a', 'b=c'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=runs.ROOT, check=True)
