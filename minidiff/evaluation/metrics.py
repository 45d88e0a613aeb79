"""How near are two pictures, and how near are two crowds of pictures?

Pairs: PSNR and SSIM (Wang et al., IEEE TIP 2004). Crowds: Frechet distance (Heusel et al., NeurIPS 2017) and kernel
distance (Binkowski et al., ICLR 2018), on the features of minidiff's own small probe: comparable among themselves only.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from minidiff.processes import shared

RANGE = 2.0  # pictures live in [-1, 1]


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """10 log10(range^2 / MSE) in dB per picture, (B,), of pictures (B, C, H, W) in [-1, 1]; infinite where equal.

    Values outside [-1, 1] are clamped first, as showing them would.
    """
    a, b = _pair(a, b)
    return 10 * (RANGE**2 / (a - b).square().flatten(1).mean(1)).log10()


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity per picture, (B,), at most 1: 11 x 11 Gaussian window of 1.5 pixels, mean over channels.

    By scikit-image, one picture at a time on the CPU. Raises ValueError for pictures of less than 11 pixels a side.
    """
    from skimage.metrics import structural_similarity

    a, b = _pair(a, b)
    if min(a.shape[2:]) < 11:
        raise ValueError(f"a, b: SSIM's window needs at least 11 x 11 pixels, got {tuple(a.shape)}")
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}  # Wang et al., section III-C
    pairs = zip(a.cpu().numpy(), b.cpu().numpy())
    return torch.tensor([structural_similarity(x, y, data_range=RANGE, channel_axis=0, **window) for x, y in pairs])


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)) for features (N, D) and (M, D) with covariances A and B.

    The squared 2-Wasserstein distance of the two Gaussians fitted to them. Raises ValueError for fewer than two rows.
    """
    a, b = _features(a, b)
    difference = (a.mean(0) - b.mean(0)).square().sum()
    cov_a, cov_b = torch.cov(a.T).reshape(a.shape[1], -1), torch.cov(b.T).reshape(b.shape[1], -1)
    root = _root(cov_a)
    cross = _eigenvalues(root @ cov_b @ root).sqrt().sum()  # tr (A B)^(1/2), by a symmetric matrix of the same spectrum
    return (difference + cov_a.trace() + cov_b.trace() - 2 * cross).clamp(min=0).item()


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy of features (N, D) and (M, D), kernel (x.y / D + 1)^3.

    Zero on average for two samples of one distribution, so it may come out below zero.
    """
    a, b = _features(a, b)
    within_a = (_total(a, a) - _kernel(a.square().sum(1), a.shape[1]).sum()) / (len(a) * (len(a) - 1))
    within_b = (_total(b, b) - _kernel(b.square().sum(1), b.shape[1]).sum()) / (len(b) * (len(b) - 1))
    return (within_a + within_b - 2 * _total(a, b) / (len(a) * len(b))).item()


def in_batches(metric: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor, batch: int = 250) -> Tensor:
    """A per-picture metric over many pictures, a batch at a time, (B,). Several processes share them out; all must ask."""
    return shared(lambda index: metric(a[index], b[index]), len(a), batch)


def _kernel(dot: Tensor, dim: int) -> Tensor:
    return (dot / dim + 1) ** 3


def _total(a: Tensor, b: Tensor) -> Tensor:
    """Sum of the kernel over all pairs, a thousand rows at a time."""
    return torch.stack([_kernel(rows @ b.T, a.shape[1]).sum() for rows in a.split(1000)]).sum()


def _eigenvalues(matrix: Tensor) -> Tensor:
    return torch.linalg.eigvalsh((matrix + matrix.T) / 2).clamp(min=0)


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(f"a, b: expected two sets of pictures (B, C, H, W), got {tuple(a.shape)} and {tuple(b.shape)}")
    return a.clamp(-1, 1), b.clamp(-1, 1)


def _features(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            f"a, b: expected features (N, D) and (M, D) with N, M >= 2, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    return a.double(), b.double()
