"""Text to picture: is every word of a caption in the picture that was drawn to it?

Held-out captions of Critters; the guidance scale and eta are chosen on others. The words are read back by the probe
(`minidiff.evaluation.attributes`), whose own errors stand in the last line: the true pictures of the same captions.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from minidiff import plot, zoo
from minidiff.data.captions import ATTRIBUTES, attributes_of, compose
from minidiff.data.critters import COMMON_RATES, NAMES, Critters
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
QUICK = {"n": 16, "tuning": 8, "steps": 5, "scales": (1.0, 3.0), "etas": (1.0,)}


def study(
    n: int = 500,
    tuning: int = 200,
    steps: int = 50,
    scales: Sequence[float] = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0),
    etas: Sequence[float] = (0.1, 1.0),
    load: Callable = zoo.load,
) -> Report:
    """n held-out captions at every scale and eta; the setting with most captions wholly right on `tuning` others is best.

    At the best, also how often the species is right that a class label asks for, on n / 10 pictures of each.
    """
    model, probe, report = load("critters-text"), load("critters-probe"), Report()
    settings = list(product(etas, scales))
    calls = sum(1 if scale == 1 else 2 for _, scale in settings) * (n + tuning)
    with tqdm(total=calls, desc="captions", unit="call") as bar:

        def draw(world: Captioned, eta: float, scale: float) -> Tensor:
            told = model.replace(steps=steps, eta=eta).given(world.captions, scale=scale)
            bar.update(len(world.captions) * (1 if scale == 1 else 2))
            return told.sample(seeds=10_000).clamp(-1, 1)

        trial, world = (_captioned(model, seed, count) for seed, count in ((TUNING, tuning), (HELD_OUT, n)))
        right = {setting: share(words_right(probe, draw(trial, *setting), trial.wanted)["all"]) for setting in settings}
        report.rows += [results.row(f"text/tuning/{_path(*k)}/all", v, "share", TUNING) for k, v in right.items()]
        best = max(right, key=lambda setting: right[setting].value)
        for setting in settings:
            images = draw(world, *setting)
            marks = _marks(model, probe, images, world)
            report.rows += as_rows(f"text/{_path(*setting)}", marks, HELD_OUT)
            if setting == best:
                report.rows += as_rows("text/best", marks, HELD_OUT)
                report.pictures["examples"] = _examples(images, world)
        chosen = zip(("eta", "scale"), best)
        report.rows += [results.row(f"text/best/{name}", value, "", HELD_OUT) for name, value in chosen]
        report.rows += _labels(model.replace(steps=steps, eta=best[0]), probe, max(2, n // 10), best[1])
        report.rows += as_rows("text/truth", _marks(model, probe, world.truth, world), HELD_OUT)
    lines = {f"text/{_path(*setting)}": f"eta {setting[0]:g}, scale {setting[1]:g}" for setting in settings}
    columns = {"all": "all right"} | {name: name for name in ATTRIBUTES} | {"clip": "CLIP score", "frechet": "Frechet"}
    report.tables = {"words": Table(lines | {"text/truth": "true pictures"}, columns, "setting")}
    report.figures["scale"] = _chart(report, scales, etas)
    return report


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


def _labels(model: LatentDiffusion, probe: Probe, count: int, scale: float) -> list[results.Row]:
    """The other tokens: a class label alone, and whether the probe sees that species."""
    rows = []
    for label, name in enumerate(NAMES):
        seen = read_all(probe, model.given(label=label, scale=scale).sample(count, seeds=30_000).clamp(-1, 1))
        rows.append(results.row(f"label/{name}/species", share(seen["species"] == label), "share", HELD_OUT))
    return rows


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
            values = [found[f"text/{_path(eta, scale)}/{name}"] for scale in scales]
            ax.plot(scales, values, label=f"eta {eta:g}", **plot.style(index))
            parts.append(
                f"{label} at eta {eta:g}: " + ", ".join(f"{v:.2f} at scale {s:g}" for s, v in zip(scales, values))
            )
        ax.set(xlabel="guidance scale", ylabel=label)
    axes[0].legend(frameon=False)
    return fig, f"Curves over the guidance scale. {'; '.join(parts)}."
