"""An operating point is a method with its strength, eta and refinement; running one gives pictures, and what they cost."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from minidiff.cycle import check_pair, sdedit
from minidiff.generators import LatentDiffusion
from minidiff.processes import here, shared, summed

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
    """Translate images at each point as `translate` would, picture i with noise seed i, where the models are.

    A refined point goes on from the latents of the plain one, and is charged for both. `done` hears of each network call.
    Several processes share the pictures out and each gets every outcome, on the CPU; seconds then are those of one process
    for one picture, and `done` hears of the others' calls as if they were as fast.
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

        def translated(seeds: Tensor) -> Tensor:
            x, seeds = images[seeds].to(source.device), seeds.to(source.device)
            if point.method == "sdedit":
                return sdedit(target, target.to_latents(x), seeds)
            return target.decode_latents(source.encode(x, seeds))

        return meter.outcome(target, len(images), batch, translated)


@torch.no_grad()
def _refined(target, base: Outcome, point: Point, steps: int, batch: int, done) -> Outcome:
    refiner = target.replace(strength=point.refine, eta=1.0, steps=steps)
    with Meter(done, target) as meter:

        def refined(seeds: Tensor) -> Tensor:
            return sdedit(refiner, base.latents[seeds].to(target.device), seeds.to(target.device), stream="refine")

        more = meter.outcome(target, len(base.latents), batch, refined)
    return replace(more, seconds=base.seconds + more.seconds, calls=base.calls + more.calls)


class Meter:
    """Seconds that pass and network calls that are made inside a `with` block, in all processes together."""

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
        self.done(len(inputs[0]) * here()[1])

    def outcome(self, target: LatentDiffusion, count: int, batch: int, make: Callable[[Tensor], Tensor]) -> Outcome:
        """make(seeds (b,)) -> latents (b, c, h, w) for seeds 0 .. count - 1, decoded; what that takes is the cost."""
        latents = shared(make, count, batch)
        images = shared(lambda index: target.to_images(latents[index].to(target.device)).clamp(-1, 1), count, batch)
        seconds = summed(time.perf_counter() - self.start)
        return Outcome(images, latents, seconds / count, summed(self.calls) / count)
