"""CycleDiffusion: encode with one model, decode with another that never saw it; and its rivals through the same call.

Wu & De la Torre, "A latent space of stochastic diffusion models" (2023), algorithm 1; SDEdit: Meng et al. (2022);
DDIB: Su et al., "Dual diffusion implicit bridges" (2023).
"""

from functools import partial

import torch
from torch import Tensor

from minidiff.encoder import check_first_order_ode, check_trajectory, start_state
from minidiff.generators import Fast, LatentDiffusion, check_images, in_batches
from minidiff.pair import encode_and_decode, pair
from minidiff.samplers import random_code
from minidiff.seeds import Seeds, as_seeds

METHODS = ("cyclediffusion", "sdedit", "ddib")


@torch.no_grad()
def translate(
    source: LatentDiffusion,
    target: LatentDiffusion,
    images: Tensor,
    method: str = "cyclediffusion",
    *,
    strength: float | None = None,
    eta: float | None = None,
    steps: int | None = None,
    seeds: Seeds = 0,
    refine: float = 0.0,
    trajectory: str = "posterior",
    batch: int = 64,
    fast: Fast = False,
) -> Tensor:
    """images (B, C, H, W) of the source model's domain in [-1, 1] -> the same scenes in the target's, not clamped.

    "cyclediffusion" decodes the source's code with the target; "sdedit" denoises the same noisy start with fresh
    noises; "ddib" is eta = 0 both ways. strength, eta and steps override both models' own. refine in (0, 1] then
    noises the result to that strength and denoises it once with the target at eta = 1 (the paper's section 4.1).
    trajectory "independent" makes "cyclediffusion" edit-friendly inversion (see `dpm_encode`).
    A model may be told what to draw: source and target then are one model `given` two captions (section 4.2).
    Item i depends on seed i alone; `batch` bounds the memory and changes nothing else; `fast` as in
    `LatentDiffusion.sample`.
    Raises ValueError for images, settings or pairs of models that do not fit, before any work is done.
    """
    if not 0 <= refine <= 1:
        raise ValueError(f"refine: expected a strength in (0, 1], or 0 for none, got {refine!r}")
    source, target = _with_settings(source, target, method, strength, eta, steps)
    refiner = target.replace(strength=refine, eta=1.0) if refine else None
    check_images(images, source.image_shape, getattr(source.autoencoder, "bound", 1.0))
    for model in (source, target):
        model.check_count(len(images))
    seeds = as_seeds(seeds, len(images), images.device)
    calls = target.calls * (1 if method == "sdedit" else 2) + (refiner.calls if refiner else 0)
    both = pair(source, target) if method == "cyclediffusion" and not refine else None
    if both is not None:
        check_trajectory(trajectory)
        one = partial(encode_and_decode, trajectory=trajectory)
        return in_batches(one, [both], [images, seeds], batch, fast, method, calls)
    one = partial(translate_one, method=method, refine=refine, trajectory=trajectory)
    return in_batches(one, [source, target], [images, seeds], batch, fast, method, calls)


def translate_one(
    source: LatentDiffusion,
    target: LatentDiffusion,
    images: Tensor,
    seeds: Tensor,
    method: str,
    refine: float,
    trajectory: str,
) -> Tensor:
    """One batch of `translate`."""
    if method == "sdedit":
        latents = sdedit(target, target.to_latents(images), seeds)
    else:
        latents = target.decode_latents(source.encode(images, seeds, trajectory))
    if refine:  # with noise of its own: the start's is already in the picture
        latents = sdedit(target.replace(strength=refine, eta=1.0), latents, seeds, stream="refine")
    return target.to_images(latents)


def sdedit(model: LatentDiffusion, latents: Tensor, seeds: Seeds = 0, stream: str = "path") -> Tensor:
    """Noise latents (B, c, h, w) to the model's strength and denoise them with fresh noises (Meng et al., alg. 1).

    With the default stream the start is the one that the encoder draws from these seeds; the noises after it are not.
    """
    seeds = as_seeds(seeds, len(latents), latents.device)
    like = {"dtype": latents.dtype, "device": latents.device}
    code = random_code(latents.shape[1:], model.grid, model.sampler, seeds, stream=f"fresh {stream}", **like)
    code[:, 0] = start_state(model.sampler.schedule, model.grid, latents, seeds, stream)
    return model.decode_latents(code)


def _with_settings(
    source: LatentDiffusion,
    target: LatentDiffusion,
    method: str,
    strength: float | None,
    eta: float | None,
    steps: int | None,
) -> tuple[LatentDiffusion, LatentDiffusion]:
    """Both models with the settings that were given, after the checks that need no picture."""
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    if method == "ddib":
        if eta:
            raise ValueError(f"eta: ddib is the ODE, eta = 0; got {eta}")
        eta = 0.0
    given = {"strength": strength, "eta": eta, "steps": steps}
    given = {name: value for name, value in given.items() if value is not None}
    source, target = source.replace(**given), target.replace(**given)
    if method == "cyclediffusion" and 0 in (source.eta, target.eta):
        raise ValueError("eta: cyclediffusion needs eta > 0, got 0; method 'ddib' is its counterpart at eta = 0")
    if method == "ddib":
        check_first_order_ode(source.sampler)
    check_pair(source, target)
    return source, target


def check_pair(source: LatentDiffusion, target: LatentDiffusion) -> None:
    """Raise ValueError, naming both sides, unless codes of one model are codes of the other."""
    same = {
        "latent shape": (source.latent_shape, target.latent_shape),
        "noise schedule": (source.denoiser.schedule, target.denoiser.schedule),
        "steps": (source.steps, target.steps),
        "strength": (source.strength, target.strength),
        "spacing": (source.spacing, target.spacing),
        "eta": (source.eta, target.eta),
        "sampler": (source.sampler, target.sampler),
    }
    for name, (ours, theirs) in same.items():
        if ours != theirs:
            raise ValueError(f"source, target: expected the same {name}, got {ours} and {theirs}")
