"""A generative model is a deterministic map from standard normal codes to images; diffusion models also run backwards.

Wu & De la Torre, "A latent space of stochastic diffusion models" (2023), section 3.1; diffusion in the latent space
of an autoencoder: Rombach et al., "High-resolution image synthesis with latent diffusion models" (2022), section 3.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from minidiff.classifier_free import Guided
from minidiff.conditioning import TextEncoder, condition
from minidiff.denoiser import Denoiser, home_of
from minidiff.encoder import ddim_invert, dpm_encode
from minidiff.ideal import IdealDenoiser
from minidiff.samplers import Grid, Sampler, count_blocks, decode_code, grad_of, random_code
from minidiff.schedule import Spacing, step_grid
from minidiff.seeds import Seeds, as_seeds
from minidiff.solvers import as_sampler

Shape = tuple[int, int, int]
Fast = bool | str  # True, or the name of one of minidiff.fast.FORMS


class Generator(Protocol):
    """codes (B, *code_shape), standard normal -> images (B, C, H, W) in about [-1, 1]."""

    @property
    def code_shape(self) -> tuple[int, ...]:
        """The shape of one item's code."""

    def decode(self, code: Tensor) -> Tensor:
        """The images of these codes; the same every time."""


class Identity(nn.Module):
    """The autoencoder that does nothing: diffusion in pixels. `bound` is the largest |value| it takes; None for any."""

    def __init__(self, bound: float | None = 1.0) -> None:
        super().__init__()
        self.bound = bound

    def encode(self, images: Tensor, seeds: Seeds | None = None) -> Tensor:
        return images

    def decode(self, latents: Tensor) -> Tensor:
        return latents

    def latent_shape(self, image_shape: Shape) -> Shape:
        return image_shape


class InLatents:
    """Half of a generator: an autoencoder between images (C, H, W) and the latents that `decode_latents` makes of codes."""

    autoencoder: nn.Module
    image_shape: Shape

    @property
    def latent_shape(self) -> Shape:
        """(c, h, w) of one item's latents."""
        return tuple(self.autoencoder.latent_shape(self.image_shape))

    @property
    def conditions(self) -> int:
        """How many items it was told something about; 1 stands for any number."""
        return 1

    def check_count(self, count: int) -> None:
        """Raise ValueError unless there is one condition for all of `count` items, or one for each."""
        if self.conditions not in (1, count):
            raise ValueError(
                f"condition: expected one for all, or one for each of {count} items, got {self.conditions}"
            )

    def rows(self, index: slice | Tensor) -> Self:
        """The same model for some items of a batch: they keep what they were told."""
        return self

    def decode(self, code: Tensor, fast: Fast = False) -> Tensor:
        """code (B, *code_shape) -> images (B, C, H, W), not clamped. Differentiable when the code requires grad.

        `fast` gives the same images sooner (see `minidiff.fast`) and without a gradient: a code that requires one is
        refused. Raises ValueError for a code of another shape.
        """
        check_code(code, self.code_shape)
        if fast:
            refuse_gradient(code)
            self.check_count(len(code))
            return in_batches(partial(InLatents.decode), [self], [code], fast=fast)
        with grad_of(code):
            return self.to_images(self.decode_latents(code))

    @torch.no_grad()
    def to_latents(self, images: Tensor) -> Tensor:
        """images (B, C, H, W) in [-1, 1] -> the mean latents (B, c, h, w), in the dtype of the images."""
        check_images(images, self.image_shape, getattr(self.autoencoder, "bound", 1.0))
        return self.autoencoder.encode(images.to(home_of(self.autoencoder, images).dtype)).to(images.dtype)

    def to_images(self, latents: Tensor) -> Tensor:
        """latents (B, c, h, w) -> images (B, C, H, W), not clamped, in the dtype of the latents."""
        return self.autoencoder.decode(latents.to(home_of(self.autoencoder, latents).dtype)).to(latents.dtype)


