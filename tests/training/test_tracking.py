"""What trackers are told, read back from their own files; and that nothing they or a server do disturbs a run."""

import contextlib
import functools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from helpers.clocks import without_clocks
from helpers.fake_wandb import serve
from helpers.runs import ROOT, TINY, compose, import_path

from lora2.common.wandb_key import has_wandb_key
from lora2.config.resolve import resolve
from lora2.glue.data import load_raw
from lora2.runs.record import RunRecord, read_record
from lora2.training.run import run
from lora2.training.step import TrainStep
from lora2.training.tracking import tracker as tracking
from lora2.training.tracking.tracker import Tracking, curve, summary

STEPS, STOPPED = 5, 3
JOB = (
    *TINY, f"recipe.max_steps={STEPS}", "recipe.eval_every=2", "budget.t_i=1", "budget.t_f=1", "budget.interval=1",
    "results_dir=results", "output_dir=outputs",
)  # fmt: skip
KEYS = {"lr", "loss/task", "loss/orth_uv", "tokens_per_s", "eval/accuracy", "budget", "monitor/orth_PQ"}
KEYS |= {f"rank/layer.{layer}.{matrix}" for layer in (0, 1) for matrix in ("query", "ffn_w2")}


needs_wandb = pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed, as under make gpu-check")


@pytest.fixture(scope="module", autouse=True)
def _alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No key, no files of the user's; the demo data is made once."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        for name in ("HOME", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "TRACKIO_DIR"):
            patch.setenv(name, str(home))
        patch.setenv("NETRC", str(home / "none"))
        patch.setattr("lora2.config.task.load_raw", functools.cache(load_raw))
        yield


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """The processes that upload; ended with the test, they would live as long as this process."""
    started: list[subprocess.Popen[bytes]] = []
    start = tracking.start_upload
    monkeypatch.setattr(tracking, "start_upload", lambda folder: started.append(start(folder)) or started[-1])
    yield started
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def only_record() -> RunRecord:
    (file,) = Path("results/runs").glob("*.json")
    return read_record(file)


# ------------------------------------------------------------------------------------------------- what they are told


@dataclass
class Logged:
    """What a tracker's files hold: numbers by step, of each of the processes that had a part in the run."""

    curves: list[dict[int, dict[str, float]]]
    config: dict[str, Any]

    @property
    def curve(self) -> dict[int, dict[str, float]]:
        whole: dict[int, dict[str, float]] = defaultdict(dict)
        for part in self.curves:
            for step, numbers in part.items():
                whole[step] |= numbers
        return dict(whole)


def wandb_records(folder: Path) -> list[list[dict[str, Any]]]:
    """wandb's own reading of the offline files, in the order in which they were begun."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json"]
    files = sorted(folder.glob("wandb/offline-run-*/*.wandb"))
    texts = [subprocess.run([*command, str(file)], capture_output=True, text=True, check=True).stdout for file in files]
    return [[json.loads(line) for line in text.splitlines()] for text in texts]


def read_wandb(folder: Path, run_id: str) -> Logged:
    curves: list[dict[int, dict[str, float]]] = []
    config: dict[str, Any] = {}
    for records in filter(None, wandb_records(folder)):  # of a part that was killed early nothing may be written
        (begun,) = (record["run"] for record in records if record["type"] == "run")
        assert begun["run_id"] == begun["display_name"] == run_id
        items = [record["history"]["item"] for record in records if record["type"] == "history"]
        curves.append({item["_step"]: {k: v for k, v in item.items() if not k.startswith("_")} for item in items})
        for record in records:
            config |= record.get("config", {}).get("update", {})
    return Logged(curves, config)


def read_tensorboard(folder: Path, run_id: str) -> Logged:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    files = sorted((folder / "lora2-glue" / run_id).glob("events.*"), key=lambda path: path.stat().st_mtime)
    curves = []
    for file in files:
        events = EventAccumulator(str(file)).Reload()
        curve: dict[int, dict[str, float]] = defaultdict(dict)
        for tag in events.Tags()["scalars"]:
            for event in events.Scalars(tag):
                curve[event.step][tag] = event.value
        curves.append(dict(curve))
    config = next((folder / "lora2-glue" / run_id).rglob("hparams.yml")).read_text()
    return Logged(curves, dict(line.split(": ", 1) for line in config.splitlines()))


def read_trackio(folder: Path, run_id: str) -> Logged:
    from trackio.sqlite_storage import SQLiteStorage

    curve: dict[int, dict[str, float]] = defaultdict(dict)
    for row in SQLiteStorage.get_logs("lora2-glue", run_id):
        curve[row["step"]] |= {key: value for key, value in row.items() if isinstance(value, int | float)}
    return Logged([dict(curve)], SQLiteStorage.get_run_config("lora2-glue", run_id) or {})


READERS: dict[str, Callable[[Path, str], Logged]] = {
    "wandb": read_wandb,
    "tensorboard": read_tensorboard,
    "trackio": read_trackio,
}


@pytest.fixture(scope="module", params=READERS)
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A tracker, and the folder of a run that was stopped after some steps and taken up again."""
    pytest.importorskip(request.param, reason=f"{request.param} is in the extra `trackers`, which is not installed")
    folder = tmp_path_factory.mktemp(request.param)
    before, step = Path.cwd(), TrainStep.__call__
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)

        def stopped(self: TrainStep, batch: Any, index: int, clock: Any) -> Any:
            if index == STOPPED - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(self, batch, index, clock)

        patch.setattr(TrainStep, "__call__", stopped)
        cfg = resolve(compose(*JOB, f"tracker={request.param}"))
        assert run(cfg) == 143
        patch.setattr(TrainStep, "__call__", step)
        assert run(cfg) == 0
        yield request.param, folder
    assert Path.cwd() == before


