"""Whole chains against diffusers' schedulers of the same name, driven by the same network and the same noises.

Theirs keep sigma and the state in float32: agreement is to 1e-5. Where conventions differ, the test says how.
"""

import numpy as np
import pytest
import torch
from torch import nn

from minidiff.denoiser import Denoiser
from minidiff.samplers import decode_code
from minidiff.schedule import linear, step_grid, straight
from minidiff.solvers import DPMSolver2M, Euler, Heun, UniPC

diffusers = pytest.importorskip("diffusers")
SCHEDULE = linear()
SPACING = {"trailing": "trailing", "uniform": "linspace"}


class Curved(nn.Module):
    """A network that nobody trained: the mean of a picture's neighbours, bent, and a little of the time."""

    def forward(self, x, t):
        near = (x.roll(1, -1) + x.roll(1, -2)) / 2
        return 0.8 * x + 0.3 * torch.tanh(near + t.to(x.dtype).view(-1, 1, 1, 1) / 1000)


pytestmark = pytest.mark.filterwarnings("ignore:__array__")  # theirs, of float64 alphas_cumprod
DENOISER = Denoiser(Curved(), SCHEDULE, "eps")


def tensors(count):
    return torch.randn(count, 2, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def scheduler(name, steps, spacing, **config):
    karras = {"use_karras_sigmas": True} if spacing == "karras" else {}
    spacing = SPACING.get(spacing, "linspace")
    theirs = getattr(diffusers, name)(
        beta_start=1e-4, beta_end=2e-2, timestep_spacing=spacing, prediction_type="epsilon", **karras, **config
    )
    theirs.alphas_cumprod = SCHEDULE.abar  # theirs are float32 throughout (test_schedule)
    theirs.set_timesteps(steps)
    return theirs


def same_levels(theirs, grid):
    """Their noise levels are those of the grid."""
    sigmas = [SCHEDULE.sigma_at(step.t) for step in grid] + [0.0]
    np.testing.assert_allclose(theirs.sigmas.numpy(), sigmas, rtol=2e-5)


@pytest.mark.parametrize(
    ("ancestral", "spacing"),
    [
        (False, "trailing"),
        (False, "uniform"),
        (False, "karras"),
        (True, "trailing"),
        (True, "uniform"),
    ],  # all they have
)
def test_euler(ancestral, spacing):
    steps = 38 if spacing == "uniform" else 20  # theirs takes fractions of t here, ours whole ones: 37 divides 999
    theirs = scheduler(f"Euler{'Ancestral' * ancestral}DiscreteScheduler", steps, spacing)
    grid = step_grid(SCHEDULE, steps, spacing=spacing)
    same_levels(theirs, grid)
    np.testing.assert_allclose(theirs.timesteps, [step.t for step in grid], atol=0.01)
    generator = torch.Generator().manual_seed(1)
    x = tensors(1)[0]
    noises = [torch.randn(x.shape, generator=generator, dtype=x.dtype) for _ in grid]
    generator.manual_seed(1)
    scaled = x / SCHEDULE.abar_at(999) ** 0.5
    for step, t in zip(grid, theirs.timesteps, strict=True):
        eps = DENOISER(theirs.scale_model_input(scaled, t), step.t).eps
        scaled = theirs.step(eps, t, scaled, generator=generator).prev_sample
    if ancestral:
        noises[-1] = torch.zeros_like(x)  # theirs is multiplied by 0
        code = torch.stack([x, *noises], 1)
    else:
        code = x[:, None]
    ours = decode_code(DENOISER, Euler(SCHEDULE, float(ancestral)), grid, code)
    torch.testing.assert_close(ours, scaled.double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("spacing", ["trailing", "karras"])
def test_heun(spacing):
    theirs, grid = scheduler("HeunDiscreteScheduler", 20, spacing), step_grid(SCHEDULE, 20, spacing=spacing)
    x = tensors(1)[0]
    scaled = x / SCHEDULE.abar_at(999) ** 0.5
    asked = [t for step in grid for t in ([step.t, step.s] if step.s >= 0 else [step.t])]
    np.testing.assert_allclose(theirs.timesteps, asked, atol=0.01)
    for t, ours in zip(theirs.timesteps, asked, strict=True):
        eps = DENOISER(theirs.scale_model_input(scaled, t), ours).eps
        scaled = theirs.step(eps, t, scaled).prev_sample
    ours = decode_code(DENOISER, Heun(SCHEDULE), grid, x[:, None])
    torch.testing.assert_close(ours, scaled.double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("spacing", ["trailing", "karras"])
@pytest.mark.parametrize("steps", [5, 20])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_dpm_solver_2m(spacing, steps, eta):
    kind = "sde-dpmsolver++" if eta else "dpmsolver++"
    theirs = scheduler("DPMSolverMultistepScheduler", steps, spacing, algorithm_type=kind, solver_order=2)
    grid = step_grid(SCHEDULE, steps, spacing=spacing)
    same_levels(theirs, grid)
    assert theirs.timesteps.tolist() == [round(step.t) for step in grid]  # theirs asks the network at whole levels
    x, *noises = tensors(steps + 1)
    theirs_x = x
    for step, t, noise in zip(grid, theirs.timesteps, noises, strict=True):
        eps = DENOISER(theirs_x, step.t).eps
        theirs_x = theirs.step(eps, t, theirs_x, variance_noise=noise).prev_sample
    code = torch.stack([x, *noises[:-1], torch.zeros_like(x)], 1) if eta else x[:, None]
    ours = decode_code(DENOISER, DPMSolver2M(SCHEDULE, eta), grid, code)
    torch.testing.assert_close(ours, theirs_x.double(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("spacing", ["trailing", "karras"])
@pytest.mark.parametrize("steps", [2, 5, 20])
def test_unipc(spacing, steps):
    theirs = scheduler("UniPCMultistepScheduler", steps, spacing, final_sigmas_type="zero")  # solver_order 2, "bh2"
    grid = step_grid(SCHEDULE, steps, spacing=spacing)
    same_levels(theirs, grid)
    assert theirs.timesteps.tolist() == [round(step.t) for step in grid]
    x = theirs_x = tensors(1)[0]
    for step, t in zip(grid, theirs.timesteps, strict=True):
        theirs_x = theirs.step(DENOISER(theirs_x, step.t).eps, t, theirs_x).prev_sample
    ours = decode_code(DENOISER, UniPC(SCHEDULE), grid, x[:, None])
    torch.testing.assert_close(ours, theirs_x.double(), rtol=0, atol=2e-5)


def test_first_order_dpm_solver_is_euler():
    theirs = scheduler("DPMSolverMultistepScheduler", 20, "trailing", algorithm_type="dpmsolver++", solver_order=1)
    x = theirs_x = tensors(1)[0]
    for t in theirs.timesteps:
        theirs_x = theirs.step(DENOISER(theirs_x, int(t)).eps, t, theirs_x).prev_sample
    ours = decode_code(DENOISER, Euler(SCHEDULE), step_grid(1000, 20), x[:, None])
    torch.testing.assert_close(ours, theirs_x.double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("second_order", [False, True])
def test_flow_matching(second_order):
    """Theirs start at r = 1 and name the noise t = 1000 r; the straight schedule starts at r = 1000 / 1001."""
    schedule, grid = straight(), step_grid(1000, 20)
    denoiser = Denoiser(Curved(), schedule, "flow")
    times = torch.tensor([(step.t + 1) / 1001 for step in grid])
    theirs = getattr(diffusers, f"FlowMatch{'Heun' if second_order else 'Euler'}DiscreteScheduler")()
    if second_order:  # it has no way to be told other levels
        theirs.set_timesteps(20)
        theirs.sigmas = torch.cat([times[:1], times[1:].repeat_interleave(2), torch.zeros(1)])
        asked = [t for step in grid for t in ([step.t, step.s] if step.s >= 0 else [step.t])]
    else:
        theirs.set_timesteps(sigmas=times.tolist())
        asked = [step.t for step in grid]
    theirs.set_begin_index(0)
    x = tensors(1)[0]
    path = x / sum(schedule.levels(999, x))
    for t, ours in zip(theirs.timesteps, asked, strict=True):
        seen = denoiser(path * sum(schedule.levels(ours, x)), ours)
        path = theirs.step(seen.eps - seen.x0, t, path).prev_sample
    sampler = Heun(schedule, "flow") if second_order else Euler(schedule)
    torch.testing.assert_close(decode_code(denoiser, sampler, grid, x[:, None]), path.double(), rtol=0, atol=1e-5)


def test_spacings():
    """Uniform is their linspace. DPM-Solver's leaves out the step from t = 0: the grid of one more step, cut short."""
    theirs = diffusers.DDIMScheduler(timestep_spacing="linspace")
    for steps in (2, 7, 50):
        theirs.set_timesteps(steps)
        assert theirs.timesteps.tolist() == [step.t for step in step_grid(1000, steps, spacing="uniform")]
        dpm = scheduler("DPMSolverMultistepScheduler", steps, "uniform")
        assert dpm.timesteps.tolist() == [step.t for step in step_grid(1000, steps + 1, spacing="uniform")[:-1]]
