"""Langevin dynamics against closed forms, with any generator and energy; exact gradients in bounded memory."""

import itertools
import math
import weakref
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from minidiff.energies import Energy, code_prior, custom, pixels
from minidiff.generators import Identity, LatentDiffusion
from minidiff.guide import guide
from minidiff.ideal import IdealDenoiser
from minidiff.langevin import ChainStopped, potential, step_sizes
from minidiff.schedule import linear
from minidiff.seeds import as_seeds, normal


@dataclass(frozen=True)
class Linear:
    """decode(z) = A z + b as pictures of one row: the generator whose posterior is known."""

    a: Tensor  # (pixels, dim)
    b: Tensor  # (pixels,)

    @property
    def code_shape(self):
        return (self.a.shape[1],)

    def decode(self, code):
        return (code @ self.a.T + self.b)[:, None, None]


LINEAR = Linear(
    torch.tensor([[1.0, 0.5, 0.0], [-0.3, 0.8, 0.4]], dtype=torch.float64),
    torch.tensor([0.5, -1.0], dtype=torch.float64),
)
TARGET = torch.tensor([[[1.0, 0.5]]], dtype=torch.float64)
WEIGHT = 2.0
PRECISION = torch.eye(3, dtype=torch.float64) + WEIGHT * LINEAR.a.T @ LINEAR.a
MEAN = torch.linalg.solve(PRECISION, WEIGHT * LINEAR.a.T @ (TARGET.flatten() - LINEAR.b))


def last_of(chain):
    *_, state = chain
    return state


def codes(count, dim, seeds=10_000):
    return normal(as_seeds(seeds, count), (dim,), "code", torch.float64)


def covariance_z_scores(sample, expected):
    """How many standard errors the sample's covariance is off; Var(cov_ij) = (c_ii c_jj + c_ij^2) / N for Gaussians."""
    variances = expected.diagonal()
    error = ((torch.outer(variances, variances) + expected.square()) / len(sample)).sqrt()
    return (sample.T.cov() - expected) / error


@pytest.mark.parametrize("h", [0.2, 0.8])
def test_without_energy_the_variance_is_1_over_1_minus_h_over_4(h):
    """z <- (1 - h/2) z + sqrt(h) xi has this stationary variance: the published step, its 1/2 and its noise, no other."""
    eye = Linear(torch.eye(40, dtype=torch.float64), torch.zeros(40, dtype=torch.float64))
    z = last_of(guide(eye, Energy(), 4000, 50, h, code=codes(4000, 40))).code.flatten()
    expected = 1 / (1 - h / 4)
    error = math.sqrt(2 / len(z))
    assert abs(z.var().item() / expected - 1) < 4 * error < (expected - 1) / 3
    assert abs(z.mean().item()) < 4 * math.sqrt(expected / len(z))


@pytest.mark.parametrize("adjusted", [False, True])
def test_quadratic_energy_and_linear_generator_have_a_gaussian_posterior(adjusted):
    """Precision P = I + w A'A and mean P^-1 w A'(y - b); without the Metropolis step the covariance is P^-1 (1 - h P / 4)^-1."""
    h = 0.5
    states = list(guide(LINEAR, WEIGHT * pixels(TARGET), 12_000, 60, h, adjusted=adjusted, code=codes(12_000, 3)))
    z = states[-1].code
    exact = torch.linalg.inv(PRECISION)
    biased = torch.linalg.inv(PRECISION @ (torch.eye(3) - h / 4 * PRECISION))
    expected, other = (exact, biased) if adjusted else (biased, exact)
    assert ((z.mean(0) - MEAN) / (expected.diagonal() / len(z)).sqrt()).abs().max() < 4
    assert covariance_z_scores(z, expected).abs().max() < 4
    assert covariance_z_scores(z, other).abs().max() > 10
    rate = torch.stack([state.accepted for state in states[1:]]).double().mean().item()
    assert (0.6 < rate < 0.98) if adjusted else rate == 1


def test_metropolis_keeps_the_truth_at_any_step_size_and_small_steps_are_accepted():
    """Chains that start in the posterior stay there, and at h -> 0 nearly every step is accepted: the ratio is right."""
    root = torch.linalg.cholesky(torch.linalg.inv(PRECISION))
    truth = MEAN + codes(8000, 3) @ root.T
    for h, rate in ((1.2, (0.3, 0.9)), (0.02, (0.99, 1.0))):
        state = last_of(guide(LINEAR, WEIGHT * pixels(TARGET), 8000, 8, h, adjusted=True, code=truth))
        assert covariance_z_scores(state.code, root @ root.T).abs().max() < 4.5
        assert rate[0] < state.accepted.double().mean().item() <= rate[1]
        assert (state.code != truth).any(1).double().mean() > 0.9


