"""A vector as words: how a code tells a U-Net what to draw, by the route that captions take.

Every place of the picture looks at the tokens made of the vector and takes what concerns it (cross-attention: Rombach et al.,
CVPR 2022, section 3.3). The papers scale and shift the norms instead (Preechakul et al., CVPR 2022, equation 7), which tells
every place the same.
"""

from torch import Tensor, nn


class Words(nn.Module):
    """vector (B, D) -> tokens (B, L, W)."""

    def __init__(self, inputs: int, count: int, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, 2 * inputs),
            nn.SiLU(),
            nn.Linear(2 * inputs, count * width),
            nn.Unflatten(1, (count, width)),
        )

    def forward(self, vector: Tensor) -> Tensor:
        return self.layers(vector)