@pytest.fixture(scope="module")
def logged(told: tuple[str, Path]) -> Logged:
    name, folder = told
    return READERS[name](folder / "outputs", only_record().run_id)


def approx(numbers: dict[str, float]) -> Any:
    return pytest.approx(numbers, rel=1e-6)  # tensorboard keeps float32


def test_the_curves_are_those_of_the_record(logged: Logged):
    expected: dict[int, dict[str, float]] = defaultdict(dict)
    for kind, rows in only_record().history.items():
        for row in rows:
            numbers = {
                f"eval/{k}" if kind == "eval" else k: v for k, v in row.items() if k not in ("step", "selection")
            }
            expected[int(row["step"])] |= numbers
    assert sorted(logged.curve) == sorted(expected) == list(range(1, STEPS + 1))
    for step, numbers in expected.items():
        found = {key: value for key, value in logged.curve[step].items() if key in numbers}
        assert found == approx(numbers), step
    assert {key for numbers in logged.curve.values() for key in numbers} >= KEYS
    assert all(numbers["tokens_per_s"] > 0 for numbers in logged.curve.values())


def test_it_says_in_a_line_where_it_writes_and_what_shows_it(told: tuple[str, Path]):
    name, folder = told
    log = (folder / "outputs" / only_record().run_id / "run.log").read_text()
    lines = re.findall(r"tracker: (.* writes to (\S+?)[;,] .*)", log)
    assert len(lines) == 2  # the run was taken up again
    for line, place in lines:
        assert line.startswith(name)
        words = {
            "wandb": f"; {shlex.join(['wandb', 'sync', place])} sends it",
            "tensorboard": f"; tensorboard --logdir {Path(place).parent}",
            "trackio": "; trackio show --project lora2-glue",
        }
        assert line.endswith(words[name])
        assert name == "trackio" or Path(folder, place).is_dir()


def test_a_resumed_run_continues_its_curve(told: tuple[str, Path], logged: Logged):
    if told[0] == "trackio":  # one table, whatever the number of processes
        assert sorted(logged.curve) == list(range(1, STEPS + 1))
        return
    first, second = logged.curves
    assert sorted(first) == list(range(1, STOPPED + 1))
    assert sorted(second) == list(range(STOPPED + 1, STEPS + 1))


DIES = """
import os, signal, sys
from helpers.runs import compose
from lora2.config.resolve import resolve
from lora2.training.run import run
from lora2.training.step import TrainStep
from lora2.training.tracking import tracker
tracker.START_SECONDS = 120.0  # a busy machine must not cost the tracker
step = TrainStep.__call__
def killed(self, batch, index, clock):
    if index == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, index, clock)
TrainStep.__call__ = killed
sys.exit(run(resolve(compose(*sys.argv[2:]))))
"""
NEVER = -1