@dataclass(frozen=True)
class LatentDiffusion(InLatents):
    """An autoencoder, a denoiser of its latents and the sampler's settings: a map from codes to images and back.

    `steps` counts the full grid, `strength` in (0, 1] keeps its cleanest part, `spacing`: see `step_grid`.
    `sampler` is a name in solvers.SAMPLERS, or a sampler; the attribute is the sampler itself. eta in [0, 1] is how much
    noise a step draws, the sampler's own by default: 0.1 for "ddim", 0 for ODE solvers, 1 for SDE solvers.
    image_shape is (C, H, W). A gradient through `decode` looks at each step twice instead of remembering all of them,
    unless `recompute` is False (see `decode_code`). Raises ValueError for settings outside these ranges.
    """

    autoencoder: nn.Module
    denoiser: Denoiser | IdealDenoiser | Guided
    image_shape: Shape
    steps: int = 50
    eta: float | None = None
    strength: float = 1.0
    text: Callable[[], TextEncoder] | None = None  # fetches the encoder of captions when one is first needed
    sampler: Sampler | str = "ddim"
    spacing: Spacing = "trailing"
    recompute: bool = True

    def __post_init__(self) -> None:
        sampler = as_sampler(self.sampler, self.denoiser.schedule, self.eta)
        object.__setattr__(self, "sampler", sampler)  # frozen from here on
        object.__setattr__(self, "eta", sampler.eta)
        self.grid  # noqa: B018  wrong settings are refused here, not at the first sample

    @cached_property
    def grid(self) -> Grid:
        return step_grid(self.denoiser.schedule, self.steps, self.strength, self.spacing)

    @property
    def code_shape(self) -> tuple[int, ...]:
        """(blocks, c, h, w): the start and one block a step; the start alone when eta = 0."""
        return (count_blocks(self.sampler, self.grid), *self.latent_shape)

    @property
    def calls(self) -> int:
        """How often the denoiser is asked on the way from a code to an image."""
        return self.sampler.calls(self.grid)

    @property
    def free(self) -> Tensor:
        """(blocks, 1, 1, 1): 1 for blocks that are standard normal, 0 for residuals of steps without noise."""
        noisy = [True] + [self.sampler.std(step) > 0 for step in self.grid]
        return torch.tensor(noisy[: self.code_shape[0]], device=self.device).view(-1, 1, 1, 1)

    @property
    def device(self) -> torch.device:
        return home_of(self.denoiser, torch.empty(0)).device

    def encode(self, images: Tensor, seeds: Seeds = 0, trajectory: str = "posterior", *, fast: Fast = False) -> Tensor:
        """images (B, C, H, W) in [-1, 1] -> code (B, *code_shape). eta = 0 runs the ODE backwards and needs no seeds.

        Item i depends on seed i alone. `fast` as in `sample`; a code is the picture's own when both ways are fast, or
        neither is. Raises ValueError for images of another shape, dtype or range, and for ODE solvers of second order, whose
        steps cannot be undone.
        """
        if fast:
            check_images(images, self.image_shape, getattr(self.autoencoder, "bound", 1.0))
            self.check_count(len(images))
            seeds = as_seeds(seeds, len(images), images.device)
            return in_batches(
                partial(LatentDiffusion.encode, trajectory=trajectory), [self], [images, seeds], fast=fast
            )
        return self.encode_latents(self.to_latents(images), seeds, trajectory)

    def decode_latents(self, code: Tensor) -> Tensor:
        """code (B, *code_shape) -> latents (B, c, h, w)."""
        check_code(code, self.code_shape)
        return decode_code(self.denoiser, self.sampler, self.grid, code, self.recompute)

    def encode_latents(self, latents: Tensor, seeds: Seeds = 0, trajectory: str = "posterior") -> Tensor:
        """latents (B, c, h, w) -> code (B, *code_shape), in the dtype of the latents."""
        if self.eta == 0:
            return ddim_invert(self.denoiser, self.sampler, self.grid, latents)
        return dpm_encode(self.denoiser, self.sampler, self.grid, latents, seeds, trajectory)

    def random_code(self, count: int, seeds: Seeds = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        """(count, *code_shape): what `decode` turns into samples; item i depends on seed i alone."""
        return random_code(
            self.latent_shape, self.grid, self.sampler, seeds, count=count, dtype=dtype, device=self.device
        )

    @torch.no_grad()
    def sample(self, count: int | None = None, seeds: Seeds = 0, batch: int = 64, fast: Fast = False) -> Tensor:
        """`count` new images (count, C, H, W), one for each condition by default; `batch` bounds the memory only.

        `fast` gives the same images sooner (see `minidiff.fast`): in float32 on a CPU, where no pixel differs by 0.001, and
        in bfloat16 on a GPU, to 0.05 in the root mean square. Its first call measures for some seconds which way is the
        fastest.
        Raises ValueError when there is neither one condition for all images nor one for each.
        """
        count = self.conditions if count is None else count
        if count < 1:
            raise ValueError(f"count: expected at least 1, got {count}")
        self.check_count(count)
        seeds = as_seeds(seeds, count, self.device)
        return in_batches(partial(new_images), [self], [seeds], batch, fast, "sample", self.calls)

    @torch.no_grad()
    def given(
        self,
        text: str | Sequence[str] | None = None,
        label: int | Sequence[int] | Tensor | None = None,
        *,
        negative: str | Sequence[str] = "",
        scale: float | Tensor = 1.0,
        interval: tuple[float, float] = (0.0, 1.0),
        **maps: Any,
    ) -> Self:
        """This model told what to draw: a caption, a class label, pictures (see `conditioning.stack_maps`), or several.

        One condition serves all images, or there is one for each. `scale`, `interval`: see `Guided`; guidance leads away
        from `negative` (by default from the empty caption) with nothing else given.
        Raises ValueError for a condition that this model was not trained with.
        """
        denoiser = self.denoiser.denoiser if isinstance(self.denoiser, Guided) else self.denoiser
        if not isinstance(denoiser, Denoiser):
            raise ValueError(f"given: a {type(denoiser).__name__} takes no condition")
        what = condition(denoiser.net, self.text, text, label, **maps)
        if what.features is not None and what.features.shape[2:] != self.latent_shape[1:]:
            side = what.features.shape[-1] * denoiser.net.config.map_factor
            raise ValueError(f"maps: expected pictures of side {self.image_shape[-1]}, got {side}")
        plain = not torch.is_tensor(scale) and scale == 1
        null = None if plain else condition(denoiser.net, self.text, negative if denoiser.net.config.context else None)
        return self.replace(denoiser=Guided(denoiser, what, null, scale, interval))

    @property
    def conditions(self) -> int:
        return len(self.denoiser.given) if isinstance(self.denoiser, Guided) else 1

    def rows(self, index: slice | Tensor) -> Self:
        return self.replace(denoiser=self.denoiser.rows(index)) if hasattr(self.denoiser, "rows") else self

    def replace(self, **settings: Any) -> Self:
        """The same networks with other settings: model.replace(eta=0, strength=0.5), model.replace(sampler="heun").

        A sampler brings its own eta unless one is given with it.
        """
        if "sampler" in settings:
            settings = {"eta": None} | settings
        return dataclasses.replace(self, **settings)

    def to(self, device: torch.device | str) -> Self:
        """Move both networks to a device, in place."""
        self.autoencoder.to(device)
        self.denoiser.to(device)
        return self


def new_images(model: InLatents, seeds: Tensor) -> Tensor:
    """An image for each seed: (B,) -> (B, C, H, W)."""
    return model.decode(model.random_code(len(seeds), seeds))


def in_batches(
    function: partial,
    models: Sequence[InLatents],
    parts: Sequence[Tensor],
    batch: int | None = None,
    fast: Fast = False,
    title: str = "",
    calls: int = 0,
) -> Tensor:
    """function(*models, *parts) of `batch` items after the other, in one tensor; a bar counts `calls` for each item.

    `fast` calls it with quick networks, for fewer items at once where that is faster (see `minidiff.fast.hurry`).
    """
    count, done = len(parts[0]), []
    batch = count if batch is None else min(batch, count)
    chunks(count, batch)  # refuses a batch below 1
    if fast:
        from minidiff.fast import hurry

    with hurry(function, models, batch, fast) if fast else nullcontext((function, models, batch, map)) as way:
        run, models, batch, each = way

        def one(i: slice) -> Tensor:
            return run(*(model.rows(i) for model in models), *(part[i] for part in parts))

        denoisers = [model.denoiser for model in models if calls]
        with progress(title, count * calls, *denoisers) if calls else nullcontext() as bar:
            for i, result in zip(chunks(count, batch), each(one, chunks(count, batch)), strict=True):
                done.append(result)
                if bar is not None:  # whatever it heard: a recording asks its denoisers the first time only
                    bar.update(max(0, min(i.stop, count) * calls - bar.n))
    return torch.cat(done)


def refuse_gradient(code: Tensor) -> None:
    """Raise ValueError for a code that wants a gradient: fast networks have none."""
    if code.requires_grad and torch.is_grad_enabled():
        raise ValueError("fast: quick networks have no gradient; decode a code that requires one with fast=False")


def check_images(images: Tensor, shape: Shape, bound: float | None = 1.0) -> None:
    """Raise ValueError unless images are finite floats (B, *shape), B >= 1, within [-bound, bound] up to 1e-3."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"images: expected a float tensor with values in [-1, 1], got {got}")
    if images.ndim != 4 or len(images) == 0 or tuple(images.shape[1:]) != tuple(shape):
        raise ValueError(f"images: expected shape (B, {', '.join(map(str, shape))}), got {tuple(images.shape)}")
    if images.is_cuda and torch.cuda.is_current_stream_capturing():
        return  # a recording cannot wait for the values: they are those of its first run, which was checked
    if not images.isfinite().all():
        raise ValueError("images: expected finite numbers, got NaN or infinity")
    low, high = images.aminmax()
    if bound is not None and max(-low, high) > bound + 1e-3:
        raise ValueError(f"images: expected values in [{-bound:g}, {bound:g}], got [{low:.4g}, {high:.4g}]")


def check_code(code: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless code is a float tensor (B, *shape)."""
    if not isinstance(code, Tensor) or not code.is_floating_point():
        got = code.dtype if isinstance(code, Tensor) else type(code).__name__
        raise ValueError(f"code: expected a float tensor, got {got}")
    if tuple(code.shape[1:]) != tuple(shape):
        raise ValueError(f"code: expected shape (B, {', '.join(map(str, shape))}), got {tuple(code.shape)}")


def chunks(count: int, size: int) -> Iterator[slice]:
    """The items 0 .. count - 1 in slices of at most `size`. Raises ValueError for a size below 1."""
    if size < 1:
        raise ValueError(f"batch: expected at least 1, got {size}")
    return (slice(start, start + size) for start in range(0, count, size))


@contextmanager
def progress(title: str, total: int, *denoisers: nn.Module, delay: float = 2.0) -> Iterator[Any]:
    """A bar that counts denoised items, on the terminal or in the notebook, if the work takes longer than `delay` s."""
    from tqdm.auto import tqdm

    with tqdm(desc=title, total=total, delay=delay, leave=False) as bar:

        def count(module: nn.Module, inputs: tuple, output: Any) -> None:
            bar.update(len(inputs[0]))  # its answer must not be returned: torch would take it for the denoiser's output

        hooks = [denoiser.register_forward_hook(count) for denoiser in set(denoisers)]
        try:
            yield bar
        finally:
            for hook in hooks:
                hook.remove()
