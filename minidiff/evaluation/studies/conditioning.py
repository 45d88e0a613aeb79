"""Pictures as conditions: maps are drawn, small and blurred pictures restored, holes painted; each marked against the truth.

The tasks of Rombach et al. (CVPR 2022, sections 4.3 to 4.5) in miniature, by one network that learned them all at once.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from minidiff import plot, zoo
from minidiff.data.captions import attributes_of, compose
from minidiff.data.critters import COMMON_RATES, Critters
from minidiff.data.degradations import blur, random_masks, random_sigmas, shrink
from minidiff.data.renderer import PARTS, semantic_map
from minidiff.data.species import NAMES
from minidiff.evaluation import results
from minidiff.evaluation.attributes import agreement, pose_kept, read_attributes
from minidiff.evaluation.intervals import Estimate, mean, share
from minidiff.evaluation.metrics import in_batches, psnr, ssim
from minidiff.evaluation.probes import read_all
from minidiff.evaluation.results import Table
from minidiff.evaluation.studies.compare import as_rows
from minidiff.evaluation.studies.marks import Mark, Marks
from minidiff.evaluation.studies.report import Report
from minidiff.generators import LatentDiffusion
from minidiff.inpaint import paste
from minidiff.nets.probe import Probe
from minidiff.nets.segmenter import Segmenter, mean_iou

TUNING, HELD_OUT = 1, 2  # seeds of Critters
QUICK = {"n": 8, "tuning": 4, "steps": (3, 5), "etas": (1.0,), "scales": (1.0, 2.0)}
FACTOR = 4  # of super-resolution


class Setting(NamedTuple):
    steps: int
    eta: float
    scale: float


class World(NamedTuple):
    """Pictures, what is made of them to be given to the model, and what is true about them."""

    images: Tensor
    layout: Tensor
    small: Tensor
    blurred: Tensor
    mask: Tensor
    factors: Any

    @property
    def said(self) -> list[dict[str, Any]]:
        return attributes_of(self.factors)


def study(
    n: int = 300,
    tuning: int = 64,
    steps: Sequence[int] = (5, 10, 25, 50),
    etas: Sequence[float] = (0.1, 1.0),
    scales: Sequence[float] = (1.0, 1.5, 2.0, 3.0),
    load: Callable = zoo.load,
) -> Report:
    """n held-out pictures through each task, without captions and, for maps and holes, with them; n / 10 for each label.

    Each task has the setting that is best on `tuning` other pictures: by the IoU of the map read back where a map is given, by
    PSNR elsewhere. The scale is chosen once steps and eta are.
    """
    model, probe, segmenter = load("critters-maps"), load("critters-probe"), load("critters-segmenter")
    report = Report()
    trial, world = (_world(seed, count, model.image_shape[-1]) for seed, count in ((TUNING, tuning), (HELD_OUT, n)))
    images, layout = world.images, world.layout
    drawn = {}
    for name in tqdm(tasks(world), desc="conditioning", unit="task"):
        score = partial(_score, segmenter, trial, name)
        tried = {Setting(k, eta, 1.0): 0.0 for k, eta in product(steps, etas)}
        tried = {setting: score(_draw(model, trial, name, setting)) for setting in tried}
        first = max(tried, key=tried.get)
        others = [first._replace(scale=scale) for scale in scales if scale != 1]
        tried |= {setting: score(_draw(model, trial, name, setting)) for setting in others}
        best = max(tried, key=tried.get)
        report.rows += [
            results.row(f"{name}/tuning/steps {k}/eta {eta:g}/scale {scale:g}", value, _unit(name), TUNING, tuning)
            for (k, eta, scale), value in tried.items()
        ]
        report.rows += [results.row(f"{name}/{field}", value, "", HELD_OUT) for field, value in best._asdict().items()]
        drawn[name] = _draw(model, world, name, best, seeds=20_000)
        if _is_hole(name):
            report.rows += as_rows(f"{name}/known", untouched(images, drawn[name], world.mask), HELD_OUT)
            drawn[name] = paste(images, drawn[name], world.mask)
    bicubic = F.interpolate(world.small, size=images.shape[2:], mode="bicubic", align_corners=False).clamp(-1, 1)
    drawn |= {"bicubic": bicubic, "blurred": world.blurred, "autoencoder": autoencoded(model, images), "truth": images}
    for name, pictures in drawn.items():
        marks = nearness(pictures, images) | sharpness(pictures, images)
        marks |= {"iou": Mark(Estimate(iou(segmenter, pictures, layout), None, n), "IoU")}
        answers = read_all(probe, pictures)
        hits = agreement(read_attributes(answers), world.said) | {"pose": pose_kept(answers, world.factors)}
        marks |= {f"{word}_right": Mark(share(hit), "share") for word, hit in hits.items()}
        report.rows += as_rows(name, marks, HELD_OUT)
    gain = ahead(drawn["super-resolution"], bicubic, images)
    report.rows += as_rows("super-resolution/ahead of bicubic", gain, HELD_OUT)
    report.rows += as_rows("label", labelled(model, probe, max(2, n // 10)), HELD_OUT)
    columns = {"iou": "IoU of the map read back", "psnr": "PSNR", "ssim": "SSIM", "sharpness": "sharpness"}
    columns |= {"all_right": "all words right", "pose_right": "pose right"}
    columns |= {"steps": "steps", "eta": "eta", "scale": "scale"}
    report.tables = {"tasks": Table({name: name for name in drawn}, columns, "task")}
    report.pictures["examples"] = _examples(world, bicubic, drawn)
    return report


def _world(seed: int, count: int, size: int) -> World:
    critters = Critters("all", length=count, seed=seed, size=size, rates=COMMON_RATES)
    factors, images = critters.factors(slice(count)), critters[:]
    blurred = blur(images, random_sigmas(0, count, size))
    return World(
        images, semantic_map(factors, size), shrink(images, FACTOR), blurred, random_masks(0, count, size), factors
    )


def tasks(world: World) -> dict[str, dict[str, Any]]:
    """What the model is given in each task."""
    captions = [compose(attributes) for attributes in world.said]
    known = (world.images, world.mask)
    return {
        "layout": {"layout": world.layout},
        "layout and caption": {"layout": world.layout, "text": captions},
        "super-resolution": {"low_res": world.small},
        "deblurring": {"blurred": world.blurred},
        "inpainting": {"known": known},
        "inpainting and caption": {"known": known, "text": captions},
    }


def _is_hole(task: str) -> bool:
    return task.startswith("inpainting")


def _unit(task: str) -> str:
    return "IoU" if task.startswith("layout") else "dB"


def _draw(model: LatentDiffusion, world: World, task: str, setting: Setting, seeds: int = 10_000) -> Tensor:
    told = model.replace(steps=setting.steps, eta=setting.eta).given(scale=setting.scale, **tasks(world)[task])
    return told.sample(len(world.images), seeds=seeds, fast=True).clamp(-1, 1)


def _score(segmenter: Segmenter, world: World, task: str, pictures: Tensor) -> float:
    """What a setting is chosen by."""
    if _unit(task) == "IoU":
        return iou(segmenter, pictures, world.layout)
    whole = paste(world.images, pictures, world.mask) if _is_hole(task) else pictures
    return psnr(whole, world.images).mean().item()


def labelled(model: LatentDiffusion, probe: Probe, count: int) -> Marks:
    """A class label alone: does the probe see its species?"""
    return {
        name: Mark(
            share(
                probe.read(model.given(label=label).sample(count, seeds=30_000, fast=True).clamp(-1, 1))["species"]
                == label
            ),
            "share",
        )
        for label, name in enumerate(NAMES)
    }


@torch.no_grad()
def autoencoded(model: LatentDiffusion, images: Tensor) -> Tensor:
    """The most that any picture from these latents can be like."""
    return torch.cat([model.to_images(model.to_latents(part)) for part in images.split(250)]).clamp(-1, 1)


def nearness(pictures: Tensor, truth: Tensor) -> Marks:
    return {
        "psnr": Mark(mean(psnr(pictures, truth)), "dB"),
        "ssim": Mark(mean(in_batches(ssim, pictures, truth)), "ssim"),
    }


def sharpness(pictures: Tensor, truth: Tensor) -> Marks:
    """Mean strength of the gradients, as a share of the truth's: below 1 is blurred."""
    return {"sharpness": Mark(mean(gradients(pictures) / gradients(truth)), "of the truth's")}


