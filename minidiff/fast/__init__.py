"""The fast path: `model.sample(..., fast=True)`, the same pictures sooner. Nothing here changes what is computed.

On a CPU a network is replaced by a quick form of itself: `winograd` takes a quarter of the multiplications of a 3 x 3
convolution, `layers` keep pictures in one order from the first layer to the last, `networks` do once what no step changes.
Which form, how many items at once and how many threads is measured here and now (`measure`). On a GPU the whole loop
becomes one CUDA graph in bfloat16 (`record`). Whatever has no quick form is asked as it is.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from minidiff.classifier_free import Guided
from minidiff.conditioning import Condition
from minidiff.denoiser import Denoiser
from minidiff.fast import measure
from minidiff.fast.denoisers import QuickDenoiser, QuickGuided
from minidiff.fast.networks import LARGEST, QuickAutoencoder, QuickUNet, has_quick_form
from minidiff.fast.record import HalfNetwork, Recorder, half_dtype
from minidiff.nets.autoencoder import Autoencoder

PLAIN = "plain"
FORMS = (PLAIN, "columns", "winograd")
Run = Callable[..., Tensor]

copies: WeakKeyDictionary[nn.Module, tuple[tuple, dict[str, Any]]] = WeakKeyDictionary()


@contextmanager
def hurry(
    function: partial, models: Sequence[Any], count: int, fast: bool | str = True
) -> Iterator[tuple[Run, list[Any], int]]:
    """What to call instead of function(*models, *parts), with which models, for how many of `count` items at once.

    `fast` may name the form that a CPU is to take instead of the fastest one. Raises ValueError for another name.
    """
    if fast not in (True, *FORMS):
        raise ValueError(f"fast: expected True, False or one of {', '.join(FORMS)}, got {fast!r}")
    if models[0].device.type == "cuda":
        recorded = all(type(plain_denoiser(model)) is Denoiser for model in models)
        models = [half(model) for model in models] if recorded else models
        yield Recorder(function, models, count) if recorded else function, models, count
        return
    plan = fastest(models[-1], count) if fast is True else measure.Plan(fast, count, None)
    with measure.threads(plan.threads):
        yield function, [quick(model, plan.form) for model in models], plan.rows


def quick(model: Any, form: str) -> Any:
    """The same LatentDiffusion with the quick form of each network that has one."""
    if form == PLAIN:
        return model
    denoiser, autoencoder, plain = model.denoiser, model.autoencoder, plain_denoiser(model)
    if type(plain) is Denoiser and has_quick_unet(model):
        fast_one = QuickDenoiser(plain, copy_of(plain.net, form, QuickUNet))
        denoiser = QuickGuided(denoiser, fast_one) if isinstance(denoiser, Guided) else fast_one
    if type(autoencoder) is Autoencoder and has_quick_form(autoencoder):
        autoencoder = copy_of(autoencoder, form, QuickAutoencoder)
    return model.replace(denoiser=denoiser, autoencoder=autoencoder)


def half(model: Any) -> Any:
    """The same LatentDiffusion with its network in bfloat16. The decoder, asked once, keeps its precision."""
    plain = plain_denoiser(model)
    fast_one = QuickDenoiser(plain, copy_of(plain.net, "half", lambda net, _: HalfNetwork(net, half_dtype())))
    return model.replace(denoiser=QuickGuided(model.denoiser, fast_one) if plain is not model.denoiser else fast_one)


def fastest(model: Any, count: int) -> measure.Plan:
    """How this machine is the fastest at `count` items of a model: measured the first time, remembered after that."""
    if not has_quick_unet(model):
        return measure.Plan("winograd" if count > 1 else "columns", count, None)  # of the autoencoder alone
    net, rows = plain_denoiser(model).net, 2 if getattr(model.denoiser, "null", None) else 1
    forms = {PLAIN: lambda size: ask_plain(net, model.latent_shape, size)}
    for form in FORMS[1:]:
        forms[form] = partial(ask_quick, net, form, model.latent_shape)
    best = measure.plan(f"{net.config} on {model.latent_shape}", forms, rows * count)
    return best._replace(rows=max(1, best.rows // rows))


def has_quick_unet(model: Any) -> bool:
    net = getattr(plain_denoiser(model), "net", None)
    return net is not None and max(model.latent_shape[1:]) <= LARGEST and has_quick_form(net)


def plain_denoiser(model: Any) -> Any:
    return model.denoiser.denoiser if isinstance(model.denoiser, Guided) else model.denoiser


@torch.no_grad()
def ask_plain(net: nn.Module, shape: Sequence[int], size: int) -> Tensor:
    """One call for so many items of that latent shape, as the sampling loop makes it."""
    cond = blank(net, size).parts()
    return net(torch.zeros(size, *shape), torch.zeros(size), **cond)


@torch.no_grad()
def ask_quick(net: nn.Module, form: str, shape: Sequence[int], size: int) -> Tensor:
    network, x = copy_of(net, form, QuickUNet), torch.zeros(size, *shape)
    return network(x, 0.0, network.tell(x, blank(net, size)))


def blank(net: nn.Module, size: int) -> Condition:
    """A condition that says nothing, of a usual length."""
    return Condition(torch.zeros(size, 16, net.config.context)) if net.config.context else Condition()


def copy_of(network: nn.Module, form: str, make: Callable[[nn.Module, str], Any]) -> Any:
    """The quick form of a network: made once, and again when its weights have changed."""
    weights = [*network.parameters(), *network.buffers()]
    state = tuple((weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights)
    if network not in copies or copies[network][0] != state:
        copies[network] = state, {}
    forms = copies[network][1]
    if form not in forms:
        forms[form] = make(network, form)
    return forms[form]
