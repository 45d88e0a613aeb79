"""A slow average of the weights: less noisy than the last step's, and what the zoo ships.

Polyak & Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 1992; in the
exponential form that diffusion models use (Ho, Jain & Abbeel, NeurIPS 2020, section 4).
"""

import torch
from torch import Tensor, nn


class EMA:
    """average <- d * average + (1 - d) * weights, with d = min(decay, (1 + step) / (10 + step)).

    The second term lets the average forget the random start: early on it spans about a tenth of the steps so far.
    """

    def __init__(self, network: nn.Module, decay: float):
        if not 0 <= decay < 1:
            raise ValueError(f"decay: expected a number in [0, 1), got {decay}")
        self.decay = decay
        self.average = {name: weight.detach().clone() for name, weight in network.named_parameters()}

    def decay_at(self, step: int) -> float:
        """The decay of update number `step`, counted from 0."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        for name, weight in network.named_parameters():
            self.average[name].lerp_(weight, 1 - self.decay_at(step))

    @torch.no_grad()
    def copy_to(self, network: nn.Module) -> None:
        """Overwrite the weights of `network` by the average."""
        for name, weight in network.named_parameters():
            weight.copy_(self.average[name])

    def load(self, average: dict[str, Tensor]) -> None:
        for name, value in self.average.items():
            value.copy_(average[name])
