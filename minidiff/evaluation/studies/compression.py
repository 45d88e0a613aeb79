"""What does compression cost, and what does it buy? Autoencoders of many sizes, bits against distortion, pixels or latents.

Three results of Rombach et al., "High-resolution image synthesis with latent diffusion models" (CVPR 2022), in miniature:
table 8 (what each autoencoder keeps), figure 2 (most bits are details that nobody sees) and table 6 (one network, trained
equally long on pixels and on latents). On held-out Critters of 32 x 32 pixels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from minidiff import zoo
from minidiff.data.critters import COMMON_RATES, Critters
from minidiff.evaluation import results
from minidiff.evaluation.intervals import Estimate, mean
from minidiff.evaluation.metrics import in_batches, psnr, ssim
from minidiff.evaluation.probes import read_all
from minidiff.evaluation.rate import Curve, eight_bit, rate_distortion, rmse
from minidiff.evaluation.results import Row, Table
from minidiff.evaluation.studies.compare import as_rows
from minidiff.evaluation.studies.compression_chart import Dot, describe, draw
from minidiff.evaluation.studies.marks import Mark, Marks, crowd_marks
from minidiff.evaluation.studies.report import Report
from minidiff.evaluation.studies.speed import sampling_speed, training_speed
from minidiff.generators import LatentDiffusion
from minidiff.nets.probe import Probe
from minidiff.nets.quantiser import perplexity, use
from minidiff.plot import grid
from minidiff.schedule import step_grid

HELD_OUT = 2
SIZE = 32
AUTOENCODERS = {  # and the side of their pictures
    "study-kl-f2-c2": SIZE,
    "study-kl-f4-c3": SIZE,
    "study-kl-f8-c4": SIZE,
    "study-kl-f8-c4-gan": SIZE,
    "study-kl-f8-c8": SIZE,
    "study-kl-f8-c16": SIZE,
    "study-kl-f16-c8": SIZE,
    "study-kl-f16-c16": SIZE,
    "study-vq-f2-c2": SIZE,
    "study-vq-f4-c3": SIZE,
    "study-vq-f8-c4": SIZE,
    "study-vq-f16-c8": SIZE,
    "critters-autoencoder": 64,
}
DENOISERS = ("study-pixels", "study-latents")
QUICK = {"n": 12, "curve": 2, "levels": 8, "samples": 8, "steps": 3, "timed": 2}


def study(
    n: int = 1000,
    curve: int = 64,
    levels: int = 1000,
    samples: int = 500,
    steps: int = 50,
    timed: int = 40,
    autoencoders: Sequence[str] = tuple(AUTOENCODERS),
    load: Callable = zoo.load,
) -> Report:
    """n pictures through each autoencoder; `curve` of them through `levels` levels of the denoiser of pixels; `timed`
    training steps and `samples` samples of both denoisers. Raises UnknownModel when models have not been trained yet."""
    models = load_all(["critters-probe", *autoencoders, *DENOISERS], load)
    probe, pixels = models["critters-probe"], models["study-pixels"]
    images = pictures(SIZE, n)
    report, rows, labels = Report(), [images[:8]], ["picture"]
    dots: list[Dot] = []
    for name in tqdm(autoencoders, desc="autoencoders", delay=2, leave=False):
        size = AUTOENCODERS.get(name, SIZE)
        truth = images if size == SIZE else pictures(size, n)
        again = reconstruct(models[name], truth)
        marks = autoencoder_marks(models[name], truth, again, probe)
        report.rows += as_rows(f"autoencoder/{name}", marks, HELD_OUT)
        if size == SIZE:
            rows, labels = [*rows, again[:8]], [*labels, name]
            dots.append(dot(name, marks))
    report.pictures["autoencoders"] = grid(
        rows,
        row_labels=labels,
        display=False,
        alt=f"Pictures, and below them what is left after {', '.join(labels[1:])}.",
    )

    measured = rate_distortion(
        pixels.denoiser, eight_bit(images[:curve]), step_grid(pixels.denoiser.schedule.T, levels), bound=1.0
    )
    report.rows += curve_rows(measured)
    report.figures["rate"] = (draw(measured.points, dots), describe(measured.points, dots))

    crowd, shown = features(probe, images), []
    for name in DENOISERS:
        model = models[name].replace(steps=steps)
        made, speed = sampling_speed(model, samples)
        marks = denoiser_marks(name, model, training_speed(model, images, timed), speed)
        report.rows += as_rows(f"denoiser/{name}", marks | crowd_marks(features(probe, made), crowd), HELD_OUT)
        shown.append(made[:8])
    report.pictures["samples"] = grid(
        shown,
        row_labels=DENOISERS,
        display=False,
        alt="Samples of one network trained equally long, above on pixels and below on latents.",
    )
    report.tables = tables(autoencoders)
    return report


def load_all(names: Sequence[str], load: Callable) -> dict[str, Any]:
    """Every model by name. Raises UnknownModel that names all that the zoo lacks, in the order to train them."""
    models, missing = {}, []
    for name in names:
        try:
            models[name] = load(name)
        except zoo.UnknownModel:
            missing.append(name)
    if missing:
        raise zoo.UnknownModel(
            f"compression: the zoo has no {', '.join(missing)}; train each in this order with `minidiff train NAME --export`"
        )
    return models


def pictures(size: int, n: int) -> Tensor:
    """The first n held-out Critters; the same animals at any size."""
    return Critters("all", length=n, seed=HELD_OUT, size=size, rates=COMMON_RATES)[:]


@torch.no_grad()
def reconstruct(autoencoder: nn.Module, images: Tensor, batch: int = 250) -> Tensor:
    """decode(encode(images)), clamped; from a sample of the posterior, because that is what the KL pays for."""
    seeds = torch.arange(len(images)).split(batch)
    parts = [autoencoder.decode(autoencoder.encode(part, own)) for part, own in zip(images.split(batch), seeds)]
    return torch.cat(parts).clamp(-1, 1)


def features(probe: Probe, images: Tensor) -> Tensor:
    """The probe's features of pictures brought to its own size, as those of the Frechet inception distance are to 299."""
    size = (probe.config.size, probe.config.size)
    if images.shape[2:] != size:
        images = F.interpolate(images, size, mode="bilinear", antialias=True)
    return read_all(probe, images)["features"]


