"""EDICT and O-BELM come back to the last digit, for a network that nobody trained; and they solve the ODE."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from minidiff.denoiser import Denoiser
from minidiff.encoder import ddim_invert
from minidiff.ideal import IdealDenoiser
from minidiff.inversions import belm_decode, belm_encode, belm_start, ddim_factors, edict_decode, edict_encode
from minidiff.samplers import DDIM, decode_code
from minidiff.schedule import linear, step_grid

SCHEDULE = linear()
MEAN, STD = 0.2, 0.5
GAUSSIAN = IdealDenoiser(SCHEDULE, torch.full((1, 1, 1), MEAN), std=STD)
X0 = torch.rand(3, 2, 4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1


class Untrained(nn.Module):
    """A small convolutional network that nobody trained."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 2, 3, padding=1)

    def forward(self, x, t):
        return self.last(F.silu(self.first(x) + (t.to(x.dtype) / 1000).view(-1, 1, 1, 1)))


PAIRS = {"edict": (edict_encode, edict_decode), "belm": (belm_encode, belm_decode)}


@pytest.mark.parametrize("method", PAIRS)
@pytest.mark.parametrize("predicts", ["eps", "v"])
@pytest.mark.parametrize("spacing", ["trailing", "uniform", "karras"])
@pytest.mark.parametrize(("steps", "strength"), [(20, 1.0), (50, 0.6), (20, 0.05)])
def test_decode_undoes_encode(method, predicts, spacing, steps, strength):
    (encode, decode), denoiser = PAIRS[method], Denoiser(Untrained().double(), SCHEDULE, predicts)
    grid = step_grid(SCHEDULE, steps, strength, spacing)
    code = encode(denoiser, SCHEDULE, grid, X0)
    assert code.shape == (3, 2, 2, 4, 6) and code.dtype == torch.float64
    assert (decode(denoiser, SCHEDULE, grid, code) - X0).abs().max() <= 1e-9
    naive = ddim_invert(denoiser, SCHEDULE, grid, X0)
    assert (decode_code(denoiser, DDIM(SCHEDULE, 0.0), grid, naive) - X0).abs().max() > 1e-6


def test_an_item_does_not_depend_on_its_batch():
    grid, denoiser = step_grid(1000, 10), Denoiser(Untrained().double(), SCHEDULE)
    for encode, _ in PAIRS.values():
        torch.testing.assert_close(
            encode(denoiser, SCHEDULE, grid, X0)[1:2], encode(denoiser, SCHEDULE, grid, X0[1:2]), rtol=0, atol=1e-10
        )


def exact(x, t, s):
    """The ODE from level t to level s keeps the standard score of a Gaussian."""
    (a, b), (c, d) = SCHEDULE.levels(t, x), SCHEDULE.levels(s, x)
    return c * MEAN + math.sqrt((c * STD) ** 2 + d**2) * (x - a * MEAN) / math.sqrt((a * STD) ** 2 + b**2)


def test_belm_is_of_second_order_and_edict_of_first():
    x_T = torch.tensor([-2.0, 0.0, 1.5]).double().view(3, 1, 1, 1)

    def errors(decode):
        found = []
        for steps in (20, 40, 80, 160):
            grid = step_grid(SCHEDULE, steps + 1, spacing="karras")[:-1]
            found.append((decode(grid) - exact(x_T, grid[0].t, grid[-1].s)).abs().max().item())
        return found

    belm = errors(lambda grid: belm_decode(GAUSSIAN, SCHEDULE, grid, belm_start(GAUSSIAN, SCHEDULE, grid, x_T)))
    edict = errors(lambda grid: edict_decode(GAUSSIAN, SCHEDULE, grid, torch.stack([x_T, x_T], 1)))
    assert all(b < 0.35 * a for a, b in zip(belm, belm[1:])), belm
    assert all(b < 0.65 * a for a, b in zip(edict, edict[1:])), edict


def test_codes_are_near_the_exact_ones():
    """50 steps: EDICT is a little nearer than DDIM inversion (0.11), O-BELM by an order of magnitude."""
    x0, grid = GAUSSIAN.sample(50), step_grid(1000, 50)
    for (encode, _), bound in zip(PAIRS.values(), (0.1, 0.02), strict=True):
        code = encode(GAUSSIAN, SCHEDULE, grid, x0)
        torch.testing.assert_close(code[:, 0], exact(x0, -1, 999), rtol=0, atol=bound)


def test_edict_pulls_its_copies_apart_on_a_long_grid():
    """1 / 0.93^1000 is 1e31: rounding errors grow past the picture; a mix nearer to 1 keeps them small."""
    x0, grid = GAUSSIAN.sample(5), step_grid(1000, 500)
    errors = []
    for mix in (0.93, 0.99):
        code = edict_encode(GAUSSIAN, SCHEDULE, grid, x0, mix)
        errors.append((edict_decode(GAUSSIAN, SCHEDULE, grid, code, mix) - x0).abs().max().item())
    assert errors[0] > 1 and errors[1] < 1e-9


def test_edict_without_coupling_is_ddim_that_looks_at_its_twin():
    """mix 1 and equal copies: the first line is DDIM's step, so one step from equal states decodes as DDIM does."""
    grid, x = step_grid(1000, 1), X0
    denoiser = Denoiser(Untrained().double(), SCHEDULE)
    x0 = edict_decode(denoiser, SCHEDULE, grid, torch.stack([x, x], 1), mix=1.0)
    torch.testing.assert_close(x0, decode_code(denoiser, DDIM(SCHEDULE, 0.0), grid, x[:, None]), rtol=0, atol=1e-10)


def test_ddim_factors():
    eps = torch.randn(X0.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for step in step_grid(1000, 7):
        a, b = ddim_factors(SCHEDULE, step)
        expected = SCHEDULE.add_noise(X0, eps, step.s)
        torch.testing.assert_close(a * SCHEDULE.add_noise(X0, eps, step.t) + b * eps, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda grid: edict_decode(GAUSSIAN, SCHEDULE, grid, X0), r"code: expected floats \(B, 2, C, H, W\), got"),
        (lambda grid: belm_decode(GAUSSIAN, SCHEDULE, grid, X0[:, None]), r"code: .* \(3, 1, 2, 4, 6\)"),
        (lambda grid: edict_encode(GAUSSIAN, SCHEDULE, grid, X0[0]), "code: expected floats"),
        (lambda grid: belm_encode(GAUSSIAN, SCHEDULE, grid, X0.long()), "code: expected floats .* torch.int64"),
        (
            lambda grid: edict_encode(GAUSSIAN, SCHEDULE, grid, X0, mix=0.0),
            r"mix: expected a number in \(0, 1\], got 0",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(step_grid(1000, 5))
