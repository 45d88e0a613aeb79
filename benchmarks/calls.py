"""The network alone: the calls that a sample makes, and nothing between them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from minidiff.conditioning import Condition
from minidiff.fast import PLAIN, copy_of, fastest
from minidiff.fast.measure import Plan, side_by_side
from minidiff.fast.networks import QuickUNet
from minidiff.generators import LatentDiffusion

CONFIGS = {"plain": "minidiff", "fast": "minidiff, fast"}


def call(model: LatentDiffusion, way: str, batch: int, levels: Sequence[float] = (500,)) -> Callable[[], None]:
    """To be called: the network asked about `batch` items at these levels, as it is or in its fastest form."""
    net, x = model.denoiser.net, torch.randn(batch, *model.latent_shape, device=model.device)
    plan = fastest(model, batch) if way == "fast" else Plan(PLAIN, batch, None)
    parts = x.split(plan.rows)
    if plan.form == PLAIN:
        times = {t: torch.full((batch,), t, device=model.device) for t in levels}

        def ask(part: Tensor, t: float) -> Tensor:
            return net(part, times[t][: len(part)])
    else:
        quick = copy_of(net, plan.form, QuickUNet)
        told = {len(part): quick.tell(part, Condition()) for part in parts}

        def ask(part: Tensor, t: float) -> Tensor:
            return quick(part, t, told[len(part)])

    def ask_all(part: Tensor) -> None:
        for t in levels:
            ask(part, t)

    @torch.no_grad()
    def calls() -> None:
        with side_by_side(plan.workers, plan.threads) as each:
            list(each(ask_all, parts))

    return calls
