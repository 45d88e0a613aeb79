"""DPM-Encoder is exact for any network; with the ideal denoiser its codes have statistics that can be derived."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from minidiff.codes import code_statistics
from minidiff.denoiser import PREDICTS, Denoiser
from minidiff.encoder import ddim_invert, dpm_encode, truth
from minidiff.ideal import IdealDenoiser
from minidiff.samplers import DDIM, DDPM, decode_code
from minidiff.schedule import SPACINGS, cosine, linear, step_grid
from minidiff.solvers import SAMPLERS as BY_NAME
from minidiff.solvers import DPMSolver2M, Euler, Heun

SCHEDULE = linear()
SAMPLERS = [DDIM(SCHEDULE, eta) for eta in (0.01, 0.1, 0.5, 1.0)] + [DDPM(SCHEDULE), DDPM(SCHEDULE, "large")]
SAMPLERS += [Euler(SCHEDULE, 1.0), DPMSolver2M(SCHEDULE, 0.3), DPMSolver2M(SCHEDULE, 1.0)]
STD = 0.5
GAUSSIAN = IdealDenoiser(SCHEDULE, torch.full((1, 1, 1), 0.2), std=STD)


class Untrained(nn.Module):
    """A small convolutional network that nobody trained; it does look at the picture and at the time."""

    def __init__(self, channels=2):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(channels, 8, 3, padding=1), nn.Conv2d(8, channels, 3, padding=1)

    def forward(self, x, t):
        return self.last(F.silu(self.first(x) + (t.to(x.dtype) / 1000).view(-1, 1, 1, 1)))


def pictures(dtype):
    return torch.rand(3, 2, 4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype) * 2 - 1


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: f"{type(s).__name__} {getattr(s, 'variance', s.eta)}")
@pytest.mark.parametrize("predicts", PREDICTS)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_decode_undoes_encode(sampler, predicts, dtype, bound):
    denoiser, x0 = Denoiser(Untrained().to(dtype), SCHEDULE, predicts), pictures(dtype)
    for trajectory in ("posterior", "independent"):
        for strength in (1.0, 0.6, 0.05):  # 0.05 keeps only the step that lands on clean data
            grid = step_grid(1000, 20, strength)
            code = dpm_encode(denoiser, sampler, grid, x0, seeds=3, trajectory=trajectory)
            assert code.shape == (3, len(grid) + 1, 2, 4, 6) and code.dtype == dtype and not code.requires_grad
            assert (decode_code(denoiser, sampler, grid, code) - x0).abs().max() <= bound


@pytest.mark.parametrize("name", [name for name, make in BY_NAME.items() if make(SCHEDULE).eta > 0])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_every_sampler_that_draws_noise_is_invertible(name, spacing):
    sampler, denoiser = BY_NAME[name](SCHEDULE), Denoiser(Untrained().double(), SCHEDULE, "flow")
    grid, x0 = step_grid(SCHEDULE, 15, 0.8, spacing), pictures(torch.float64)
    code = dpm_encode(denoiser, sampler, grid, x0, seeds=3)
    assert (decode_code(denoiser, sampler, grid, code) - x0).abs().max() <= 1e-12
    alone = dpm_encode(denoiser, sampler, grid, x0[1:2], seeds=4)
    torch.testing.assert_close(alone, code[1:2], rtol=0, atol=1e-10)


def test_decode_undoes_encode_on_the_full_grid():
    denoiser, grid = Denoiser(Untrained().double(), SCHEDULE, "eps"), step_grid(1000, 1000)
    code = dpm_encode(denoiser, DDIM(SCHEDULE, 0.1), grid, pictures(torch.float64))
    assert (decode_code(denoiser, DDIM(SCHEDULE, 0.1), grid, code) - pictures(torch.float64)).abs().max() <= 1e-12


def test_a_float64_picture_keeps_its_digits_through_a_float32_network():
    denoiser, grid = Denoiser(Untrained(), SCHEDULE), step_grid(1000, 20)
    code = dpm_encode(denoiser, DDIM(SCHEDULE, 0.1), grid, pictures(torch.float64))
    assert (decode_code(denoiser, DDIM(SCHEDULE, 0.1), grid, code) - pictures(torch.float64)).abs().max() <= 1e-12


def test_an_item_does_not_depend_on_its_batch():
    denoiser, sampler, grid, x0 = Denoiser(Untrained().double(), SCHEDULE), SAMPLERS[1], step_grid(1000, 10), pictures
    together = dpm_encode(denoiser, sampler, grid, x0(torch.float64), seeds=[11, 5, 8])
    for i, seed in enumerate((11, 5, 8)):
        alone = dpm_encode(denoiser, sampler, grid, x0(torch.float64)[i : i + 1], seeds=seed)
        assert torch.equal(alone[0, 0], together[i, 0])
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-10)


def test_two_seeds_two_codes_one_picture():
    denoiser, sampler, grid, x0 = Denoiser(Untrained().double(), SCHEDULE), SAMPLERS[1], step_grid(1000, 10), pictures
    codes = [dpm_encode(denoiser, sampler, grid, x0(torch.float64), seeds=seed) for seed in (0, 100)]
    assert (codes[0] - codes[1])[:, :-1].flatten(2).abs().amin((0, 1)).max() > 0.1
    for code in codes:
        assert (decode_code(denoiser, sampler, grid, code) - x0(torch.float64)).abs().max() <= 1e-12


def gaussian_code(eta, trajectory="posterior", steps=100):
    """Codes of true data under the ideal denoiser: (1, blocks, 1, 1, items) with the pixel's items side by side."""
    grid, x0 = step_grid(1000, steps), GAUSSIAN.sample(4000)
    code = dpm_encode(GAUSSIAN, DDIM(SCHEDULE, eta), grid, x0, seeds=10_000, trajectory=trajectory)
    return grid, code_statistics(code)


