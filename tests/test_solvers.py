"""Solvers against their published loops on Gaussian data, orders of convergence on the exact ODE, samplers by name."""

import math

import pytest
import torch

from minidiff.denoiser import to_prediction
from minidiff.ideal import IdealDenoiser
from minidiff.samplers import DDIM, DDPM, count_blocks, decode_code, random_code, sampling
from minidiff.schedule import SPACINGS, Step, cosine, linear, step_grid, straight
from minidiff.solvers import SAMPLERS, DPMSolver2M, Euler, Heun, UniPC, as_sampler

SCHEDULE = linear()
MEAN, STD = 0.5, 0.3
GAUSSIAN = IdealDenoiser(SCHEDULE, torch.full((1, 1, 1), MEAN), std=STD)


def tensors(count, seed=0):
    return torch.randn(count, 2, 3, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def guess(x, sigma):
    """E[x0 | x = x0 + sigma eps] for data from N(MEAN, STD^2)."""
    return MEAN + STD**2 / (STD**2 + sigma**2) * (x - MEAN)


def euler_loop(sigmas, x, noises, eta):
    """k-diffusion's sample_euler_ancestral (sample_euler at eta = 0)."""
    for a, b, noise in zip(sigmas, sigmas[1:], noises):
        up = min(b, eta * math.sqrt(b**2 * (a**2 - b**2) / a**2))
        x = x + (x - guess(x, a)) / a * (math.sqrt(b**2 - up**2) - a) + up * noise
    return x


def heun_loop(sigmas, x, noises, eta):
    """k-diffusion's sample_heun: algorithm 1 of EDM."""
    for a, b in zip(sigmas, sigmas[1:]):
        d = (x - guess(x, a)) / a
        euler = x + (b - a) * d
        x = euler if b == 0 else x + (b - a) * (d + (euler - guess(euler, b)) / b) / 2
    return x


def flow_heun_loop(sigmas, x, noises, eta):
    """Heun's method for dy / dr = eps - x0, y = (1 - r) x0 + r eps: sigma = r / (1 - r) and y = (1 - r) x."""

    def velocity(y, r):
        x0 = guess(y / (1 - r), r / (1 - r))
        return (y - (1 - r) * x0) / r - x0

    times = [sigma / (1 + sigma) for sigma in sigmas]
    y = (1 - times[0]) * x
    for a, b in zip(times, times[1:]):
        euler = y + (b - a) * velocity(y, a)
        y = euler if b == 0 else y + (b - a) * (velocity(y, a) + velocity(euler, b)) / 2
    return y


def dpm_loop(sigmas, x, noises, eta):
    """k-diffusion's sample_dpmpp_2m (eta = 0) and sample_dpmpp_2m_sde (eta = 1, midpoint)."""
    old, h_last = None, None
    for a, b, noise in zip(sigmas, sigmas[1:], noises):
        new, h = guess(x, a), math.log(a / b) if b else math.inf
        better = new if old is None or b == 0 else new + (new - old) / (2 * h_last / h)
        x = b / a * math.exp(-h * eta) * x - math.expm1(-h - h * eta) * better if b else better
        x, old, h_last = x + b * math.sqrt(-math.expm1(-2 * h * eta) if b else 0) * noise, new, h
    return x


def unipc_loop(sigmas, x, noises, eta):
    """UniPC-2 with B(h) = e^h - 1, x0 form: the corrector's weights from its linear system (Zhao et al., algorithm 5)."""
    lam = [-math.log(sigma) if sigma else math.inf for sigma in sigmas]
    start, seen = x, []  # where the last step started; x0 at every level
    for k, (a, b) in enumerate(zip(sigmas, sigmas[1:])):
        seen.append(guess(x, a))
        if k:
            h = lam[k] - lam[k - 1]
            base = a / sigmas[k - 1] * start - math.expm1(-h) * seen[k - 1]
            if k == 1:
                change = (seen[1] - seen[0]) / 2
            else:
                r = (lam[k - 2] - lam[k - 1]) / h
                phi2 = math.expm1(-h) / -h - 1
                phi3 = phi2 / -h - 1 / 2
                system = torch.tensor([[1, 1], [r, 1]], dtype=torch.float64)
                weights = torch.linalg.solve(
                    system, torch.tensor([phi2, 2 * phi3], dtype=torch.float64) / math.expm1(-h)
                )
                change = weights[0] * (seen[k - 2] - seen[k - 1]) / r + weights[1] * (seen[k] - seen[k - 1])
            x = base - math.expm1(-h) * change
        start, h = x, lam[k + 1] - lam[k]
        x = b / a * start - math.expm1(-h) * seen[k]
        if k and b:
            r = (lam[k - 1] - lam[k]) / h
            x = x - math.expm1(-h) * 0.5 * (seen[k - 1] - seen[k]) / r
    return x


LOOPS = {
    "ddim": euler_loop,
    "ddpm": euler_loop,
    "euler": euler_loop,
    "euler_ancestral": euler_loop,
    "heun": heun_loop,
    "flow_heun": flow_heun_loop,
    "dpm++2m": dpm_loop,
    "dpm++2m_sde": dpm_loop,
    "unipc": unipc_loop,
}


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 20])
def test_gaussian_chain(name, spacing, steps):
    """A chain is affine: code 0 and the unit codes tell all of it, and so the mean and variance of its samples."""
    sampler, grid = SAMPLERS[name](SCHEDULE), step_grid(SCHEDULE, steps, spacing=spacing)
    blocks = count_blocks(sampler, grid)
    units = torch.cat([torch.zeros(1, blocks), torch.eye(blocks)]).double()
    if blocks > 1:
        units[-1] = 0  # the residual of the last step is no noise
    x0 = decode_code(GAUSSIAN, sampler, grid, units.view(blocks + 1, blocks, 1, 1, 1)).flatten()
    sigmas = [SCHEDULE.sigma_at(step.t) for step in grid] + [0.0]
    start, *noises = units.T
    noises = noises or [0.0] * len(grid)
    expected = LOOPS[name](sigmas, start / math.sqrt(SCHEDULE.abar_at(grid[0].t)), noises, sampler.eta)
    torch.testing.assert_close(x0, expected, rtol=0, atol=1e-12)


