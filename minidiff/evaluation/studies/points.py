"""An operating point is a method with its strength, eta and refinement; running one gives pictures, and what they cost."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from minidiff.cycle import check_pair, sdedit
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
    """Pictures (B, C, H, W) in [-1, 1] and their latents; seconds and network calls for each of them."""

    images: Tensor
    latents: Tensor
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


def work(points: Sequence[Point], steps: int) -> int:
    """Network calls a picture for all points, when what differs in its refinement alone is encoded and decoded once."""
    plain = {replace(point, refine=0.0) for point in points}
    return sum(point.calls(steps) for point in plain) + sum(round(steps * point.refine) for point in points)


def run_all(
    source: LatentDiffusion,
    target: LatentDiffusion,
    images: Tensor,
    points: Sequence[Point],
    steps: int,
    batch: int = 125,
    done: Callable[[int], None] = lambda calls: None,
) -> Iterator[tuple[Point, Outcome]]:
    """Translate images at each point as `translate` would, picture i with noise seed i.

    A refined point goes on from the latents of the plain one, and is charged for both. `done` hears of each network call.
    """
    plain: dict[Point, Outcome] = {}
    for point in points:
        base = replace(point, refine=0.0)
        if base not in plain:
            plain[base] = _outcome(source, target, images, base, steps, batch, done)
        yield point, _refined(target, plain[base], point, steps, batch, done) if point.refine else plain[base]


@torch.no_grad()
def _outcome(source, target, images, point: Point, steps: int, batch: int, done) -> Outcome:
    settings = {"strength": point.strength, "eta": point.eta, "steps": steps}
    source, target = source.replace(**settings), target.replace(**settings)
    check_pair(source, target)
    with Meter(done, source, target) as meter:
        latents = []
        for x, seeds in zip(images.split(batch), torch.arange(len(images)).split(batch)):
            if point.method == "sdedit":
                latents.append(sdedit(target, target.to_latents(x), seeds))
            else:
                latents.append(target.decode_latents(source.encode(x, seeds)))
        return meter.outcome(target, latents)


@torch.no_grad()
def _refined(target, base: Outcome, point: Point, steps: int, batch: int, done) -> Outcome:
    refiner = target.replace(strength=point.refine, eta=1.0, steps=steps)
    with Meter(done, target) as meter:
        parts = zip(base.latents.split(batch), torch.arange(len(base.latents)).split(batch))
        latents = [sdedit(refiner, part, seeds, stream="refine") for part, seeds in parts]
        more = meter.outcome(target, latents)
    return replace(more, seconds=base.seconds + more.seconds, calls=base.calls + more.calls)


class Meter:
    """Seconds that pass and network calls that are made inside a `with` block."""

    def __init__(self, done: Callable[[int], None], *models: LatentDiffusion):
        self.done, self.networks, self.calls = done, {model.denoiser for model in models}, 0

    def __enter__(self) -> "Meter":
        self.hooks = [network.register_forward_hook(self._count) for network in self.networks]
        self.start = time.perf_counter()
        return self

    def __exit__(self, *error) -> None:
        for hook in self.hooks:
            hook.remove()

    def _count(self, module, inputs, output) -> None:
        self.calls += len(inputs[0])
        self.done(len(inputs[0]))

    def outcome(self, target: LatentDiffusion, parts: list[Tensor]) -> Outcome:
        """Decode the latents; what came before and this is the cost."""
        images = torch.cat([target.to_images(part) for part in parts]).clamp(-1, 1)
        seconds = time.perf_counter() - self.start
        return Outcome(images, torch.cat(parts), seconds / len(images), self.calls / len(images))
