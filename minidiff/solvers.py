"""Fewer, better steps: Euler, Heun, DPM-Solver++ and UniPC as Gaussians, and every sampler by its name.

First-order samplers differ in name and coordinates only: DDIM, Euler (flow matching's too) and DPM-Solver++ 1 are one
step at eta = 0, and DDPM, Euler ancestral and SDE-DPM-Solver++ 1 one at eta = 1. The second order comes from looking:
twice in a step (Heun), or back at the last steps (2M, UniPC). Karras et al., "EDM" (2022), algorithm 1; Lu et al.,
"DPM-Solver++" (2022), algorithm 2; Zhao et al., "UniPC" (2023), algorithms 5 and 6; k-diffusion's ancestral step.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from minidiff.denoiser import Prediction, to_prediction, training_target
from minidiff.samplers import DDIM, DDPM, DenoiserLike, Grid, OneLook, Sampler
from minidiff.schedule import Schedule, Step

SLOPES = ("eps", "flow")


@dataclass(frozen=True)
class Euler(OneLook):
    """x / sqrt(abar) = x0 + sigma eps is a line with slope eps; a step follows it down to sigma_down, then adds noise.

    sigma_s^2 = sigma_down^2 + sigma_up^2, sigma_up = eta sigma_s sqrt(1 - sigma_s^2 / sigma_t^2): 0 is Euler's method
    for the ODE, 1 "Euler ancestral". Equal to DDIM(eta). In flow matching's coordinates x / (signal + noise) the line
    has slope eps - x0, and eta = 0 is Euler's method there as well. Raises ValueError for eta outside [0, 1].
    """

    schedule: Schedule
    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta: expected a number in [0, 1], got {self.eta!r}")

    def std(self, step: Step) -> float:
        sigma_t, sigma_s = self.schedule.sigma_at(step.t), self.schedule.sigma_at(step.s)
        sigma_up = self.eta * sigma_s * math.sqrt(1 - (sigma_s / sigma_t) ** 2)
        return math.sqrt(self.schedule.abar_at(step.s)) * sigma_up

    def transition(self, x_t: Tensor, prediction: Prediction, step: Step) -> tuple[Tensor, float]:
        signal, std = math.sqrt(self.schedule.abar_at(step.s)), self.std(step)
        sigma_down = math.sqrt(self.schedule.sigma_at(step.s) ** 2 - (std / signal) ** 2)
        return signal * (prediction.x0 + sigma_down * prediction.eps), std

    @property
    def posterior(self) -> "Euler":
        return self


class FirstOrderODE:
    """The transition of solvers that draw no noise: Euler's. Whatever order they have comes from the look."""

    schedule: Schedule
    eta: ClassVar[float] = 0.0

    def std(self, step: Step) -> float:
        return 0.0

    def transition(self, x_t: Tensor, prediction: Prediction, step: Step) -> tuple[Tensor, float]:
        return Euler(self.schedule).transition(x_t, prediction, step)

    @property
    def posterior(self) -> Euler:
        return Euler(self.schedule)


@dataclass(frozen=True)
class Heun(FirstOrderODE):
    """Euler's step with the mean of two slopes: at x_t, and where Euler would land; the step to clean data has one.

    slope "eps" is EDM's ODE, d(x / signal) / d sigma = eps; "flow" is flow matching's, whose path x / (signal + noise)
    moves with eps - x0. The method depends on the coordinates, and its order, 2, does not.
    Raises ValueError for another slope.
    """

    schedule: Schedule
    slope: str = "eps"

    def __post_init__(self) -> None:
        if self.slope not in SLOPES:
            raise ValueError(f"slope: expected one of {', '.join(SLOPES)}, got {self.slope!r}")

    def look(self, denoiser: DenoiserLike, x_t: Tensor, step: Step, seen: Any = None) -> tuple[Prediction, Any]:
        first = denoiser(x_t, step.t)
        if step.s == -1:
            return first, None
        x_s, _ = self.transition(x_t, first, step)
        second = denoiser(x_s, step.s)
        levels = self.schedule.levels(step.t, x_t)
        slope = sum(training_target(self.slope, *look, *levels) for look in (first, second)) / 2
        return to_prediction(self.slope, x_t, slope, *levels), None

    def calls(self, grid: Grid) -> int:
        return sum(1 if step.s == -1 else 2 for step in grid)


@dataclass(frozen=True)
class DPMSolver2M(DDIM):
    """DPM-Solver++ 2M (eta = 0) and SDE-DPM-Solver++ 2M (eta = 1), in the midpoint form: DDIM's step with a better x0.

    With lambda = log(signal / noise), h = lambda_s - lambda_t and D = x0_t + (x0_t - x0_before) h / (2 h_before), the
    last two looks continued half a step ahead, x_s = (noise_s / noise_t) x_t - signal_s (e^-h - 1) D at eta = 0, and
    x_s = (noise_s / noise_t) e^-h x_t + signal_s (1 - e^-2h) D + noise_s sqrt(1 - e^-2h) n at eta = 1.
    The first step and the one to clean data (h is infinite) believe the look as it is.
    """

    eta: float = 0.0

    def look(self, denoiser: DenoiserLike, x_t: Tensor, step: Step, seen: Any = None) -> tuple[Prediction, Any]:
        now = denoiser(x_t, step.t)
        if seen is None or step.s == -1:
            return now, (step, now)
        last, before = seen
        x0 = half_ahead(now.x0, before.x0, width(self.schedule, step) / width(self.schedule, last))
        return to_prediction("x0", x_t, x0, *self.schedule.levels(step.t, x_t)), (step, now)