def moments(sampler, steps, spacing="karras"):
    """The exact mean and std of samples from random codes."""
    grid = step_grid(SCHEDULE, steps, spacing=spacing)
    blocks = count_blocks(sampler, grid)
    units = torch.cat([torch.zeros(1, blocks), torch.eye(blocks)]).double()
    units[-1, -1] = float(blocks == 1)
    x0 = decode_code(GAUSSIAN, sampler, grid, units.view(blocks + 1, blocks, 1, 1, 1)).flatten()
    return x0[0].item(), (x0[1:] - x0[0]).square().sum().sqrt().item()


@pytest.mark.parametrize("name", SAMPLERS)
def test_many_steps_give_the_data(name):
    mean, std = moments(SAMPLERS[name](SCHEDULE), 400)
    assert mean == pytest.approx(MEAN, abs=5e-3) and std == pytest.approx(STD, rel=0.02)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_looking_back_is_better_than_not(eta):
    """20 steps: DDIM's samples have too little variety; the extrapolated look makes up for most of it."""
    plain, better = (
        abs(moments(sampler, 20)[1] - STD) for sampler in (DDIM(SCHEDULE, eta), DPMSolver2M(SCHEDULE, eta))
    )
    assert better < plain / 2


def test_random_codes_decode_to_the_exact_moments():
    sampler, grid = DPMSolver2M(SCHEDULE, 1.0), step_grid(SCHEDULE, 10, spacing="karras")
    x0 = decode_code(GAUSSIAN, sampler, grid, random_code((1, 1, 1), grid, sampler, 0, count=20_000)).flatten()
    mean, std = moments(sampler, 10)
    assert abs(x0.mean().item() - mean) < 4 * std / math.sqrt(len(x0))
    assert abs(x0.std().item() / std - 1) < 4 / math.sqrt(2 * len(x0))


