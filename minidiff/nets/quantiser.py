"""Vector quantisation: every vector of the latents is replaced by the nearest of a few learned ones, the codebook.

Van den Oord, Vinyals & Kavukcuoglu, "Neural discrete representation learning", NeurIPS 2017; as the "VQ-reg." of latent
diffusion (Rombach et al., CVPR 2022, section 3.1), where the quantiser is the first layer of the decoder.

The codebook learns by gradient, equation 3 of the paper, and not by the running means of its appendix A.1: a codebook
that is a parameter is averaged with the encoder it belongs to (`training/ema.py`), is shared between processes as every
other gradient is, and needs no memory but the optimizer's. What it lacks, codes for vectors that no code is near to,
`Revival` supplies.
"""

import math

import torch
import torch.distributed as processes
import torch.nn.functional as F
from torch import Tensor, nn

from minidiff.seeds import uniform

COMMITMENT = 0.25  # beta; van den Oord et al., section 3.2, who saw no difference from 0.1 to 2
AT_ONCE = 2**24  # distances held in memory together


class VectorQuantiser(nn.Module):
    """raw (B, c, H, W) -> the same with every vector (c,) moved to the nearest of the `codes` rows of the codebook."""

    def __init__(self, codes: int, channels: int):
        super().__init__()
        if codes < 2:
            raise ValueError(f"codes: expected at least 2, got {codes}")
        self.codebook = nn.Parameter(torch.randn(codes, channels))

    @property
    def codes(self) -> int:
        return len(self.codebook)

    def forward(self, raw: Tensor) -> Tensor:
        """The nearest codes, (B, c, H, W); the gradient passes by the quantiser (section 3.2, "straight-through")."""
        return straight_through(raw, self.look_up(self.nearest(raw)))

    @torch.no_grad()
    def nearest(self, raw: Tensor) -> Tensor:
        """argmin_k |raw - codebook_k| at every place, (B, H, W) int64; the first of equals (equation 1)."""
        vectors = as_rows(raw)  # (B*H*W, c)
        parts = vectors.split(max(1, AT_ONCE // self.codes))
        index = torch.cat([torch.cdist(part.to(self.codebook.dtype), self.codebook).argmin(1) for part in parts])
        return index.reshape(len(raw), *raw.shape[2:])

    def look_up(self, index: Tensor) -> Tensor:
        """index (B, H, W) -> codebook vectors (B, c, H, W) (equation 2)."""
        return F.embedding(index, self.codebook).movedim(-1, 1)

    def loss(self, raw: Tensor, index: Tensor) -> Tensor:
        """|sg(raw) - code|^2 + beta |raw - sg(code)|^2, the mean over places and channels, (B,) (equation 3).

        The first term pulls the codes to the encoder's vectors, the second keeps the encoder near the codes.
        """
        code = self.look_up(index)
        codebook, commitment = (raw.detach() - code) ** 2, (raw - code.detach()) ** 2
        return (codebook + COMMITMENT * commitment).flatten(1).mean(1)


class Revival(nn.Module):
    """Moves every code that nothing was nearest to for `patience` steps onto a vector of the batch.

    A code far from all vectors gets no gradient and would stay unused for ever (Dhariwal et al., "Jukebox", 2020,
    appendix A, "random restarts"). Only training needs this memory, so it is kept apart from what the zoo keeps. All
    codes begin as unused: the first batch places the codebook where its vectors are.
    """

    def __init__(self, codes: int, patience: int):
        super().__init__()
        if patience < 1:
            raise ValueError(f"patience: expected at least 1 step, got {patience}")
        self.patience = patience
        self.register_buffer("idle", torch.full((codes,), patience))  # steps since each code was last used

    @torch.no_grad()
    def forward(self, quantiser: VectorQuantiser, raw: Tensor, index: Tensor, seed: Tensor) -> Tensor:
        """Count one step whose vectors `raw` (B, c, H, W) had the codes `index`; which codes were moved, (codes,) bool.

        Code k gets the vector that `seed` (1,) int64 draws for k. Several processes count together and take the
        vectors of the first.
        """
        used = summed(use(index, quantiser.codes)) > 0
        self.idle.copy_((self.idle + 1).masked_fill(used, 0))
        dead = self.idle >= self.patience
        if dead.any():
            vectors = as_rows(raw)
            place = (uniform(seed, dead.shape, "revival", torch.float64)[0] * len(vectors)).long()
            quantiser.codebook[dead] = vectors[place.clamp(max=len(vectors) - 1)][dead].to(quantiser.codebook)
            self.idle[dead] = 0
            of_the_first(quantiser.codebook)
        return dead


def straight_through(raw: Tensor, code: Tensor) -> Tensor:
    """`code` in value, `raw` in gradient: d/d raw is the identity and nothing reaches `code`."""
    return code.detach() + (raw - raw.detach())


def use(index: Tensor, codes: int) -> Tensor:
    """How often each code occurs in `index` of any shape, (codes,) int64. Uses of several batches may be added."""
    return index.flatten().bincount(minlength=codes)


def entropy(use: Tensor) -> Tensor:
    """Bits per place that a code fitted to these frequencies needs (Shannon, 1948): at most log2(codes)."""
    share = use.double() / use.sum()
    return -torch.xlogy(share, share).sum() / math.log(2)


def perplexity(use: Tensor) -> Tensor:
    """How many codes, if all were used alike, would carry as much: from 1 (a single one is used) to their number."""
    return 2 ** entropy(use)


def as_rows(raw: Tensor) -> Tensor:
    """(B, c, H, W) -> (B*H*W, c), in the order of `nearest`."""
    return raw.movedim(1, -1).flatten(0, -2)


def summed(counts: Tensor) -> Tensor:
    """The sum over all processes."""
    if processes.is_available() and processes.is_initialized():
        processes.all_reduce(counts)
    return counts


def of_the_first(tensor: Tensor) -> None:
    """Overwrite `tensor` in every process by that of the first."""
    if processes.is_available() and processes.is_initialized():
        processes.broadcast(tensor, 0)
