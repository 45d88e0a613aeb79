"""Cross-attention control: while an edit is drawn, it looks where the original looked.

Source and target are denoised side by side, and for the first part of the steps the target's attention probabilities
are exchanged for the source's: what is said differently changes, what is said alike stays where it was.
Hertz et al., "Prompt-to-prompt image editing with cross attention control" (ICLR 2023), section 3.2.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from difflib import SequenceMatcher

import torch
from torch import Tensor, nn

from minidiff.classifier_free import Guided, guide
from minidiff.conditioning import join
from minidiff.denoiser import Prediction
from minidiff.nets.blocks import CrossAttention, SelfAttention, watching
from minidiff.schedule import Schedule

KINDS = ("replace", "refine")


@dataclass(frozen=True)
class Control:
    """How long the target looks where the source looks, as parts of the steps, counted from the noisy end.

    "replace" exchanges token for token and needs captions of equal length; "refine" keeps the tokens that both captions
    share, and new words look for themselves. Raises ValueError for another kind or a part outside [0, 1].
    """

    kind: str = "refine"
    cross_part: float = 0.8
    self_part: float = 0.4

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {self.kind!r}")
        for name in ("cross_part", "self_part"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a part of the steps in [0, 1], got {getattr(self, name)}")


def align(source: Sequence[int], target: Sequence[int], kind: str) -> list[int]:
    """For each token of the target the place of its counterpart in the source, or -1 for a new one.

    Raises ValueError when "replace" is asked for captions of unequal length.
    """
    if kind == "replace":
        if len(source) != len(target):
            raise ValueError(
                f"kind: 'replace' needs captions of equal length, got {len(source)} and {len(target)} tokens; "
                "'refine' takes any"
            )
        return list(range(len(target)))
    places = [-1] * len(target)
    for block in SequenceMatcher(None, list(source), list(target), autojunk=False).get_matching_blocks():
        for k in range(block.size):
            places[block.b + k] = block.a + k
    return places


class LockStep(nn.Module):
    """Source and target as one denoiser of twice as many items, sources first: the target under the source's attention.

    source and target are the same network told different things; places (B, L) or (1, L) from `align`; `start` is the
    noise level at which the steps begin. Where mask (B, 1, H, W) is 0 the target sees what the source sees, and so becomes
    what the source becomes.
    """

    def __init__(
        self, source: Guided, target: Guided, places: Tensor, control: Control, start: float, mask: Tensor | None = None
    ) -> None:
        super().__init__()
        self.source, self.target, self.control = source, target, control
        self.places, self.start, self.mask = places, start, mask

    @property
    def schedule(self) -> Schedule:
        return self.target.schedule

    def forward(self, x_t: Tensor, t: float) -> Prediction:
        """x_t (2 B, C, H, W) at noise level t -> Prediction of both halves."""
        seen = self.look(x_t, t)
        return seen if self.mask is None else Prediction(*(self.masked(both) for both in seen))

    def masked(self, both: Tensor) -> Tensor:
        source, target = both.chunk(2)
        return torch.cat([source, torch.lerp(source, target, self.mask)])

    def look(self, x_t: Tensor, t: float) -> Prediction:
        count = len(x_t) // 2
        sides = (self.source, self.target)
        with self.control_at(t):
            given = self.target.denoiser(x_t, t, **join(*(side.given.repeat(count) for side in sides)).parts())
        scale = torch.cat([side.scale_at(t, x) for side, x in zip(sides, x_t.chunk(2), strict=True)])
        if (scale == 1).all():
            return given
        nulls = join(*((side.null or side.given).repeat(count) for side in sides))
        null = self.target.denoiser(x_t, t, **nulls.parts())
        return Prediction(*(guide(a, b, scale) for a, b in zip(given, null, strict=True)))

    @contextmanager
    def control_at(self, t: float) -> Iterator[None]:
        """The exchanges that are on at noise level t."""
        done = 1 - (t + 1) / (self.start + 1)
        net = self.target.denoiser.net
        with ExitStack() as stack:
            if done < self.control.cross_part:
                stack.enter_context(watching(net, CrossAttention, self.exchange))
            if done < self.control.self_part:
                stack.enter_context(watching(net, SelfAttention, copy_source))
            yield

    def exchange(self, probabilities: Tensor) -> Tensor:
        """The target's columns of tokens that the source has too become the source's: (2 B, heads, queries, L) -> same."""
        source, target = probabilities.chunk(2)
        places = self.places.to(target.device).expand(len(target), -1)[:, None, None, :].expand_as(target)
        counterpart = source.gather(3, places.clamp(min=0))
        return torch.cat([source, torch.where(places >= 0, counterpart, target)])


def copy_source(probabilities: Tensor) -> Tensor:
    """The target attends to itself as the source does: (2 B, heads, queries, keys) -> same."""
    source, _ = probabilities.chunk(2)
    return torch.cat([source, source])
