"""A stand-in for CUDA graphs on a CPU: replaying runs the captured work again, into the same output tensors."""

from collections.abc import Callable

from torch import Tensor

Losses = dict[str, Tensor]


class StandIn:
    """A Capturer. Like a graph, a replay sees only the static inputs, and returns the tensors that it returned before.

    Attributes:
        calls: what was asked for, in order: "warm up", "capture", "replay", "release".
    """

    def __init__(self) -> None:
        self.calls: list[str] = []

    def warm_up(self, work: Callable[[], Losses]) -> Losses:
        self.calls.append("warm up")
        return work()

    def capture(self, work: Callable[[], Losses]) -> Callable[[], Losses]:
        self.calls.append("capture")
        static: Losses = {}

        def replay() -> Losses:
            self.calls.append("replay")
            for name, loss in work().items():
                static.setdefault(name, loss.clone()).copy_(loss)
            return static

        return replay

    def release(self) -> None:
        self.calls.append("release")
