"""Statistics of codes and moves among them, on codes whose answers are known."""

import math

import pytest
import torch

from minidiff.codes import (
    code_statistics,
    combine,
    difference,
    lerp,
    nearest,
    predicted_std,
    principal_directions,
    slerp,
)
from minidiff.encoder import dpm_encode
from minidiff.ideal import IdealDenoiser
from minidiff.samplers import DDIM, DDPM
from minidiff.schedule import linear, step_grid
from minidiff.seeds import as_seeds, normal

SCHEDULE, COUNT = linear(), 3000


def test_statistics_of_a_known_code():
    noise = normal(as_seeds(0, 50), (3, 4, 20, 20), dtype=torch.float64)
    noise[:, 1] = 2 * noise[:, 1] + 1
    noise[:, 2] = -noise[:, 0]
    seen = code_statistics(torch.cat([noise, noise[:, 2:]], dim=1))
    assert seen.mean.tolist() == pytest.approx([0, 1, 0, 0], abs=0.02)
    assert seen.std.tolist() == pytest.approx([1, 2, 1, 1], rel=0.02)
    assert seen.lag1.tolist() == pytest.approx([0, 0, 1], abs=0.02)


@pytest.mark.parametrize("shape", [(4, 3, 2, 8, 8), (4, 512)])
def test_slerp_walks_along_the_sphere(shape):
    a, b = (normal(as_seeds(seed, 4), shape[1:], dtype=torch.float64) for seed in (0, 10))
    torch.testing.assert_close(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)
    torch.testing.assert_close(slerp(a, b, 0.3), slerp(b, a, 0.7))
    dims = tuple(range(2, len(shape))) or (1,)
    a, b = (x / x.square().sum(dims, keepdim=True).sqrt() for x in (a, b))  # unit blocks stay unit
    middle = slerp(a, b, 0.5)
    torch.testing.assert_close(middle.square().sum(dims), torch.ones_like(middle.square().sum(dims)))
    torch.testing.assert_close((a * middle).sum(dims), (b * middle).sum(dims))  # half way in angle
    weights = torch.tensor([0.0, 0.2, 0.5, 1.0])
    for i, weight in enumerate(weights.tolist()):
        torch.testing.assert_close(slerp(a, b, weights)[i], slerp(a, b, weight)[i], rtol=1e-6, atol=1e-8)


def test_slerp_between_equal_and_between_zero_blocks():
    a = normal(as_seeds(0, 1), (2, 1, 4, 4))
    a[:, 1] = 0  # as the residual block of a random code
    torch.testing.assert_close(slerp(a, a, 0.4), a)
    assert slerp(a, -a, 0.4).isfinite().all()
    b = a.clone().requires_grad_()
    slerp(a, b, 0.4).sum().backward()
    assert b.grad.isfinite().all()


SAMPLERS = {f"eta {eta}": DDIM(SCHEDULE, eta) for eta in (0.1, 0.5, 1.0)}
SAMPLERS |= {f"DDPM {kind}": DDPM(SCHEDULE, kind) for kind in ("small", "large")}


@pytest.mark.parametrize("name", SAMPLERS)
def test_noises_of_a_gaussian_are_as_predicted(name):
    """Each measured std within 5 standard errors of its closed form, residual included: std is known to 1 / sqrt(2 N)."""
    sampler, grid = SAMPLERS[name], step_grid(1000, 50)
    ideal = IdealDenoiser(SCHEDULE, torch.full((1, 1, 1), -0.4), std=0.3)
    seen = code_statistics(dpm_encode(ideal, sampler, grid, ideal.sample(COUNT), seeds=9_000))
    predicted = predicted_std(sampler, grid, 0.3)
    assert predicted.dtype == torch.float64 and predicted.shape == (50,)
    assert ((seen.std[1:] / predicted - 1) * math.sqrt(2 * COUNT)).abs().max() < 5
    if isinstance(sampler, DDIM):
        last = predicted[-2].item() * sampler.eta
        assert 0.9 < last < 1.8 and predicted[-2] > 1.7  # the last noise goes as 1 / eta, and is never normal
        early = predicted[:25] if sampler.eta > 0.1 else predicted[:20]
        assert (early - 1).abs().max() < 0.05  # early and middle blocks are


@pytest.mark.parametrize("eta", [0.1, 1.0])
def test_codes_of_two_modes(eta):
    """A mixture has no closed form, the pattern is the same; independent paths correlate by -1/2 and grow as 1 / eta."""
    modes = torch.tensor([-0.8, 0.8]).reshape(2, 1, 1, 1)
    ideal, grid = IdealDenoiser(SCHEDULE, modes, std=0.2), step_grid(1000, 50)
    x0, sampler = ideal.sample(COUNT), DDIM(SCHEDULE, eta)
    posterior = code_statistics(dpm_encode(ideal, sampler, grid, x0, seeds=9_000))
    assert (posterior.std[1:20] - 1).abs().max() < 0.1 and posterior.std[-2] > max(1.3, 0.7 / eta)
    independent = code_statistics(dpm_encode(ideal, sampler, grid, x0, seeds=9_000, trajectory="independent"))
    assert (independent.lag1[8:-2] + 0.5).abs().max() < 0.1 and (independent.lag1[8:-2].mean() + 0.5).abs() < 0.02
    assert posterior.lag1[1:12].abs().max() < 5 / math.sqrt(COUNT)
    assert independent.std[10:-1].min() * eta > 2


