"""Metrics against closed forms and against scikit-image."""

import math

import pytest
import torch

from minidiff.evaluation.metrics import frechet_distance, in_batches, kernel_distance, psnr, ssim
from minidiff.seeds import normal, uniform


def pictures(seed, count=3, shape=(3, 24, 20)):
    return 2 * uniform(torch.arange(count) + seed, shape, "pictures") - 1


def test_psnr_of_a_known_error():
    black = torch.full((2, 1, 8, 8), -1.0)
    assert torch.allclose(psnr(black, black + 0.2), torch.full((2,), 20.0), atol=1e-4)  # 10 log10(4 / 0.04)
    assert psnr(black, black).isinf().all()
    assert torch.equal(psnr(black, black - 5), psnr(black, black))  # clamped as a screen does


def test_psnr_agrees_with_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    a, b = pictures(0), pictures(9)
    wanted = [metrics.peak_signal_noise_ratio(x, y, data_range=2) for x, y in zip(a.numpy(), b.numpy())]
    assert psnr(a, b).tolist() == pytest.approx(wanted, abs=1e-4)


def test_ssim_of_flat_pictures():
    """Without structure only the luminance term is left: (2 m n + c1) / (m^2 + n^2 + c1), c1 = (0.01 * 2)^2."""
    m, n, c1 = 0.5, 0.25, 0.02**2
    wanted = (2 * m * n + c1) / (m**2 + n**2 + c1)
    assert ssim(torch.full((2, 3, 16, 16), m), torch.full((2, 3, 16, 16), n)).tolist() == pytest.approx(
        [wanted] * 2, abs=1e-5
    )


def test_ssim_is_one_for_equal_pictures_and_per_item():
    a, b = pictures(0), pictures(9)
    assert torch.allclose(ssim(a, a), torch.ones(3))
    assert (ssim(a, b) < 0.5).all()
    assert torch.allclose(in_batches(ssim, a, b, batch=2), ssim(a, b), atol=1e-6)


def exactly(features, mean, cov):
    """Features moved and stretched so that their sample mean and covariance are exactly these."""
    centred = features - features.mean(0)
    whitened = centred @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(centred.T))).T
    return whitened @ torch.linalg.cholesky(cov).T + mean


def gaussian(seed, count, dim):
    return normal(torch.arange(count) + seed, (dim,), "features", torch.float64)


def test_frechet_of_gaussians_that_commute():
    """For diagonal covariances it is |m|^2 + sum (s - t)^2."""
    s, t, m = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([3.0, 1.0, 0.5]), torch.tensor([1.0, -2.0, 0.0])
    a = exactly(gaussian(0, 50, 3), torch.zeros(3), torch.diag(s**2).double())
    b = exactly(gaussian(99, 70, 3), m, torch.diag(t**2).double())
    assert frechet_distance(a, b) == pytest.approx((m.square().sum() + (s - t).square().sum()).item(), abs=1e-9)


def test_frechet_of_gaussians_that_do_not_commute():
    """In two dimensions tr (A B)^(1/2) = sqrt(tr AB + 2 sqrt(det AB))."""
    A = torch.tensor([[2.0, 0.8], [0.8, 1.0]], dtype=torch.float64)
    B = torch.tensor([[1.0, -0.5], [-0.5, 3.0]], dtype=torch.float64)
    a, b = exactly(gaussian(0, 40, 2), torch.zeros(2), A), exactly(gaussian(7, 40, 2), torch.zeros(2), B)
    cross = math.sqrt((A @ B).trace() + 2 * math.sqrt(torch.linalg.det(A @ B)))
    assert frechet_distance(a, b) == pytest.approx((A.trace() + B.trace()).item() - 2 * cross, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), abs=1e-9)


def test_identical_sets_are_at_no_distance():
    a = gaussian(0, 200, 8)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert abs(kernel_distance(a, gaussian(5000, 200, 8))) < 0.1 * kernel_distance(a, gaussian(5000, 200, 8) + 1)


def test_kernel_distance_by_hand():
    """Two points against two points in one dimension, every pair written out."""
    a, b = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [-1.0]])

    def k(x, y):
        return (x * y + 1) ** 3

    within = k(0, 1) + k(2, -1)
    across = (k(0, 2) + k(0, -1) + k(1, 2) + k(1, -1)) / 4
    assert kernel_distance(a, b) == pytest.approx(within - 2 * across)


def test_kernel_distance_is_unbiased():
    """Over many pairs of samples of one distribution it averages to zero, and is sometimes negative."""
    distances = [kernel_distance(gaussian(1000 * i, 20, 4), gaussian(1000 * i + 500, 20, 4)) for i in range(200)]
    distances = torch.tensor(distances)
    assert abs(distances.mean()) < 3 * distances.std() / math.sqrt(200)
    assert distances.min() < 0


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"a, b: expected two sets of pictures"):
        psnr(torch.zeros(2, 1, 8, 8), torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="at least 11 x 11"):
        ssim(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match=r"N, M >= 2"):
        frechet_distance(torch.zeros(1, 4), torch.zeros(5, 4))
