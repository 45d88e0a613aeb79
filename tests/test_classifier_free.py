"""Guidance against Gaussians: between N(a, s^2) and N(b, s^2) it gives exactly N(b + scale (a - b), s^2)."""

import pytest
import torch
from torch import nn

from minidiff.classifier_free import Guided, guide
from minidiff.conditioning import Condition
from minidiff.ideal import IdealDenoiser
from minidiff.samplers import DDIM, decode_code, random_code
from minidiff.schedule import linear, step_grid

SHAPE = (1, 2, 2)


class TwoGaussians(nn.Module):
    """The exact denoiser of N(m, std^2), where each item's token says m."""

    def __init__(self, std=0.5):
        super().__init__()
        self.schedule, self.std, self.calls = linear(), std, []

    def forward(self, x_t, t, tokens, mask=None):
        self.calls.append(len(x_t))
        parts = [
            IdealDenoiser(self.schedule, torch.full(SHAPE, m.item()), self.std)(
                x[None], t if isinstance(t, int) else t[i : i + 1]
            )
            for i, (x, m) in enumerate(zip(x_t, tokens[:, 0, 0]))
        ]
        return type(parts[0])(*(torch.cat(part) for part in zip(*parts)))


def says(*means):
    return Condition(torch.tensor(means).double().view(-1, 1, 1), torch.ones(len(means), 1, dtype=torch.bool))


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("t", [0, 400, 999])
def test_between_gaussians_of_one_std_it_is_the_gaussian_further_on(scale, t):
    x = torch.randn(3, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    guided = Guided(TwoGaussians(), says(2.0), says(-1.0), scale)(x, t)
    exact = IdealDenoiser(linear(), torch.full(SHAPE, -1 + scale * 3.0), 0.5)(x, t)
    torch.testing.assert_close(guided.x0, exact.x0, rtol=0, atol=1e-10)
    torch.testing.assert_close(guided.eps, exact.eps, rtol=0, atol=1e-10)


def test_the_guided_ode_ends_where_the_algebra_says():
    sampler, grid = DDIM(linear(), 0.0), step_grid(1000, 20)
    code = random_code(SHAPE, grid, sampler, 0, count=4, dtype=torch.float64)
    guided = decode_code(Guided(TwoGaussians(), says(1.0), says(0.0), 2.5), sampler, grid, code)
    exact = decode_code(IdealDenoiser(linear(), torch.full(SHAPE, 2.5), 0.5), sampler, grid, code)
    torch.testing.assert_close(guided, exact, rtol=0, atol=1e-9)


def test_scale_1_asks_the_network_once_and_is_the_plain_model_to_the_last_bit():
    x, plain = torch.randn(2, *SHAPE).double(), TwoGaussians()
    ours = Guided(plain, says(2.0), says(0.0), 1.0)(x, 300)
    assert plain.calls == [2]
    assert torch.equal(ours.x0, plain(x, 300, **says(2.0, 2.0).parts()).x0)
    Guided(plain, says(2.0), says(0.0), 2.0)(x, 300)
    assert plain.calls == [2, 2, 4]
    given, null = torch.randn(2, 5), torch.randn(2, 5)
    assert torch.equal(guide(given, null, torch.tensor(1.0)), given)


def test_each_item_gets_what_it_gets_alone():
    x = torch.randn(4, *SHAPE).double()
    many = Guided(TwoGaussians(), says(1.0, 2.0, 3.0, 4.0), says(0.0), torch.tensor([1.0, 0.0, 2.0, 5.0]))
    t = torch.tensor([10, 400, 700, 999])
    together = many(x, t)
    for i in range(4):
        alone = many.rows(slice(i, i + 1))(x[i : i + 1], t[i : i + 1])
        torch.testing.assert_close(together.x0[i : i + 1], alone.x0, rtol=0, atol=1e-12)
    assert len({round(value, 6) for value in together.x0.flatten(1).mean(1).tolist()}) == 4


def test_outside_the_interval_the_condition_alone_counts():
    x, denoiser = torch.randn(2, *SHAPE).double(), TwoGaussians()
    guided = Guided(denoiser, says(2.0), says(0.0), 4.0, interval=(0.2, 0.6))
    plain, strong = Guided(denoiser, says(2.0)), Guided(denoiser, says(2.0), says(0.0), 4.0)
    for t, expected in ((100, plain), (199, plain), (200, strong), (590, strong), (700, plain)):
        assert torch.equal(guided(x, t).x0, expected(x, t).x0)
    mixed = guided(x, torch.tensor([100, 400])).x0
    torch.testing.assert_close(mixed[0], plain(x, 100).x0[0])
    torch.testing.assert_close(mixed[1], strong(x, 400).x0[1])


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), torch.tensor([1.0, float("nan")]), torch.ones(2, 2)])
def test_a_scale_that_is_no_number_is_refused(scale):
    with pytest.raises(ValueError, match="scale: expected a finite number, or one per item"):
        Guided(TwoGaussians(), says(1.0), says(0.0), scale)


@pytest.mark.parametrize("interval", [(0.5, 0.5), (-0.1, 1.0), (0.0, 1.1), (float("nan"), 1.0)])
def test_an_interval_that_is_none_is_refused(interval):
    with pytest.raises(ValueError, match=r"interval: expected \(low, high\) with 0 <= low < high <= 1"):
        Guided(TwoGaussians(), says(1.0), says(0.0), 2.0, interval)


def test_guidance_needs_something_to_lead_away_from():
    with pytest.raises(ValueError, match="null: guidance needs the condition to lead away from"):
        Guided(TwoGaussians(), says(1.0), scale=2.0)
