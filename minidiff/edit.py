"""Editing by words: CycleDiffusion with one model, told what is in the picture on the way in and what should be on the way out.

Wu & De la Torre, "A latent space of stochastic diffusion models" (2023), section 4.2. Many edits at once, ranked: see
`minidiff.candidates`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from minidiff import cycle
from minidiff.attention_control import Control, LockStep, align
from minidiff.disagreement import LEVELS, blend, disagreement
from minidiff.generators import Fast, LatentDiffusion, check_images, chunks, progress
from minidiff.samplers import decode_code
from minidiff.seeds import Seeds, as_seeds

Captions = str | Sequence[str]


@torch.no_grad()
def edit(
    model: LatentDiffusion,
    images: Tensor,
    source: Captions,
    target: Captions,
    method: str = "cyclediffusion",
    *,
    strength: float = 0.7,
    scale: float = 3.0,
    source_scale: float = 1.0,
    negative: Captions = "",
    interval: tuple[float, float] = (0.0, 1.0),
    eta: float | None = None,
    steps: int | None = None,
    seeds: Seeds = 0,
    trajectory: str = "posterior",
    control: Control | None = None,
    local: float | None = None,
    batch: int = 64,
    fast: Fast = False,
) -> Tensor:
    """images (B, C, H, W) in [-1, 1], described by `source` -> the same pictures as `target` describes them.

    One caption serves all pictures, or there is one for each. `scale` and `source_scale` guide the way out and the way
    in, both away from `negative` and within `interval` (see `LatentDiffusion.given`); equal captions and scales give the
    picture back. `control` (only with "cyclediffusion") keeps the source's
    attention. `local` in (0, 1) (likewise) changes only places about which the captions disagree, by more than this part of
    the largest disagreement; all others but a soft border stay as they are. Both look at two captions side by side, and are
    not `fast`; the other arguments are those of `cycle.translate`.
    Raises ValueError for captions, settings or images that do not fit, before any work is done.
    """
    guidance = {"negative": negative, "interval": interval}
    before, after = model.given(source, scale=source_scale, **guidance), model.given(target, scale=scale, **guidance)
    settings = {"strength": strength, "eta": eta, "steps": steps}
    if control is None and local is None:
        settings |= {"seeds": seeds, "trajectory": trajectory, "batch": batch, "fast": fast}
        return cycle.translate(before, after, images, method, **settings)
    check_side_by_side(method, control, local)
    settings = {name: value for name, value in settings.items() if value is not None}
    before, after = before.replace(**settings), after.replace(**settings)
    check_images(images, model.image_shape, getattr(model.autoencoder, "bound", 1.0))
    for side in (before, after):
        side.check_count(len(images))
    control = control or Control("refine", cross_part=0.0, self_part=0.0)
    places = align_captions(model, source, target, control)
    told = model.given(source), model.given(target)
    seeds = as_seeds(seeds, len(images), images.device)
    calls = 3 * before.calls + (2 * len(LEVELS) if local else 0)
    done = []
    with progress("edit", calls * len(images), before.denoiser.denoiser):
        for i in chunks(len(images), batch):
            latents, mask = model.to_latents(images[i]), None
            if local is not None:
                mask = disagreement(*(side.rows(i).denoiser for side in told), latents, seeds[i]) > local
                mask = mask.to(latents.dtype)
            code = before.rows(i).encode_latents(latents, seeds[i], trajectory)
            part = places if len(places) == 1 else places[i]
            both = LockStep(before.rows(i).denoiser, after.rows(i).denoiser, part, control, before.grid[0].t, mask)
            latents = decode_code(both, before.sampler, before.grid, code.repeat(2, 1, 1, 1, 1)).chunk(2)[1]
            edited = model.to_images(latents)
            done.append(edited if mask is None else blend(images[i], edited, mask))
    return torch.cat(done)


def check_side_by_side(method: str, control: Control | None, local: float | None) -> None:
    """Raise ValueError for what cannot be decoded side by side."""
    if method != "cyclediffusion":
        name = "local" if control is None else "control"
        raise ValueError(f"{name}: only method 'cyclediffusion' decodes source and target side by side, got {method!r}")
    if local is not None and not 0 < local < 1:
        raise ValueError(f"local: expected a part of the largest disagreement in (0, 1), got {local}")


def align_captions(model: LatentDiffusion, source: Captions, target: Captions, control: Control) -> Tensor:
    """Where each token of the target captions stands in the source captions, (B, L), -1 where it does not."""
    source, target = ([captions] if isinstance(captions, str) else list(captions) for captions in (source, target))
    count = max(len(source), len(target))
    source, target = (captions * count if len(captions) == 1 else captions for captions in (source, target))
    encoder = model.text()
    seen = encoder.text_tokens([""])[1][0].cpu()  # also True at padding, for a network that attends to it
    rows = torch.where(seen, torch.arange(len(seen)), -1).repeat(count, 1)
    for row, before, after in zip(rows, source, target, strict=True):
        ours, theirs = (word_tokens(encoder, caption) for caption in (before, after))
        places = align(ours, theirs, control.kind)
        row[: max(len(ours), len(theirs))] = -1
        row[: len(places)] = torch.tensor(places)
    return rows


def word_tokens(encoder, caption: str) -> list[int]:
    """The token numbers of a caption without its padding."""
    (mask,) = encoder.text_tokens([caption])[1]
    return encoder.tokenizer([caption])[0][: int(mask.sum())].tolist()