@pytest.mark.parametrize("killed_at", [5, 40], ids=["all is lost", "a part was written"])
@pytest.mark.parametrize("name", READERS)
def test_a_killed_run_leaves_no_hole_and_no_step_twice(name: str, killed_at: int, tmp_path: Path, monkeypatch):
    """Killed some steps after a checkpoint, with what the tracker had not yet written; then taken up again."""
    pytest.importorskip(name, reason=f"{name} is in the extra `trackers`, which is not installed")
    monkeypatch.chdir(tmp_path)
    job = (*JOB, "recipe.max_steps=48", "checkpoint.every_steps=4", f"tracker={name}")
    environment = {**os.environ, "PYTHONPATH": import_path(ROOT, ROOT / "tests")}
    environment.pop("WANDB_SERVICE", None)  # of this process, which other tests may have started
    for at, code in ((killed_at, -signal.SIGKILL), (NEVER, 0)):
        command = [sys.executable, "-c", DIES, str(at), *job]
        assert subprocess.run(command, env=environment, check=False).returncode == code
    record = only_record()
    for rows in record.history.values():
        steps = [row["step"] for row in rows]
        assert steps == sorted(set(steps))
    assert [row["step"] for row in record.history["train"]] == list(range(1, 49))
    expected = {(step, key) for step, numbers in curve(record.history).items() for key in numbers}
    logged = READERS[name](tmp_path / "outputs", record.run_id)
    told = [(step, key) for part in logged.curves for step, numbers in part.items() for key in numbers]
    assert expected <= set(told)
    assert len(told) == len(set(told))
    assert [step for part in logged.curves for step in part] == list(range(1, 49))


