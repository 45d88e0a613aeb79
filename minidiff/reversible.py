"""Deterministic diffusion that can be undone to the last digit, as a generator: O-BELM and EDICT behind the one interface.

Both walk with two states (`minidiff.inversions`), but a sample still begins at one standard normal x_T: the second state to
start from follows from it. What the second state of a given picture differs by is a residual, kept in the code as that of the
last step is by a stochastic sampler: zero in a random code, no part of the prior, and what makes the way back exact.
"""

from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from minidiff.generators import LatentDiffusion, check_code
from minidiff.inversions import belm_decode, belm_encode, belm_start, edict_decode, edict_encode
from minidiff.samplers import DDIM, DenoiserLike
from minidiff.seeds import Seeds

METHODS = {"belm": (belm_encode, belm_decode), "edict": (edict_encode, edict_decode)}


@dataclass(frozen=True)
class Reversible(LatentDiffusion):
    """`LatentDiffusion` with eta = 0 whose `decode` undoes `encode`; code (2, c, h, w): x_T and the residual.

    `method` is "belm", one call of the denoiser a step, or "edict", two. Work in float64 where the last digits count.
    Raises ValueError for another method, a sampler other than DDIM, or eta > 0.
    """

    eta: float | None = 0.0
    method: str = "belm"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {self.method!r}")
        super().__post_init__()
        if not isinstance(self.sampler, DDIM) or self.eta != 0:
            raise ValueError(f"sampler: {self.method} walks the ODE of DDIM with eta = 0, got {self.sampler}")

    @property
    def code_shape(self) -> tuple[int, ...]:
        return (2, *self.latent_shape)

    @property
    def calls(self) -> int:
        return len(self.grid) * (2 if self.method == "edict" else 1)

    @property
    def free(self) -> Tensor:
        return torch.tensor([True, False], device=self.device).view(-1, 1, 1, 1)

    def random_code(self, count: int, seeds: Seeds = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        x_T = super().random_code(count, seeds, dtype)  # (B, 1, c, h, w)
        return torch.cat([x_T, torch.zeros_like(x_T)], dim=1)

    def decode_latents(self, code: Tensor) -> Tensor:
        check_code(code, self.code_shape)
        denoiser = self.denoiser
        if self.recompute and torch.is_grad_enabled() and code.requires_grad:
            denoiser = partial(checkpoint, denoiser, use_reentrant=False, preserve_rng_state=False)
        x_T, residual = code.unbind(1)
        pair = torch.stack([x_T, self.second(denoiser, x_T) + residual], dim=1)
        _, decode = METHODS[self.method]
        return decode(denoiser, self.sampler.schedule, self.grid, pair)

    def encode_latents(self, latents: Tensor, seeds: Seeds = 0, trajectory: str = "posterior") -> Tensor:
        encode, _ = METHODS[self.method]
        x_T, second = encode(self.denoiser, self.sampler.schedule, self.grid, latents).unbind(1)
        return torch.stack([x_T, second - self.second(self.denoiser, x_T)], dim=1)

    def second(self, denoiser: DenoiserLike, x_T: Tensor) -> Tensor:
        """The second state of a sample: EDICT's copy of the first, or O-BELM's first step."""
        if self.method == "edict":
            return x_T
        return belm_start(denoiser, self.sampler.schedule, self.grid, x_T)[:, 1]


def reversible(model: LatentDiffusion, method: str = "belm") -> Reversible:
    """The same networks, steps and conditions, walked by a method that can be undone exactly."""
    settings = {field.name: getattr(model, field.name) for field in fields(LatentDiffusion)}
    return Reversible(**settings | {"sampler": "ddim", "eta": 0.0, "method": method})
