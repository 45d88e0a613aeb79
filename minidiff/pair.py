"""Two sides of an edit in one call: what encodes a picture and what decodes its code are one network, told two things.

Asked about both at once, the network does the same work on twice as many items, in fewer and larger operations.
"""

from functools import reduce

import torch
from torch import Tensor, nn

from minidiff.classifier_free import Guided, guide
from minidiff.conditioning import Condition, join
from minidiff.denoiser import Prediction
from minidiff.encoder import next_on_path, start_state
from minidiff.generators import LatentDiffusion
from minidiff.samplers import draw, solve
from minidiff.schedule import Schedule

Sides = tuple[bool, bool]  # which of the two are guided at a noise level


class Pair(nn.Module):
    """`source` and `target`, around one denoiser, as a denoiser of twice as many items, the source's first."""

    def __init__(self, source: Guided, target: Guided) -> None:
        super().__init__()
        self.source, self.target = source, target
        self.guides = source.guides, target.guides
        self.conditions: dict[tuple[int, Sides], Condition] = {}

    @property
    def schedule(self) -> Schedule:
        return self.target.schedule

    def forward(self, x_t: Tensor, t: float) -> Prediction:
        """x_t (2 B, C, H, W) at noise level t -> Prediction of both halves."""
        halves, guided = x_t.chunk(2), self.guided_at(t)
        rows = torch.cat([x_t, *(half for half, on in zip(halves, guided, strict=True) if on)])
        x0, eps = (list(part.split(len(halves[0]))) for part in self.ask(rows, t, guided))
        for k in (side for side, on in enumerate(guided) if on):
            scale = (self.source, self.target)[k].scale
            scale = scale.to(x_t).view(-1, 1, 1, 1) if scale.ndim else scale.item()
            x0[k], eps[k] = guide(x0[k], x0.pop(2), scale), guide(eps[k], eps.pop(2), scale)
        return Prediction(torch.cat(x0), torch.cat(eps))

    def guided_at(self, t: float) -> Sides:
        """Known without a look at the device, so that a GPU never waits."""
        part, sides = torch.tensor(t) / (self.schedule.T - 1), (self.source, self.target)
        inside = [bool(side.interval[0] <= part <= side.interval[1]) for side in sides]
        return tuple(on and here for on, here in zip(self.guides, inside, strict=True))

    def ask(self, rows: Tensor, t: float, guided: Sides) -> Prediction:
        return self.target.denoiser(rows, t, **self.condition(len(rows), guided).parts())

    def condition(self, count: int, guided: Sides) -> Condition:
        """What `count` rows are told: all of the source, all of the target, then the null of each that is guided."""
        if (count, guided) not in self.conditions:
            sides = (self.source, self.target)
            parts = [side.given for side in sides] + [side.null for side, on in zip(sides, guided, strict=True) if on]
            self.conditions[count, guided] = reduce(join, (part.repeat(count // len(parts)) for part in parts))
        return self.conditions[count, guided]

    def rows(self, index: slice | Tensor) -> "Pair":
        """The same for some of the items."""
        return Pair(self.source.rows(index), self.target.rows(index))


def pair(source: LatentDiffusion, target: LatentDiffusion) -> LatentDiffusion | None:
    """The source with both denoisers in one; None where they are not one network, or are told pictures."""
    sides = source.denoiser, target.denoiser
    if not all(isinstance(side, Guided) for side in sides) or sides[0].denoiser is not sides[1].denoiser:
        return None
    told = (part for side in sides for part in (side.given, side.null) if part is not None)
    if any(part.features is not None for part in told) or source.autoencoder is not target.autoencoder:
        return None
    return source.replace(denoiser=Pair(*sides))


def encode_and_decode(model: LatentDiffusion, images: Tensor, seeds: Tensor, trajectory: str) -> Tensor:
    """images (B, C, H, W) -> images: the source's code, step by step, into the target's picture; `model` from `pair`.

    What `dpm_encode` and `decode_code` do one after the other, with each noise used as soon as it is solved for.
    """
    x0, sampler, seen = model.to_latents(images), model.sampler, None
    x = y = start_state(sampler.schedule, model.grid, x0, seeds)
    for k in range(len(model.grid)):
        x_s = next_on_path(sampler, model.grid, k, x, x0, seeds, trajectory)
        both, step = torch.cat([x, y]), model.grid[k]
        prediction, seen = sampler.look(model.denoiser, both, step, seen)
        mean, std = sampler.transition(both, prediction, step)
        mean_x, mean_y = mean.chunk(2)
        noise = solve(mean_x, std, x_s)
        x, y = draw(mean_x, std, noise), draw(mean_y, std, noise)
    return model.to_images(y)