def test_force_begins_a_curve_anew(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for force in ("force=false", "force=true"):
        assert run(resolve(compose(*JOB, "tracker=tensorboard", force))) == 0
    logged = read_tensorboard(tmp_path / "outputs", only_record().run_id)
    assert [sorted(part) for part in logged.curves] == [list(range(1, STEPS + 1))] * 2


def test_the_settings_are_told(logged: Logged):
    text = {key: str(value) for key, value in logged.config.items()}
    assert (text["rank.k"], text["recipe.lr"], text["model.name"], text["task"]) == ("1", "0.001", "tiny", "rte")
    assert "output_dir" in text


def test_wandb_knows_group_tags_and_the_record(told: tuple[str, Path]):
    if told[0] != "wandb":
        pytest.skip("wandb alone has them")
    record = only_record()
    first, second = wandb_records(told[1] / "outputs")
    (begun,) = (item["run"] for item in second if item["type"] == "run")
    assert (begun["run_group"], begun["job_type"], begun["project"]) == ("adhoc", "lora2_k1", "lora2-glue")
    assert begun["tags"] == ["tiny", "rte", "lora2_k1", "short", record.config.setting_id]
    assert [records[-1]["exit"].get("exit_code", 0) for records in (first, second)] == [1, 0]
    final: dict[str, Any] = {}
    for item in second:
        final |= item.get("summary", {}).get("update", {})
    whole = summary(record)
    assert {key: final[key] for key in whole} == whole
    assert {"best/accuracy", "last/accuracy", "counts/adapter", "status", "ranks/layer.0.query"} <= whole.keys()
    assert not any("config" in key or "history" in key for key in whole)
    picture = next((told[1] / "outputs").rglob(Path(final["rank_over_time.path"]).name))
    assert picture.read_bytes().startswith(b"\x89PNG")


# ------------------------------------------------------------------------------------------------ what they cannot do


@pytest.mark.parametrize("method", ["init_trackers", "log", "end_training"])
def test_a_tracker_that_fails_is_told_once_and_left_out(method: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    calls = []

    def fails(*arguments: Any, **options: Any) -> None:
        calls.append(arguments)
        raise ConnectionError("the key is 123")

    monkeypatch.setattr(Accelerator, method, fails)
    cfg = resolve(compose(*JOB, "tracker=tensorboard"))
    tracker = Tracking(Accelerator(log_with="tensorboard", project_dir="outputs", cpu=True), cfg, "run", "setting")
    for step in (1, 2):
        tracker.log(step, {"loss": 1.0})
    tracker.finish(RunRecord.model_construct(metrics=None))
    said = [line for line in capsys.readouterr().err.splitlines() if " writes to " not in line]
    (line,) = said
    assert re.fullmatch(r"tracker: tensorboard [a-z ]+ \(ConnectionError\); the record has everything", line)
    assert len(calls) == 1


def timed_attempts(patch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that a run waits for its tracker, as they are spent."""
    seconds: list[float] = []
    attempt = Tracking._try

    def timed(*arguments: Any) -> bool:
        start = time.perf_counter()
        try:
            return attempt(*arguments)
        finally:
            seconds.append(time.perf_counter() - start)

    patch.setattr(Tracking, "_try", timed)
    return seconds


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunRecord, float]:
    """The record of a run without a key, and the seconds that it waits for wandb, which then asks no server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("undisturbed"))
        seconds = timed_attempts(patch)
        assert run(resolve(compose(*JOB, "tracker=wandb"))) == 0
        return only_record(), sum(seconds)


@needs_wandb
@pytest.mark.parametrize("server", ["refuses", "says nothing"])
def test_no_server_holds_a_run_up(server, undisturbed, uploads, tmp_path, monkeypatch, capsys):
    record, alone = undisturbed
    seconds = timed_attempts(monkeypatch)
    with serve(silent=True) as (address, told):
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", address if server == "says nothing" else "http://127.0.0.1:9")
        monkeypatch.chdir(tmp_path)
        assert run(resolve(compose(*JOB, "tracker=wandb"))) == 0
        assert sum(seconds) < alone + 5
        assert server == "refuses" or told.asked.wait(60)
    assert [process.poll() for process in uploads] == [None]  # it still tries
    assert "`wandb sync` takes up what it leaves" in capsys.readouterr().err
    assert without_clocks(only_record()) == without_clocks(record)
    assert sorted(read_wandb(tmp_path / "outputs", only_record().run_id).curve) == list(range(1, STEPS + 1))


@needs_wandb
def test_with_a_key_the_curve_is_uploaded(uploads, tmp_path, monkeypatch):
    with serve(silent=False) as (address, told):
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", address)
        monkeypatch.chdir(tmp_path)
        assert run(resolve(compose(*JOB, "tracker=wandb"))) == 0
        assert uploads[0].wait(60) == 0
    record = only_record()
    assert (told.runs[0]["name"], told.runs[0]["groupName"]) == (record.run_id, "adhoc")
    curve = {row["_step"]: row["loss/task"] for row in told.history}
    assert curve == {row["step"]: row["loss/task"] for row in record.history["train"]}


KILLED = """
import os, sys, wandb
from pathlib import Path
from lora2.training.tracking.wandb_upload import start_upload
run = wandb.init(project="p", id="x", mode="offline", dir=sys.argv[1], settings=wandb.Settings(silent=True))
run.log({"loss": 1.0}, step=1)
print(start_upload(Path(run.dir).parent, after=0.5).pid, flush=True)
sys.stdin.read()
os._exit(9)
"""


@needs_wandb
def test_an_upload_ends_soon_after_its_run(tmp_path, monkeypatch):
    """Though the run was killed and the server never answers."""
    with serve(silent=True) as (address, told):
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", address)
        command = [sys.executable, "-c", KILLED, str(tmp_path)]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            upload = int(process.stdout.readline())
            assert told.asked.wait(60)
            assert _running(upload)
            process.stdin.close()
        end = time.monotonic() + 20
        while time.monotonic() < end and _living(upload):
            time.sleep(0.2)
        assert not _living(upload)  # nor anything that it started


def _living(group: int) -> list[str]:
    """The processes of a group that are more than an exit code that nobody has asked for."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            state, _, of = stat.read_text().rpartition(")")[2].split()[:3]
            found += [stat.parent.name] if int(of) == group and state != "Z" else []
    return found


def _running(process: int) -> bool:
    try:
        return "wandb_upload" in Path(f"/proc/{process}/cmdline").read_text()  # empty for one that nobody waits for
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("variables", "netrc", "uploads"),
    [
        ({}, None, False),
        ({"WANDB_API_KEY": "k"}, None, True),
        ({"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, None, False),
        ({"WANDB_API_KEY": "k", "WANDB_MODE": "online"}, None, True),
        ({}, b"machine api.wandb.ai login user password k", True),
        ({"WANDB_BASE_URL": "https://my.host:8080"}, b"machine my.host login user password k", True),
        ({}, b"machine my.host login user password k", False),
        ({}, b"\xff\xfe", False),
        ({}, b"machine", False),
    ],
)
def test_it_uploads_where_there_is_a_key(variables, netrc, uploads, tmp_path, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if netrc is not None:
        (tmp_path / "netrc").write_bytes(netrc)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert tracking._uploads() == uploads
    assert has_wandb_key() == (uploads or "WANDB_API_KEY" in variables)
