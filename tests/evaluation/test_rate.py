"""The terms of the ELBO against Gaussian data, where every one of them is known, and against sums done by hand."""

import math

import pytest
import torch

from minidiff.denoiser import Denoiser, Prediction
from minidiff.evaluation import rate
from minidiff.evaluation.rate import levels, rate_distortion
from minidiff.ideal import IdealDenoiser
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.samplers import DDPM, posterior_std
from minidiff.schedule import Schedule, Step, linear, step_grid
from minidiff.seeds import normal

SCHEDULE = linear()
MEAN = torch.tensor([0.3, -0.2, 0.0, 0.5], dtype=torch.float64).reshape(1, 2, 2)
STD = torch.tensor([0.2, 1.0, 0.5, 0.9], dtype=torch.float64).reshape(1, 2, 2)
IDEAL = IdealDenoiser(SCHEDULE, MEAN, std=STD)
COUNT, D = 4000, 4


class Constant(torch.nn.Module):
    """A denoiser that sees the same grey everywhere."""

    def __init__(self, *abar, guess=0.0):
        super().__init__()
        self.schedule, self.guess = Schedule("by hand", torch.tensor(abar, dtype=torch.float64)), guess

    def forward(self, x_t, t):
        return Prediction(torch.full_like(x_t, self.guess), x_t)


def expected(step):
    """E[KL] in nats of one step by the textbook way: a = weight of x0 in the posterior mean, a^2 E|x0 - guess|^2 / 2 var."""
    abar_t, abar_s = SCHEDULE.abar_at(step.t), SCHEDULE.abar_at(step.s)
    beta = 1 - abar_t / abar_s
    variance = beta * (1 - abar_s) / (1 - abar_t)
    left = 1 / (1 / STD**2 + abar_t / (1 - abar_t))  # the variance of x0 given x_t
    return ((abar_s**0.5 * beta / (1 - abar_t)) ** 2 * left.sum() / (2 * variance)).item()


def z_score(values, truth):
    return ((values.mean() - truth) / values.std() * len(values) ** 0.5).item()


@pytest.fixture(scope="module")
def chain():
    return list(levels(IDEAL, IDEAL.sample(COUNT), step_grid(1000, 50), decoder="density", batch=COUNT))


def test_every_term_of_gaussian_data_is_what_algebra_says(chain):
    nats = D * math.log(2)
    scores = [z_score(level.cost * nats, expected(level.step)) for level in chain[:-1]]
    assert len(scores) == 49 and max(map(abs, scores)) < 4
    assert 0.5 < torch.tensor(scores).std() < 1.5  # and they scatter as they should
    left = [(1 / (1 / STD**2 + 1 / (1 / SCHEDULE.abar_at(level.step.t) - 1))).mean() for level in chain]
    assert max(abs(z_score(level.error, truth)) for level, truth in zip(chain, left)) < 4
    abar = SCHEDULE.abar_at(999)
    prior = 0.5 * (abar * (MEAN**2 + STD**2) - abar - math.log1p(-abar)).sum().item()
    assert abs(z_score(chain[0].rate * nats, prior)) < 4
    abar = SCHEDULE.abar_at(19)
    left = 1 / (1 / STD**2 + abar / (1 - abar))
    last = 0.5 * (left / (1 - abar) + math.log(2 * math.pi * (1 - abar))).sum().item()
    assert abs(z_score(chain[-1].cost * nats, last)) < 4


def test_the_rate_adds_up_and_the_distortion_falls(chain):
    assert torch.equal(chain[1].rate, chain[0].rate + chain[0].cost)
    rates, errors = ([getattr(level, name).mean() for level in chain] for name in ("rate", "error"))
    assert all(a < b for a, b in zip(rates, rates[1:]))
    assert all(1.001 * a > b for a, b in zip(errors, errors[1:]))  # each level has draws of its own
    assert all(a > b for a, b in zip(errors[10::2], errors[12::2])) and errors[-1] < 0.02 * errors[0]


def test_the_curve_begins_at_the_spread_of_the_data():
    first, *_, last = rate_distortion(IDEAL, IDEAL.sample(COUNT), step_grid(1000, 10), decoder="density").points
    assert first.t == 999 and first.rate.value < 1e-4
    low, high = first.distortion.interval
    assert low < 127.5 * STD.square().mean().sqrt() < high and high - low < 0.1 * first.distortion.value
    assert last.t == 99 and last.rate.interval[0] > 0.5 and last.distortion.value < 0.4 * first.distortion.value


def test_the_bound_holds_and_its_gap_shrinks_as_steps_are_added():
    """In steps of equal log SNR each wastes about (its width)^2 / 4 nats per dimension: four times the steps, a quarter of it."""
    x0, gaps = IDEAL.sample(500), {}
    truth = -torch.distributions.Normal(MEAN, STD).log_prob(x0).mean().item() / math.log(2)
    for T in (50, 200, 800):
        schedule = Schedule("equal log SNR", torch.linspace(12, -8, T, dtype=torch.float64).sigmoid())
        curve = rate_distortion(IdealDenoiser(schedule, MEAN, std=STD), x0, decoder="density", batch=500)
        gaps[T] = curve.total.value - truth
    assert gaps[50] == pytest.approx(4 * gaps[200], rel=0.2) and gaps[200] == pytest.approx(4 * gaps[800], rel=0.2)
    assert 0 < gaps[800] < 0.15


