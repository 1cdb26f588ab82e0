"""End a run of two processes, again and again: none may hang, none may abort.

    python tests/faults/ddp_end.py [--times 30]

gloo's threads can bring a process down while it ends, if another process still talks to it. The runs are short, since
only their end matters. Figures: results/faults.json, "ddp_end".
"""

import os
import signal
import socket
import tempfile
from pathlib import Path

from common import Progress, options, record
from figures import merge_figures
from starter import Starter

PROCESSES = 2
SETTINGS = (
    "model=tiny", "data=demo", "task=rte", "rank=k1", "recipe.precision=fp32", "recipe.max_steps=3", "budget=none",
)  # fmt: skip
SECONDS = 300  # a run takes a few; one that takes this long hangs


def free_port() -> int:
    """Where the processes can meet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def attempt(starter: Starter, folder: Path) -> str:
    """A whole run; what was wrong with its end, or nothing."""
    world = {name: str(PROCESSES) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")}
    world |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    ranks = [{**world, "RANK": str(i), "LOCAL_RANK": str(i)} for i in range(PROCESSES)]
    logs = [folder.with_suffix(f".{i}.log") for i in range(PROCESSES)]
    pids = [starter.start(SETTINGS, folder, log, **rank) for log, rank in zip(logs, ranks, strict=True)]
    codes = [starter.wait(pid, SECONDS) for pid in pids]
    for pid, code in zip(pids, codes, strict=True):
        if code is None:
            os.kill(pid, signal.SIGKILL)
            starter.wait(pid, 60)
    if None in codes:
        return "hangs"
    if any(codes):
        return f"exit codes {codes}"
    said = "".join(log.read_text() for log in logs)
    if "Traceback" in said or "terminate" in said:
        return "complains"
    found = record(folder)
    return "" if found is not None and found.status == "ok" else "no good record"


def main() -> int:
    """Exit code: 0 all ends clean, 1 not."""
    parser = options(__doc__)
    parser.add_argument("--times", type=int, default=30)
    chosen = parser.parse_args()
    home, progress, starter = Path(tempfile.mkdtemp(prefix="lora2-ddp-end-")), Progress(chosen.times), Starter()
    clean = 0
    for time in range(chosen.times):
        fault = attempt(starter, home / str(time))
        clean += not fault
        progress(fault or "clean")
    starter.close()
    merge_figures(chosen.figures, {"ddp_end": {"tried": chosen.times, "clean": clean}})
    print(f"{clean} of {chosen.times} ends clean; {home}")
    return int(clean != chosen.times)


if __name__ == "__main__":
    raise SystemExit(main())
