"""What captures work on a device so that it can be replayed: the interface, and CUDA graphs behind it."""

from collections.abc import Callable
from functools import cache
from typing import Protocol

import torch

from lora2.training.step import Losses

Work = Callable[[], Losses]  # reads static inputs, writes static gradients, returns its losses


class CaptureError(RuntimeError):
    """A step cannot be captured on this machine."""


class Capturer(Protocol):
    """Run work for the first time, and record it so that it can be replayed without Python."""

    def warm_up(self, work: Work) -> Losses:
        """Do the work now, and return its losses; libraries load what a capture must not."""
        ...

    def capture(self, work: Work) -> Work:
        """Record the work without doing it, after what the device was asked for so far is done.

        Returns:
            A function that does the recorded work anew, on what the static inputs hold then, and returns its losses:
            every time the same tensors, with new values.
        """
        ...

    def release(self) -> None:
        """Give back the memory of all that was captured, after the last reference to it is gone."""
        ...


class CudaCapturer:
    """Capture CUDA graphs, all of which take their memory from one pool.

    One pool serves all, as no two of them run at the same time; what one returns is lost when another is replayed.
    """

    def __init__(self) -> None:
        self._stream = _stream()
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Work) -> Losses:
        """Do the work on the stream on which it will be captured."""
        here = torch.cuda.current_stream()
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            losses = work()
        here.wait_stream(self._stream)
        for loss in losses.values():
            loss.record_stream(here)  # made on one stream, read on the other
        return losses

    def capture(self, work: Work) -> Work:
        """Capture the work as a graph.

        Raises:
            CaptureError: the work asks for what cannot be captured, such as reading a tensor.
        """
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                losses = work()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise CaptureError(f"the step cannot be captured ({error}); step=eager does without it") from error

        def replay() -> Losses:
            graph.replay()
            return losses

        return replay

    def release(self) -> None:
        """Give the pool's memory back to the device."""
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


@cache
def _stream() -> torch.cuda.Stream:
    """Return the stream of all captures of this process: cuBLAS keeps memory for each that it ever worked on."""
    return torch.cuda.Stream()