def test_two_steps_by_hand():
    """abar 0.8 and 0.5, x0 = 1, always guessed as 0: SNRs 4 and 1, so the step costs (4 - 1) / 2 nats."""
    first, last = levels(Constant(0.8, 0.5), torch.ones(1, 1, 1, 1), decoder="density")
    assert (first.step, last.step) == (Step(1, 0), Step(0, -1))
    prior = 0.5 * (0.5 + 0.5 - 1 - math.log(0.5))
    assert first.rate.item() * math.log(2) == pytest.approx(prior)
    assert first.cost.item() * math.log(2) == pytest.approx(1.5)
    assert last.rate.item() == pytest.approx(first.rate.item() + first.cost.item())
    assert last.cost.item() * math.log(2) == pytest.approx(0.5 * (1 / 0.2 + math.log(2 * math.pi * 0.2)))
    assert first.error.item() == last.error.item() == 1
    points = rate_distortion(Constant(0.8, 0.5), torch.ones(2, 1, 1, 1)).points
    assert [point.distortion.value for point in points] == [127.5, 127.5]


@pytest.mark.parametrize("step", [Step(999, 998), Step(500, 430), Step(1, 0)])
def test_a_term_is_the_distance_between_the_samplers_own_means(step):
    x0, eps = IDEAL.sample(3), normal(torch.arange(3), (1, 2, 2), "eps", torch.float64)
    x_t, sampler = SCHEDULE.add_noise(x0, eps, step.t), DDPM(SCHEDULE)
    seen = IDEAL(x_t, step.t)
    true, ours = (sampler.transition(x_t, prediction, step)[0] for prediction in (Prediction(x0, eps), seen))
    wanted = (true - ours).square().flatten(1).sum(1) / (2 * posterior_std(SCHEDULE, step) ** 2)
    torch.testing.assert_close(rate.step_kl(SCHEDULE, step, x0, seen.x0), wanted, rtol=1e-9, atol=0)


@pytest.mark.parametrize(("guess", "std"), [(0.0, 0.01), (0.7, 0.3), (-3.0, 0.5)])
def test_the_256_values_of_a_byte_share_all_the_mass(guess, std):
    values = (torch.arange(256, dtype=torch.float64) / 127.5 - 1).reshape(256, 1, 1, 1)
    nats = rate.bytes_cost(values, torch.full_like(values, guess), std)
    assert (-nats).exp().sum().item() == pytest.approx(1, abs=1e-10)
    assert nats.isfinite().all()


def test_a_byte_that_was_never_expected_is_dear_but_finite():
    black, white = torch.full((1, 1, 1, 1), -1.0).double(), torch.full((1, 1, 1, 1), 1.0).double()
    dear = rate.bytes_cost(black, white, 0.01).item()
    assert dear == pytest.approx(rate.bytes_cost(white, black, 0.01).item())
    assert dear == pytest.approx(((2 - 0.5 / 127.5) / 0.01) ** 2 / 2, rel=1e-3)


def test_an_item_does_not_depend_on_its_batch():
    torch.manual_seed(0)
    net = UNet(UNetConfig(in_channels=1, channels=(8, 8), attention=(False, False), time=8)).double()
    torch.nn.init.normal_(net.last.weight, std=0.1)
    denoiser, grid = Denoiser(net, SCHEDULE), step_grid(1000, 4)
    x0 = rate.eight_bit(0.5 * normal(torch.arange(5), (1, 4, 4), "x0"))
    whole = list(levels(denoiser, x0, grid, batch=5))
    for settings in ({"batch": 2}, {"batch": 64, "seeds": [0, 1, 2, 3, 4]}):
        for a, b in zip(whole, levels(denoiser, x0, grid, **settings), strict=True):
            torch.testing.assert_close(a.rate + a.cost, b.rate + b.cost, rtol=1e-9, atol=0)
    (*_, alone) = levels(denoiser, x0[3:4], grid, seeds=3)
    torch.testing.assert_close(alone.rate[0], whole[-1].rate[3], rtol=1e-9, atol=0)
    (*_, other) = levels(denoiser, x0, grid, seeds=100)
    assert (other.rate != whole[-1].rate).all()


def test_guesses_can_be_kept_within_the_range_of_pictures():
    x0 = torch.ones(1, 1, 2, 2)
    (level,) = levels(Constant(0.5, guess=40.0), x0, bound=1.0)
    assert level.error.item() == 0
    (level,) = levels(Constant(0.5, guess=40.0), x0)
    assert level.error.item() == 39**2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x0": torch.zeros(3)}, "images: expected shape"),
        ({"x0": torch.full((1, 1, 2, 2), torch.nan)}, "images: expected finite numbers"),
        ({"x0": torch.full((1, 1, 2, 2), 0.1)}, "x0: expected 8-bit values k / 127.5 - 1"),
        ({"x0": torch.full((1, 1, 2, 2), 3.0)}, "x0: expected 8-bit values"),
        ({"decoder": "bits"}, "decoder: expected one of bytes, density, got 'bits'"),
        ({"grid": ()}, "grid: expected steps that lead from below T = 1000 down to -1 without a gap"),
        ({"grid": (Step(9, 4), Step(3, -1))}, "grid: expected steps"),
        ({"grid": (Step(9, 4), Step(4, 0))}, "grid: expected steps"),
        ({"grid": (Step(1000, -1),)}, "grid: expected steps"),
        ({"seeds": [1, 2]}, "seeds: expected one integer per item"),
    ],
)
def test_bad_input(changed, message):
    settings = {"x0": torch.ones(1, 1, 2, 2), "grid": step_grid(1000, 2)} | changed
    with pytest.raises(ValueError, match=message):
        next(levels(IDEAL, **settings))
