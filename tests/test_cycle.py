"""CycleDiffusion and its rivals between two ideal models: what carries over is known, and so is what does not."""

import pytest
import torch

from minidiff.cycle import sdedit, translate
from minidiff.encoder import start_state
from minidiff.generators import Identity, LatentDiffusion
from minidiff.ideal import IdealDenoiser
from minidiff.schedule import cosine, linear
from minidiff.seeds import normal

SCHEDULE = linear()
SHAPE = (1, 1, 2)


def domain(place, noise_schedule=SCHEDULE, shape=SHAPE, **settings):
    """Two clusters at x = place, apart in y: x is the domain, y the identity. A mixture, so no step is affine."""
    mean = torch.tensor([[place, -1.0], [place, 1.0]]).reshape(2, 1, 1, 2)
    if shape != SHAPE:
        mean = mean.expand(2, *shape)
    ideal = IdealDenoiser(noise_schedule, mean, std=0.3)
    return LatentDiffusion(Identity(bound=None), ideal, shape, **{"steps": 100, **settings})


A, B = domain(-2.0), domain(2.0)
X = A.denoiser.sample(1000)


def identity(y):
    return torch.corrcoef(torch.stack([X[:, 0, 0, 1], y[:, 0, 0, 1]]))[0, 1].item()


@pytest.mark.parametrize(
    ("strength", "place", "sdedit_identity"),
    [(1.0, 2.00, 0.0), (0.85, 1.98, 0.0), (0.7, 1.92, 0.03), (0.5, 1.70, 0.09)],
)
def test_identity_is_carried_over(strength, place, sdedit_identity):
    """The table of the toy checks: CycleDiffusion keeps the identity at any strength, SDEdit at none of these."""
    y = translate(A, B, X, strength=strength)
    assert y.dtype == X.dtype and identity(y) > 0.9999
    assert y[:, 0, 0, 0].mean().item() == pytest.approx(place, abs=0.04)
    rival = translate(A, B, X, "sdedit", strength=strength, eta=1.0)
    assert identity(rival) == pytest.approx(sdedit_identity, abs=0.1)
    ddib = translate(A, B, X, "ddib", strength=strength)
    assert identity(ddib) > 0.999 and ddib[:, 0, 0, 0].mean().item() == pytest.approx(place, abs=0.08)


@pytest.mark.parametrize(
    "settings", [{"sampler": "ddpm"}, {"sampler": "euler_ancestral"}, {"sampler": "dpm++2m_sde", "spacing": "karras"}]
)
def test_other_samplers_carry_identity_over_in_fewer_steps(settings):
    source, target = (model.replace(steps=20, **settings) for model in (A, B))
    y = translate(source, target, X)
    assert identity(y) > 0.999 and y[:, 0, 0, 0].mean().item() == pytest.approx(2, abs=0.06)
    assert (translate(source, source, X) - X).abs().max() <= 1e-12


@pytest.mark.parametrize("settings", [{}, {"eta": 1.0}, {"strength": 0.4, "eta": 0.01}, {"steps": 7}])
def test_a_model_translates_its_own_pictures_to_themselves(settings):
    assert (translate(A, A, X, **settings) - X).abs().max() <= 1e-12
    assert (translate(A, domain(-2.0), X.float(), **settings) - X.float()).abs().max() <= 1e-5


@pytest.mark.parametrize("method", ["cyclediffusion", "sdedit", "ddib"])
def test_an_item_depends_on_its_seed_alone(method):
    settings = {"steps": 20, "strength": 0.8, "refine": 0.2}
    together = translate(A, B, X[:7], method, seeds=40, **settings)
    torch.testing.assert_close(
        translate(A, B, X[:7], method, seeds=40, batch=3, **settings), together, rtol=0, atol=1e-9
    )
    for i in (0, 6):
        alone = translate(A, B, X[i : i + 1], method, seeds=[40 + i], **settings)
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-9)
    other = translate(A, B, X[:7], method, seeds=90, **settings)
    assert (other - together).abs().max() > 1e-3  # through refine alone for ddib


def test_sdedit_starts_where_cyclediffusion_starts():
    """Same seed, same noisy start; with one step, to clean data, there is no noise left to differ in."""
    one = A.replace(steps=1)
    assert torch.equal(translate(one, one, X, "sdedit"), sdedit(one, X))
    code, residual = one.encode(X).unbind(1)
    start_only = torch.stack([code, torch.zeros_like(residual)], dim=1)
    torch.testing.assert_close(one.decode(start_only), sdedit(one, X), rtol=0, atol=1e-12)