def test_one_step_of_many_names():
    """DDIM, Euler (ancestral), DPM-Solver++ 1 and its SDE, DDPM, and Euler of flow matching are the same Gaussians."""
    x_t, x0 = tensors(2)
    for step in step_grid(1000, 20):
        (a, b), (c, d) = SCHEDULE.levels(step.t, x_t), SCHEDULE.levels(step.s, x_t)
        seen = to_prediction("x0", x_t, x0, a, b)
        for eta in (0.0, 0.3, 1.0):
            expected, std = DDIM(SCHEDULE, eta).transition(x_t, seen, step)
            for sampler in (Euler(SCHEDULE, eta), DPMSolver2M(SCHEDULE, eta)):
                mean, same_std = sampler.transition(x_t, seen, step)
                torch.testing.assert_close(mean, expected, rtol=0, atol=1e-12)
                assert same_std == pytest.approx(std, abs=1e-15)
        ode, sde = (DDIM(SCHEDULE, eta).transition(x_t, seen, step) for eta in (0.0, 1.0))
        y = x_t / (a + b) + (d / (c + d) - b / (a + b)) * (seen.eps - seen.x0)  # flow matching's Euler step
        torch.testing.assert_close((c + d) * y, ode[0], rtol=0, atol=1e-12)
        shrink = (d * a / (b * c)) ** 2  # e^-2h; Lu et al., eqs. 14 and 18
        torch.testing.assert_close(d / b * x_t + c * (1 - math.sqrt(shrink)) * x0, ode[0], rtol=0, atol=1e-11)
        mean = d / b * math.sqrt(shrink) * x_t + c * (1 - shrink) * x0
        torch.testing.assert_close(mean, sde[0], rtol=0, atol=1e-11)
        assert d * math.sqrt(1 - shrink) == pytest.approx(sde[1], abs=1e-14)
        ddpm = DDPM(SCHEDULE).transition(x_t, seen, step)
        torch.testing.assert_close(ddpm[0], sde[0], rtol=0, atol=1e-11)


def ode_error(sampler, grid):
    """How far from the exact ODE, which keeps the standard score of a Gaussian, at the grid's last level."""
    x = torch.tensor([-2.0, 0.0, 1.5]).double().view(3, 1, 1, 1, 1)
    (a, b), (c, d) = (SCHEDULE.levels(t, x) for t in (grid[0].t, grid[-1].s))
    exact = c * MEAN + math.sqrt((c * STD) ** 2 + d**2) * (x - a * MEAN) / math.sqrt((a * STD) ** 2 + b**2)
    return (decode_code(GAUSSIAN, sampler, grid, x) - exact[:, 0]).abs().max().item()


@pytest.mark.parametrize(
    ("name", "eta", "low", "high"),
    [
        ("ddim", 0.0, 0.9, 1.1),
        ("euler", 0.0, 0.9, 1.1),
        ("heun", 0.0, 1.9, 2.2),
        ("flow_heun", 0.0, 1.9, 2.2),
        ("dpm++2m", 0.0, 1.9, 2.2),
        ("unipc", 0.0, 2.9, 3.2),
    ],
)
def test_order_of_convergence(name, eta, low, high):
    """From sigma 157 to 0.01 in N Karras steps: the slope of log error over log N. 2M and UniPC get there from N = 20 on."""
    sampler, counts = as_sampler(name, SCHEDULE, eta), torch.tensor([20.0, 40, 80, 160]).double()
    # the step from the smallest sigma to clean data is left out: its error does not fall with N
    errors = [ode_error(sampler, step_grid(SCHEDULE, int(n) + 1, spacing="karras")[:-1]) for n in counts]
    slope = torch.linalg.lstsq(torch.stack([counts.log(), counts**0], 1), torch.tensor(errors).double().log()[:, None])
    assert low < -slope.solution[0].item() < high, errors
    assert errors[-1] < (0.02 if high < 1.5 else 5e-4)


def test_a_flow_network_is_one_more_denoiser():
    """On the straight schedule t is flow time; the velocity of Gaussian data is known, and Euler follows it."""
    schedule = straight()
    ideal = IdealDenoiser(schedule, torch.full((1, 1, 1), MEAN), std=STD)
    y, r = torch.tensor([-0.7, 0.2, 1.1]).double(), 300 / 1001  # t = 299
    signal, noise = schedule.levels(299, y)
    assert noise / (signal + noise) == pytest.approx(r, abs=1e-14)
    seen = ideal((y * (signal + noise)).view(3, 1, 1, 1), 299)
    total = ((1 - r) * STD) ** 2 + r**2  # the variance of y; E[eps - x0 | y] is linear in it (Lipman et al., eq. 21)
    velocity = -MEAN + (r - (1 - r) * STD**2) / total * (y - (1 - r) * MEAN)
    torch.testing.assert_close((seen.eps - seen.x0).flatten(), velocity, rtol=0, atol=1e-12)

    grid = step_grid(1000, 50)
    start = torch.tensor([-1.0, 0.4]).double()
    x = start
    for step in grid:  # in flow matching's own coordinates: evenly from r = 1000 / 1001 down to 0
        a, b = (step.t + 1) / 1001, (step.s + 1) / 1001
        total = ((1 - a) * STD) ** 2 + a**2
        x = x + (b - a) * (-MEAN + (a - (1 - a) * STD**2) / total * (x - (1 - a) * MEAN))
    scale = sum(schedule.levels(999, start))
    x0 = decode_code(ideal, Euler(schedule), grid, (scale * start).view(2, 1, 1, 1, 1)).flatten()
    torch.testing.assert_close(x0, x, rtol=0, atol=1e-10)


