"""A denoiser looks at x_t and says which picture x0 and which noise eps made it, whatever its network predicts.

x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eps ties the two, so one gives the other. eps: Ho et al., "Denoising diffusion
probabilistic models" (2020), section 3.2; v: Salimans & Ho, "Progressive distillation" (2022), appendix D; flow: Lipman
et al., "Flow matching" (2023), and Liu et al., "Rectified flow" (2023).
"""

from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from minidiff.schedule import Schedule

PREDICTS = ("eps", "x0", "v", "flow")
Level = float | Tensor


class Prediction(NamedTuple):
    """The clean picture and the noise that a denoiser sees in x_t; both (B, C, H, W)."""

    x0: Tensor
    eps: Tensor


def to_prediction(predicts: str, x_t: Tensor, output: Tensor, signal: Level, noise: Level) -> Prediction:
    """The network's output as (x0, eps), with signal = sqrt(abar_t) and noise = sqrt(1 - abar_t)."""
    if predicts == "eps":
        return Prediction((x_t - noise * output) / signal, output)
    if predicts == "x0":
        return Prediction(output, (x_t - signal * output) / noise)
    if predicts == "flow":
        return Prediction((x_t - noise * output) / (signal + noise), (x_t + signal * output) / (signal + noise))
    return Prediction(signal * x_t - noise * output, noise * x_t + signal * output)


def training_target(predicts: str, x0: Tensor, eps: Tensor, signal: Level, noise: Level) -> Tensor:
    """What the network should say: eps, x0, v = sqrt(abar_t) eps - sqrt(1 - abar_t) x0 or flow = eps - x0.

    eps - x0 is the velocity of the straight path (1 - r) x0 + r eps, and at r = noise / (signal + noise) that path is
    x_t / (signal + noise): flow matching is one more thing to predict from the same x_t, on any schedule.
    """
    if predicts == "eps":
        return eps
    if predicts == "x0":
        return x0
    if predicts == "flow":
        return eps - x0
    return signal * eps - noise * x0


class Denoiser(nn.Module):
    """A network (x (B, C, H, W), t (B,)) -> (B, C, H, W), the schedule it was trained on and what it predicts.

    Raises ValueError when `predicts` is none of "eps", "x0", "v", "flow".
    """

    def __init__(self, net: nn.Module, schedule: Schedule, predicts: str = "v") -> None:
        super().__init__()
        if predicts not in PREDICTS:
            raise ValueError(f"predicts: expected one of {', '.join(PREDICTS)}, got {predicts!r}")
        self.net, self.schedule, self.predicts = net, schedule, predicts

    def forward(self, x_t: Tensor, t: float | Tensor, **cond: Tensor) -> Prediction:
        """x_t (B, C, H, W) at noise level t, a number or (B,) -> Prediction in the dtype of x_t."""
        return to_prediction(self.predicts, x_t, self._output(x_t, t, cond), *self.schedule.levels(t, x_t))

    def loss(self, x0: Tensor, eps: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        """Mean squared error of the training target, per item: (B,). Ho et al., eq. 14, when predicts is "eps"."""
        signal, noise = self.schedule.levels(t, x0)
        x_t = signal * x0 + noise * eps
        target = training_target(self.predicts, x0, eps, signal, noise)
        return (self._output(x_t, t, cond) - target).square().flatten(1).mean(1)

    def _output(self, x_t: Tensor, t: float | Tensor, cond: dict[str, Tensor]) -> Tensor:
        """The network computes in its own dtype; the trajectory keeps that of x_t."""
        if not torch.is_tensor(t):
            t = torch.full((len(x_t),), t, device=x_t.device)
        dtype = home_of(self.net, x_t).dtype
        cond = {
            name: part.to(dtype) if torch.is_tensor(part) and part.is_floating_point() else part
            for name, part in cond.items()
        }
        return self.net(x_t.to(dtype), t, **cond).to(x_t.dtype)


def home_of(module: nn.Module, default: Tensor) -> Tensor:
    """A tensor on the device and in the dtype of a module; `default` if it has no weights."""
    return next(chain(module.parameters(), module.buffers()), default)
