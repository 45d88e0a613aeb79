"""The fast path: `model.sample(..., fast=True)`, the same pictures sooner. Nothing here changes what is computed.

On a CPU a network is replaced by a quick form of itself: `winograd` takes a quarter of the multiplications of a 3 x 3
convolution, `layers` keep pictures in one order from the first layer to the last, `networks` do once what no step changes.
Which form, how many items at once and how many threads is measured here and now (`measure`). On a GPU the whole loop
becomes one CUDA graph in bfloat16 (`record`). Whatever has no quick form is asked as it is: networks of other libraries,
other dtypes than float32, attention that somebody watches.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from minidiff.classifier_free import Guided
from minidiff.conditioning import Condition
from minidiff.denoiser import Denoiser
from minidiff.families import DiffAE
from minidiff.fast import measure
from minidiff.fast.denoisers import QuickDenoiser, QuickGuided, QuickPair
from minidiff.fast.networks import LARGEST, QuickAutoencoder, QuickDiffAE, QuickUNet, has_quick_form
from minidiff.fast.record import HalfNetwork, Recorder, half_dtype
from minidiff.generators import Identity, InLatents, LatentDiffusion
from minidiff.pair import Pair

PLAIN = "plain"
FORMS = (PLAIN, "columns", "winograd")
Run = Callable[..., Tensor]
zeros = partial(torch.zeros, dtype=torch.float32)  # as the networks are, whatever torch's default is

copies: WeakKeyDictionary[nn.Module, tuple[tuple, dict[str, Any]]] = WeakKeyDictionary()


@contextmanager
def hurry(
    function: partial, models: Sequence[InLatents], count: int, fast: bool | str = True
) -> Iterator[tuple[Run, list[InLatents], int, Callable]]:
    """What to call instead of function(*models, *parts), with which models, for how many of `count` items at once, and the
    `map` that makes the calls.

    `fast` may name the form that a CPU is to take instead of the fastest one. Raises ValueError for another name.
    """
    if fast not in (True, *FORMS):
        raise ValueError(f"fast: expected True, False or one of {', '.join(FORMS)}, got {fast!r}")
    if all(map(can_be_recorded, models)):
        models = [half(model) for model in models]
        yield Recorder(function, models, count), models, count, map
        return
    plan = fastest(models[-1], count) if fast is True else measure.Plan(fast, count, None)
    with measure.side_by_side(plan.workers, plan.threads) as each:
        yield function, [quick(model, plan.form) for model in models], plan.rows, each


def quick(model: InLatents, form: str) -> InLatents:
    """The same model with the quick form of each network that has one."""
    if form == PLAIN:
        return model
    parts, plain = {}, plain_denoiser(model)
    if has_quick_unet(model):
        denoiser = QuickDenoiser(plain, copy_of(plain.net, form, QuickUNet))
        if isinstance(model, DiffAE):
            parts["network"] = QuickDiffAE(model.network, denoiser)
        else:
            parts["denoiser"] = around(model, denoiser)
    if has_quick_form(model.autoencoder):
        parts["autoencoder"] = copy_of(model.autoencoder, form, QuickAutoencoder)
    return model.replace(**parts)


def half(model: LatentDiffusion) -> LatentDiffusion:
    """The same model with its network in bfloat16. The decoder, asked once, keeps its precision."""
    plain = plain_denoiser(model)
    network = copy_of(plain.net, "half", lambda net, _: HalfNetwork(net, half_dtype()))
    return model.replace(denoiser=around(model, QuickDenoiser(plain, network)))


def around(model: LatentDiffusion, denoiser: QuickDenoiser) -> QuickDenoiser | QuickGuided | QuickPair:
    """The denoiser, guided as the model's own is, or on both sides of an edit."""
    if isinstance(model.denoiser, Pair):
        return QuickPair(*(QuickGuided(side, denoiser) for side in (model.denoiser.source, model.denoiser.target)))
    return QuickGuided(model.denoiser, denoiser) if isinstance(model.denoiser, Guided) else denoiser


def can_be_recorded(model: InLatents) -> bool:
    """Is it on a GPU, and nowhere on its way from seeds to pictures would the GPU wait for the CPU?"""
    return (
        isinstance(model, LatentDiffusion)
        and type(plain := plain_denoiser(model)) is Denoiser
        and has_quick_form(plain.net, "cuda")
        and (type(model.autoencoder) is Identity or has_quick_form(model.autoencoder, "cuda"))
        and isinstance(model.sampler, Hashable)  # by which its recording is found again
    )


def fastest(model: InLatents, count: int) -> measure.Plan:
    """How this machine is the fastest at `count` items of a model: measured the first time, remembered after that."""
    if not has_quick_unet(model):
        return measure.Plan("winograd" if count > 1 else "columns", count, None)  # of the autoencoder alone
    net, shape = plain_denoiser(model).net, model.latent_shape
    rows = rows_of(getattr(model, "denoiser", None))
    forms = {PLAIN: partial(ask_plain, net, shape)}
    forms |= {form: partial(ask_quick, net, form, shape) for form in FORMS[1:]}
    best = measure.plan(f"{net.config} on {shape}", forms, rows * count)
    return best._replace(rows=max(1, best.rows // rows))


def rows_of(denoiser: Any) -> int:
    """How many rows the network is asked about for each item."""
    if isinstance(denoiser, Pair):
        return rows_of(denoiser.source) + rows_of(denoiser.target)
    return 2 if getattr(denoiser, "null", None) else 1  # guidance also asks about the null


def has_quick_unet(model: InLatents) -> bool:
    plain = plain_denoiser(model)
    if type(plain) is not Denoiser or not has_quick_form(plain.net):
        return False
    return max(model.latent_shape[1:]) <= LARGEST * plain.net.config.patch


def plain_denoiser(model: InLatents) -> Any:
    """The denoiser without its guidance; None for a model that has none."""
    if isinstance(model, DiffAE):
        return model.network.denoiser
    denoiser = getattr(model, "denoiser", None)
    denoiser = denoiser.target if isinstance(denoiser, Pair) else denoiser
    return denoiser.denoiser if isinstance(denoiser, Guided) else denoiser


@torch.no_grad()
def ask_plain(net: nn.Module, shape: Sequence[int], size: int) -> Tensor:
    """One call for so many items of that latent shape, as the sampling loop makes it."""
    return net(zeros(size, *shape), zeros(size), **blank(net, size).parts())


@torch.no_grad()
def ask_quick(net: nn.Module, form: str, shape: Sequence[int], size: int) -> Tensor:
    network, x = copy_of(net, form, QuickUNet), zeros(size, *shape)
    return network(x, 0.0, network.tell(x, blank(net, size)))


def blank(net: nn.Module, size: int) -> Condition:
    """A condition that says nothing, of a usual length."""
    return Condition(zeros(size, 16, net.config.context)) if net.config.context else Condition()


def copy_of(network: nn.Module, form: str, make: Callable[[nn.Module, str], Any]) -> Any:
    """The quick form of a network: made once, and again when its weights have changed.

    Torch counts the changes of a tensor; those made through `weight.data`, past its eyes, it does not.
    """
    weights = [*network.parameters(), *network.buffers()]
    state = tuple((weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights)
    if network not in copies or copies[network][0] != state:
        copies[network] = state, {}
    forms = copies[network][1]
    if form not in forms:
        forms[form] = make(network, form)
    return forms[form]
