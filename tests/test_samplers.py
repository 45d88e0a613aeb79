"""Samplers against diffusers' schedulers step by step, and whole chains against affine recursions of Gaussian data."""

import math

import pytest
import torch

from minidiff.denoiser import to_prediction
from minidiff.ideal import IdealDenoiser
from minidiff.samplers import DDIM, DDPM, count_blocks, decode_code, posterior_std, random_code, sampling
from minidiff.schedule import linear, step_grid

SCHEDULE = linear()
PREDICTION_TYPE = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
MEAN, STD = 0.5, 0.3
GAUSSIAN = IdealDenoiser(SCHEDULE, torch.full((1, 1, 1), MEAN), std=STD)


def diffusers_scheduler(cls, steps, **config):
    common = {"clip_sample": False, "timestep_spacing": "trailing", "beta_start": 1e-4, "beta_end": 2e-2}
    scheduler = cls(**common, **config)
    scheduler.alphas_cumprod = SCHEDULE.abar  # theirs in float32 agree to 1e-4 (test_schedule); the rest must be exact
    scheduler.set_timesteps(steps)
    return scheduler


def tensors(count, seed=0):
    return torch.randn(count, 2, 3, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("predicts", PREDICTION_TYPE)
@pytest.mark.parametrize("eta", [0.0, 0.1, 1.0])
def test_ddim_is_diffusers(predicts, eta):
    from diffusers import DDIMScheduler

    theirs = diffusers_scheduler(DDIMScheduler, 20, prediction_type=PREDICTION_TYPE[predicts], set_alpha_to_one=True)
    for step, t in zip(step_grid(1000, 20), theirs.timesteps, strict=True):
        assert step.t == t
        x_t, output, noise = tensors(3, seed=step.t)
        expected = theirs.step(output, int(t), x_t, eta=eta, variance_noise=noise if eta > 0 else None).prev_sample
        prediction = to_prediction(predicts, x_t, output, *SCHEDULE.levels(step.t, x_t))
        mean, std = DDIM(SCHEDULE, eta).transition(x_t, prediction, step)
        torch.testing.assert_close(mean + std * noise, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("predicts", PREDICTION_TYPE)
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_is_diffusers(predicts, variance):
    from diffusers import DDPMScheduler

    config = {"prediction_type": PREDICTION_TYPE[predicts], "variance_type": f"fixed_{variance}"}
    theirs = diffusers_scheduler(DDPMScheduler, 20, **config)
    grid = step_grid(1000, 20)
    for step, t in zip(grid, theirs.timesteps, strict=True):
        x_t, output = tensors(2, seed=step.t)
        prediction = to_prediction(predicts, x_t, output, *SCHEDULE.levels(step.t, x_t))
        mean, std = DDPM(SCHEDULE, variance).transition(x_t, prediction, step)
        expected = theirs.step(output, int(t), x_t, generator=torch.Generator().manual_seed(1)).prev_sample
        noise = torch.randn(output.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        if step == grid[-1]:
            assert std == 0  # theirs still adds noise here, as it does for any t > 0
            expected = expected - theirs._get_variance(step.t) ** 0.5 * noise
        torch.testing.assert_close(mean + std * noise, expected, rtol=1e-9, atol=1e-9)


def test_eta_1_is_ddpm():
    x_t, x0 = tensors(2)
    for step in step_grid(1000, 20):
        signal, noise = SCHEDULE.levels(step.t, x_t)
        prediction = to_prediction("x0", x_t, x0, signal, noise)
        mean, std = DDIM(SCHEDULE, 1.0).transition(x_t, prediction, step)
        expected, posterior = DDPM(SCHEDULE).transition(x_t, prediction, step)
        assert std == posterior == posterior_std(SCHEDULE, step)
        torch.testing.assert_close(mean, expected, rtol=0, atol=1e-11)


def test_only_the_step_to_clean_data_has_no_noise():
    grid = step_grid(1000, 20)
    for sampler in (DDIM(SCHEDULE, 0.01), DDIM(SCHEDULE, 1.0), DDPM(SCHEDULE), DDPM(SCHEDULE, "large")):
        assert [sampler.std(step) > 0 for step in grid] == [True] * 19 + [False]


SAMPLERS = [DDIM(SCHEDULE, 0.0), DDIM(SCHEDULE, 0.1), DDIM(SCHEDULE, 1.0), DDPM(SCHEDULE), DDPM(SCHEDULE, "large")]


def affine_chain(sampler, grid):
    """(mean, variance) of x0 from x_T ~ N(0, 1): with Gaussian data each step is x_s = A x_t + c + std n."""
    mean, var = 0.0, 1.0
    for step in grid:
        abar_t, abar_s = SCHEDULE.abar_at(step.t), SCHEDULE.abar_at(step.s)
        gain = (
            math.sqrt(abar_t) * STD**2 / (abar_t * STD**2 + 1 - abar_t)
        )  # x0_hat = MEAN + gain (x_t - sqrt(abar_t) MEAN)
        offset = MEAN * (1 - gain * math.sqrt(abar_t))
        beta = 1 - abar_t / abar_s
        std = sampler.eta * math.sqrt((1 - abar_s) / (1 - abar_t) * beta)
        if isinstance(sampler, DDPM) and sampler.variance == "large" and step.s >= 0:
            std = math.sqrt(beta)
        if isinstance(sampler, DDIM):
            to_eps = math.sqrt((1 - abar_s - std**2) / (1 - abar_t))
            to_x0, to_x_t = math.sqrt(abar_s) - math.sqrt(abar_t) * to_eps, to_eps
        else:
            to_x0 = math.sqrt(abar_s) * beta / (1 - abar_t)
            to_x_t = math.sqrt(1 - beta) * (1 - abar_s) / (1 - abar_t)
        mean = to_x0 * (offset + gain * mean) + to_x_t * mean
        var = (to_x0 * gain + to_x_t) ** 2 * var + std**2
    return mean, var


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
@pytest.mark.parametrize(("steps", "strength"), [(1, 1.0), (20, 1.0), (20, 0.5)])
def test_gaussian_chain(sampler, steps, strength):
    """An affine chain: code 0 gives the mean, unit codes the gains, and the variance is the sum of their squares."""
    grid = step_grid(1000, steps, strength)
    blocks = count_blocks(sampler, grid)
    units = torch.cat([torch.zeros(1, blocks), torch.eye(blocks)]).double()
    if blocks > 1:
        units[-1] = 0  # the residual of the last step is no noise
    x0 = decode_code(GAUSSIAN, sampler, grid, units.view(blocks + 1, blocks, 1, 1, 1)).flatten()
    mean, var = affine_chain(sampler, grid)
    assert x0[0].item() == pytest.approx(mean, abs=1e-12)
    assert (x0[1:] - x0[0]).square().sum().item() == pytest.approx(var, abs=1e-12)


@pytest.mark.parametrize("sampler", SAMPLERS[:4], ids=repr)
def test_many_steps_give_the_data(sampler):
    mean, var = affine_chain(sampler, step_grid(1000, 1000))
    assert mean == pytest.approx(MEAN, abs=5e-3) and math.sqrt(var) == pytest.approx(STD, rel=0.015)


def test_random_codes_decode_to_the_predicted_moments():
    sampler, grid = DDIM(SCHEDULE, 0.5), step_grid(1000, 10)
    x0 = decode_code(GAUSSIAN, sampler, grid, random_code((1, 1, 1), grid, sampler, 0, count=20_000)).flatten()
    mean, var = affine_chain(sampler, grid)
    assert abs(x0.mean().item() - mean) < 4 * math.sqrt(var / len(x0))
    assert abs(x0.var().item() - var) < 4 * var * math.sqrt(2 / len(x0))


def test_ode_converges_to_its_closed_form():
    """The ODE keeps a Gaussian's standard score: x0 = MEAN + STD (x_T - a MEAN) / sqrt(a^2 STD^2 + 1 - a^2)."""
    x_T = torch.tensor([-2.0, 0.0, 1.5]).double().view(3, 1, 1, 1, 1)
    abar = SCHEDULE.abar_at(999)
    exact = MEAN + STD * (x_T.flatten() - math.sqrt(abar) * MEAN) / math.sqrt(abar * STD**2 + 1 - abar)
    errors = []
    for steps in (25, 50, 100, 200):
        x0 = decode_code(GAUSSIAN, DDIM(SCHEDULE, 0.0), step_grid(1000, steps), x_T).flatten()
        errors.append((x0 - exact).abs().max().item())
    assert all(0.35 < b / a < 0.6 for a, b in zip(errors, errors[1:])), (
        errors
    )  # first order: half the step, half the error


def test_sampling_yields_every_step():
    sampler, grid = DDIM(SCHEDULE, 0.3), step_grid(1000, 5)
    code = random_code((1, 1, 1), grid, sampler, [3, 4])
    states = list(sampling(GAUSSIAN, sampler, grid, code))
    assert [state.step for state in states] == list(grid)
    assert [(state.index, state.total) for state in states] == [(i, 5) for i in range(5)]
    assert torch.equal(states[-1].x, decode_code(GAUSSIAN, sampler, grid, code))
    assert torch.equal(
        states[-1].x, states[-1].prediction.x0
    )  # the residual is 0: the last step lands on its own guess


def test_random_code():
    sampler, grid = DDIM(SCHEDULE, 0.1), step_grid(1000, 5)
    code = random_code((3, 4, 4), grid, sampler, seeds=[7, 8, 9], dtype=torch.float64)
    assert code.shape == (3, 6, 3, 4, 4) and code.dtype == torch.float64
    assert torch.equal(code[:, -1], torch.zeros(3, 3, 4, 4).double()) and code[:, :-1].abs().min() > 0
    assert torch.equal(code[1:2], random_code((3, 4, 4), grid, sampler, seeds=8, dtype=torch.float64))
    assert torch.equal(code, random_code((3, 4, 4), grid, sampler, seeds=7, count=3, dtype=torch.float64))
    assert random_code((3, 4, 4), grid, DDIM(SCHEDULE, 0.0)).shape == (1, 1, 3, 4, 4)
    assert len(set(code[0, :-1, 0, 0, 0].tolist())) == 5


def test_decode_is_differentiable_in_the_code_alone():
    sampler, grid = DDIM(SCHEDULE, 1.0), step_grid(1000, 5)
    code = random_code((1, 1, 1), grid, sampler, dtype=torch.float64).requires_grad_()
    x0 = decode_code(GAUSSIAN, sampler, grid, code)
    (gradient,) = torch.autograd.grad(x0.sum(), code)
    assert torch.autograd.gradcheck(lambda c: decode_code(GAUSSIAN, sampler, grid, c), code)
    assert gradient.flatten()[:-1].abs().min() > 0
    net = torch.nn.Conv2d(1, 1, 1).double()
    x0 = decode_code(lambda x, t: to_prediction("v", x, net(x), 0.6, 0.8), sampler, grid, code.detach())
    assert not x0.requires_grad


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DDIM(SCHEDULE, 1.5), r"eta: expected a number in \[0, 1\], got 1.5"),
        (lambda: DDIM(SCHEDULE, -0.1), "eta: .* got -0.1"),
        (lambda: DDPM(SCHEDULE, "learned"), "variance: expected 'small' or 'large', got 'learned'"),
        (
            lambda: decode_code(GAUSSIAN, DDIM(SCHEDULE), step_grid(1000, 5), torch.zeros(1, 5, 1, 1, 1)),
            r"code: expected floats \(B, 6, C, H, W\), got torch.float32 of shape \(1, 5, 1, 1, 1\)",
        ),
        (
            lambda: decode_code(GAUSSIAN, DDIM(SCHEDULE, 0.0), step_grid(1000, 5), torch.zeros(1, 6, 1, 1, 1)),
            r"code: expected floats \(B, 1, C, H, W\)",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
