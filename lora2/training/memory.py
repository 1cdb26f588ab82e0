"""Memory of a process that does several runs: what one leaves is given back before the next begins."""

import gc
import sys
from contextlib import suppress
from pathlib import Path

RESET_PEAK = "5"  # to Linux: the peak of the process is what it holds now (man proc_pid_clear_refs)


def free_memory() -> None:
    """Free what the last run left in cycles and in the GPU's caches, and let the peaks of the next one begin here."""
    gc.collect()
    if "torch" in sys.modules:
        _free_device()
    with suppress(OSError):  # where the system cannot, a peak is that of the process
        Path("/proc/self/clear_refs").write_text(RESET_PEAK, encoding="ascii")


def _free_device() -> None:
    """Give everything on the GPU back, the workspaces of its libraries too, if a GPU was used."""
    import torch

    if not torch.cuda.is_initialized():
        return
    torch.cuda.synchronize()
    torch._C._cuda_clearCublasWorkspaces()  # nothing public gives them back
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
