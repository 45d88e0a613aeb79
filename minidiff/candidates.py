"""Many edits of one picture, ranked by directional CLIP: what papers show, with what it costs and what it hides.

The search over settings of Wu & De la Torre, "A latent space of stochastic diffusion models" (2023), appendix; the ranking:
Kim et al., "DiffusionCLIP" (CVPR 2022).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product, repeat
from typing import Any

from torch import Tensor

from minidiff.attention_control import Control
from minidiff.disagreement import LEVELS
from minidiff.edit import edit
from minidiff.generators import LatentDiffusion


@dataclass(frozen=True)
class Candidate:
    """One edit of one picture and where it came from; score is its directional CLIP."""

    image: Tensor
    strength: float
    scale: float
    seed: int
    score: float


@dataclass(frozen=True)
class Search:
    """Many edits of a picture at other strengths, scales and seeds, ranked by directional CLIP.

    Nothing is done before `run`; `calls` says what it will cost, in network calls for one picture. A winner is chosen by
    its score, so its score says little about the method: `scores` gives that of an edit taken at random beside it.
    """

    model: LatentDiffusion
    clip: Any  # minidiff.nets.clip.Clip
    strengths: Sequence[float] = (0.4, 0.5, 0.6, 0.7, 0.85)
    scales: Sequence[float] = (1.0, 1.5, 2.0, 3.0, 5.0)
    seeds: Sequence[int] = (0, 1, 2)
    settings: dict[str, Any] = field(default_factory=dict)  # further arguments of `edit`

    @property
    def candidates(self) -> list[tuple[float, float, int]]:
        """(strength, scale, seed) of every candidate."""
        return list(product(self.strengths, self.scales, self.seeds))

    @property
    def calls(self) -> int:
        """Items that the network will see for one picture; fewer where an `interval` leaves steps without guidance."""
        return sum(calls_of(self.model, strength, scale, **self.settings) for strength, scale, _ in self.candidates)

    def __str__(self) -> str:
        return f"{len(self.candidates)} candidates a picture, {self.calls:,} network calls"

    def run(self, image: Tensor, source: str, target: str) -> list[Candidate]:
        """All candidates for one picture (C, H, W), the best first; raises as `run_all` does."""
        return self.run_all(image[None], [source], [target])[0]

    def run_all(self, images: Tensor, source: Sequence[str], target: Sequence[str]) -> list[list[Candidate]]:
        """For each picture (B, C, H, W) with its two captions all candidates, the best first.

        Raises ValueError, before any work is done, for captions that say the same or that the CLIP cannot read.
        """
        from minidiff.evaluation.clip_scores import directional_score

        directional_score(self.clip, images, images, source, target)
        several = len(self.seeds)
        before, seeds = images.repeat_interleave(several, 0), list(self.seeds) * len(images)
        told = [[caption for caption in captions for _ in self.seeds] for captions in (source, target)]
        found = [[] for _ in images]
        for strength, scale in product(self.strengths, self.scales):
            settings = {"strength": strength, "scale": scale, "seeds": seeds} | self.settings
            after = edit(self.model, before, *told, **settings)
            scores = directional_score(self.clip, before, after.clamp(-1, 1), *told).tolist()
            made = [Candidate(*each) for each in zip(after, repeat(strength), repeat(scale), seeds, scores)]
            for k, candidates in enumerate(found):
                candidates += made[k * several : (k + 1) * several]
        return [sorted(candidates, key=lambda candidate: -candidate.score) for candidates in found]


def calls_of(
    model: LatentDiffusion,
    strength: float,
    scale: float,
    source_scale: float = 1.0,
    method: str = "cyclediffusion",
    control: Control | None = None,
    local: float | None = None,
    steps: int | None = None,
    **others: Any,
) -> int:
    """How many items the network sees for one `edit` of one picture: each way once, or twice where it is guided."""
    settings = {"strength": strength} | ({} if steps is None else {"steps": steps})
    steps = model.replace(**settings).calls
    way_in, way_out = (1 if each == 1 else 2 for each in (source_scale, scale))
    if control is None and local is None:
        return steps * (way_out if method == "sdedit" else way_in + way_out)
    side_by_side = 2 * max(way_in, way_out)
    return steps * (way_in + side_by_side) + (0 if local is None else 2 * len(LEVELS))


def scores(found: Sequence[Candidate]) -> dict[str, float]:
    """Directional CLIP of the best candidate, and of one taken at random: the mean of all."""
    values = [candidate.score for candidate in found]
    return {"selected": max(values), "unselected": sum(values) / len(values)}


def as_csv(found: Sequence[Sequence[Candidate]]) -> str:
    """Where every candidate of some pictures came from, a line each."""
    lines = ["picture,rank,strength,scale,seed,directional_clip"]
    for number, ranked in enumerate(found):
        lines += [f"{number},{k},{c.strength:g},{c.scale:g},{c.seed},{c.score:.4f}" for k, c in enumerate(ranked, 1)]
    return "\n".join(lines) + "\n"
