"""A diffusion model as ONNX files, for programs that run them without PyTorch: a page in a browser, a phone, a server.

encoder.onnx is images -> latents, decoder.onnx latents -> images, denoiser.onnx (x_t, t) -> (x0, eps), each for any number
of items; sampler.json says what to compute between its calls. Every file is run by onnxruntime on other inputs than it was
made with and compared with PyTorch before it is written.
"""

import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from minidiff.denoiser import Denoiser, Prediction, to_prediction
from minidiff.files import write_whole
from minidiff.generators import LatentDiffusion
from minidiff.nets.unet import UNet
from minidiff.samplers import OneLook
from minidiff.seeds import normal

OPSET = 18
TOLERANCE = 1e-3  # of the largest number in an output: float32 in another order of additions stays far below
SAMPLER = "sampler.json"


class Encoder(nn.Module):
    """images (B, C, H, W) in [-1, 1] -> the mean latents (B, c, h, w)."""

    def __init__(self, autoencoder: nn.Module) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, images: Tensor) -> Tensor:
        return self.autoencoder.encode(images)


class Decoder(nn.Module):
    """latents (B, c, h, w) -> images (B, C, H, W), near [-1, 1] but not clamped."""

    def __init__(self, autoencoder: nn.Module) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latents: Tensor) -> Tensor:
        return self.autoencoder.decode(latents)


