"""3 x 3 convolution with a quarter of the multiplications, by Winograd's minimal filtering.

A row of m outputs of a filter with r taps takes m + r - 1 multiplications instead of m r: both are polynomials, multiplied
at m + r - 1 points and put together again. In two dimensions 4 x 4 outputs take 36 instead of 144. Lavin & Gray, "Fast
algorithms for convolutional neural networks" (CVPR 2016), section 4; the points: Barabasz et al., "Error analysis and
improving the accuracy of Winograd convolution" (2020), whose best six have a third of the error of 0, +-1, +-2, infinity.
"""

from functools import cache

import torch
from torch import Tensor, nn

TILE, TAPS = 4, 3
POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)  # and infinity
SIX = len(POINTS) + 1
AT_ONCE = 2**19  # numbers: more, and what lies between the transforms leaves the cache
AT_ONE = POINTS.index(1.0)  # a constant put there comes out as that constant at every pixel: how the bias is added


class Winograd:
    """A 3 x 3 convolution of stride 1, padded by 1: (H, W, N, C_in) -> (H, W, N, C_out), for sides of up to about 16.

    Raises ValueError for another kernel.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        if conv.kernel_size != (3, 3) or conv.stride != (1, 1) or conv.padding != (1, 1) or conv.groups != 1:
            raise ValueError(f"conv: expected 3 x 3 of stride 1, padded by 1, got {conv}")
        at_points = evaluation(TAPS) / spread()[:, None]
        weight = torch.einsum("if,ocfg,jg->ijco", at_points, conv.weight.detach().double(), at_points)
        self.weight = weight.to(conv.weight.dtype)  # (6, 6, C_in, C_out)
        self.bias = conv.bias.detach()
        self.in_rows: dict[int, Tensor] = {}

    def __call__(self, x: Tensor) -> Tensor:
        H, W, N, C = x.shape
        if x.numel() > AT_ONCE and N > 1:
            parts = x.chunk(-(-x.numel() // AT_ONCE), dim=2)
            return torch.cat([self(part.contiguous()) for part in parts], dim=2)
        if H == W == TILE:
            return self.one_tile(x)
        (down, up), (right, left) = transforms(H), transforms(W)  # (6 tiles, side) and (side, 6 tiles)
        tall, wide = len(down), len(right)
        v = (down @ x.view(H, -1)).view(tall, W, N * C)
        v = torch.bmm(right.expand(tall, -1, -1), v)  # (6 tiles, 6 tiles, N C): every row of tiles at every point
        y = torch.bmm(v.view(SIX * tall, -1, C), self.weights(tall // SIX))  # the multiplications
        C = y.shape[2]
        y.view(SIX, -1, SIX, wide // SIX * N, C)[AT_ONE, :, AT_ONE] += self.bias
        y = (up @ y.view(tall, -1)).view(H, wide, N * C)
        return torch.bmm(left.expand(H, -1, -1), y).view(H, W, N, C)

    def one_tile(self, x: Tensor) -> Tensor:
        """The same for 4 x 4 pixels, whose two transforms are small enough to be one."""
        H, W, N, C = x.shape
        there, back = both_ways()  # (36, 16) and (16, 36)
        y = torch.bmm((there @ x.view(H * W, N * C)).view(-1, N, C), self.weights(1))
        y[AT_ONE * SIX + AT_ONE] += self.bias
        return (back @ y.view(len(y), -1)).view(H, W, N, -1)

    def weights(self, tiles: int) -> Tensor:
        """(6 tiles 6, C_in, C_out): the same for every row of tiles, so that one call multiplies them all."""
        if tiles not in self.in_rows:
            self.in_rows[tiles] = self.weight[:, None].expand(-1, tiles, -1, -1, -1).flatten(0, 2)
        return self.in_rows[tiles]


@cache
def transforms(side: int) -> tuple[Tensor, Tensor]:
    """To the points, (6 tiles, side), and back, (side, 6 tiles), for a row of pixels with a zero at either end.

    The row is cut into tiles of 4 that see 6 pixels each; points come first, tiles second.
    """
    to_points, back = torch.linalg.inv(evaluation(SIX)).T * spread()[:, None], evaluation(TILE).T
    tiles = -(-side // TILE)
    there = torch.zeros(SIX, tiles, side + 2 + TILE, dtype=torch.float32)
    again = torch.zeros(tiles, TILE, SIX, tiles, dtype=torch.float32)
    for tile in range(tiles):
        there[:, tile, TILE * tile : TILE * tile + SIX] = to_points
        again[tile, :, :, tile] = back
    return there[:, :, 1 : side + 1].flatten(0, 1).contiguous(), again.flatten(0, 1).flatten(1)[:side].contiguous()


@cache
def both_ways() -> tuple[Tensor, Tensor]:
    """`transforms` of 4 pixels down and 4 across in one: (36, 16) and (16, 36)."""
    there, back = transforms(TILE)
    return torch.kron(there, there), torch.kron(back, back)


def evaluation(count: int) -> Tensor:
    """(6, count), float64: a polynomial's `count` coefficients -> its values at the points; at infinity, the last one."""
    points = torch.tensor(POINTS, dtype=torch.float64)
    values = torch.zeros(SIX, count, dtype=torch.float64)
    values[:-1] = points[:, None] ** torch.arange(count)
    values[-1, -1] = 1
    return values


def spread() -> Tensor:
    """(6,), float64: the product of each point's distances to the others. Moved from the pixels' transform to the weights',
    which are transformed in float64, it leaves the former with short numbers."""
    points = torch.tensor(POINTS, dtype=torch.float64)
    between = points[:, None] - points + torch.eye(len(points), dtype=torch.float64)
    return torch.cat([between.prod(1), torch.ones(1, dtype=torch.float64)])