class Look(NamedTuple):
    """A look in memory: where the step it opened starts (x (B, C, H, W)), and the x0 that was seen there."""

    step: Step
    x: Tensor
    x0: Tensor


@dataclass(frozen=True)
class UniPC(OneLook, FirstOrderODE):
    """2M that takes each step again once it has looked at its end: one call a step, and third order.

    The look at x_t closes the step that led there: that step is redone with x0 averaged along it, and the next one
    starts from where it would have ended (order 2, B(h) = e^h - 1). The network is not asked again.
    """

    schedule: Schedule

    def look(
        self, denoiser: DenoiserLike, x_t: Tensor, step: Step, seen: tuple[Look, ...] | None = None
    ) -> tuple[Prediction, Any]:
        now = x0 = denoiser(x_t, step.t).x0
        x, seen = x_t, seen or ()
        if seen:
            last = seen[0]
            x = self.redo(now, *seen)
            if step.s != -1:
                x0 = half_ahead(now, last.x0, width(self.schedule, step) / width(self.schedule, last.step))
        # Euler's step, A x_t + B x0, is to start from x instead of x_t: what that adds to x_s is put into x0
        signal_s, noise_s = self.schedule.levels(step.s, x_t)
        signal_t, noise_t = self.schedule.levels(step.t, x_t)
        A, B = noise_s / noise_t, signal_s - signal_t * noise_s / noise_t
        prediction = to_prediction("x0", x_t, x0 + A / B * (x - x_t), signal_t, noise_t)
        return prediction, (Look(step, x, now), *seen[:1])

    def redo(self, now: Tensor, last: Look, before: Look | None = None) -> Tensor:
        """Where the last step ends when its x0 is the mean of what was seen along it."""
        h = width(self.schedule, last.step)
        if before is None:
            x0 = (last.x0 + now) / 2
        else:
            x0 = along(now, last.x0, before.x0, h, -width(self.schedule, before.step) / h)
        levels = self.schedule.levels(last.step.t, now)
        return self.transition(last.x, to_prediction("x0", last.x, x0, *levels), last.step)[0]


def width(schedule: Schedule, step: Step) -> float:
    """h, how far a step goes in lambda = log(signal / noise)."""
    return math.log(schedule.sigma_at(step.t) / schedule.sigma_at(step.s))


def half_ahead(now: Tensor, before: Tensor, ratio: float) -> Tensor:
    """The line through two looks, half a step on; ratio is the width of the coming step over the last one's."""
    return now + (now - before) * ratio / 2


def along(now: Tensor, last: Tensor, before: Tensor, h: float, r: float) -> Tensor:
    """The mean, weighted by e^lambda, of a parabola over a step of width h: looks `last` at u = 0 and `now` at u = 1.

    `before` lies at u = r < 0. Solved for the weights this is eq. 9 of Zhao et al. with p = 2.
    """
    mean_u = 1 / -math.expm1(-h) - 1 / h
    mean_u2 = 1 / -math.expm1(-h) - 2 * mean_u / h
    to_before = (mean_u - mean_u2) / (1 - r)
    return last + to_before * (before - last) / r + (mean_u - to_before) * (now - last)


SAMPLERS: dict[str, Callable[[Schedule], Sampler]] = {
    "ddim": DDIM,
    "ddpm": DDPM,
    "euler": Euler,
    "euler_ancestral": lambda schedule: Euler(schedule, eta=1.0),
    "heun": Heun,
    "flow_heun": lambda schedule: Heun(schedule, slope="flow"),
    "dpm++2m": DPMSolver2M,
    "dpm++2m_sde": lambda schedule: DPMSolver2M(schedule, eta=1.0),
    "unipc": UniPC,
}


def as_sampler(sampler: Sampler | str, schedule: Schedule, eta: float | None = None) -> Sampler:
    """A sampler by its name in SAMPLERS, or a dataclass of your own, on this schedule; eta None leaves it its own.

    Raises ValueError for a name that is not known, or an eta that this sampler cannot have.
    """
    if isinstance(sampler, str) and sampler in SAMPLERS:
        sampler = SAMPLERS[sampler](schedule)
    if not hasattr(sampler, "transition"):
        raise ValueError(f"sampler: expected one of {', '.join(SAMPLERS)}, got {sampler!r}")
    if sampler.schedule != schedule:
        sampler = dataclasses.replace(sampler, schedule=schedule)
    if eta is None or eta == sampler.eta:
        return sampler
    if all(field.name != "eta" for field in dataclasses.fields(sampler)):
        raise ValueError(f"eta: {type(sampler).__name__} has eta = {sampler.eta:g}, got {eta!r}")
    return dataclasses.replace(sampler, eta=eta)
