"""Noise schedules, as the signal power abar_t that is left at step t, and the grids of steps that samplers walk.

Linear and abar: Ho et al., "Denoising diffusion probabilistic models" (2020), section 2 and eq. 4; cosine: Nichol &
Dhariwal, "Improved DDPM" (2021), eq. 17; square-root linear: Rombach et al., "Latent diffusion" (2022), the code;
straight: Lipman et al., "Flow matching" (2023), and Liu et al., "Rectified flow" (2023); Karras et al., "EDM" (2022).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False, repr=False)
class Schedule:
    """Signal power abar (T,) in float64: x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eps.

    It stays on the CPU in float64 whatever the networks do: in half precision 1 - abar_t / abar_s rounds to 0.
    Schedules are equal when their values are. Raises ValueError unless abar falls strictly and stays inside (0, 1).
    """

    name: str
    abar: Tensor

    def __post_init__(self) -> None:
        abar = self.abar
        if abar.ndim != 1 or len(abar) == 0 or abar.dtype != torch.float64:
            raise ValueError(f"abar: expected float64 of shape (T,), got {abar.dtype} of shape {tuple(abar.shape)}")
        if not (abar[0] < 1 and abar[-1] > 0 and (abar.diff() < 0).all()):
            raise ValueError("abar: expected values that fall strictly from below 1 to above 0")

    @property
    def T(self) -> int:
        """The number of noise levels; t = 0 is nearly clean and t = T - 1 nearly pure noise."""
        return len(self.abar)

    def abar_at(self, t: float) -> float:
        """abar_t as a Python float; t = -1 stands for clean data, where it is 1.

        Between whole levels log(abar / (1 - abar)), the log of the signal-to-noise ratio, is a straight line in t.
        """
        if not (t == -1 or 0 <= t <= self.T - 1):
            raise ValueError(f"t: expected a number from 0 to {self.T - 1}, or -1 (clean data), got {t}")
        if t == -1:
            return 1.0
        below = math.floor(t)
        if t == below:
            return self.abar[below].item()
        return torch.lerp(*self.abar[below : below + 2].logit(), t - below).sigmoid().item()

    def sigma_at(self, t: float) -> float:
        """sqrt(1 - abar_t) / sqrt(abar_t): the noise in x_t / sqrt(abar_t) = x0 + sigma eps; 0 at t = -1."""
        abar = self.abar_at(t)
        return math.sqrt((1 - abar) / abar)

    def levels(self, t: float | Tensor, like: Tensor) -> tuple[float, float] | tuple[Tensor, Tensor]:
        """sqrt(abar_t) and sqrt(1 - abar_t): floats for a number t; for t (B,), tensors (B, 1, ...) to fit `like`."""
        if not torch.is_tensor(t):
            abar = self.abar_at(t)
            return math.sqrt(abar), math.sqrt(1 - abar)
        shape = (-1,) + (1,) * (like.ndim - 1)
        powers = self.abar, 1 - self.abar  # the roots are taken in float64, before the cast to like's dtype
        signal, noise = (power.sqrt().to(like.dtype).to(like.device)[t].view(shape) for power in powers)
        return signal, noise

    def add_noise(self, x0: Tensor, eps: Tensor, t: float | Tensor) -> Tensor:
        """x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eps, in the dtype of x0; t is a number or (B,) (Ho et al., eq. 4)."""
        signal, noise = self.levels(t, x0)
        return signal * x0 + noise * eps

    def __repr__(self) -> str:
        return f"Schedule({self.name!r}, T={self.T}, abar {self.abar[0]:.4g} to {self.abar[-1]:.4g})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and torch.equal(self.abar, other.abar)

    def __hash__(self) -> int:
        return hash((self.T, self.abar[-1].item()))


def linear(T: int = 1000, start: float = 1e-4, end: float = 2e-2) -> Schedule:
    """beta_t rises linearly: the schedule of DDPM (Ho et al., section 4)."""
    return from_betas("linear", torch.linspace(start, end, T, dtype=torch.float64))


def sqrt_linear(T: int = 1000, start: float = 8.5e-4, end: float = 1.2e-2) -> Schedule:
    """sqrt(beta_t) rises linearly: the schedule of latent and Stable Diffusion ("scaled linear" in diffusers)."""
    return from_betas("sqrt_linear", torch.linspace(start**0.5, end**0.5, T, dtype=torch.float64) ** 2)


def cosine(T: int = 1000, s: float = 0.008) -> Schedule:
    """abar_t follows a squared cosine, with beta_t at most 0.999 (Nichol & Dhariwal, eq. 17)."""
    time = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    abar = torch.cos((time + s) / (1 + s) * torch.pi / 2) ** 2
    return from_betas("cosine", (1 - abar[1:] / abar[:-1]).clamp(max=0.999))


def straight(T: int = 1000) -> Schedule:
    """Flow matching's path (1 - r) x0 + r eps, r evenly from 1 / (T + 1) to T / (T + 1), scaled to signal^2 + noise^2 = 1.

    abar = (1 - r)^2 / ((1 - r)^2 + r^2); the path itself is x_t / (signal + noise), and r = noise / (signal + noise).
    """
    r = torch.arange(1, T + 1, dtype=torch.float64) / (T + 1)
    return Schedule("straight", (1 - r) ** 2 / ((1 - r) ** 2 + r**2))


def from_betas(name: str, betas: Tensor) -> Schedule:
    """abar_t = (1 - beta_0) (1 - beta_1) ... (1 - beta_t), for betas (T,) in float64."""
    return Schedule(name, torch.cumprod(1 - betas, dim=0))


SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "linear": linear,
    "sqrt_linear": sqrt_linear,
    "cosine": cosine,
    "straight": straight,
}


def schedule(name: str) -> Schedule:
    """The schedule of that name with its published constants. Raises ValueError for a name that is not known."""
    if name not in SCHEDULES:
        raise ValueError(f"schedule: expected one of {', '.join(SCHEDULES)}, got {name!r}")
    return SCHEDULES[name]()


SPACINGS = ("trailing", "uniform", "karras")
Spacing = str | Callable[[Schedule | int, int], Sequence[float]]


@dataclass(frozen=True)
class Step:
    """One move of a sampler, from noise level t to the cleaner level s; s = -1 is clean data.

    Levels may lie between whole numbers (see `Schedule.abar_at`), never between 0 and -1.
    """

    t: float
    s: float


def step_grid(
    schedule: Schedule | int, steps: int, strength: float = 1.0, spacing: Spacing = "trailing"
) -> tuple[Step, ...]:
    """Steps from T - 1 down to clean data (-1), of which the round(steps * strength) cleanest are kept.

    `steps` counts the full grid, so grids of equal `steps` and other `strength` visit the same noise levels.
    `spacing` is a name in SPACINGS, or a function (schedule, steps) -> falling levels that says itself where the grid ends;
    T stands for the schedule where the spacing asks for no more.
    Raises ValueError for steps outside [1, T], strength outside (0, 1], another spacing, or when no step would be left.
    """
    T = schedule if isinstance(schedule, int) else schedule.T
    if not (isinstance(steps, int) and 1 <= steps <= T):
        raise ValueError(f"steps: expected a whole number from 1 to T = {T}, got {steps!r}")
    if not 0 < strength <= 1:
        raise ValueError(f"strength: expected a number in (0, 1], got {strength!r}")
    kept = round(steps * strength)
    if kept == 0:
        raise ValueError(f"strength: {strength} of {steps} steps leaves no step to run; use at least {1 / steps:.3g}")
    if not callable(spacing) and spacing not in SPACINGS:
        raise ValueError(f"spacing: expected one of {', '.join(SPACINGS)}, got {spacing!r}")
    if callable(spacing):
        levels = spacing(schedule, steps)
    elif spacing == "karras":
        levels = [*karras(schedule, steps), -1]
    else:
        levels = [*(trailing(T, steps) if spacing == "trailing" else uniform(T, steps)), -1]
    levels = levels[-kept - 1 :]
    return tuple(Step(t, s) for t, s in zip(levels[:-1], levels[1:], strict=True))


def trailing(T: int, steps: int) -> list[int]:
    """Even in t, a full stride above clean data (Lin et al., "Common diffusion noise schedules ... are flawed", 2024)."""
    return [round(T * k / steps) - 1 for k in range(steps, 0, -1)]


def uniform(T: int, steps: int) -> list[int]:
    """Even in t from T - 1 to 0, both included: Lin et al. call it "linspace"; the step to clean data is a short one."""
    return np.linspace(T - 1, 0, steps).round().astype(int).tolist()


def karras(schedule: Schedule, steps: int, rho: float = 7.0) -> list[float]:
    """Even in sigma^(1 / rho), from the schedule's largest sigma to its smallest (Karras et al., 2022, eq. 5).

    Rounded to whole levels, many short steps at the clean end would fall on one: these lie between. It suits schedules
    that end at a sigma of 10 to 200; cosine's ends at 20,000, and half of the steps would walk in pure noise.
    """
    if isinstance(schedule, int):
        raise ValueError(f"spacing: 'karras' is even in the noise and needs the schedule, got T = {schedule} alone")
    sigma = ((1 - schedule.abar) / schedule.abar).sqrt()
    ramp = torch.linspace(sigma[-1] ** (1 / rho), sigma[0] ** (1 / rho), steps, dtype=torch.float64) ** rho
    levels = np.interp(ramp.log().numpy(), sigma.log().numpy(), np.arange(schedule.T))
    return [round(t, 9) for t in levels.tolist()]  # the ends are 0 and T - 1, up to the rounding of the powers
