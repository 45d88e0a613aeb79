"""Statistics and interpolation of codes, on codes whose answers are known."""

import pytest
import torch

from minidiff.codes import code_statistics, slerp
from minidiff.seeds import as_seeds, normal


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


def test_bad_input():
    with pytest.raises(ValueError, match=r"a, b: expected codes of one shape .* got \(2, 3\) and \(2, 4\)"):
        slerp(torch.zeros(2, 3), torch.zeros(2, 4), 0.5)
    with pytest.raises(ValueError, match="code: expected shape"):
        code_statistics(torch.zeros(2, 3))