def test_heun_looks_twice():
    asked = []

    def spy(x_t, t):
        asked.append(t)
        return GAUSSIAN(x_t, t)

    grid = step_grid(1000, 3)
    for name, calls in (("heun", 5), ("flow_heun", 5), ("dpm++2m", 3), ("unipc", 3), ("ddim", 3)):
        sampler = SAMPLERS[name](SCHEDULE)
        decode_code(spy, sampler, grid, random_code((1, 1, 1), grid, sampler))
        assert len(asked) == sampler.calls(grid) == calls
        asked.clear()
    assert SAMPLERS["heun"](SCHEDULE).calls(grid[:-1]) == 4
    assert [state.step for state in sampling(spy, Heun(SCHEDULE), grid, torch.zeros(1, 1, 1, 1, 1))] == list(grid)
    assert asked == [999, 666, 666, 332, 332]


@pytest.mark.parametrize("sampler", [DPMSolver2M(SCHEDULE), UniPC(SCHEDULE)], ids=repr)
def test_two_trajectories_do_not_share_what_they_saw(sampler):
    grid = step_grid(1000, 6)
    code = random_code((1, 1, 1), grid, sampler, count=2, dtype=torch.float64)
    one_by_one = [decode_code(GAUSSIAN, sampler, grid, code[i : i + 1]) for i in (0, 1)]
    *_, side_by_side = zip(*(sampling(GAUSSIAN, sampler, grid, code[i : i + 1]) for i in (0, 1)), strict=True)
    assert all(torch.equal(x0, state.x) for x0, state in zip(one_by_one, side_by_side, strict=True))


@pytest.mark.parametrize("name", SAMPLERS)
def test_gradients_through_a_decoder(name):
    sampler, grid = SAMPLERS[name](SCHEDULE), step_grid(1000, 4)
    code = random_code((1, 1, 1), grid, sampler, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda c: decode_code(GAUSSIAN, sampler, grid, c), code)


def test_as_sampler():
    assert as_sampler("ddim", SCHEDULE) == DDIM(SCHEDULE, 0.1) and as_sampler("ddpm", SCHEDULE) == DDPM(SCHEDULE)
    assert as_sampler("euler_ancestral", SCHEDULE) == Euler(SCHEDULE, 1.0)
    assert as_sampler("dpm++2m", SCHEDULE, 0.5) == DPMSolver2M(SCHEDULE, 0.5) != DDIM(SCHEDULE, 0.5)
    assert as_sampler("heun", SCHEDULE, 0) == Heun(SCHEDULE)
    own = DDPM(SCHEDULE, "large")
    assert as_sampler(own, SCHEDULE) is own and as_sampler(own, cosine()) == DDPM(cosine(), "large")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: as_sampler("plms", SCHEDULE), r"sampler: expected one of ddim, ddpm, .*dpm\+\+2m_sde.*, got 'plms'"),
        (lambda: as_sampler(None, SCHEDULE), "sampler: expected one of ddim, .* got None"),
        (lambda: as_sampler("heun", SCHEDULE, 0.1), "eta: Heun has eta = 0, got 0.1"),
        (lambda: as_sampler("ddpm", SCHEDULE, 0.5), "eta: DDPM has eta = 1, got 0.5"),
        (lambda: as_sampler("dpm++2m", SCHEDULE, 1.5), r"eta: expected a number in \[0, 1\], got 1.5"),
        (lambda: Euler(SCHEDULE, -1.0), r"eta: expected a number in \[0, 1\], got -1.0"),
        (lambda: Heun(SCHEDULE, "v"), "slope: expected one of eps, flow, got 'v'"),
        (lambda: Euler(SCHEDULE).std(Step(3, -0.5)), r"t: expected a number from 0 to 999, or -1 .* got -0.5"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