def test_larger_weights_lower_mean_energy_and_diversity():
    bent = Linear(LINEAR.a, LINEAR.b)
    energy = custom(lambda images, code: (images.tanh() - 0.5).square().flatten(1).sum(1), "bent")
    seen = []
    for weight in (0.0, 3.0, 30.0):
        state = last_of(guide(bent, weight * energy, 1000, 60, 0.05, adjusted=True, code=codes(1000, 3)))
        seen.append((state.parts.mean().item(), state.images().flatten(1).var(0).sum().item()))
    (e0, d0), (e1, d1), (e2, d2) = seen
    assert e0 > 1.3 * e1 > 1.3 * 1.3 * e2 and d0 > 1.3 * d1 > 1.3 * 1.3 * d2, seen


def test_annealed_steps_end_nearer_to_the_truth():
    assert step_sizes(3, 0.4, 0.1) == pytest.approx([0.4, 0.2, 0.1]) and step_sizes(2, 0.3) == [0.3, 0.3]
    z = last_of(guide(LINEAR, WEIGHT * pixels(TARGET), 6000, 100, 0.5, last_step_size=0.02, code=codes(6000, 3))).code
    assert covariance_z_scores(z, torch.linalg.inv(PRECISION)).abs().max() < 5  # 10 and more with h = 0.5 to the end


@pytest.fixture
def model(tiny_load):
    """A tiny untrained latent diffusion in float64 with a little of everything in its code."""
    tiny = tiny_load("critters-cat")
    tiny.autoencoder.double(), tiny.denoiser.double()
    return tiny.replace(eta=0.5)


def bright(weight=20.0):
    return weight * custom(lambda images, code: (images.flatten(1).mean(1) - 1).square(), "bright")


def double_code(model, count=3, seeds=0):
    return model.random_code(count, seeds, torch.float64)


def test_the_gradient_is_the_slope_of_the_potential(model):
    code, seeds = double_code(model, 2), as_seeds(0, 2)
    along = model.free * normal(as_seeds(9, 2), code.shape[1:], dtype=torch.float64)
    here = potential(model, bright(), code, seeds)
    after, before = (potential(model, bright(), code + step * along, seeds) for step in (1e-5, -1e-5))
    slope = ((after.energy + after.prior) - (before.energy + before.prior)) / 2e-5
    torch.testing.assert_close((here.gradient * along).flatten(1).sum(1), slope, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(here.prior, 0.5 * code.square().flatten(1).sum(1))
    plain = potential(model, Energy(), code, seeds).gradient
    assert (here.gradient - plain).abs().max() > 1e-6  # the energy has its say


def test_recomputed_gradients_are_those_of_the_plain_chain(model):
    code, seeds = double_code(model), as_seeds(0, 3)
    lean, plain = (potential(model.replace(recompute=r), bright(), code, seeds) for r in (True, False))
    for ours, theirs in zip(lean, plain, strict=True):
        assert (ours - theirs).abs().max() <= 1e-12


class Memory(TorchDispatchMode):
    """The most bytes that tensors made while it is on have held at one time."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.known = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage()).data_ptr() not in self.known:
                self.known.add(storage.data_ptr())
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self.forget, storage.data_ptr(), storage.nbytes())
        return out

    def forget(self, where, size):
        self.known.discard(where)
        self.now -= size


def saved_bytes(call, but_not):
    """What autograd keeps from the way there for the way back: each tensor's memory once, without the weights."""
    kept, weights = {}, {weight.untyped_storage().data_ptr() for weight in but_not}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = call()
    return sum(size for where, size in kept.items() if where not in weights), out


def test_fifty_steps_cost_the_memory_of_five(model):
    def decode(steps, recompute):
        few = model.replace(steps=steps, recompute=recompute)
        code = double_code(few, 2).requires_grad_()
        return few.decode_latents(code).sum(), code

    kept, weights = {}, list(model.denoiser.parameters())
    for case in itertools.product((5, 50), (True, False)):
        kept[case], _ = saved_bytes(lambda case=case: decode(*case), weights)
    assert kept[50, False] > 9 * kept[5, False]  # without: ten times the steps, ten times the memory
    assert kept[50, True] < kept[5, False] / 5

    peak = {}
    for case in kept:
        with Memory() as memory:
            out, code = decode(*case)
            torch.autograd.grad(out, code)
        peak[case] = memory.peak
    assert peak[50, True] < 2 * peak[5, True] and peak[50, True] < peak[5, False], peak
    assert peak[50, False] > 5 * peak[50, True], peak


@pytest.mark.parametrize("adjusted", [False, True])
def test_any_chain_is_reproducible_alone(model, adjusted):
    seeds, settings = [7, 8, 9], {"steps": 4, "step_size": 0.5, "adjusted": adjusted}
    together = list(guide(model, bright(), code=double_code(model, 3, seeds), seeds=seeds, **settings))
    alone = list(guide(model, bright(), code=double_code(model, 1, [8]), seeds=[8], **settings))
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a.code[1:2], b.code, rtol=0, atol=1e-10)
        torch.testing.assert_close(a.energy[1:2], b.energy, rtol=0, atol=1e-10)
        assert a.accepted[1] == b.accepted[0]
    assert (together[-1].code - together[0].code)[:, :-1].flatten(1).abs().amax(1).max() > 0.1


