"""Text to picture: is every word of a caption in the picture that was drawn to it?

The guidance scale and eta are chosen on some captions, and the choice is marked on held-out ones, beside the same without
guidance. The words are read back by the probe (`minidiff.evaluation.attributes`), whose own errors stand in the last line: the
true pictures of the same captions.
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
QUICK = {"n": 16, "tuning": 8, "steps": 5, "tuning_steps": 4, "scales": (1.0, 3.0), "etas": (1.0,)}


def study(
    n: int = 500,
    tuning: int = 200,
    steps: int = 50,
    tuning_steps: int = 25,
    scales: Sequence[float] = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0),
    etas: Sequence[float] = (0.1, 1.0),
    load: Callable = zoo.load,
) -> Report:
    """Every scale and eta on `tuning` captions in `tuning_steps` steps; n held-out captions at the setting with the most of
    those wholly right, in `steps` steps."""
    model, probe, report = load("critters-text"), load("critters-probe"), Report()
    settings = list(product(etas, scales))
    total = sum(map(_calls, settings)) * tuning * tuning_steps + n * steps * (1 + 2)
    with tqdm(total=total, desc="captions", unit="call") as bar:

        def draw(world: Captioned, setting: tuple[float, float], steps: int) -> Tensor:
            eta, scale = setting
            told = model.replace(steps=steps, eta=eta).given(world.captions, scale=scale)
            images = told.sample(seeds=10_000, fast=True).clamp(-1, 1)
            bar.update(len(images) * steps * _calls(setting))
            return images

        trial, world = (_captioned(model, seed, count) for seed, count in ((TUNING, tuning), (HELD_OUT, n)))
        marks = {setting: _marks(model, probe, draw(trial, setting, tuning_steps), trial) for setting in settings}
        for setting, found in marks.items():
            report.rows += as_rows(f"text/tuning/{_path(*setting)}", found, TUNING)
        best = max(settings, key=lambda setting: marks[setting]["all"].estimate.value)
        report.rows += [
            results.row(f"text/best/{name}", each, "", HELD_OUT) for name, each in zip(("eta", "scale"), best)
        ]

        images = draw(world, best, steps)
        report.rows += as_rows("text/best", _marks(model, probe, images, world), HELD_OUT)
        plain = draw(world, (best[0], 1.0), steps)
        report.rows += as_rows("text/plain", _marks(model, probe, plain, world), HELD_OUT)
        report.rows += as_rows("text/truth", _marks(model, probe, world.truth, world), HELD_OUT)
    columns = {"all": "all right"} | {name: name for name in ATTRIBUTES} | {"clip": "CLIP score", "frechet": "Frechet"}
    chosen = {"text/best": f"eta {best[0]:g}, scale {best[1]:g}", "text/plain": f"eta {best[0]:g}, scale 1"}
    tried = {f"text/tuning/{_path(*setting)}": f"eta {setting[0]:g}, scale {setting[1]:g}" for setting in settings}
    report.tables = {
        "words": Table(chosen | {"text/truth": "true pictures"}, columns, "setting"),
        "tuning": Table(tried, columns, "setting"),
    }
    report.figures["scale"] = _chart(report, scales, etas)
    report.pictures["examples"] = _examples(images, world)
    return report


def _calls(setting: tuple[float, float]) -> int:
    """Of the network, for each item and step: guidance asks about the empty caption as well."""
    return 1 if setting[1] == 1 else 2


def _path(eta: float, scale: float) -> str:
    return f"eta {eta:g}/scale {scale:g}"


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


def _chart(report: Report, scales: Sequence[float], etas: Sequence[float]) -> tuple[Any, str]:
    """All words right, and distance from the true pictures, over the guidance scale; and that in words."""
    fig, axes = plot.figure(7.2, 3.2, ncols=2)
    found, parts = {row.name: row.value for row in report.rows}, []
    for ax, (name, label) in zip(axes, {"all": "captions wholly right", "frechet": "Frechet distance"}.items()):
        for index, eta in enumerate(etas):
            values = [found[f"text/tuning/{_path(eta, scale)}/{name}"] for scale in scales]
            ax.plot(scales, values, label=f"eta {eta:g}", **plot.style(index))
            parts.append(
                f"{label} at eta {eta:g}: " + ", ".join(f"{v:.2f} at scale {s:g}" for s, v in zip(scales, values))
            )
        ax.set(xlabel="guidance scale", ylabel=label)
    axes[0].legend(frameon=False)
    return fig, f"Curves over the guidance scale. {'; '.join(parts)}."
