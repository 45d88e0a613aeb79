"""What latents save: one network in the latents and in the pixels of the same pictures, sampling and training.

In latents the autoencoder's work counts as well. The network is untrained: time does not depend on its weights.
"""

from collections.abc import Callable

import torch

from benchmarks import clock
from benchmarks.training import ours, stepper
from minidiff import zoo
from minidiff.denoiser import Denoiser
from minidiff.evaluation.results import Table, row
from minidiff.evaluation.studies.report import Report
from minidiff.generators import Identity
from minidiff.nets.unet import UNet, UNetConfig

QUICK = {"batch": 1, "steps": 1, "budget": 0.5, "channels": (8, 32, 32)}


def measure(
    name: str = "critters-cat",
    batch: int = 8,
    steps: int = 10,
    channels: tuple[int, ...] = (32, 64, 64),
    budget: float = 60.0,
    load: Callable = zoo.load,
) -> Report:
    model = load(name, device=clock.best_device()).replace(steps=steps, eta=0.0)
    autoencoders = {"latents": model.autoencoder, "pixels": Identity(bound=None)}
    rows, spaces = [], {}
    for space, autoencoder in autoencoders.items():
        config = UNetConfig(autoencoder.latent_shape(model.image_shape)[0], channels, (False, True, True), time=128)
        net = UNet(config).to(model.device)
        denoiser = Denoiser(net, model.denoiser.schedule, model.denoiser.predicts).eval().requires_grad_(False)
        spaces[space] = model.replace(autoencoder=autoencoder, denoiser=denoiser)
        rows.append(row(f"{space}/numbers", float(torch.tensor(spaces[space].latent_shape).prod()), "numbers", 0))
    images = torch.rand(batch, *model.image_shape, device=model.device) * 2 - 1
    work = {
        "sample": {space: lambda m=m: m.sample(batch, batch=batch) for space, m in spaces.items()},
        "train": {space: stepper(ours(m), m, batch) for space, m in spaces.items()},
        "autoencode": {"latents": lambda: model.to_images(model.to_latents(images))},
    }
    for what, functions in work.items():
        with torch.set_grad_enabled(what == "train"):
            times = clock.seconds(functions, budget=budget / 3)
        rows += [row(f"{space}/{what}", clock.median(1e3 * t / batch), "ms", 0) for space, t in times.items()]
        if len(times) > 1:
            rows.append(row(f"gain/{what}", clock.median(times["pixels"] / times["latents"]), "times", 0))
    columns = {
        "numbers": "numbers a picture",
        "sample": f"ms to sample one in {steps} steps",
        "train": "ms to train on one",
        "autoencode": "ms to encode and decode one",
    }
    lines = {"latents": "latents", "pixels": "pixels", "gain": "pixels to latents"}
    return Report(rows, {"spaces": Table(lines, columns)})
