"""An operating point is a method with its strength, eta and refinement; running one gives pictures, and what they cost."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from minidiff.cycle import translate
from minidiff.generators import LatentDiffusion

TITLES = {"cyclediffusion": "CycleDiffusion", "sdedit": "SDEdit", "ddib": "DDIB", "copy": "copy the input"}


@dataclass(frozen=True)
class Point:
    """One setting of one method."""

    method: str
    strength: float
    eta: float
    refine: float = 0.0

    @property
    def path(self) -> str:
        """How rows are named: sdedit/strength 0.6/eta 1."""
        return f"{self.method}/{self.setting}"

    @property
    def setting(self) -> str:
        refined = f"/refine {self.refine:g}" if self.refine else ""
        return f"strength {self.strength:g}/eta {self.eta:g}{refined}"

    @property
    def title(self) -> str:
        return f"{TITLES[self.method]}, {self.setting.replace('/', ', ')}"

    def calls(self, steps: int) -> int:
        """Network calls a picture: encoding costs as much as decoding, SDEdit does not encode."""
        return round(steps * self.strength) * (1 if self.method == "sdedit" else 2) + round(steps * self.refine)


@dataclass(frozen=True)
class Outcome:
    """Pictures (B, C, H, W) in [-1, 1], seconds and network calls for each of them."""

    images: Tensor
    seconds: float
    calls: float


def points(
    strengths: Sequence[float], etas: Sequence[float], sdedit_etas: Sequence[float], refines: Sequence[float] = (0.0,)
) -> list[Point]:
    """Every method at every strength: CycleDiffusion and SDEdit at their etas, DDIB at the only one it has, 0.

    What has an encoder may also be refined; refining SDEdit would be SDEdit once more.
    """
    settings = {"cyclediffusion": (etas, refines), "sdedit": (sdedit_etas, (0.0,)), "ddib": ((0.0,), refines)}
    return [
        Point(method, strength, eta, refine)
        for method, (chosen, after) in settings.items()
        for eta, refine, strength in product(chosen, after, strengths)
    ]


def run(
    source: LatentDiffusion, target: LatentDiffusion, images: Tensor, point: Point, steps: int, batch: int = 125
) -> Outcome:
    """Translate images at a point, picture i with noise seed i; count the seconds and the calls of both networks."""
    count = 0

    def counted(_, inputs, __):
        nonlocal count
        count += len(inputs[0])

    networks = {source.denoiser, target.denoiser}
    hooks = [network.register_forward_hook(counted) for network in networks]
    settings = {"strength": point.strength, "eta": point.eta, "refine": point.refine, "steps": steps, "batch": batch}
    start = time.perf_counter()
    try:
        outputs = translate(source, target, images, point.method, seeds=0, **settings).clamp(-1, 1)
        if outputs.is_cuda:
            torch.cuda.synchronize()
    finally:
        for hook in hooks:
            hook.remove()
    return Outcome(outputs, (time.perf_counter() - start) / len(images), count / len(images))
