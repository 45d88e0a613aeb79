"""The ideal denoiser against a posterior computed by brute force, and against the score by autograd."""

import pytest
import torch

from minidiff.ideal import IdealDenoiser
from minidiff.schedule import linear

SCHEDULE = linear()
MEAN = torch.tensor([[-1.0, 0.5], [1.0, -0.5], [0.0, 2.0]]).reshape(3, 1, 1, 2)
COV = torch.tensor([[0.5, 0.3], [0.3, 0.4]])
WEIGHTS = torch.tensor([0.2, 0.5, 0.3])
MODELS = {
    "pixels": lambda: IdealDenoiser(SCHEDULE, MEAN[0], std=torch.tensor([0.3, 0.9])),
    "full": lambda: IdealDenoiser(SCHEDULE, MEAN[0], cov=COV),
    "mixture": lambda: IdealDenoiser(SCHEDULE, MEAN, std=0.4, weights=WEIGHTS),
    "full mixture": lambda: IdealDenoiser(SCHEDULE, MEAN, cov=torch.stack([COV, 2 * COV, COV**2]), weights=WEIGHTS),
}
DENSITIES = {
    "pixels": (MEAN[:1], torch.diag(torch.tensor([0.09, 0.81]))[None], torch.ones(1)),
    "full": (MEAN[:1], COV[None], torch.ones(1)),
    "mixture": (MEAN, 0.16 * torch.eye(2).expand(3, 2, 2), WEIGHTS),
    "full mixture": (MEAN, torch.stack([COV, 2 * COV, COV**2]), WEIGHTS),
}


def log_density(name, x_t, t):
    """log p(x_t), from torch.distributions: each Gaussian noised by hand."""
    mean, cov, weights = (part.double() for part in DENSITIES[name])
    abar = SCHEDULE.abar_at(t)
    noised = abar * cov + (1 - abar) * torch.eye(2)
    parts = torch.distributions.MultivariateNormal(abar**0.5 * mean.flatten(1), noised)
    mixture = torch.distributions.Categorical(weights)
    return torch.distributions.MixtureSameFamily(mixture, parts).log_prob(x_t.flatten(1))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("t", [0, 100, 600, 999])
def test_eps_is_the_score(name, t):
    """eps = -sqrt(1 - abar) grad log p(x_t): Tweedie's formula, with the gradient by autograd."""
    x_t = torch.linspace(-2, 2, 10, dtype=torch.float64).reshape(5, 1, 1, 2).requires_grad_()
    (score,) = torch.autograd.grad(log_density(name, x_t, t).sum(), x_t)
    seen = MODELS[name]()(x_t.detach(), t)
    noise = (1 - SCHEDULE.abar_at(t)) ** 0.5
    torch.testing.assert_close(seen.eps, -noise * score, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(SCHEDULE.add_noise(seen.x0, seen.eps, t), x_t.detach(), rtol=0, atol=1e-12)


def test_no_answer_is_better():
    """The mean squared error of x0 over true pairs is least at the ideal answer: moving it either way costs."""
    model = MODELS["mixture"]()
    x0 = model.sample(20_000)
    x_t = SCHEDULE.add_noise(x0, torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)).double(), 300)
    seen = model(x_t, 300).x0
    best = (seen - x0).square().mean()
    for factor in (0.9, 1.1):
        assert (factor * seen - x0).square().mean() > best
    error = (seen - x0).flatten(1)
    z_scores = error.mean(0) / error.std(0) * len(error) ** 0.5
    assert z_scores.abs().max() < 4


@pytest.mark.parametrize("name", MODELS)
def test_one_time_per_item(name):
    model, x_t = MODELS[name](), torch.randn(3, 1, 1, 2, dtype=torch.float64)
    together = model(x_t, torch.tensor([0, 500, 999]))
    for i, t in enumerate((0, 500, 999)):
        alone = model(x_t[i : i + 1], t)
        torch.testing.assert_close(together.x0[i], alone.x0[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(together.eps[i], alone.eps[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_samples_have_the_right_moments(name):
    mean, cov, weights = (part.double() for part in DENSITIES[name])
    weights, mean = weights / weights.sum(), mean.flatten(1)
    true_mean = weights @ mean
    true_cov = torch.einsum("k,kij->ij", weights, cov + torch.einsum("ki,kj->kij", mean, mean))
    true_cov = true_cov - torch.outer(true_mean, true_mean)
    x = MODELS[name]().sample(40_000).flatten(1)
    assert ((x.mean(0) - true_mean) / (true_cov.diagonal() / len(x)).sqrt()).abs().max() < 4
    torch.testing.assert_close(x.T.cov(), true_cov, rtol=0, atol=0.05)
    assert torch.equal(MODELS[name]().sample(1, seeds=17).flatten(1), x[17:18])


def test_dtype_follows_the_input():
    assert MODELS["full"]()(torch.zeros(1, 1, 1, 2), 10).x0.dtype == torch.float32
    assert MODELS["full"]().sample(2, dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mean": torch.zeros(2), "std": 1.0}, r"mean: expected shape .* got \(2,\)"),
        ({"mean": MEAN}, "exactly one"),
        ({"mean": MEAN, "std": 1.0, "cov": COV}, "exactly one"),
        ({"mean": MEAN, "cov": torch.eye(3)}, r"cov: expected shape \(2, 2\) or \(3, 2, 2\), got \(3, 3\)"),
        ({"mean": MEAN, "std": 1.0, "weights": torch.tensor([1.0, -1.0, 1.0])}, "weights: expected 3 positive"),
    ],
)
def test_bad_input(settings, message):
    with pytest.raises(ValueError, match=message):
        IdealDenoiser(SCHEDULE, **settings)
