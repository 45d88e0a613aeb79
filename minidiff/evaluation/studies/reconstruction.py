"""Is anything lost on the way? The autoencoders on held-out pictures, DPM-Encoder's round trip, and translation to itself.

DPM-Encoder is exact whatever the network says (Wu & De la Torre, ICCV 2023, section 3.2), so it is measured with trained
networks and with untrained ones, last step included, in single and in double precision.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from minidiff import zoo
from minidiff.cycle import translate
from minidiff.data.critters import COMMON_RATES, Critters
from minidiff.data.fashion import FashionMNIST
from minidiff.data.pictures import Pictures
from minidiff.evaluation import results
from minidiff.evaluation.intervals import Estimate, mean
from minidiff.evaluation.metrics import in_batches, psnr, ssim
from minidiff.evaluation.results import Row, Table
from minidiff.evaluation.studies.report import Report
from minidiff.generators import LatentDiffusion
from minidiff.plot import grid
from minidiff.seeds import normal

HELD_OUT = 2
DTYPES = {"float32": torch.float32, "float64": torch.float64}
QUICK = {"n": 32, "round_trips": 2, "steps": 10, "split": "subset"}


def study(
    n: int = 1000,
    round_trips: int = 8,
    steps: int = 50,
    etas: Sequence[float] = (0.01, 0.1, 0.5, 1.0),
    split: str = "test",
    load: Callable = zoo.load,
) -> Report:
    """n pictures through each autoencoder; `round_trips` of them through DPM-Encoder and back, at each eta."""
    report = Report()
    cat, sneaker = load("critters-cat"), load("fashion-sneaker")
    size, small = cat.image_shape[-1], sneaker.image_shape[-1]
    worlds = {
        "critters": (cat, Critters("all", length=n, seed=HELD_OUT, size=size, rates=COMMON_RATES)),
        "fashion": (sneaker, FashionMNIST(split, size=small)),
    }
    with tqdm(total=len(worlds) * (1 + 4 * len(etas)), desc="reconstruction", unit="round") as bar:
        for world, (model, pictures) in worlds.items():
            images = _spread(pictures, n)
            report.rows += _autoencoder(world, model, images, report)
            bar.update()
            images = images[:round_trips]
            for net, of_kind in {"trained": model, "untrained": _untrained(model)}.items():
                for dtype in DTYPES:
                    for eta in etas:
                        report.rows += _round_trip(
                            f"{world}/{net}/{dtype}/eta {eta:g}", of_kind, images, eta, steps, dtype
                        )
                        bar.update()
    report.tables = _tables(worlds, etas)
    return report


def _spread(pictures: Pictures, n: int) -> Tensor:
    """n pictures from all over a set, so that a set sorted by class is not judged by its first class."""
    return pictures[torch.linspace(0, len(pictures) - 1, min(n, len(pictures))).round().long()]


@torch.no_grad()
def _autoencoder(world: str, model: LatentDiffusion, images: Tensor, report: Report) -> list[Row]:
    """PSNR and SSIM of decode(encode(images)), and a picture of the first ones."""
    again = torch.cat([model.to_images(model.to_latents(part)) for part in images.split(250)]).clamp(-1, 1)
    nearness = psnr(again, images)
    report.pictures[world] = grid(
        [images[:8], again[:8]],
        row_labels=["picture", "autoencoded"],
        alt=f"Eight pictures of {world} above, and below what the autoencoder makes of them: the same, a little softer.",
        display=False,
    )
    worst = Estimate(nearness.quantile(0.05).item(), None, len(images))
    return [
        results.row(f"{world}/autoencoder/psnr", mean(nearness), "dB", HELD_OUT),
        results.row(f"{world}/autoencoder/psnr_5_percent", worst, "dB", HELD_OUT),
        results.row(f"{world}/autoencoder/ssim", mean(in_batches(ssim, again, images)), "ssim", HELD_OUT),
    ]


@torch.no_grad()
def _round_trip(path: str, model: LatentDiffusion, images: Tensor, eta: float, steps: int, dtype: str) -> list[Row]:
    """The largest error of decode(encode(.)) in the latents, and of a translation to the model's own domain."""
    model = _in_dtype(model, DTYPES[dtype]).replace(eta=eta, steps=steps)
    images = images.to(DTYPES[dtype])
    latents = model.to_latents(images)
    back = model.decode_latents(model.encode_latents(latents))
    same = translate(model, model, images, eta=eta, steps=steps)
    errors = {"round_trip": (back - latents).abs().max(), "identity": (same - model.to_images(latents)).abs().max()}
    return [
        results.row(f"{path}/{name}", Estimate(error.item(), None, len(images)), "max error", HELD_OUT)
        for name, error in errors.items()
    ]


def _in_dtype(model: LatentDiffusion, dtype: torch.dtype) -> LatentDiffusion:
    """A copy that computes in `dtype`, networks included."""
    networks = {"autoencoder": model.autoencoder, "denoiser": model.denoiser}
    return model.replace(**{name: copy.deepcopy(network).to(dtype) for name, network in networks.items()})


def _untrained(model: LatentDiffusion) -> LatentDiffusion:
    """The same model with random weights in its denoiser; also where a new network would start at zero and say nothing."""
    denoiser = copy.deepcopy(model.denoiser)
    for seed, weight in enumerate(denoiser.parameters()):
        scatter(weight, seed)
    return model.replace(denoiser=denoiser)


def scatter(weight: nn.Parameter, seed: int) -> None:
    """Fill a parameter with normal numbers that keep the scale of a layer's output."""
    inputs = weight[0].numel() if weight.ndim > 1 else 1
    noise = normal(torch.tensor([seed]), weight.shape, "untrained", weight.dtype)[0]
    weight.data.copy_(noise / inputs**0.5 if weight.ndim > 1 else 1 + 0.1 * noise)


def _tables(worlds: dict, etas: Sequence[float]) -> dict[str, Table]:
    lines = {
        f"{world}/{net}/{dtype}/eta {eta:g}": f"{world}, {net}, {dtype}, eta {eta:g}"
        for world in worlds
        for net in ("trained", "untrained")
        for dtype in DTYPES
        for eta in etas
    }
    quality = {"psnr": "PSNR", "psnr_5_percent": "worst 5 % below", "ssim": "SSIM"}
    return {
        "autoencoder": Table({f"{world}/autoencoder": world for world in worlds}, quality, "held-out pictures"),
        "round-trip": Table(lines, {"round_trip": "decode(encode(x)) - x", "identity": "source = target"}, "max error"),
    }
