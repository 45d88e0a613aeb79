"""Text to picture: is every word of a caption in the picture that was drawn to it?

Guidance scale, eta and the noise level where guidance ends are chosen on some captions, and the choice is marked on held-out
ones, beside the same without guidance. The words are read back by the probe (`minidiff.evaluation.attributes`), whose own
errors stand in the last line: the true pictures of the same captions.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from minidiff import plot, zoo
from minidiff.data.captions import ATTRIBUTES, attributes_of, compose
from minidiff.data.critters import COMMON_RATES, Critters
from minidiff.evaluation import results
from minidiff.evaluation.attributes import words_right
from minidiff.evaluation.clip_scores import clip_score
from minidiff.evaluation.intervals import mean, share
from minidiff.evaluation.probes import read_all
from minidiff.evaluation.results import Table
from minidiff.evaluation.studies.compare import as_rows
from minidiff.evaluation.studies.marks import Mark, Marks, crowd_marks
from minidiff.evaluation.studies.report import Report
from minidiff.generators import LatentDiffusion, chunks
from minidiff.nets.probe import Probe

TUNING, HELD_OUT = 1, 2  # seeds of Critters
QUICK = {"n": 16, "tuning": 8, "steps": 5, "scales": (1.0, 3.0), "etas": (1.0,), "ends": (0.0,)}


class Setting(NamedTuple):
    """`end`: below this share of the noise axis nothing is guided any more."""

    eta: float
    scale: float
    end: float

    @property
    def calls(self) -> int:
        """Of the network, for each item and step: guidance asks about the empty caption as well."""
        return 1 if self.scale == 1 else 2

    @property
    def path(self) -> str:
        return f"eta {self.eta:g}/scale {self.scale:g}" + (f"/end {self.end:g}" if self.end else "")


def study(
    n: int = 500,
    tuning: int = 200,
    steps: int = 25,
    scales: Sequence[float] = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0),
    etas: Sequence[float] = (0.1, 1.0),
    ends: Sequence[float] = (0.0, 0.1),
    load: Callable = zoo.load,
) -> Report:
    """Every setting on `tuning` captions; n held-out captions at the one with the most of those wholly right."""
    model, probe, report = load("critters-text"), load("critters-probe"), Report()
    settings = [Setting(*each) for each in product(etas, scales, ends) if each[1] != 1 or each[2] == ends[0]]
    total = (sum(setting.calls for setting in settings) * tuning + n * (1 + 2)) * steps
    with tqdm(total=total, desc="captions", unit="call") as bar:

        def draw(world: Captioned, setting: Setting) -> Tensor:
            told = model.replace(steps=steps, eta=setting.eta)
            told = told.given(world.captions, scale=setting.scale, interval=(setting.end, 1.0))
            images = told.sample(seeds=10_000, fast=True).clamp(-1, 1)
            bar.update(len(images) * steps * setting.calls)
            return images

        trial, world = (_captioned(model, seed, count) for seed, count in ((TUNING, tuning), (HELD_OUT, n)))
        marks = {setting: _marks(model, probe, draw(trial, setting), trial) for setting in settings}
        for setting, found in marks.items():
            report.rows += as_rows(f"text/tuning/{setting.path}", found, TUNING)
        best = max(settings, key=lambda setting: marks[setting]["all"].estimate.value)
        chosen = {"eta": best.eta, "scale": best.scale, "end": best.end, "steps": steps}
        report.rows += [results.row(f"text/best/{name}", each, "", HELD_OUT) for name, each in chosen.items()]

        images = draw(world, best)
        report.rows += as_rows("text/best", _marks(model, probe, images, world), HELD_OUT)
        plain = draw(world, best._replace(scale=1.0))
        report.rows += as_rows("text/plain", _marks(model, probe, plain, world), HELD_OUT)
        report.rows += as_rows("text/truth", _marks(model, probe, world.truth, world), HELD_OUT)
    columns = {"all": "all right"} | {name: name for name in ATTRIBUTES} | {"clip": "CLIP score", "frechet": "Frechet"}
    lines = {"text/best": best.path.replace("/", ", "), "text/plain": f"eta {best.eta:g}, scale 1"}
    tried = {f"text/tuning/{setting.path}": setting.path.replace("/", ", ") for setting in settings}
    report.tables = {
        "words": Table(lines | {"text/truth": "true pictures"}, columns, "setting"),
        "tuning": Table(tried, columns, "setting"),
    }
    report.figures["scale"] = _chart(report, settings)
    report.pictures["examples"] = _examples(images, world)
    return report


class Captioned(NamedTuple):
    """Captions, what they say, and the pictures they were made of."""

    captions: list[str]
    wanted: list[dict[str, Any]]
    truth: Tensor


def _captioned(model: LatentDiffusion, seed: int, n: int) -> Captioned:
    critters = Critters("all", length=n, seed=seed, size=model.image_shape[-1], rates=COMMON_RATES)
    wanted = attributes_of(critters.factors(slice(n)))
    return Captioned([compose(attributes) for attributes in wanted], wanted, critters[:])


@torch.no_grad()
def _marks(model: LatentDiffusion, probe: Probe, images: Tensor, world: Captioned) -> Marks:
    hits = words_right(probe, images, world.wanted)
    scores = [clip_score(model.text(), images[i], world.captions[i]) for i in chunks(len(images), 250)]
    crowd = crowd_marks(read_all(probe, images)["features"], read_all(probe, world.truth)["features"])
    shares = {name: Mark(share(hit), "share") for name, hit in hits.items()}
    return shares | {"clip": Mark(mean(torch.cat(scores)), "cosine")} | crowd


def _examples(images: Tensor, world: Captioned) -> plot.Picture:
    shown = min(16, len(images) // 2 * 2)
    alt = "Pictures drawn to captions, row by row: " + "; ".join(world.captions[:shown]) + "."
    return plot.grid([images[: shown // 2], images[shown // 2 : shown]], alt=alt, display=False)


def _chart(report: Report, settings: Sequence[Setting]) -> tuple[Any, str]:
    """All words right, and distance from the true pictures, over the guidance scale; and that in words."""
    fig, axes = plot.figure(7.2, 3.2, ncols=2)
    found, parts = {row.name: row.value for row in report.rows}, []
    for ax, (name, label) in zip(axes, {"all": "captions wholly right", "frechet": "Frechet distance"}.items()):
        for index, (eta, end) in enumerate(dict.fromkeys((s.eta, s.end) for s in settings if s.scale != 1)):
            line = [s for s in settings if s.eta == eta and (s.end == end or s.scale == 1)]
            values = [found[f"text/tuning/{setting.path}/{name}"] for setting in line]
            title = f"eta {eta:g}" + (f", guided above {end:g}" if end else "")
            ax.plot([setting.scale for setting in line], values, label=title, **plot.style(index))
            at = ", ".join(f"{value:.2f} at scale {setting.scale:g}" for setting, value in zip(line, values))
            parts.append(f"{label} at {title}: {at}")
        ax.set(xlabel="guidance scale", ylabel=label)
    axes[0].legend(frameon=False)
    return fig, f"Curves over the guidance scale. {'; '.join(parts)}."
