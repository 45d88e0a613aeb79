"""Search finds the code where it is known: for a linear generator, and for pictures that a generator made itself."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from minidiff.projection import project


@dataclass(frozen=True)
class Linear:
    """decode(z) = A z as pictures of one row."""

    a: Tensor

    @property
    def code_shape(self):
        return (self.a.shape[1],)

    def decode(self, code):
        return (code @ self.a.T)[:, None, None]


A = torch.tensor([[1.0, 0.5, 0.0], [-0.3, 0.8, 0.4]], dtype=torch.float64)
IMAGES = torch.tensor([[[[1.0, 0.5]]], [[[-0.2, 0.9]]]], dtype=torch.float64)  # (2, 1, 1, 2)


def test_it_finds_the_likeliest_code():
    """Of p(z | x) = N((I + A'A / s^2)^-1 A'x / s^2, .) that is the mean."""
    sigma = 0.5
    precision = torch.eye(3, dtype=torch.float64) + A.T @ A / sigma**2
    mean = torch.linalg.solve(precision, A.T @ IMAGES.flatten(1).T / sigma**2).T
    first, *_, last = project(Linear(A), IMAGES, steps=400, sigma=sigma)
    torch.testing.assert_close(last.code, mean, rtol=0, atol=1e-3)
    assert (first.step, last.step, last.total) == (0, 400, 400) and not first.code.any()
    for state in (first, last):
        torch.testing.assert_close(state.error, (Linear(A).decode(state.code) - IMAGES).square().flatten(1).mean(1))


def test_a_search_does_not_depend_on_the_others():
    *_, together = project(Linear(A), IMAGES, steps=20)
    *_, alone = project(Linear(A), IMAGES[1:], steps=20)
    torch.testing.assert_close(together.code[1:], alone.code, rtol=0, atol=1e-10)


def test_a_gan_finds_its_own_pictures_again(tiny_load):
    model = tiny_load("critters-gan")
    first, *_, last = project(model, model.sample(2, seeds=3), steps=150, sigma=0.02)
    assert (last.error < 0.05 * first.error).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps: expected a number above 0, got 0"),
        ({"sigma": -1.0}, "sigma: expected a number above 0, got -1.0"),
        ({"start": torch.zeros(2, 4)}, r"start: expected shape \(2, 3\), got \(2, 4\)"),
    ],
)
def test_bad_input(settings, message):
    with pytest.raises(ValueError, match=message):
        next(project(Linear(A), IMAGES, **settings))