@pytest.mark.parametrize("adjusted", [False, True])
def test_a_stopped_chain_goes_on_to_the_last_bit(model, adjusted):
    settings = dict(count=3, steps=7, step_size=0.3, last_step_size=0.1, adjusted=adjusted, seeds=4)
    whole = list(guide(model, bright(), code=double_code(model), **settings))
    assert [state.step for state in whole] == list(range(8)) and whole[0].total == 7
    stopped = next(itertools.islice(guide(model, bright(), code=double_code(model), **settings), 3, None))
    resumed = list(guide(model, bright(), code=stopped.code, start=stopped.step, **settings))
    assert [state.step for state in resumed] == [3, 4, 5, 6, 7]
    for a, b in zip(whole[3:], resumed, strict=True):
        assert torch.equal(a.code, b.code) and torch.equal(a.energy, b.energy)


def test_a_state_knows_its_pictures_and_lets_residuals_be(model):
    code = double_code(model)
    code[:, -1] = 0.1  # the residual of an encoded picture
    first, *_, last = guide(model, bright(), 3, 3, 0.2, code=code)
    assert torch.equal(last.code[:, -1], code[:, -1]) and (last.code - code)[:, :-1].flatten(2).abs().amax(2).min() > 0
    torch.testing.assert_close(last.images(), model.decode(last.code), rtol=0, atol=0)
    assert not last.images().requires_grad and not last.code.requires_grad
    expected = 20 * (last.images().flatten(1).mean(1) - 1).square()
    torch.testing.assert_close(last.energy, expected)
    torch.testing.assert_close(last.parts[:, 0], expected / 20)
    torch.testing.assert_close(first.prior, 0.5 * code[:, :-1].square().flatten(1).sum(1))


def test_energies_in_few_steps_pictures_in_many():
    """eta = 0: the code is where the ODE starts, whatever its steps; the two decodings of one code are near but not equal."""
    ideal = IdealDenoiser(linear(), torch.full((1, 2, 2), 0.3), std=0.4)
    model = LatentDiffusion(Identity(None), ideal, (1, 2, 2), steps=100, eta=0.0)
    code = double_code(model)
    state = last_of(guide(model, bright(), 3, 5, 0.1, code=code, gradient_steps=20))
    few, many = (20 * (m.decode(state.code).flatten(1).mean(1) - 1).square() for m in (model.replace(steps=20), model))
    torch.testing.assert_close(state.energy, few, rtol=1e-12, atol=0)
    torch.testing.assert_close(state.images(), model.decode(state.code), rtol=0, atol=0)
    assert 1e-4 < (few - many).abs().max() < 0.1 * many.max()


class Fails:
    """A good energy until the call-th time that it is asked, then what `wrong` makes of it."""

    def __init__(self, call, wrong):
        self.calls, self.call, self.wrong = 0, call, wrong

    def __call__(self, images, code):
        self.calls += 1
        value = images.flatten(1).sum(1)
        return self.wrong(value) if self.calls >= self.call else value


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda value: value[:, None], r"expected one number per picture, \(3,\), got \(3, 1\)"),
        (lambda value: value.mean(), r"expected one number per picture, \(3,\), got \(\)"),
        (lambda value: 1.0, ".* got float"),
        (lambda value: value * torch.tensor([1.0, math.nan, 1.0]), r"expected finite numbers, got nan in chains \[1\]"),
        (lambda value: (value * 0).sqrt() + value, "expected a finite gradient"),
        (lambda value: value.detach(), "expected a differentiable function of the pictures"),
    ],
)
def test_an_energy_that_fails_stops_the_chain_and_keeps_the_last_good_state(wrong, message):
    start = codes(3, 3)
    energy, seen = 0.5 * code_prior() + custom(Fails(4, wrong), "odd one"), []
    good = list(guide(LINEAR, 0.5 * code_prior() + custom(Fails(99, None)), 3, 5, 0.1, code=start))
    with pytest.raises(ChainStopped, match=f"energy 'odd one': {message}.*at step 3 of 5") as stop:
        for state in guide(LINEAR, energy, 3, 5, 0.1, code=start):
            seen.append(state)
    assert stop.value.state is seen[-1] and seen[-1].step == 2 and torch.equal(seen[-1].code, good[2].code)
    with pytest.raises(ChainStopped, match="at step 0 of 5") as stop:
        next(guide(LINEAR, custom(Fails(1, wrong), "odd one"), 3, 5, 0.1, code=start))
    assert stop.value.state is None


