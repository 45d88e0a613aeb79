"""Schedules against diffusers' and against their formulas; grids that start and end exactly where they should."""

import numpy as np
import pytest
import torch

from minidiff.schedule import SPACINGS, Schedule, Step, cosine, linear, schedule, sqrt_linear, step_grid, straight

DIFFUSERS_NAMES = {"linear": "linear", "sqrt_linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}
BETAS = {"linear": (1e-4, 2e-2), "sqrt_linear": (8.5e-4, 1.2e-2), "cosine": (1e-4, 2e-2)}


@pytest.mark.parametrize("name", DIFFUSERS_NAMES)
def test_abar_is_diffusers(name):
    from diffusers import DDPMScheduler

    start, end = BETAS[name]
    theirs = DDPMScheduler(beta_schedule=DIFFUSERS_NAMES[name], beta_start=start, beta_end=end).alphas_cumprod
    assert schedule(name).abar.dtype == torch.float64
    torch.testing.assert_close(
        schedule(name).abar.float(), theirs, rtol=2e-4, atol=1e-7
    )  # theirs is float32 throughout


def test_published_values():
    assert linear().abar[0].item() == pytest.approx(1 - 1e-4)
    assert linear().abar[-1].item() == pytest.approx(4.0e-5, rel=0.02)
    assert sqrt_linear().abar[[0, -1]].tolist() == pytest.approx([0.99915, 0.00466], rel=1e-3)
    half = torch.cos(torch.tensor([0.508, 0.008], dtype=torch.float64) / 1.008 * torch.pi / 2) ** 2
    assert cosine().abar_at(499) == pytest.approx((half[0] / half[1]).item(), rel=1e-12)


def test_levels_of_ints_and_tensors_agree():
    noise_schedule, x = cosine(), torch.zeros(3, 1, 2, 2, dtype=torch.float64)
    signal, noise = noise_schedule.levels(torch.tensor([0, 500, 999]), x)
    assert signal.shape == noise.shape == (3, 1, 1, 1)
    for i, t in enumerate((0, 500, 999)):
        assert noise_schedule.levels(t, x) == (signal[i].item(), noise[i].item())
    assert noise_schedule.levels(-1, x) == (1.0, 0.0)
    torch.testing.assert_close(signal**2 + noise**2, torch.ones_like(signal))


def test_levels_between_whole_ones():
    """log(abar / (1 - abar)) is a straight line between neighbours; whole numbers give the table to the last bit."""
    for noise_schedule in (linear(), cosine(), straight()):
        log_snr = noise_schedule.abar.logit()
        for t in (0, 0.25, 12, 500.5, 998.9, 999):
            below, above = log_snr[int(t)], log_snr[min(int(t) + 1, 999)]
            expected = torch.sigmoid(below + (t - int(t)) * (above - below)).item()
            assert noise_schedule.abar_at(t) == pytest.approx(expected, rel=1e-12)
            assert noise_schedule.abar_at(float(int(t))) == noise_schedule.abar[int(t)].item()
    signal, noise = linear().levels(12.5, torch.zeros(1))
    assert signal**2 + noise**2 == pytest.approx(1) and linear().sigma_at(12.5) == pytest.approx(noise / signal)
    assert linear().sigma_at(-1) == 0 and linear().sigma_at(999) == pytest.approx(157.4, abs=0.1)


def test_straight_is_even_in_flow_time():
    signal, noise = straight().abar.sqrt(), (1 - straight().abar).sqrt()
    torch.testing.assert_close(noise / (signal + noise), torch.arange(1, 1001).double() / 1001, rtol=0, atol=1e-12)


def test_noise_is_added_in_the_dtype_of_the_picture():
    x0, eps = torch.full((2, 1, 2, 2), 3.0), torch.full((2, 1, 2, 2), -1.0)
    for dtype in (torch.float64, torch.float32, torch.float16):
        x_t = linear().add_noise(x0.to(dtype), eps.to(dtype), torch.tensor([0, 999]))
        assert x_t.dtype == dtype
        abar = linear().abar[[0, 999]]
        expected = 3 * abar.sqrt() - (1 - abar).sqrt()
        torch.testing.assert_close(x_t[:, 0, 0, 0].double(), expected, rtol=0, atol=2e-3)
    assert torch.equal(linear().add_noise(x0, eps, -1), x0)


def test_equality_is_by_values():
    assert linear() == linear() and hash(linear()) == hash(linear())
    assert linear() != cosine() and linear() != linear(T=500)
    assert Schedule("same", linear().abar) == linear()
    assert repr(linear()) == "Schedule('linear', T=1000, abar 0.9999 to 4.036e-05)"


@pytest.mark.parametrize("T", [1000, 37])
@pytest.mark.parametrize("strength", [1.0, 0.85, 0.5, 0.3])
def test_grids_walk_from_T_to_clean_data(T, strength):
    for steps in (1, 2, 7, 30, 37):
        if round(steps * strength) == 0:
            continue
        full, grid = step_grid(T, steps), step_grid(T, steps, strength)
        assert len(full) == steps and full[0].t == T - 1 and full[-1].s == -1
        assert len(grid) == round(steps * strength) and grid == full[-len(grid) :]
        assert all(step.t > step.s for step in grid)
        assert all(a.s == b.t for a, b in zip(grid, grid[1:]))


def test_grid_is_trailing():
    assert step_grid(1000, 4) == (Step(999, 749), Step(749, 499), Step(499, 249), Step(249, -1))
    for steps in (3, 7, 50, 99, 1000):
        theirs = np.round(np.arange(1000, 0, -1000 / steps)).astype(int) - 1  # diffusers, Lin et al. (2024), table 2
        assert [step.t for step in step_grid(1000, steps)] == theirs[:steps].tolist()


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("noise_schedule", [linear(), cosine(), straight(), linear(T=37)], ids=repr)
def test_every_spacing_walks_from_T_to_clean_data(noise_schedule, spacing):
    T = noise_schedule.T
    for steps in (1, 2, 7, 37):
        full = step_grid(noise_schedule, steps, spacing=spacing)
        assert len(full) == steps and full[0].t == T - 1 and full[-1].s == -1
        assert all(step.t > step.s for step in full) and all(a.s == b.t for a, b in zip(full, full[1:]))
        half = step_grid(noise_schedule, steps, 0.6, spacing)
        assert half == full[-len(half) :] and len(half) == round(0.6 * steps)


def test_uniform_ends_at_the_cleanest_level():
    assert step_grid(1000, 4, spacing="uniform") == (Step(999, 666), Step(666, 333), Step(333, 0), Step(0, -1))


def test_karras_is_even_in_the_seventh_root_of_sigma():
    for steps in (2, 20, 160):
        grid = step_grid(linear(), steps, spacing="karras")
        roots = np.array([linear().sigma_at(step.t) for step in grid]) ** (1 / 7)
        np.testing.assert_allclose(roots, np.linspace(roots[0], roots[-1], steps), rtol=1e-8)
        assert grid[-1].t == 0 and grid[-1].s == -1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: schedule("sigmoid"), "one of linear, sqrt_linear, cosine, straight, got 'sigmoid'"),
        (lambda: Schedule("float32", linear().abar.float()), "abar: expected float64"),
        (lambda: Schedule("rising", linear().abar.flip(0)), "abar: expected values that fall"),
        (lambda: linear().abar_at(1000), "t: expected a number from 0 to 999, or -1 .* got 1000"),
        (lambda: linear().abar_at(-2), "got -2"),
        (lambda: linear().abar_at(-0.5), "got -0.5"),
        (lambda: linear().abar_at(999.5), "got 999.5"),
        (lambda: linear().abar_at(float("nan")), "got nan"),
        (lambda: step_grid(1000, 10, spacing="leading"), "spacing: expected one of trailing, uniform, karras, got"),
        (lambda: step_grid(1000, 10, spacing="karras"), "spacing: 'karras' .* needs the schedule, got T = 1000 alone"),
        (lambda: step_grid(1000, 0), "steps: .* got 0"),
        (lambda: step_grid(1000, 1001), "steps: .* got 1001"),
        (lambda: step_grid(1000, 10.5), "steps: .* got 10.5"),
        (lambda: step_grid(1000, 10, 0.0), r"strength: expected a number in \(0, 1\], got 0.0"),
        (lambda: step_grid(1000, 10, 1.01), "strength: .* got 1.01"),
        (lambda: step_grid(1000, 10, float("nan")), "strength: .* got nan"),
        (lambda: step_grid(1000, 10, 0.04), "no step to run; use at least 0.1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
