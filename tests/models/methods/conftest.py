"""What the tests of every method need: settings from the real configuration files, tiny models, a training loop."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn

from lora2.config.resolve import resolve
from lora2.config.schema import RunConfig
from lora2.models.backbone import load_model
from lora2.models.methods.base import Method

CONFIGS = Path(__file__).resolve().parents[3] / "configs"

Configure = Callable[..., RunConfig]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """configure("method=lora", "rank.r=1") -> RunConfig of the tiny model (by default), in float32."""

    def make(*overrides: str) -> RunConfig:
        fixed = ["model=tiny", "recipe.precision=fp32", f"output_dir={tmp_path}/out", f"results_dir={tmp_path}/res"]
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            composed = compose("train", [*fixed, *overrides])
        return resolve(OmegaConf.to_container(composed, resolve=True))

    return make


@pytest.fixture
def tiny(configure: Configure) -> nn.Module:
    """A two-layer DeBERTa with random weights and no dropout active."""
    torch.manual_seed(0)
    return load_model(configure().model, 2, None).eval()


@pytest.fixture
def tokens() -> Tensor:
    """Token ids (b, s)."""
    return torch.arange(24).reshape(4, 6) * 7 % 1999


@pytest.fixture
def train(tokens: Tensor) -> Callable[[nn.Module, Method, int], None]:
    """train(model, method, steps): the order of the project's training loop."""

    def run(model: nn.Module, method: Method, steps: int) -> None:
        groups = [{"params": [*g.parameters.values()], "lr": 1e-2 * g.lr_scale} for g in method.groups]
        optimizer = torch.optim.AdamW(groups)
        for step in range(steps):
            nn.functional.cross_entropy(model(tokens).logits, tokens[:, 0] % 2).backward()
            sum(method.penalties().values(), torch.zeros((), requires_grad=True)).backward()
            with method.step(step, True):
                optimizer.step()
            optimizer.zero_grad()

    return run
