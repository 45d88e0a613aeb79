"""The judges of the two worlds: what each probe reads, from which numbers it learns, and how well it reads new pictures.

A table is only as good as its judge, so the judge's own error on pictures it never saw stands in the zoo's manifest.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from minidiff.data.factors import HATS, PATTERNS, Factors, nearest
from minidiff.data.species import NAMES
from minidiff.nets.probe import Probe, ProbeConfig
from minidiff.processes import joined, share

NUMBERS = {"x": 1, "y": 1, "size": 1, "tilt": 1, "gaze_x": 1, "gaze_y": 1, "smile": 1}
COLOURS = {"coat": 3, "eye": 3, "background": 3}
CLASSES = {
    "species": len(NAMES),
    "pattern": len(PATTERNS),
    "glasses": 2,
    "hat": 2,
    "hat_colour": 1 + len(HATS),
    "baby": 2,
}


def critters_config(size: int = 64) -> ProbeConfig:
    """The probe of Critters: place, size, tilt, gaze, smile, three colours; species, pattern, accessories, baby."""
    return ProbeConfig(channels=3, size=size, patch=size // 16, numbers=NUMBERS | COLOURS, classes=CLASSES)


def fashion_config(size: int = 32) -> ProbeConfig:
    """The probe of Fashion-MNIST: which of its ten classes, under the name "label"."""
    return ProbeConfig(channels=1, size=size, patch=size // 16, classes={"label": 10})


def critters_targets(factors: Factors) -> dict[str, Tensor]:
    """Factors -> what the Critters probe should answer: numbers float (B,) or (B, 3), classes long (B,)."""
    numbers = {name: getattr(factors, name).float() for name in NUMBERS | COLOURS}
    classes = {name: getattr(factors, name).long() for name in CLASSES if name != "hat_colour"}
    hat_colour = torch.where(factors.hat, 1 + nearest(factors.hat_colour, HATS), 0)  # 0: no hat to see
    return numbers | classes | {"hat_colour": hat_colour}


def targets_of(pictures, indices: Tensor) -> dict[str, Tensor]:
    """What a probe should answer for these pictures: from `.factors` (Critters) or `.labels` (Fashion-MNIST, folders)."""
    if hasattr(pictures, "factors"):
        return critters_targets(pictures.factors(indices))
    return {"label": torch.as_tensor(pictures.labels)[indices].long()}


@torch.no_grad()
def read_all(probe: Probe, images: Tensor, batch: int = 250) -> dict[str, Tensor]:
    """What the probe reads in many pictures (B, C, H, W), and under "features" its features (B, D), on the CPU.

    Several processes share the pictures out; all must ask.
    """
    parts, own = [], images[torch.tensor(share(len(images)), dtype=torch.long)]
    for chunk in own.clamp(-1, 1).split(batch):
        features = probe.features(chunk.to(probe.mean))
        answers = probe.answers(*probe.heads(features)) | {"features": features}
        parts.append({name: values.cpu() for name, values in answers.items()})
    return {name: joined(values, len(images)) for name, values in join(parts).items()}


def probe_report(probe: Probe, pictures, n: int | None = None, batch: int = 250) -> dict[str, float]:
    """Held-out reading of the first n pictures (all by default): NAME.r and NAME.r2, or NAME.accuracy."""
    answers, targets = [], []
    for indices in torch.arange(len(pictures) if n is None else n).split(batch):
        answers.append(probe.read(pictures[indices]))
        targets.append(targets_of(pictures, indices))
    return compare(join(answers), join(targets))


def compare(answers: dict[str, Tensor], targets: dict[str, Tensor]) -> dict[str, float]:
    """Correlation r and R^2 of each number (mean over a colour's channels), accuracy of each class."""
    figures = {}
    for name in targets.keys() & answers.keys():
        answer, truth = answers[name], targets[name]
        if truth.is_floating_point():
            answer, truth = (value.double().reshape(len(value), -1) for value in (answer, truth))
            spread = (truth - truth.mean(0)).square().sum(0)
            figures[f"{name}.r"] = columns_correlation(answer, truth).mean().item()
            figures[f"{name}.r2"] = (1 - (answer - truth).square().sum(0) / spread).mean().item()
        else:
            figures[f"{name}.accuracy"] = (answer == truth).double().mean().item()
    return dict(sorted(figures.items()))


def columns_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's r of each column of a and b (B, D) -> (D,); NaN where a column does not vary."""
    a, b = a - a.mean(0), b - b.mean(0)
    return (a * b).sum(0) / (a.square().sum(0) * b.square().sum(0)).sqrt()


def join(parts: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Readings of several batches as one."""
    parts = list(parts)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
