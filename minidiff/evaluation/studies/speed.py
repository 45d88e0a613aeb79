"""How many pictures a second: training steps and samples of a diffusion model, timed where they run."""

import copy
import time

import torch
from torch import Tensor

from minidiff.evaluation.intervals import Estimate, mean
from minidiff.fast.learning import quick_layers
from minidiff.fast.memory import kept_memory
from minidiff.generators import LatentDiffusion
from minidiff.seeds import normal, uniform


def training_speed(model: LatentDiffusion, images: Tensor, steps: int, batch: int = 32) -> Estimate:
    """Pictures a second in `steps` training steps on a copy of the denoiser; the first step, which warms up, is not timed.

    Latents are encoded beforehand, layers, optimizer and memory are the quick ones, as in `minidiff train`.
    """
    denoiser = copy.deepcopy(model.denoiser).train().requires_grad_(True)
    adam = torch.optim.AdamW(denoiser.parameters(), lr=1e-4, fused=True)
    x0 = model.to_latents(images[:batch])
    moments = []
    with kept_memory():
        for step in range(steps + 1):
            seeds = step * batch + torch.arange(len(x0), device=x0.device)
            t = (uniform(seeds, (), "t") * denoiser.schedule.T).long()
            with quick_layers(denoiser):
                loss = denoiser.loss(x0, normal(seeds, x0.shape[1:], "noise"), t).mean()
            loss.backward()
            adam.step()
            adam.zero_grad()
            moments.append(time.perf_counter())
    return mean(len(x0) / torch.tensor(moments, dtype=torch.float64).diff())


def sampling_speed(model: LatentDiffusion, count: int, batch: int = 50) -> tuple[Tensor, Estimate]:
    """`count` samples (count, C, H, W) in [-1, 1], and how many a second there were."""
    start = time.perf_counter()
    images = model.sample(count, batch=batch).clamp(-1, 1)
    return images, Estimate(count / (time.perf_counter() - start), None, count)
