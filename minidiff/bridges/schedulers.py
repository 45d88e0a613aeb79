"""What a diffusers scheduler knows about its network: the noise levels, what is predicted, and which levels to visit.

How to step from one level to the next stays minidiff's own affair: any of `solvers.SAMPLERS` can walk these levels.
"""

from dataclasses import dataclass

import torch
from diffusers import SchedulerMixin
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers

from minidiff.schedule import Schedule, Spacing, trailing, uniform

PREDICTS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}  # their words and ours
FAMILY = [name for name in KarrasDiffusionSchedulers.__members__ if name != "EDMEulerScheduler"]
REFUSED = ("thresholding", "use_exponential_sigmas", "use_beta_sigmas", "use_flow_sigmas")
LEAST_SIGNAL = 2.0**-24  # abar where a schedule ends in pure noise: what their Euler scheduler takes for 0


@dataclass(frozen=True)
class Training:
    """What the network was trained with. clip: the bound of x0 while sampling, None for none."""

    schedule: Schedule
    predicts: str
    spacing: Spacing
    clip: float | None


@dataclass(frozen=True)
class Levels:
    """The levels of diffusers' DDIM, a spacing for `schedule.step_grid`: "leading", "trailing" or "linspace".

    "leading" is every (T // steps)-th level from `offset` up. `end` is where the last step lands: -1 for clean data, or 0,
    a little short of it, where latent and Stable Diffusion stop ("set_alpha_to_one": false). A last step that would go from
    level 0 to level 0 is left out. Here each step leads to the next level. Theirs goes down by T // steps whatever the next
    level is: the same with "leading", with "trailing" only where steps divides T, and never quite with "linspace".
    """

    kind: str
    offset: int = 0
    end: int = -1

    def __call__(self, schedule: Schedule | int, steps: int) -> list[int]:
        T = schedule if isinstance(schedule, int) else schedule.T
        if self.kind == "leading":
            levels = [k * (T // steps) + self.offset for k in reversed(range(steps))]
        else:
            levels = trailing(T, steps) if self.kind == "trailing" else uniform(T, steps)
        if levels[0] >= T:
            raise ValueError(
                f"steps: {steps} steps with offset {self.offset} begin at {levels[0]}, above T - 1 = {T - 1}"
            )
        return levels if levels[-1] == self.end else [*levels, self.end]


def training_of(scheduler: SchedulerMixin) -> Training:
    """Read a scheduler of the DDPM family, the ones that diffusers can exchange for each other.

    The steps of "trailing" to clean data are our spacing of that name, those of "linspace" our "uniform", Karras sigmas our
    "karras"; the rest is called `Levels`. Raises ValueError, naming it, for what minidiff would do otherwise than diffusers.
    """
    name, config = type(scheduler).__name__, scheduler.config
    if name not in FAMILY:
        raise ValueError(f"scheduler: expected one of {', '.join(FAMILY)}, got {name}")
    predicts = config.get("prediction_type", "epsilon")
    if predicts not in PREDICTS:
        raise ValueError(f"scheduler: expected prediction_type to be one of {', '.join(PREDICTS)}, got {predicts!r}")
    for setting in REFUSED:
        if config.get(setting):
            raise ValueError(
                f"scheduler: minidiff has no {setting}; {name}.from_config(..., {setting}=False) goes without"
            )
    abar = scheduler.alphas_cumprod.double().clamp(min=LEAST_SIGNAL)
    clip = config.get("clip_sample_range", 1.0) if config.get("clip_sample") else None
    return Training(Schedule(f"{name}'s", abar), PREDICTS[predicts], spacing_of(scheduler), clip)


def spacing_of(scheduler: SchedulerMixin) -> Spacing:
    """The grid that a scheduler's settings ask for. Raises ValueError for an unknown timestep_spacing."""
    config = scheduler.config
    if config.get("use_karras_sigmas"):
        return "karras"
    kind = config.get("timestep_spacing", "leading")
    if kind not in ("leading", "trailing", "linspace"):
        raise ValueError(f"scheduler: expected timestep_spacing 'leading', 'trailing' or 'linspace', got {kind!r}")
    end = -1 if config.get("set_alpha_to_one", True) else 0
    if end == -1 and kind != "leading":
        return "trailing" if kind == "trailing" else "uniform"
    return Levels(kind, config.get("steps_offset", 0) if kind == "leading" else 0, end)


def check_prediction(scheduler: SchedulerMixin, predicts: str) -> None:
    """Raise ValueError unless the scheduler takes the network's output for what it is ("eps", "x0" or "v")."""
    theirs = scheduler.config.get("prediction_type", "epsilon")
    if PREDICTS.get(theirs) != predicts:
        wanted = next(word for word, ours in PREDICTS.items() if ours == predicts)
        raise ValueError(
            f"scheduler: the network predicts {wanted!r} and the scheduler reads {theirs!r}; make it with "
            f"{type(scheduler).__name__}.from_config(config, prediction_type={wanted!r})"
        )


def trained_betas(schedule: Schedule) -> list[float]:
    """beta_t = 1 - abar_t / abar_(t-1): a schedule of ours in a scheduler's words."""
    before = torch.cat([torch.ones(1, dtype=torch.float64), schedule.abar[:-1]])
    return (1 - schedule.abar / before).tolist()
