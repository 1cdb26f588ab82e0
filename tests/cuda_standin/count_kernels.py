"""Count the kernels of a replayed step, without a GPU, for each shape and method of `bench.py gpu`.

    make gpu-rehearsal, or what it calls with [--shape NAME] [--method NAME] [--names 20]

Each product counts as one; cuBLAS starts a second kernel for some of them, which only a card shows.
"""

import argparse
import ctypes
import gc
import os
import subprocess
import tempfile
from pathlib import Path

import torch

from lora2.experiments.bench.gpu import FEWER_METHODS, METHODS, PRECISION, SHAPES
from lora2.experiments.bench.measure import make_batch, make_runner
from lora2.experiments.bench.peers import PEERS
from lora2.training.build import build_accelerator
from lora2.training.captured.capturer import CudaCapturer
from lora2.training.clock import PhaseClock

RUNTIME = ctypes.CDLL(os.environ["LD_PRELOAD"])
RUNTIME.standin_kernels.restype = ctypes.c_long
WARM_UP = 4  # steps until all is captured


def count(method: str, shape: str) -> tuple[int, list[tuple[int, str]]]:
    """Return the kernels of a captured, deterministic step, and how often each of them is started."""
    accelerator = build_accelerator(PRECISION)
    runner = make_runner(PEERS[method], SHAPES[shape], accelerator, CudaCapturer(), deterministic=True)
    batch = make_batch(SHAPES[shape], accelerator.device)
    for step in range(1, WARM_UP + 1):
        runner.train_step(batch, step, PhaseClock({}))
    RUNTIME.standin_reset()
    runner.train_step(batch, WARM_UP + 1, PhaseClock({}))
    total = RUNTIME.standin_kernels()
    with tempfile.NamedTemporaryFile() as file:
        RUNTIME.standin_write_counts(file.name.encode())
        text = subprocess.run(["c++filt"], input=Path(file.name).read_bytes(), capture_output=True, check=True).stdout
    runner.train_step.close()
    lines = [line.split("\t") for line in text.decode().splitlines()]
    return total, sorted(((int(number), name) for number, name in lines), reverse=True)


def main() -> None:
    """Print a line for each shape and method."""
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--shape", choices=SHAPES)
    cli.add_argument("--method", choices=METHODS)
    cli.add_argument("--names", type=int, default=0, help="the kernels that are started most often")
    args = cli.parse_args()
    torch.backends.cuda.enable_cudnn_sdp(False)  # cuDNN is not stood in for
    for shape in [args.shape] if args.shape else SHAPES:
        for method in [args.method] if args.method else FEWER_METHODS.get(shape, METHODS):
            total, names = count(method, shape)
            print(f"{shape}  {method}  {total:,} kernels a step", flush=True)
            for number, name in names[: args.names]:
                print(f"    {number:5,}  {name[:150]}")
            gc.collect()
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