@pytest.mark.parametrize("eta", [0.1, 0.5, 1.0])
def test_posterior_code_statistics(eta):
    """Block k is n + c (e* - e_hat) / std: fresh noise, plus what even the best denoiser cannot know about eps.

    c is what eps adds to the mean beyond x0's part, and Var(e* | x_t) = abar s^2 / (abar s^2 + 1 - abar) for N(m, s^2).
    """
    grid, seen = gaussian_code(eta)
    assert seen.std[0].item() == pytest.approx(1, rel=0.05)
    for k, step in enumerate(grid[:-1], 1):
        abar_t, abar_s = SCHEDULE.abar_at(step.t), SCHEDULE.abar_at(step.s)
        std = DDIM(SCHEDULE, eta).std(step)
        c = math.sqrt(abar_s * (1 - abar_t) / abar_t) - math.sqrt(1 - abar_s - std**2)
        unknown = abar_t * STD**2 / (abar_t * STD**2 + 1 - abar_t)
        expected = math.sqrt(1 + (c / std) ** 2 * unknown)
        assert abs(seen.std[k].item() / expected - 1) < 5 / math.sqrt(2 * 4000)
        assert abs(seen.mean[k].item()) < 5 * expected / math.sqrt(4000)
    assert (seen.std[1:60] - 1).abs().max() < 0.1  # early and middle blocks are standard normal for every eta
    assert seen.std[-2] > max(1.5, 0.8 / eta)  # the last noises are not


def test_independent_trajectories_pull_back_what_they_pushed():
    """Huberman-Spiegelglas et al., section 3.1: larger noises, negatively correlated in time, as 1 / eta."""
    _, posterior = gaussian_code(1.0)
    _, one = gaussian_code(1.0, "independent")
    _, tenth = gaussian_code(0.1, "independent")
    assert (one.lag1[10:-2] + 0.5).abs().max() < 0.08 and (tenth.lag1[10:-2] + 0.5).abs().max() < 0.08
    assert posterior.lag1[10:50].abs().max() < 0.08
    assert one.std[10:-1].min() > 2
    torch.testing.assert_close(tenth.std[10:-1], 10 * one.std[10:-1], rtol=0.1, atol=0)


