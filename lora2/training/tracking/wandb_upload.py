"""Uploads a wandb run while it is being written, in a process of its own: whatever a server does, training goes on.

`python wandb_upload.py FOLDER SECONDS PID` runs wandb's live sync of a run's folder until it is through, or for so long
after the process that started it is gone, however that ended. Without it, or after it: `wandb sync FOLDER`.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

AFTER_SECONDS = 60.0  # for what is left when the run has ended
LOOK_SECONDS = 0.5


def start_upload(folder: Path, after: float = AFTER_SECONDS) -> "subprocess.Popen[bytes]":
    """Start the upload, and return its process; what wandb has to say goes to FOLDER/logs/upload.log.

    Args:
        after: seconds that it may go on when this process is gone.
    """
    command = [sys.executable, str(Path(__file__).resolve()), str(folder.resolve()), str(after), str(os.getpid())]
    log = folder / "logs" / "upload.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("wb") as output:
        # a session of its own: Ctrl-C is for the run, which then tells the server how it ended
        return subprocess.Popen(
            command,
            env={name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"},  # the run's own
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            start_new_session=True,
        )


def main(folder: str, after: str, run: str) -> int:
    """Return the exit code of the sync; 1 if it was given up. `run` is the process that trains."""
    while not any(Path(folder).glob("*.wandb")) and os.getppid() == int(run):
        time.sleep(LOOK_SECONDS)
    sync = subprocess.Popen([sys.executable, "-m", "wandb", "beta", "sync", "--live", "--yes", folder])
    while sync.poll() is None and os.getppid() == int(run):
        time.sleep(LOOK_SECONDS)
    try:
        return sync.wait(float(after))
    except subprocess.TimeoutExpired:
        sync.kill()
        return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