def test_the_straight_line_loses_norm_and_the_sphere_does_not():
    a, b = (normal(as_seeds(seed, 3), (2, 5000), dtype=torch.float64) for seed in (0, 10))
    torch.testing.assert_close(lerp(a, b, 0.0), a)
    torch.testing.assert_close(lerp(a, b, torch.tensor([0.0, 0.5, 1.0]))[2], b[2])
    assert lerp(a, b, 0.5).std().item() == pytest.approx(math.sqrt(0.5), rel=0.02)
    assert slerp(a, b, 0.5).std().item() == pytest.approx(1, rel=0.02)


def test_arithmetic_gives_normal_codes():
    a, b, c = (normal(as_seeds(seed, 3), (2, 5000), dtype=torch.float64) for seed in (0, 10, 20))
    mixed = combine([a, b, c], [1, -1, 1])
    torch.testing.assert_close(mixed * math.sqrt(3), a - b + c)
    assert mixed.std().item() == pytest.approx(1, rel=0.02)
    having, lacking = a + 0.5, a
    torch.testing.assert_close(difference(having, lacking), torch.full((1, 2, 5000), 0.5, dtype=torch.float64))


def test_principal_directions_are_those_the_codes_were_made_of():
    """Codes = mean + 3 n_1 u_1 + n_2 u_2 + 0.1 noise, with known u: found up to the noise, in order, signs fixed."""
    u = torch.linalg.qr(normal(as_seeds(3, 2), (24,), dtype=torch.float64).T).Q.T.reshape(2, 2, 3, 4)
    n = normal(as_seeds(0, 4000), (2,), "n", torch.float64) * torch.tensor([3.0, 1.0])
    noise = 0.1 * normal(as_seeds(0, 4000), (2, 3, 4), "noise", torch.float64)
    found = principal_directions(7 + torch.einsum("nk,k...->n...", n, u) + noise, 2)
    assert found.axes.shape == (2, 2, 3, 4)
    torch.testing.assert_close((found.axes * u).flatten(1).sum(1).abs(), torch.ones(2).double(), rtol=0, atol=2e-3)
    torch.testing.assert_close(found.std, torch.tensor([9.01, 1.01]).double().sqrt(), rtol=5 / math.sqrt(8000), atol=0)
    torch.testing.assert_close(found.mean, torch.full((2, 3, 4), 7.0).double(), rtol=0, atol=0.25)
    assert (found.axes.flatten(1).gather(1, found.axes.flatten(1).abs().argmax(1, keepdim=True)) > 0).all()


def test_nearest_codes_by_angle():
    among = normal(as_seeds(0, 50), (2, 6, 6), dtype=torch.float64)
    asked = 3 * among[[4, 17]] + 0.5 * normal(as_seeds(99, 2), (2, 6, 6), dtype=torch.float64)
    found = nearest(asked, among, 3)
    assert found.index[:, 0].tolist() == [4, 17] and found.index.shape == (2, 3)
    torch.testing.assert_close(
        found.cosine[0, 0], torch.cosine_similarity(asked[0].flatten(), among[4].flatten(), dim=0)
    )
    assert (found.cosine[:, 0] > 0.95).all() and (found.cosine[:, 1] < 0.5).all()
    assert (found.cosine.diff(dim=1) <= 0).all()


def test_bad_input():
    with pytest.raises(ValueError, match=r"a, b: expected codes of one shape .* got \(2, 3\) and \(2, 4\)"):
        slerp(torch.zeros(2, 3), torch.zeros(2, 4), 0.5)
    with pytest.raises(ValueError, match="code: expected shape"):
        code_statistics(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="codes, weights: expected codes of one shape and a weight for each"):
        combine([torch.zeros(2, 3), torch.zeros(2, 4)], [1, 1])
    with pytest.raises(ValueError, match="codes, weights"):
        combine([torch.zeros(2, 3)], [0])
    with pytest.raises(ValueError, match="count: expected from 1 to 4, one less than the codes, got 5"):
        principal_directions(torch.zeros(5, 3), 5)
    with pytest.raises(ValueError, match=r"codes, among: .* count up to 5, got \(2, 4\), \(5, 3\) and 1"):
        nearest(torch.zeros(2, 4), torch.zeros(5, 3))
