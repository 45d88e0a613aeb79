"""The denoiser that cannot be beaten: for data from a known mixture of Gaussians, E[x0 | x_t] in closed form.

It is the oracle of the tests and lessons: Bishop, "Pattern recognition and machine learning" (2006), eqs. 2.113 to
2.117 for one Gaussian; several are weighted by how probable each is given x_t.
"""

import math

import torch
from torch import Tensor, nn

from minidiff.denoiser import Prediction
from minidiff.schedule import Schedule
from minidiff.seeds import Seeds, as_seeds, normal, uniform


class IdealDenoiser(nn.Module):
    """The exact denoiser of data from sum_k weights[k] N(mean[k], cov[k]). Computes in float64.

    mean: (C, H, W), or (K, C, H, W) for a mixture; std: a float or a tensor that broadcasts to mean, for independent
    pixels; or cov: (D, D) or (K, D, D) with D = C * H * W; weights: (K,), equal by default.
    Raises ValueError unless exactly one of std and cov is given and the shapes agree.
    """

    def __init__(
        self,
        schedule: Schedule,
        mean: Tensor,
        std: float | Tensor | None = None,
        cov: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        if mean.ndim not in (3, 4):
            raise ValueError(f"mean: expected shape (C, H, W) or (K, C, H, W), got {tuple(mean.shape)}")
        if (std is None) == (cov is None):
            raise ValueError("std, cov: give exactly one of the two")
        self.schedule = schedule
        self.shape = tuple(mean.shape[-3:])
        mean = mean.double().reshape(-1, *self.shape)
        K, D = len(mean), math.prod(self.shape)
        if cov is None:
            std = torch.as_tensor(std, dtype=torch.float64, device=mean.device)
            var, axes = std.broadcast_to(mean.shape).flatten(1) ** 2, None
        else:
            if cov.shape[-2:] != (D, D) or cov.numel() not in (D * D, K * D * D):
                raise ValueError(f"cov: expected shape ({D}, {D}) or ({K}, {D}, {D}), got {tuple(cov.shape)}")
            var, axes = torch.linalg.eigh(cov.double().reshape(-1, D, D).expand(K, D, D))
            var = var.clamp(min=0)  # eigenvalues of a singular covariance may round to just below 0
        weights = torch.ones(K) if weights is None else weights
        if weights.shape != (K,) or (weights <= 0).any():
            raise ValueError(f"weights: expected {K} positive numbers, got {weights.tolist()}")
        self.register_buffer("mean", mean.flatten(1))  # (K, D)
        self.register_buffer("var", var)  # (K, D), along the axes
        self.register_buffer("axes", axes)  # (K, D, D), columns; None for independent pixels
        self.register_buffer("weights", weights.to(mean) / weights.sum().to(mean))

    def forward(self, x_t: Tensor, t: float | Tensor) -> Prediction:
        """x_t (B, C, H, W) at noise level t, a number or (B,) -> E[x0 | x_t] and E[eps | x_t] in the dtype of x_t."""
        signal, noise = self.schedule.levels(t, x_t.double()[:, None].flatten(2))  # floats or (B, 1, 1)
        flat = x_t.to(self.mean.dtype).flatten(1)[:, None]  # (B, 1, D)
        away = self._into_axes(flat - signal * self.mean)  # (B, K, D)
        total = signal**2 * self.var + noise**2  # the variance of x_t given k
        log_odds = self.weights.log() - 0.5 * (away**2 / total + torch.log(total)).sum(-1)  # (B, K)
        guess = self.mean + self._out_of_axes(signal * self.var / total * away)  # E[x0 | x_t, k]
        x0 = (log_odds.softmax(1)[..., None] * guess).sum(1)  # (B, D)
        eps = (flat[:, 0] - self._row(signal) * x0) / self._row(noise)
        return Prediction(*(part.reshape(x_t.shape).to(x_t.dtype) for part in (x0, eps)))

    def sample(self, count: int, seeds: Seeds = 0, dtype: torch.dtype = torch.float64) -> Tensor:
        """True data, (count, C, H, W); item i depends on seed i alone."""
        seeds = as_seeds(seeds, count, self.mean.device)
        chosen = torch.bucketize(uniform(seeds, (), "component", torch.float64), self.weights.cumsum(0)[:-1])
        noise = normal(seeds, self.mean.shape[1:], "data", torch.float64) * self.var[chosen].sqrt()
        if self.axes is not None:
            noise = torch.einsum("bij,bj->bi", self.axes[chosen], noise)
        return (self.mean[chosen] + noise).reshape(count, *self.shape).to(dtype)

    def _into_axes(self, x: Tensor) -> Tensor:
        return x if self.axes is None else torch.einsum("kij,bki->bkj", self.axes, x)

    def _out_of_axes(self, x: Tensor) -> Tensor:
        return x if self.axes is None else torch.einsum("kij,bkj->bki", self.axes, x)

    @staticmethod
    def _row(level: float | Tensor) -> float | Tensor:
        return level if isinstance(level, float) else level[:, 0]
