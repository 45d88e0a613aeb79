"""Random numbers that depend on seed and stream alone: the same in any batch, independent otherwise."""

import math

import pytest
import torch

from minidiff.seeds import as_seeds, normal, uniform

COUNT = 200_000


def test_an_item_does_not_depend_on_its_batch():
    seeds = as_seeds(5, 8)
    assert seeds.tolist() == [5, 6, 7, 8, 9, 10, 11, 12]
    for draw in (uniform, normal):
        batch = draw(seeds, (3, 4), "stream")
        for i in range(8):
            assert torch.equal(draw(seeds[i : i + 1], (3, 4), "stream")[0], batch[i])
        assert torch.equal(draw(seeds.flip(0), (3, 4), "stream"), batch.flip(0))
    # and a longer draw of uniforms begins with the shorter one
    assert torch.equal(uniform(seeds, (7,), "stream"), uniform(seeds, (9,), "stream")[:, :7])


def test_uniform_moments():
    x = uniform(as_seeds(0, 4), (COUNT // 4,), "u", torch.float64)
    assert 0 < x.min() and x.max() < 1
    for power in (1, 2, 3, 4):  # E[u^k] = 1 / (k + 1), Var = 1 / (2k + 1) - 1 / (k + 1)^2
        std = math.sqrt(1 / (2 * power + 1) - 1 / (power + 1) ** 2)
        assert abs((x**power).mean().item() - 1 / (power + 1)) < 4 * std / math.sqrt(COUNT)


def test_normal_moments():
    x = normal(as_seeds(0, 4), (COUNT // 4,), "n", torch.float64)
    for power, mean, var in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):  # E[x^k] and E[x^2k] - E[x^k]^2
        assert abs((x**power).mean().item() - mean) < 4 * math.sqrt(var / COUNT)
    share = (x.abs() > 3).double().mean().item()
    tail = math.erfc(3 / math.sqrt(2))
    assert abs(share - tail) < 4 * math.sqrt(tail / COUNT)


def correlation(a, b):
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


def test_seeds_streams_and_neighbours_are_independent():
    bound, x = 4 / math.sqrt(COUNT), normal(as_seeds(1, 1), (COUNT,), "a")
    assert abs(correlation(x, normal(as_seeds(1, 1), (COUNT,), "b"))) < bound
    assert abs(correlation(x, normal(as_seeds(2, 1), (COUNT,), "a"))) < bound
    assert abs(correlation(x, normal(as_seeds(-1, 1), (COUNT,), "a"))) < bound
    assert abs(correlation(x[:, :-1], x[:, 1:])) < bound
    half = COUNT // 2  # the two numbers that one pair of uniforms gives
    assert abs(correlation(x[:, :half], x[:, half:])) < bound
    first = normal(as_seeds(0, COUNT), (1,), "a")  # the first number of neighbouring seeds
    assert abs(correlation(first[:-1], first[1:])) < bound
    assert abs(first.mean().item()) < bound


def test_dtype_and_shape():
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        assert normal(as_seeds(0, 2), (3, 5), dtype=dtype).dtype == dtype
    assert normal(as_seeds(0, 2), (3, 5)).shape == (2, 3, 5) and uniform(as_seeds(0, 2)).shape == (2,)
    seeds = as_seeds(0, 2)
    assert torch.equal(normal(seeds, (3,), dtype=torch.float64).float(), normal(seeds, (3,)))


@pytest.mark.parametrize("seeds", [[1, 2], torch.tensor([[1, 2, 3]]), torch.tensor([1.0, 2.0, 3.0])])
def test_bad_input(seeds):
    with pytest.raises(ValueError, match=r"seeds: expected one integer per item, shape \(3,\)"):
        as_seeds(seeds, 3)