def test_posterior_path_has_the_marginals_of_the_forward_process():
    """q(x_s | x_t, x0) leads x_t ~ q(x_t | x0) to x_s ~ q(x_s | x0): Song et al., lemma 1, in mean and variance."""
    for sampler in (DDIM(SCHEDULE, 0.3), DDPM(SCHEDULE), DDPM(SCHEDULE, "large"), *SAMPLERS[-3:]):
        for step in step_grid(1000, 10):
            x0, x_t = torch.tensor([[0.7, 0.7], [0.0, 1.0]], dtype=torch.float64)
            mean, std = sampler.posterior.transition(x_t, truth(SCHEDULE, x_t, x0, step.t), step)
            gain, abar_t, abar_s = (mean[1] - mean[0]).item(), SCHEDULE.abar_at(step.t), SCHEDULE.abar_at(step.s)
            at_mean = mean[0].item() + gain * math.sqrt(abar_t) * 0.7
            assert at_mean == pytest.approx(math.sqrt(abar_s) * 0.7, abs=1e-12)
            assert gain**2 * (1 - abar_t) + std**2 == pytest.approx(1 - abar_s, abs=1e-12)


def test_ddim_inversion_is_better_with_more_steps_and_more_looks():
    x0, ode = GAUSSIAN.sample(50), DDIM(SCHEDULE, 0.0)

    def error(steps, looks):
        grid = step_grid(1000, steps)
        code = ddim_invert(GAUSSIAN, ode, grid, x0, looks)
        assert code.shape == (50, 1, 1, 1, 1)
        return (decode_code(GAUSSIAN, ode, grid, code) - x0).abs().max().item()

    by_steps = [error(steps, 0) for steps in (25, 50, 100, 200)]
    assert all(0.35 < b / a < 0.65 for a, b in zip(by_steps, by_steps[1:])), by_steps  # first order
    by_looks = [error(50, looks) for looks in (0, 1, 2, 4)]
    assert all(b < 0.7 * a for a, b in zip(by_looks, by_looks[1:])), by_looks
    assert error(50, 60) < 1e-12


def test_ddim_inversion_finds_the_closed_form_code():
    """The ODE carries x0 of N(m, s^2) to x_T = a m + sqrt(a^2 s^2 + 1 - a^2) (x0 - m) / s."""
    x0, abar = GAUSSIAN.sample(50), SCHEDULE.abar_at(999)
    exact = math.sqrt(abar) * 0.2 + math.sqrt(abar * STD**2 + 1 - abar) * (x0 - 0.2) / STD
    code = ddim_invert(GAUSSIAN, SCHEDULE, step_grid(1000, 1000), x0, 2)
    torch.testing.assert_close(code[:, 0], exact, rtol=0, atol=0.02)


X0 = torch.zeros(1, 1, 1, 1)
GRID = step_grid(1000, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dpm_encode(GAUSSIAN, DDIM(SCHEDULE, 0.0), GRID, X0), "eta: .* got 0; use ddim_invert"),
        (lambda: dpm_encode(GAUSSIAN, DDIM(SCHEDULE), GRID, X0, trajectory="ode"), "trajectory: .* got 'ode'"),
        (lambda: dpm_encode(GAUSSIAN, DDIM(SCHEDULE), GRID, X0[0]), r"x0: expected floats \(B, C, H, W\), got"),
        (lambda: dpm_encode(GAUSSIAN, DDIM(SCHEDULE), GRID, X0.long()), "x0: expected floats .* got torch.int64"),
        (lambda: dpm_encode(GAUSSIAN, DDIM(SCHEDULE), GRID, X0, seeds=[1, 2]), "seeds: expected one integer per item"),
        (lambda: ddim_invert(GAUSSIAN, DDIM(SCHEDULE), GRID, X0), "eta: .* got 0.1; use dpm_encode"),
        (lambda: ddim_invert(GAUSSIAN, Heun(SCHEDULE), GRID, X0), "sampler: .* not those of Heun; use DDIM or Euler"),
        (
            lambda: ddim_invert(GAUSSIAN, DPMSolver2M(SCHEDULE), GRID, X0),
            "sampler: .* not those of DPMSolver2M; .* minidiff.inversions",
        ),
        (lambda: dpm_encode(GAUSSIAN, Heun(SCHEDULE), GRID, X0), "eta: .* got 0; use ddim_invert"),
        (lambda: ddim_invert(GAUSSIAN, cosine(), GRID, X0, -1), "fixed_point_iters: expected 0 or more, got -1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
