"""How different two pictures look to a network: the distance of its feature maps rather than of the pixels.

LPIPS without its learned weights (Zhang et al., CVPR 2018, equation 1 with all w_l = 1). The network is any that gives
its maps; ours is the zoo's probe (`Probe.maps`), trained on the very pictures, where LPIPS has one of photographs.
"""

from collections.abc import Callable

from torch import Tensor

Maps = Callable[[Tensor], list[Tensor]]  # images (B, C, H, W) -> feature maps (B, C_l, H_l, W_l), fine to coarse


def perceptual(maps: Maps, pictures: Tensor, truth: Tensor) -> Tensor:
    """sum_l mean_hw |unit(maps_l(pictures)) - unit(maps_l(truth))|^2 per item, (B,), each layer from 0 to 4."""
    layers = zip(maps(pictures), maps(truth), strict=True)
    return sum((unit(a) - unit(b)).square().sum(1).flatten(1).mean(1) for a, b in layers)


def unit(features: Tensor) -> Tensor:
    """Every vector of a map (B, C, H, W) divided by its length, so that no layer counts for being loud."""
    return features * (features.square().sum(1, keepdim=True) + 1e-10).rsqrt()