def test_any_generator_starts_from_its_own_codes(model):
    (first, _), (ours, _) = guide(model, bright(), 2, 1, seeds=5), guide(model, bright(), None, 1)
    assert torch.equal(first.code, model.random_code(2, 5)) and len(ours.code) == 4
    one = Linear(LINEAR.a.float(), LINEAR.b.float())  # only decode and code_shape
    assert next(guide(one, Energy(), 3)).code.shape == (3, 3)
    told = next(guide(model, code_prior(), 2))
    torch.testing.assert_close(told.energy, told.prior)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: guide(LINEAR, Energy(), 0), "count: expected at least 1, got 0"),
        (lambda: guide(LINEAR, Energy(), steps=0), "steps: expected at least 1, got 0"),
        (lambda: guide(LINEAR, Energy(), step_size=0.0), "step_size: expected a number between 0 and 4, got 0.0"),
        (lambda: guide(LINEAR, Energy(), last_step_size=-1), "last_step_size: .* got -1"),
        (lambda: guide(LINEAR, Energy(), step_size=math.nan), "step_size: .* got nan"),
        (lambda: guide(LINEAR, Energy(), start=201), "start: expected a step from 0 to 200, got 201"),
        (lambda: guide(LINEAR, Energy(), code=torch.zeros(2, 4)), r"code: expected shape \(B, 3\), got \(2, 4\)"),
        (lambda: guide(LINEAR, Energy(), 3, code=codes(2, 3)), r"code: expected shape \(3, 3\), got \(2, 3\)"),
        (lambda: guide(LINEAR, Energy(), 3, seeds=[1]), "seeds: expected one integer per item"),
        (lambda: guide(LINEAR, Energy(), gradient_steps=2), "gradient_steps: .* got Linear"),
        (lambda: guide(LINEAR, Energy(), candidates=0), "candidates: expected at least 1, got 0"),
        (lambda: guide(LINEAR, "clip"), "energy: no attribute 'clip'"),
    ],
)
def test_bad_input_is_refused_before_any_work(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_chains_begin_at_the_best_of_random_codes(model):
    energy, seeds = bright(), [5, 6, 7]
    plain, best = (next(guide(model, energy, 3, seeds=seeds, candidates=n)) for n in (1, 40))
    assert (best.energy <= plain.energy).all() and best.energy.mean() < plain.energy.mean()
    alone = next(guide(model, energy, 1, seeds=[6], candidates=40))
    torch.testing.assert_close(alone.code, best.code[1:2])
    random = torch.cat(
        [next(guide(model, Energy(), 40, seeds=1000)).code, next(guide(model, Energy(), 3, seeds=seeds)).code]
    )
    others = energy(model.decode(random))
    assert (best.energy < others.quantile(0.5)).all()
    free = next(guide(Linear(LINEAR.a.float(), LINEAR.b.float()), Energy(), 500, candidates=4))
    assert 0.9 < free.code.var() < 1.1  # where nothing is wished for, any code is as good


def test_an_energy_that_fails_among_candidates_is_named(model):
    with pytest.raises(ChainStopped, match="'nothing'.*, among the candidates for a start") as stopped:
        guide(model, custom(lambda images, code: images.flatten(1).sum(1) * math.nan, "nothing"), 2, candidates=3)
    assert stopped.value.state is None


def test_few_steps_are_refused_where_the_code_would_not_fit(model):
    with pytest.raises(ValueError, match="gradient_steps: only a sampler with eta = 0 .* got eta = 0.5"):
        guide(model, bright(), gradient_steps=2)
    with pytest.raises(ValueError, match="starts at noise level 499, not at 749"):
        guide(model.replace(eta=0.0, strength=0.7), bright(), gradient_steps=2)