class Look(nn.Module):
    """A denoiser with its schedule inside: x (B, c, h, w) and whole noise levels t (B,) int64 -> x0 and eps, shaped as x."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.net, self.predicts = denoiser.net, denoiser.predicts
        abar = denoiser.schedule.abar
        self.register_buffer("signal", abar.sqrt().float(), persistent=False)
        self.register_buffer("noise", (1 - abar).sqrt().float(), persistent=False)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        tokens: Tensor | None = None,
        mask: Tensor | None = None,
        features: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        told = {"tokens": tokens, "mask": mask, "features": features}
        output = self.net(x, t, **{name: value for name, value in told.items() if value is not None})
        signal, noise = (level[t].view(-1, 1, 1, 1) for level in (self.signal, self.noise))
        return tuple(to_prediction(self.predicts, x, output, signal, noise))


def export(model: LatentDiffusion, folder: str | Path, facts: dict[str, Any] | None = None) -> list[Path]:
    """Write a model's three networks and its sampler with its present steps and eta into `folder`; returns the paths.

    A model that reads captions gets tokens (B, L, W) and mask (B, L) besides x and t, one that looks at maps features.
    `facts` (name, licence, ...) go into sampler.json as they are. Raises ValueError for what cannot be exported: a network
    that is not ours, a model that was told something or clips what it sees, quantised latents, a sampler that looks twice,
    levels between the whole ones; ImportError without the packages of the extra "onnx"; RuntimeError when onnxruntime does
    not compute what PyTorch does.
    """
    told = check(model)
    plan, folder = sampling(model) | (facts or {}), Path(folder)
    batch, tokens = torch.export.Dim("batch", min=1), torch.export.Dim("tokens", min=1)
    files = {}
    for name, (module, inputs, outputs) in networks(model, told).items():
        free = {key: {0: batch, 1: tokens} if key in ("tokens", "mask") else {0: batch} for key in inputs}
        files[f"{name}.onnx"] = to_onnx(module, inputs, outputs, free)
    again = networks(model, told, items=3, length=5)
    for file, content in files.items():
        module, inputs, _ = again[file.removesuffix(".onnx")]
        if (apart := difference(content, module, inputs)) > TOLERANCE:
            raise RuntimeError(
                f"{file}: onnxruntime and PyTorch differ by {apart:.2g} of the largest number; not written"
            )
    files[SAMPLER] = (json.dumps(plan, indent=1) + "\n").encode()
    return [write_whole(folder / file, content) for file, content in files.items()]


def check(model: LatentDiffusion) -> tuple[str, ...]:
    """What its denoiser is told besides x and t. Raises ValueError for a model that cannot be exported."""
    if type(model) is not LatentDiffusion:
        raise ValueError(f"model: expected a LatentDiffusion, got a {type(model).__name__}")
    if type(model.denoiser) is not Denoiser:  # but one that clips x0, for one
        raise ValueError(f"model: expected a plain Denoiser, told nothing yet, got a {type(model.denoiser).__name__}")
    if not isinstance(model.denoiser.net, UNet):
        kind = type(model.denoiser.net).__name__
        raise ValueError(
            f"model: expected minidiff's own U-Net, got {kind}; `optimum-cli export onnx` takes diffusers'"
        )
    if getattr(model.autoencoder, "quantiser", None) is not None:
        raise ValueError("model: quantised latents cannot be exported; expected an autoencoder with bottleneck 'kl'")
    if type(model.sampler).look is not OneLook.look:
        raise ValueError(
            f"sampler: expected one that looks once a step, such as 'ddim', got {type(model.sampler).__name__}"
        )
    if fractions := [step.t for step in model.grid if step.t != int(step.t)]:
        raise ValueError(f"spacing: expected whole noise levels, got {fractions[0]:.2f} from {model.spacing!r}")
    config = model.denoiser.net.config
    return (*(("tokens", "mask") if config.context else ()), *(("features",) if config.maps else ()))


def networks(
    model: LatentDiffusion, told: Sequence[str], items: int = 2, length: int = 7
) -> dict[str, tuple[nn.Module, dict[str, Tensor], list[str]]]:
    """Each network with inputs for `items` items (and `length` tokens) by name, and the names of its outputs."""
    seeds, config = torch.arange(items), getattr(model.denoiser.net, "config", None)
    latents = normal(seeds, model.latent_shape, "latents")
    inputs = {"x": latents, "t": (seeds + 1) * model.denoiser.schedule.T // (items + 1)}
    if "tokens" in told:
        mask = torch.arange(length) < (length - seeds)[:, None]
        inputs |= {"tokens": normal(seeds, (length, config.context), "tokens"), "mask": mask}
    if "features" in told:
        inputs |= {"features": normal(seeds, (config.map_features, *model.latent_shape[1:]), "features")}
    images = normal(seeds, model.image_shape, "images").clamp(-1, 1)
    return {
        "encoder": (Encoder(model.autoencoder).eval(), {"images": images}, ["latents"]),
        "decoder": (Decoder(model.autoencoder).eval(), {"latents": latents}, ["images"]),
        "denoiser": (Look(model.denoiser).eval(), inputs, ["x0", "eps"]),
    }


def sampling(model: LatentDiffusion) -> dict[str, Any]:
    """What to compute between the calls of the denoiser: the numbers of every step, and how an encoding starts.

    A step's mean is a x_t + b x0 + c eps, its numbers a, b and c are called "x_t", "x0" and "eps"; then x_s = mean + std *
    block, or mean + block where std is 0. DPM-Encoder solves that for the block (see `minidiff.encoder`).
    """
    steps = []
    for step in model.grid:
        unit = torch.eye(3, dtype=torch.float64).view(3, 3, 1)  # a transition is linear: ask it for x_t, x0, eps alone
        x_t, x0, eps = unit.unbind(1)
        mean, std = model.sampler.transition(x_t, Prediction(x0, eps), step)
        parts = dict(zip(("x_t", "x0", "eps"), mean.flatten().tolist()))
        steps.append({"t": int(step.t), "s": int(step.s), **parts, "std": std})
    shapes = {"image": model.image_shape, "latents": model.latent_shape, "code": model.code_shape}
    abar = model.denoiser.schedule.abar_at(model.grid[0].t)
    start = {"signal": math.sqrt(abar), "noise": math.sqrt(1 - abar)}  # block 0 of what is encoded
    return {
        "shapes": {key: list(shape) for key, shape in shapes.items()},
        "eta": model.eta,
        "start": start,
        "steps": steps,
    }


def to_onnx(module: nn.Module, inputs: dict[str, Tensor], outputs: list[str], free: dict[str, dict[int, Any]]) -> bytes:
    """The module as one ONNX file; `free` names the sides of the inputs that may have any length."""
    import_onnxruntime()
    settings = {"input_names": list(inputs), "output_names": outputs, "opset_version": OPSET, "dynamic_shapes": free}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "# The axis name")  # two inputs share a side and its name, as they should
        program = torch.onnx.export(module, kwargs=inputs, dynamo=True, verbose=False, **settings)
    return program.model_proto.SerializeToString()


@torch.no_grad()
def difference(content: bytes, module: nn.Module, inputs: dict[str, Tensor]) -> float:
    """How far onnxruntime's outputs are from PyTorch's, as a share of the largest number in each."""
    session = import_onnxruntime().InferenceSession(content, providers=["CPUExecutionProvider"])
    found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    wanted = module(**inputs)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    gaps = [
        (torch.from_numpy(mine) - ours).abs().max() / ours.abs().max() for mine, ours in zip(found, wanted, strict=True)
    ]
    return max(gap.item() for gap in gaps)


def import_onnxruntime():
    """onnxruntime, when it is needed and not before. Raises ImportError saying how to get all that the export needs."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  torch's exporter asks for it
    except ImportError as error:
        raise ImportError('exporting to ONNX needs more packages: pip install "minidiff[onnx]"') from error
    return onnxruntime