def ahead(pictures: Tensor, others: Tensor, truth: Tensor) -> Marks:
    """How much nearer to the truth, and how much sharper, than others made of the same: picture by picture."""
    nearer, sharper = (
        better - worse
        for better, worse in (
            (psnr(pictures, truth), psnr(others, truth)),
            (gradients(pictures) / gradients(truth), gradients(others) / gradients(truth)),
        )
    )
    return {"psnr": Mark(mean(nearer), "dB"), "sharpness": Mark(mean(sharper), "of the truth's")}


def gradients(pictures: Tensor) -> Tensor:
    """Root mean square of the differences between neighbouring pixels, per picture (B,)."""
    across, down = pictures.diff(dim=3).square(), pictures.diff(dim=2).square()
    return (across.flatten(1).mean(1) + down.flatten(1).mean(1)).sqrt()


def iou(segmenter: Segmenter, pictures: Tensor, layout: Tensor) -> float:
    """Mean IoU of the map that is read back from pictures with the map they were to show."""
    return mean_iou(segmenter.read(pictures), layout, len(PARTS))[0]


def untouched(images: Tensor, painted: Tensor, mask: Tensor) -> Marks:
    """The largest change of a known pixel: as the model drew it, and after the known pixels were put back."""
    before, after = ((pictures - images).abs() * mask for pictures in (painted, paste(images, painted, mask)))
    errors = {"drawn": before.max().item(), "pasted": after.max().item()}
    return {name: Mark(Estimate(error, None, len(images)), "largest change") for name, error in errors.items()}


def _examples(world: World, bicubic: Tensor, drawn: dict[str, Tensor], count: int = 8) -> plot.Picture:
    images, layout, blurred, mask = world.images, world.layout, world.blurred, world.mask
    rows = {
        "map": plot.layout(layout[:count]),
        "drawn to the map": drawn["layout"][:count],
        f"x {FACTOR}, bicubic": bicubic[:count],
        f"x {FACTOR}, drawn": drawn["super-resolution"][:count],
        "blurred": blurred[:count],
        "deblurred": drawn["deblurring"][:count],
        "with a hole": (images * mask)[:count],
        "painted": drawn["inpainting"][:count],
        "truth": images[:count],
    }
    alt = f"{count} columns of critters. Rows from the top: {', '.join(rows)}."
    return plot.grid(list(rows.values()), row_labels=list(rows), alt=alt, display=False)
