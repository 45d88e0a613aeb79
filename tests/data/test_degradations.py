"""What is taken from a picture, against other ways to take it."""

import numpy as np
import pytest
import torch
from skimage.filters import gaussian

from minidiff.data.degradations import BLUR, blur, random_masks, random_sigmas, shrink


def pictures(count=3, height=12, width=16):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_shrinking_takes_the_mean_of_each_square():
    images = pictures()
    assert torch.equal(shrink(torch.ones(1, 3, 8, 12)), torch.ones(1, 3, 2, 3))
    torch.testing.assert_close(shrink(images)[1, 2, 1, 3], images[1, 2, 4:8, 12:16].mean())
    with pytest.raises(ValueError, match=r"factor: expected a divisor of \(12, 16\), got 5"):
        shrink(images, 5)


def test_blur_is_scikit_images_away_from_the_edges_and_keeps_flat_pictures():
    images, sigma = pictures(2, 40, 44), torch.tensor([0.8, 2.5])
    blurred = blur(images, sigma)
    for image, ours, s in zip(images, blurred, sigma.tolist()):
        theirs = gaussian(np.asarray(image), s, channel_axis=0, truncate=8)
        np.testing.assert_allclose(ours[:, 16:-16, 16:-16], theirs[:, 16:-16, 16:-16], atol=1e-3)
    torch.testing.assert_close(blur(torch.full((1, 3, 9, 7), 0.3), 3.0), torch.full((1, 3, 9, 7), 0.3))
    torch.testing.assert_close(blur(images[1:], 2.5), blurred[1:])
    with pytest.raises(ValueError, match="sigma: expected positive numbers of pixels"):
        blur(images, 0.0)


def test_masks_are_binary_each_from_its_own_seed_and_leave_something_to_see_and_to_paint():
    masks = random_masks(0, 300, 32)
    assert masks.shape == (300, 1, 32, 32) and set(masks.unique().tolist()) == {0.0, 1.0}
    hole = 1 - masks.mean((1, 2, 3))
    assert hole.min() > 0.04 and hole.max() < 0.85 and 0.2 < hole.mean() < 0.5
    assert torch.equal(random_masks([17], 1, 32)[0], masks[17])
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) > 290


def test_sigmas_cover_their_range():
    sigmas = random_sigmas(0, 1000, 32)
    assert BLUR[0] / 2 <= sigmas.min() < 0.8 and 1.95 < sigmas.max() <= BLUR[1] / 2
    assert sigmas[5] == random_sigmas([5], 1, 32)[0]
