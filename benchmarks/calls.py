"""The network alone: the calls that a sample makes, and nothing between them."""

from collections.abc import Callable

import torch

from minidiff.conditioning import Condition
from minidiff.fast import PLAIN, copy_of, fastest
from minidiff.fast.measure import threads
from minidiff.fast.networks import QuickUNet
from minidiff.generators import LatentDiffusion

CONFIGS = {"plain": "minidiff", "fast": "minidiff, fast"}


def call(model: LatentDiffusion, way: str, batch: int, levels: tuple[float, ...] = (500,)) -> Callable[[], None]:
    """To be called: the network asked about `batch` items at these levels, as it is or in its fastest form."""
    x, plan = (
        torch.randn(batch, *model.latent_shape, device=model.device),
        fastest(model, batch) if way == "fast" else None,
    )
    if plan is None or plan.form == PLAIN:
        times = [torch.full((batch,), t, device=model.device) for t in levels]
        ask = lambda part, t: model.denoiser.net(part, t[: len(part)])  # noqa: E731
    else:
        quick, times = copy_of(model.denoiser.net, plan.form, QuickUNet), levels
        told = {n: quick.tell(x[:n], Condition()) for n in {min(plan.rows, batch), batch % plan.rows or plan.rows}}
        ask = lambda part, t: quick(part, t, told[len(part)])  # noqa: E731

    @torch.no_grad()
    def calls() -> None:
        with threads(plan.threads if plan else None):
            for part in x.split(plan.rows if plan else batch):
                for t in times:
                    ask(part, t)

    return calls
