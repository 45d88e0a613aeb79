"""CycleDiffusion, the encoder and the decoder, beside diffusers' CycleDiffusionPipeline on the same networks and steps.

A network that attends to tokens, with random weights: time does not depend on them. Guided, diffusers' pipeline serves one
picture at a time (with two it mixes them up), so there it is asked picture after picture.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from benchmarks import clock, peers
from minidiff import zoo
from minidiff.classifier_free import Guided
from minidiff.conditioning import Condition
from minidiff.cycle import translate
from minidiff.denoiser import Denoiser
from minidiff.evaluation.results import Row, Table, row
from minidiff.evaluation.studies.report import Report
from minidiff.generators import LatentDiffusion
from minidiff.nets.unet import UNet

QUICK = {"batches": (1, 2), "steps": 5, "budget": 0.5}
STRENGTH, LENGTH, CONTEXT = 0.8, 16, 128
SCALES = {"plain": 1.0, "guided": 3.0}
WAYS = {"plain": "minidiff", "fast": "minidiff, fast", "diffusers": "diffusers"}


def measure(
    name: str = "critters-cat",
    batches: Sequence[int] = (1, 16),
    steps: int = 50,
    budget: float = 15.0,
    load: Callable = zoo.load,
) -> Report:
    model, tokens = told(load(name, device=clock.best_device())), words()
    rows = [line for batch in batches for kind in SCALES for line in edits(model, tokens, kind, batch, steps, budget)]
    for batch in batches:
        rows += ways_of_coding(model.replace(steps=steps), batch, tokens, budget)
    lines = {f"{kind}/batch {n}": f"{kind}, {n}" for n in batches for kind in SCALES}
    gains = {f"{way} to diffusers": f"{WAYS[way]} to diffusers" for way in ("plain", "fast")}
    coding = {f"{what}/batch {n}": f"{what}, {n}" for n in batches for what in ("encode", "decode")}
    return Report(
        rows,
        {
            "edits": Table(lines, WAYS | gains, "batch: pictures a second"),
            "coding": Table(coding, {"plain": "minidiff", "fast": "minidiff, fast"}, "batch: pictures a second"),
        },
    )


def told(model: LatentDiffusion) -> LatentDiffusion:
    """The model with a network of the same widths that attends to tokens."""
    torch.manual_seed(0)
    net = UNet(type(config := model.denoiser.net.config)(**vars(config) | {"context": CONTEXT}))
    denoiser = Denoiser(net, model.denoiser.schedule, model.denoiser.predicts).eval().requires_grad_(False)
    return model.replace(denoiser=denoiser.to(model.device))


def words() -> dict[str, torch.Tensor]:
    drawn = torch.randn(3, 1, LENGTH, CONTEXT, generator=torch.Generator().manual_seed(0))
    return dict(zip(("source", "target", "null"), drawn.to(clock.best_device()), strict=True))


def saying(model: LatentDiffusion, tokens: dict[str, torch.Tensor], which: str, scale: float) -> LatentDiffusion:
    null = Condition(tokens["null"]) if scale != 1 else None
    return model.replace(denoiser=Guided(model.denoiser, Condition(tokens[which]), null, scale))


def edits(
    model: LatentDiffusion, tokens: dict[str, torch.Tensor], kind: str, batch: int, steps: int, budget: float
) -> list[Row]:
    images = torch.rand(batch, *model.image_shape, device=model.device)
    scale, pipe = SCALES[kind], peers.editor(model, tokens)
    pair = [saying(model, tokens, which, scale) for which in ("source", "target")]
    at_once = batch if scale == 1 else 1
    pipe.rows = at_once
    settings = {"num_inference_steps": steps, "strength": STRENGTH, "output_type": "latent"}
    scales = {"guidance_scale": scale, "source_guidance_scale": scale}

    def theirs() -> None:
        for part in images.split(at_once):
            said = {"prompt": ["target"] * at_once, "source_prompt": ["source"] * at_once}
            latents = pipe(image=part, **said, **settings, **scales).images
            pipe.vae.decode(latents)

    functions = {
        "plain": lambda: translate(*pair, 2 * images - 1, strength=STRENGTH, steps=steps, batch=batch),
        "fast": lambda: translate(*pair, 2 * images - 1, strength=STRENGTH, steps=steps, batch=batch, fast=True),
        "diffusers": theirs,
    }
    times = clock.seconds(functions, budget=budget)
    path = f"{kind}/batch {batch}"
    rows = [row(f"{path}/{way}", clock.median(batch / t), "pictures/s", 0) for way, t in times.items()]
    for way in ("plain", "fast"):
        gain = clock.median(times["diffusers"] / times[way])
        rows.append(row(f"{path}/{way} to diffusers", gain, "times", 0))
    return rows


@torch.no_grad()
def ways_of_coding(model: LatentDiffusion, batch: int, tokens: dict[str, torch.Tensor], budget: float) -> list[Row]:
    """DPM-Encoder, from pictures to codes, and the way back."""
    model = saying(model, tokens, "source", 1.0)
    images, code = torch.rand(batch, *model.image_shape, device=model.device), model.random_code(batch)
    work = {
        "encode": lambda fast: model.encode(images, fast=fast),
        "decode": lambda fast: model.decode(code, fast=fast),
    }
    rows = []
    for what, run in work.items():
        times = clock.seconds({"plain": partial(run, False), "fast": partial(run, True)}, budget=budget / 4)
        for way, t in times.items():
            rows.append(row(f"{what}/batch {batch}/{way}", clock.median(batch / t), "pictures/s", 0))
    return rows
