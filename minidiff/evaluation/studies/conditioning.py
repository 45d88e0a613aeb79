"""Pictures as conditions: maps are drawn, small and blurred pictures restored, holes painted; each marked against the truth.

The tasks of Rombach et al. (CVPR 2022, sections 4.3 to 4.5) in miniature, by one network that learned them all at once.
"""

from collections.abc import Callable
from typing import Any

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

HELD_OUT = 2  # the seed of Critters
QUICK = {"n": 8, "steps": 5}
FACTOR = 4  # of super-resolution


def study(n: int = 300, steps: int = 50, eta: float = 0.1, load: Callable = zoo.load) -> Report:
    """n held-out pictures through each task, without captions and, for maps and holes, with them; n / 10 for each label."""
    model, probe, segmenter = load("critters-maps"), load("critters-probe"), load("critters-segmenter")
    model, size, report = model.replace(steps=steps, eta=eta), model.image_shape[-1], Report()
    critters = Critters("all", length=n, seed=HELD_OUT, size=size, rates=COMMON_RATES)
    factors, images = critters.factors(slice(n)), critters[:]
    said = attributes_of(factors)
    captions = [compose(attributes) for attributes in said]
    layout, small = semantic_map(factors, size), shrink(images, FACTOR)
    blurred, mask = blur(images, random_sigmas(0, n, size)), random_masks(0, n, size)
    known = (images, mask)
    tasks: dict[str, dict[str, Any]] = {
        "layout": {"layout": layout},
        "layout and caption": {"layout": layout, "text": captions},
        "super-resolution": {"low_res": small},
        "deblurring": {"blurred": blurred},
        "inpainting": {"known": known},
        "inpainting and caption": {"known": known, "text": captions},
    }
    drawn = {}
    for name, given in tqdm(tasks.items(), desc="conditioning", unit="task"):
        drawn[name] = model.given(**given).sample(n, seeds=20_000, fast=True).clamp(-1, 1)
        if "known" in given:
            report.rows += as_rows(f"{name}/known", untouched(images, drawn[name], mask), HELD_OUT)
            drawn[name] = paste(images, drawn[name], mask)
    bicubic = F.interpolate(small, size=(size, size), mode="bicubic", align_corners=False).clamp(-1, 1)
    drawn |= {"bicubic": bicubic, "blurred": blurred, "autoencoder": autoencoded(model, images), "truth": images}
    for name, pictures in drawn.items():
        marks = nearness(pictures, images) | sharpness(pictures, images)
        marks |= {"iou": Mark(Estimate(iou(segmenter, pictures, layout), None, n), "IoU")}
        answers = read_all(probe, pictures)
        hits = agreement(read_attributes(answers), said) | {"pose": pose_kept(answers, factors)}
        marks |= {f"{word}_right": Mark(share(hit), "share") for word, hit in hits.items()}
        report.rows += as_rows(name, marks, HELD_OUT)
    gain = ahead(drawn["super-resolution"], bicubic, images)
    report.rows += as_rows("super-resolution/ahead of bicubic", gain, HELD_OUT)
    report.rows += as_rows("label", labelled(model, probe, max(2, n // 10)), HELD_OUT)
    columns = {"iou": "IoU of the map read back", "psnr": "PSNR", "ssim": "SSIM", "sharpness": "sharpness"}
    columns |= {"all_right": "all words right", "pose_right": "pose right"}
    report.tables = {"tasks": Table({name: name for name in drawn}, columns, "task")}
    report.pictures["examples"] = _examples(images, blurred, mask, bicubic, layout, drawn)
    return report


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


def _examples(images, blurred, mask, bicubic, layout, drawn, count: int = 8) -> plot.Picture:
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