def autoencoder_marks(autoencoder: nn.Module, images: Tensor, again: Tensor, probe: Probe) -> Marks:
    """A line of the table: f, channels, codes where there are any; what is lost, and the bits it takes."""
    config, (_, channels, height, width) = autoencoder.config, images.shape
    bits = torch.cat([autoencoder.bits(part) for part in images.split(250)]).detach() / (height * width)  # per pixel
    codes = codebook_marks(autoencoder, images) if config.bottleneck == "vq" else {}
    return (
        {"f": exactly(config.factor), "channels": exactly(config.latent_channels)}
        | codes
        | crowd_marks(features(probe, again), features(probe, images))
        | {
            "psnr": Mark(mean(psnr(again, images)), "dB"),
            "ssim": Mark(mean(in_batches(ssim, again, images)), "ssim"),
            "bits_per_pixel": Mark(mean(bits), "bits"),
            "rate": Mark(mean(bits / channels), "bits/dim"),
            "rmse": Mark(rmse((again - images).square().flatten(1).mean(1)), "of 255"),
        }
    )


@torch.no_grad()
def codebook_marks(autoencoder: nn.Module, images: Tensor) -> Marks:
    """The codes that there are, those that these pictures use, and how many alike would carry as much."""
    index = [autoencoder.quantiser.nearest(autoencoder.posterior(part)[0]) for part in images.split(250)]
    counts = use(torch.cat(index), autoencoder.config.codes)
    return {
        "codes": exactly(autoencoder.config.codes, "codes"),
        "codes_used": Mark(Estimate(counts.count_nonzero().item(), None, len(images)), "codes"),
        "perplexity": Mark(Estimate(perplexity(counts).item(), None, len(images)), "codes"),
    }


def dot(name: str, marks: Marks) -> Dot:
    f, channels, rate, left = (marks[key].estimate.value for key in ("f", "channels", "rate", "rmse"))
    label = f"f{f:g} c{channels:g}" + " GAN" * name.endswith("-gan")
    return Dot(name, "VQ" if "codes" in marks else "KL", label, rate, left)


def denoiser_marks(name: str, model: LatentDiffusion, training: Estimate, sampling: Estimate) -> Marks:
    """Size, speeds, and what its training took: the clock's seconds, when other work may have gone on beside it, and those
    that its pictures take at the speed measured here, which say whether compute was equal."""
    parameters = sum(weight.numel() for weight in model.denoiser.parameters())
    entry, unknown = zoo.manifest().get(name, {}), float("nan")  # a stand-in has no history
    seen = entry.get("steps", unknown) * entry.get("recipe", {}).get("batch", unknown)
    return {
        "parameters": exactly(parameters, "parameters"),
        "trained": exactly(entry.get("seconds", unknown), "s"),
        "pictures": exactly(seen, "pictures"),
        "compute": exactly(seen / training.value, "s"),
        "train_per_second": Mark(training, "pictures/s"),
        "sample_per_second": Mark(sampling, "pictures/s"),
    }


def exactly(value: float, unit: str = "") -> Mark:
    """A number that was not measured but is known."""
    return Mark(Estimate(value, None, 1), unit)


def curve_rows(curve: Curve) -> list[Row]:
    """The curve at some levels, close together at both ends, where it bends; and the bits of the whole picture."""
    last = len(curve.points) - 1
    chosen = {round(last * k / 20) for k in range(21)} | {last - round((last + 1) ** (k / 20)) + 1 for k in range(21)}
    rows = [results.row("curve/whole/rate", curve.total, "bits/dim", HELD_OUT)]
    for t, rate, distortion in (curve.points[index] for index in sorted(chosen)):
        rows.append(results.row(f"curve/t {t}/rate", rate, "bits/dim", HELD_OUT))
        rows.append(results.row(f"curve/t {t}/rmse", distortion, "of 255", HELD_OUT))
    return rows


def tables(autoencoders: Sequence[str]) -> dict[str, Table]:
    kept = {
        "f": "f",
        "codes": "codes",
        "codes_used": "used",
        "channels": "c",
        "frechet": "R-FD",
        "psnr": "PSNR",
        "ssim": "SSIM",
    }
    speed = {"train_per_second": "trained pictures/s", "sample_per_second": "sampled pictures/s"}
    quality = {"frechet": "Frechet", "kernel": "kernel"}
    return {
        "autoencoders": Table(
            {f"autoencoder/{name}": name for name in autoencoders},
            kept | {"bits_per_pixel": "bits/pixel"},
            "autoencoder",
        ),
        "denoisers": Table(
            {f"denoiser/{name}": name for name in DENOISERS},
            {"parameters": "parameters", "pictures": "trained on", "compute": "which takes"} | speed | quality,
            "denoiser",
        ),
    }