def test_the_noise_after_the_start_is_fresh():
    """SDEdit shares the first block with the encoder's path and nothing else; refinement shares none."""
    seeds, shape = torch.arange(5000), (1,)
    path = [normal(seeds, shape, f"path {k}") for k in (0, 1)]
    for stream in ("fresh path 1", "refine 0", "fresh refine 1"):
        for noise in path:
            assert torch.corrcoef(torch.stack([noise[:, 0], normal(seeds, shape, stream)[:, 0]]))[0, 1].abs() < 0.06
    far = A.replace(steps=1000, strength=1.0, eta=1.0)
    start = far.encode(X[:1])[:, 0]
    assert torch.equal(start, start_state(SCHEDULE, far.grid, X[:1], seeds[:1]))
    assert not torch.equal(start, start_state(SCHEDULE, far.grid, X[:1], seeds[:1], "refine"))


def test_refine_finishes_what_low_strength_left_undone():
    rough = translate(A, B, X, strength=0.3)
    fine = translate(A, B, X, strength=0.3, refine=0.3)
    assert (fine - 2)[:, 0, 0, 0].mean().abs() < (rough - 2)[:, 0, 0, 0].mean().abs()
    target = B.replace(strength=0.3, eta=1.0)
    seeds = torch.arange(len(X))
    assert torch.equal(fine, sdedit(target, rough, seeds, stream="refine"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: translate(A, B, X, "pix2pix"), "method: expected one of cyclediffusion, sdedit, ddib, got 'pix2pix'"),
        (lambda: translate(A, B, X, eta=0.0), "eta: cyclediffusion needs eta > 0, got 0; method 'ddib'"),
        (lambda: translate(A, B.replace(eta=0.0), X), "eta: cyclediffusion needs eta > 0"),
        (lambda: translate(A, B, X, "ddib", eta=0.1), "eta: ddib is the ODE, eta = 0; got 0.1"),
        (lambda: translate(A, B, X, strength=0.0), "strength: .* got 0.0"),
        (lambda: translate(A, B, X, strength=1.1), "strength: .* got 1.1"),
        (lambda: translate(A, B, X, refine=1.1), "refine: .* got 1.1"),
        (lambda: translate(A, B, X, batch=0), "batch: expected at least 1, got 0"),
        (lambda: translate(A, B, X, seeds=[1, 2]), "seeds: expected one integer per item"),
        (lambda: translate(A, B.replace(steps=50), X), "expected the same steps, got 100 and 50"),
        (lambda: translate(A, B.replace(strength=0.5), X), "expected the same strength, got 1.0 and 0.5"),
        (lambda: translate(A, B.replace(eta=0.5), X), "expected the same eta, got 0.1 and 0.5"),
        (lambda: translate(A, B.replace(spacing="karras"), X), "expected the same spacing, got trailing and karras"),
        (lambda: translate(A, B.replace(sampler="euler", eta=0.1), X), r"same sampler, got DDIM\(.* and Euler\("),
        (
            lambda: translate(*(m.replace(sampler="heun") for m in (A, B)), X),
            "eta: cyclediffusion needs eta > 0, got 0",
        ),
        (lambda: translate(*(m.replace(sampler="heun") for m in (A, B)), X, "ddib"), "not those of Heun; use DDIM or"),
        (lambda: translate(*(m.replace(sampler="ddpm") for m in (A, B)), X, "ddib"), "eta: DDPM has eta = 1, got 0"),
        (lambda: translate(A, domain(2.0, cosine()), X), r"the same noise schedule, got Schedule\('linear'.*'cosine'"),
        (
            lambda: translate(A, domain(2.0, shape=(2, 1, 2)), X),
            r"the same latent shape, got \(1, 1, 2\) and \(2, 1, 2\)",
        ),
        (lambda: translate(A, B, X[0]), r"images: expected shape \(B, 1, 1, 2\), got \(1, 1, 2\)"),
        (lambda: translate(A, B, X * float("nan")), "images: expected finite numbers"),
        (lambda: translate(A, B, X.long()), "images: expected a float tensor .* got torch.int64"),
        (lambda: translate(A.replace(autoencoder=Identity()), B, X), r"images: expected values in \[-1, 1\], got \[-"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_nothing_runs_before_the_checks():
    def refuse(*_):
        raise AssertionError("the denoiser ran")

    source = domain(-2.0)
    source.denoiser.register_forward_pre_hook(refuse)
    with pytest.raises(ValueError, match="images"):
        translate(source, B, X[0])
    with pytest.raises(AssertionError, match="the denoiser ran"):
        translate(source, B, X)
