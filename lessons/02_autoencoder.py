# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# ---
# numbering:
#   equation: false
# ---
#
# # 2. The autoencoder
#
# **How small can a picture become?**
#
# A picture of 64x64 pixels is 12,288 numbers, and a diffusion model that works on them pays for every one, at every
# step. Latent diffusion (Rombach et al., 2022) first makes the picture small: an *encoder* writes it as 512 numbers, a
# *decoder* paints it again from those. Below, the upper row goes in, the middle row is all that is kept, the lower row
# comes out.

# %%
import copy
import itertools
import math

import ipywidgets as widgets
import torch
from torch import nn
from torch.nn import functional as F

import minidiff
from minidiff import plot
from minidiff.data.critters import Critters, render, semantic_map
from minidiff.data.fashion import FashionMNIST
from minidiff.data.renderer import PARTS
from minidiff.evaluation.metrics import psnr
from minidiff.nets.autoencoder import kl
from minidiff.training.autoencoders import distortion, halve

torch.set_grad_enabled(False)
autoencoder = minidiff.load("critters-autoencoder")
world = Critters("all", seed=2)  # pictures that no model was trained on
images, factors = world[:100], world.factors(slice(0, 100))


def through(images):
    """Latents, and what they decode to."""
    latents = autoencoder.encode(images)
    return latents, autoencoder.decode(latents)


latents, ours = through(images)
rows = {"picture": images, "latents": F.interpolate(latents[:, :3] / 3, size=64), "decoded": ours}
alt = "Eight animal faces; 8x8 squares of colour with a hint of each; the same faces again, a little softer."
plot.grid([row[:8] for row in rows.values()], row_labels=list(rows), alt=alt)
quality = psnr(ours, images).mean().item()
print(f"{images[0].numel()} numbers -> {latents[0].numel()}, and back with a PSNR of {quality:.1f} dB")
assert images[0].numel() == 24 * latents[0].numel() and quality > 29

# %% [markdown]
# *The first eight held-out pictures. Of the eight numbers in each latent cell you see three, as red, green and blue.
# Look for what is missing in the lower row. (You will need to look closely: cats have whiskers.)*
#
# ```{tip}
# **After this lesson you can**
# 1. say what the best linear autoencoder loses, to the last digit, and why a bent one loses less;
# 2. compute the shape and the receptive field of a convolutional encoder, and measure both;
# 3. name the four things that a diffusion model asks of latents, and test each.
#
# **Needs** lesson 0. **Read** 30 minutes. **Run** under a minute on two cores, under 2 GB.
# **Checkpoints** `critters-autoencoder`, `fashion-autoencoder`.
# ```
#
# | symbol | in code | meaning | shape |
# |---|---|---|---|
# | $x$ | `images` | pictures in $[-1, 1]$ | (B, C, H, W) |
# | $y$ | `latents` | what the encoder makes of them, in unit size | (B, c, H/f, W/f) |
# | $f$, $c$ | `factor`, `latent_channels` | pixels along one latent cell; numbers in it | numbers |
# | $\lambda_i$ | `values` | variance of the data along the $i$-th axis of a PCA, largest first | (D,) |
# | $m$, $s^2$ | `mean`, `logvar.exp()` | the encoder's answer is a Gaussian | like $y$ |
#
# *PSNR* is $10 \log_{10} (2^2 / \text{mean squared error})$ for values in $[-1, 1]$: 6 dB less is twice the root of that error.
#
# ## 1. Do it wrong first
#
# You may keep 512 numbers. The obvious way is to keep fewer pixels: average blocks until a grid of 13x13 colours is
# left (507 numbers), and enlarge it again.


# %%
def average(images, side):
    """Keep side x side mean colours, and enlarge them smoothly."""
    return F.interpolate(F.adaptive_avg_pool2d(images, side), size=64, mode="bicubic")


parts = semantic_map(factors)  # (100, 64, 64): which part of the animal each pixel shows


def error(result, *names):
    """RMS error over all pixels, or over those of the named parts."""
    where = torch.isin(parts, torch.tensor([PARTS.index(name) for name in names or PARTS]))
    return (result.clamp(-1, 1) - images).square().mean(1)[where].mean().sqrt().item()


shrunk = average(images, 13)
at_eyes = error(shrunk, "eyes")
print(f"PSNR {psnr(shrunk, images).mean():.1f} dB; RMS error {error(shrunk):.2f}, at the eyes {at_eyes:.2f}")
assert 20 < psnr(shrunk, images).mean() < 22 and at_eyes > 2.5 * error(shrunk)
assert (parts == PARTS.index("background")).float().mean() > 0.6

# %% jupyter={"source_hidden": true} tags=["hide-input"]
corners = zip((22 + 32 * (factors.y - 0.12 * factors.size)).long().tolist(), (16 + 32 * factors.x).long().tolist())
windows = [(slice(top, top + 20), slice(left, left + 32)) for top, left in corners]


def eyes(images):
    """The 20 x 32 pixels around the eyes, enlarged."""
    return F.interpolate(torch.stack([image[:, y, x] for image, (y, x) in zip(images, windows)]), scale_factor=2)


alt = "Six faces, their eyes enlarged, the faces as smooth blobs, and the blobs' eyes, which cannot be told apart."
rows = {"picture": images, "its eyes": eyes(images), "507 numbers": shrunk, "their eyes": eyes(shrunk)}
plot.grid([row[:6] for row in rows.values()], row_labels=list(rows), alt=alt)

# %% [markdown]
# *Who looks where? The last row does not know.*
#
# The error at the eyes is more than 2.5 times the average one. An even grid spends most of its numbers on background,
# which would need hardly any, and has none left for a pupil.
#
# ## 2. A pixel knows its neighbours
#
# Why should fewer numbers do at all? Because a picture is not any 12,288 numbers. Guess a pixel as the mean of its four
# neighbours: less than 5 % of its variance remains unexplained.

# %%
train = Critters("all", seed=1)[:1500]
x = train[:100] - train[:100].mean((0, 2, 3), keepdim=True)
four = (x[:, :, 1:-1, :-2] + x[:, :, 1:-1, 2:] + x[:, :, :-2, 1:-1] + x[:, :, 2:, 1:-1]) / 4
left = (x[:, :, 1:-1, 1:-1] - four).square().mean() / x.square().mean()


def neighbours(distance):
    """Pairs of pixels so far apart, (N, 2), each with mean 0 and variance 1."""
    pairs = torch.stack([x[..., :-distance].flatten(), x[..., distance:].flatten()], dim=1).double()
    return (pairs - pairs.mean(0)) / pairs.std(0)


distances = [1, 2, 4, 8, 16, 32]
alike = [neighbours(d).T.corrcoef()[0, 1].item() for d in distances]
print(f"unexplained by four neighbours: {left:.1%}; correlations:", [round(r, 2) for r in alike])
assert left < 0.05 and alike[0] > 0.9 and alike == sorted(alike, reverse=True)

# %% [markdown]
# The smallest case has two pixels, both of variance 1, with correlation $r$. Replace them by $(a+b)/\sqrt2$ and
# $(a-b)/\sqrt2$: a rotation by 45 degrees, which loses nothing. The sum has variance $1+r$, the difference $1-r$. Keep
# the sum and forget the difference, and of the total variance 2 you lose
#
# $$\frac{1-r}{2}, \qquad \text{for half of the numbers.}$$

# %%
pairs = neighbours(1)
decoded = pairs.mean(1, keepdim=True)  # from the sum alone: both pixels are their mean
lost, predicted = (pairs - decoded).square().sum() / pairs.square().sum(), (1 - alike[0]) / 2
print(f"half of the numbers dropped; of the variance lost {lost:.2%}, predicted {predicted:.2%}")
assert abs(lost - predicted) < 1e-4 and lost < 0.04

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, axes = plot.figure(7, 2.7, ncols=2, width_ratios=[1, 1.6])
axes[0].hist2d(*pairs.T.numpy(), bins=60, cmap="Blues", norm="log")
for slope, colour in ((1, plot.COLOURS[1]), (-1, plot.COLOURS[4])):
    axes[0].plot([-2, 2], [-2 * slope, 2 * slope], color=colour, linewidth=1)
axes[0].set(xlabel="a pixel", ylabel="its neighbour", aspect="equal", title="sum and difference")
axes[1].plot(distances, alike, **plot.style(0))
axes[1].set(xscale="log", xlabel="distance in pixels", ylabel="correlation", ylim=(0, 1), title="further away")
axes[1].set_xticks(distances, [str(d) for d in distances])
plot.show(fig, alt="Pairs of neighbours crowd along the diagonal; the correlation falls from 0.93 to 0.4 at 32 pixels.")

# %% [markdown]
# *Left: the darker, the more pairs (on a logarithmic scale). Orange is the sum, black the difference. Right: even
# pixels half a picture apart are related.*
#
# ## 3. The best straight line
#
# With many pixels, *principal component analysis* (PCA) is the same step: rotate so that the coordinates are
# uncorrelated, keep the $k$ with the largest variances $\lambda_1 \ge \lambda_2 \ge \dots$, forget the rest. The mean
# squared error is then known before you decode anything:
#
# $$ \mathbb E\,\lVert x - \hat x\rVert^2 = \sum_{i > k} \lambda_i , \tag{1}$$
#
# and no other linear map to $k$ numbers and back does better (Eckart and Young, 1936). We cut pictures into blocks of
# 8x8 pixels, 192 numbers each, and keep 8 of them: $64 \cdot 8 = 512$ again.


# %%
def blocks(images):
    """(B, 3, H, W) -> (B * H/8 * W/8, 192)."""
    return F.pixel_unshuffle(images, 8).permute(0, 2, 3, 1).reshape(-1, 192)


def unblock(rows, side=8):
    return F.pixel_shuffle(rows.reshape(-1, side, side, 192).permute(0, 3, 1, 2), 8)


def axes_of(rows):
    """Mean, variances in falling order, and the axes as columns."""
    mean = rows.mean(0)
    values, axes = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
    return mean, values.flip(0), axes.flip(1)


known = blocks(train).double()
mean, values, axes = axes_of(known)


def block_pca(images, k):
    code = (blocks(images).double() - mean) @ axes[:, :k]
    return unblock(code @ axes[:, :k].T + mean).float()


measured, discarded = (blocks(block_pca(train, 8)) - known).square().sum(1).mean(), values[8:].sum()
print(f"error per block {measured:.6f}, discarded eigenvalues {discarded:.6f} of {values.sum():.1f}")
assert abs(measured / discarded - 1) < 1e-5

# %% jupyter={"source_hidden": true} tags=["hide-input"]
patterns = F.pixel_shuffle(axes[:, :24].T.reshape(24, 192, 1, 1), 8)
patterns = patterns / patterns.abs().amax((1, 2, 3), keepdim=True)
alt = "24 square patterns: three plain colours first, then ramps from edge to edge, then finer and finer waves."
plot.grid(patterns.split(12), scale=6, alt=alt)

# %% [markdown]
# *The first 24 axes, drawn as blocks. Which of them survive if you keep eight?*
#
# Nobody told PCA about colour or waves: plain colours come first, then ramps, then finer waves, much as in JPEG.
#
# A network with one linear layer to 8 numbers and one back is a *linear autoencoder*. Train it by gradient descent on
# the squared error and it must end at (1): there are saddle points on the way, but no other valley (Baldi and Hornik,
# 1989). For such a network the loss depends on the data only through their covariance, so training takes a second.


# %%
@torch.enable_grad()
def fit(parameters, loss, lr, steps):
    optimiser = torch.optim.Adam(parameters, lr=lr)
    slower = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
        slower.step()


def linear_loss():
    miss = torch.eye(192) - up @ down
    return (miss @ covariance * miss).sum()  # E |x - up down x|^2


covariance = (axes * values @ axes.T).float()
torch.manual_seed(0)
down, up = (nn.Parameter(torch.randn(shape) / 14) for shape in ((8, 192), (192, 8)))
fit([down, up], linear_loss, lr=0.02, steps=600)
ratio, square = linear_loss().item() / discarded, up.T @ up
angle = torch.linalg.svdvals(torch.linalg.qr(up.double()).Q.T @ axes[:, :8]).clamp(max=1).acos().rad2deg().max()
print(f"loss / (1): {ratio:.4f}; largest angle between the two subspaces: {angle:.2f} degrees")
assert 1 <= ratio < 1.01 and angle < 1
assert (square - square.diag().diag()).abs().max() > 0.1  # the same space, but by other, slanted axes

# %% [markdown]
# Same error, same space, other coordinates: mix the 8 numbers by any invertible matrix and let the decoder undo it, and
# the loss is the same. **A reconstruction loss does not care how the latents look.** Section 9 will have to.
#
# ## 4. What no straight line can do
#
# A picture can be simple and yet not straight. Take the simplest picture with something in it: a row of 64 pixels,
# dark on the left of an edge, bright on the right. One number, the place of the edge, says it all. For an edge at a
# random place PCA needs the axes $\sin(\pi j s)$, and the share of the variance that $k$ of them leave is
#
# $$ 1 - \sum_{j \le k} \frac{6}{(\pi j)^2} \approx \frac{0.6}{k} . \tag{2}$$
#
# Ten times less error costs ten times as many numbers. Now add one bend. The network below is linear, 64 pixels to
# **one** number and back to 64, but for a $\tanh$ at the end.

# %%
middle = (torch.arange(64) + 0.5) / 64


def edges(places):
    return (middle - places[:, None]).sign()  # (B, 64)


every = edges((torch.arange(6400) + 0.5) / 6400)
_, spread, _ = axes_of(every.double())
straight = 1 - spread.cumsum(0) / spread.sum()
predicted = 1 - torch.cumsum(6 / (math.pi * torch.arange(1, 65)) ** 2, 0)


def edge_loss():
    x = edges(torch.rand(256))
    return (bent(x) - x).square().mean()


torch.manual_seed(0)
bent = nn.Sequential(nn.Linear(64, 1), nn.Linear(1, 64), nn.Tanh())
fit(bent.parameters(), edge_loss, lr=0.1, steps=1200)
one = ((bent(every) - every).square().sum(1).mean() / spread.sum()).item()
print(f"left over: PCA with 1 number {straight[0]:.1%}, with 16 {straight[15]:.1%}; one number and a bend {one:.1%}")
assert (straight - predicted)[:16].abs().max() < 0.003 and one < straight[15]

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, ax = plot.figure(7, 2.8)
kept = torch.arange(1, 33)
ax.plot(kept, straight[:32], "o", color=plot.COLOURS[0], markersize=4, label="PCA, measured")
ax.plot(kept, predicted[:32], color=plot.COLOURS[0], label="equation 2")
ax.plot([1], [one], "s", color=plot.COLOURS[1], label="one number, one bend")
ax.axhline(one, color=plot.COLOURS[1], linestyle="--", linewidth=0.8)
ax.set(xlabel="numbers kept", ylabel="share of variance lost", xscale="log", yscale="log")
ax.set_xticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
ax.set_yticks([0.02, 0.05, 0.1, 0.2, 0.4], ["2 %", "5 %", "10 %", "20 %", "40 %"])
ax.minorticks_off()
ax.legend(frameon=False, fontsize="small")
plot.show(fig, alt="PCA's loss falls slowly along a curve; one number with a bend lies below PCA with 16 numbers.")

# %% [markdown]
# *The square at the left beats the circle at 16.*
#
# Faces are full of edges whose places move together. This is where bent, deep autoencoders earn their keep (Hinton and
# Salakhutdinov, 2006).
#
# ## 5. Ours, step by step
#
# Three ideas make the encoder of `critters-autoencoder`.
#
# - **Space to depth.** 4x4 pixels become 48 channels of one place. Nothing is computed and nothing lost; but all later
#   work happens at a sixteenth of the places (Shi et al., 2016, for the way back). Later once more by 2: $f = 8$.
# - **Convolution.** The same small map everywhere, so it learns from every place, and it works for pictures of other
#   sizes. A residual block adds two of them to its input, with `silu` as the bend.
# - **A narrow end.** 16 channels for each cell: 8 means, 8 log variances (section 9).
#
# The decoder is the mirror image. All of it, written with plain functions and the shipped weights:


# %%
def fold(x, p):
    """Space to depth: (B, C, H, W) -> (B, C p p, H/p, W/p)."""
    b, c, h, w = x.shape
    return x.reshape(b, c, h // p, p, w // p, p).permute(0, 1, 3, 5, 2, 4).reshape(b, c * p * p, h // p, w // p)


def unfold(x, p):
    b, c, h, w = x.shape
    return x.reshape(b, c // p**2, p, p, h, w).permute(0, 1, 4, 2, 5, 3).reshape(b, c // p**2, h * p, w * p)


weights = autoencoder.state_dict()


def conv(name, x):
    weight = weights[f"{name}.weight"]
    return F.conv2d(x, weight, weights[f"{name}.bias"], padding=weight.shape[-1] // 2)


def block(name, x):
    h = x
    for k in (1, 2):
        h = F.group_norm(h, 8, weights[f"{name}.norm{k}.weight"], weights[f"{name}.norm{k}.bias"])
        h = conv(f"{name}.conv{k}", F.silu(h))
    return x + h


def encode(images):
    x = block("encoder.2", conv("encoder.1", fold(images, 4)))  # (B, 64, 16, 16)
    x = block("encoder.5", conv("encoder.4", fold(x, 2)))  # (B, 160, 8, 8)
    return conv("encoder.6", x).chunk(2, dim=1)  # mean and log variance, each (B, 8, 8, 8)


def decode(raw):
    x = block("decoder.2", block("decoder.1", conv("decoder.0", raw)))  # (B, 192, 8, 8)
    x = block("decoder.5", unfold(conv("decoder.3", x), 2))  # (B, 80, 16, 16)
    x = block("decoder.8", unfold(conv("decoder.6", x), 2))  # (B, 24, 32, 32)
    return unfold(conv("decoder.9", x), 2)  # (B, 3, 64, 64)


raw, logvar = encode(images[:8])
assert torch.equal(unfold(fold(images, 4), 4), images)  # nothing was lost
for found, package in zip((raw, logvar), autoencoder.posterior(images[:8])):
    assert torch.allclose(found, package, atol=1e-4)
assert torch.allclose(decode(raw), ours[:8], atol=1e-4) and autoencoder.config.factor == 8
count = sum(weight.numel() for weight in autoencoder.parameters())
print(f"{count / 1e6:.1f} million weights; the notebook's functions and minidiff's agree")
assert count < 2.2e6

# %% [markdown]
# ### How much does one latent see?
#
# Walk through the layers with two numbers: the *width* that one value sees, and the *jump* in pixels between two
# neighbours. A convolution of $k$ places widens by $(k-1) \cdot \text{jump}$. So does a fold, which also multiplies the
# jump. Then test it: in a picture of 128x128, which pixels does one cell's gradient reach? And if you change one pixel,
# which cells move?


# %%
def receptive_field(net):
    width = jump = 1
    for layer in net.modules():  # in the order in which they run
        if isinstance(layer, nn.PixelUnshuffle):
            width, jump = width + (layer.downscale_factor - 1) * jump, jump * layer.downscale_factor
        elif isinstance(layer, nn.Conv2d):
            width += (layer.kernel_size[0] - 1) * jump
    return width


# %% jupyter={"source_hidden": true} tags=["hide-input"]
encoder = copy.deepcopy(autoencoder.encoder).double()
bare = copy.deepcopy(encoder)  # the same convolutions, without the norms
for layer in (bare[2], bare[5]):
    layer.norm1 = layer.norm2 = nn.Identity()
large = Critters("all", seed=2, size=128)[:1].double().requires_grad_()  # 16 x 16 cells
touched = large.detach().clone()
touched[..., 84, 84] += 0.5
reach, moved = {}, {}
for name, net in (("bare", bare), ("ours", encoder)):
    with torch.enable_grad():
        reach[name] = torch.autograd.grad(net(large)[0, :8, 8, 8].norm(), large)[0][0].square().sum(0)  # (128, 128)
    moved[name] = (net(touched) - net(large))[0, :8].detach().abs().amax(0)  # (16, 16)

seen = (reach["bare"] > 0).nonzero()
wide = (seen.amax(0) - seen.amin(0) + 1).tolist()
used = (reach["ours"][56:80, 56:80].sum() / reach["ours"].sum()).item()
print(f"width predicted {receptive_field(bare)}, measured {wide}; {used:.0%} of the squared gradient within 24x24")
assert wide == [receptive_field(bare)] * 2 == [80, 80] and (moved["bare"] > 0).sum() == 10 * 10 and used > 0.9
assert (moved["ours"] > 0).all() and moved["ours"][0].max() < 0.01 * moved["ours"].max()  # the norms look everywhere

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, ax = plot.figure(3.8, 3.2)
shown = ax.imshow((reach["ours"] / reach["ours"].max()).log10().clamp(min=-8).numpy(), cmap="viridis")
for side, colour in ((8, plot.COLOURS[1]), (80, "white")):
    low, high = 67.5 - side / 2, 67.5 + side / 2
    ax.plot([low, high, high, low, low], [low, low, high, high, low], color=colour)
fig.colorbar(shown, label="log10 of the squared gradient")
ax.set(xticks=[], yticks=[])
plot.show(fig, alt="A bright spot on one cell fades towards the edge of a window of 80 pixels; beyond is haze.")

# %% [markdown]
# *Orange: the cell's own 8x8 pixels. White: the 80 pixels that the layers allow.*
#
# Three answers to one question. *Allowed* are 80 pixels, more than our pictures have. *Used* are far fewer: 24 pixels
# hold over 90 % of the squared gradient, as is common (Luo et al., 2016). And strictly the cell sees **everything**,
# because group norm (Wu and He, 2018) divides by a spread that was measured over the whole picture. The haze outside is
# faint, but cut a large picture into tiles and you will meet it again.
#
# ## 6. At equal budget
#
# All rows below keep 512 numbers (the second 507). To be fair to PCA we also give it the whole picture, as ours has:
# 12,288 pixels to 512 numbers, fitted to 1,500 pictures.

# %%
flat = train.flatten(1)
centre = flat.mean(0)
sizes, small = torch.linalg.eigh((flat - centre) @ (flat - centre).T)  # (1500, 1500): the same eigenvalues, and quicker
whole_axes = (flat - centre).T @ (small / sizes.clamp(min=1e-3).sqrt()).flip(1)  # (12288, 1500)


def whole_pca(images, k):
    code = (images.flatten(1) - centre) @ whole_axes[:, :k]
    return (code @ whole_axes[:, :k].T + centre).view_as(images)


equal = {"averages": shrunk, "block PCA": block_pca(images, 8), "whole PCA": whole_pca(images, 512), "ours": ours}
alt = "Six faces above four versions: blurred blobs, mosaics of blocks, faces in a crackle of lines, clean soft faces."
plot.grid([row[:6] for row in (images, *equal.values())], row_labels=["picture", *equal], alt=alt)
dB = {name: psnr(row, images).mean().item() for name, row in equal.items()}
at_eyes = {name: error(row, "eyes", "pupils") for name, row in equal.items()}
for name in equal:
    print(f"{name:10} {dB[name]:.1f} dB; RMS error at eyes and pupils {at_eyes[name]:.2f}")
assert dB["averages"] + 1 < dB["block PCA"] < dB["whole PCA"] - 4 and dB["ours"] > dB["whole PCA"] + 3
assert at_eyes["ours"] < 0.8 * at_eyes["whole PCA"]
assert psnr(whole_pca(train[:100], 512), train[:100]).mean() > dB["whole PCA"] + 2  # what it was fitted to

# %% [markdown]
# *Compare the eyes, then the backgrounds.*
#
# Whole-picture PCA is no fool. It draws eyes where there are eyes, because all our animals stand in about the same
# place. It lives on that. Move every picture by 8 pixels, and it falls by more than 5 dB, the convolutional one by less
# than 2. It also has $12{,}288 \cdot 512$ numbers in its encoder alone, 6.3 million; ours has 2.2 million in all. And
# how many numbers would the simple ways need to draw level?

# %%
there = images.roll((8, 8), (2, 3))
moved = {"whole PCA": whole_pca(there, 512), "ours": through(there)[1]}
falls = {name: dB[name] - psnr(row, there).mean().item() for name, row in moved.items()}
print("moved by 8 pixels, dB lost:", {name: round(fall, 1) for name, fall in falls.items()})
assert falls["whole PCA"] > 5 and falls["ours"] < 2

# %% jupyter={"source_hidden": true} tags=["hide-input"]
sides, ks, whole_ks = [8, 13, 18, 25, 32, 45], [2, 4, 8, 16, 28, 40, 56], [64, 128, 256, 512, 1024]
lines = {
    "averages": ([3 * s * s for s in sides], [psnr(average(images, s), images).mean() for s in sides]),
    "block PCA": ([64 * k for k in ks], [psnr(block_pca(images, k), images).mean() for k in ks]),
    "whole PCA, 1500 pictures": (whole_ks, [psnr(whole_pca(images, k), images).mean() for k in whole_ks]),
    "ours": ([512], [quality]),
}
alt = "Quality against numbers kept: averages lowest, block PCA above, whole PCA higher, our point far above at 512."
plot.curves(lines, logx=True, xlabel="numbers kept", ylabel="PSNR, dB", alt=alt)
assert lines["block PCA"][1][5] < quality < lines["block PCA"][1][6] and lines["averages"][1][-1] < quality

# %% [markdown]
# *Start at our point and go right until you meet a line.*
#
# Block PCA draws level at about 3,000 numbers, six times as many. Averages are still behind at 6,000.
#
# ## 7. What is lost, and why it blurs
#
# Where does the error sit? And how much is left of the coarse and of the fine? For the second question, split pictures
# into waves (Fourier) and compare how strong each is before and after.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
before, after = (x - F.avg_pool2d(x, 5, 1, 2, count_include_pad=False) for x in (images, ours.clamp(-1, 1)))
near_animal = F.max_pool2d((parts != PARTS.index("background")).float()[:, None], 7, 1, 3)[:, 0] > 0
where = {name: parts == PARTS.index(name) for name in ("head", "eyes", "pupils", "mouth")}
where["whiskers"] = ~near_animal & (before.abs().amax(1) > 0.02)  # the one fine thing far from the animal
assert where["whiskers"].any() and not where["whiskers"][factors.species == 1].any()  # dogs have none

squares, left = (ours.clamp(-1, 1) - images).square().mean(1), {}
for name, here in where.items():
    old, new = before.transpose(0, 1)[:, here], after.transpose(0, 1)[:, here]
    left[name] = (old * new).sum() / old.square().sum()  # 1: as it was, 0: nothing
    size, share = here.float().mean(), squares[here].sum() / squares.sum()
    print(f"{name:9} {size:5.1%} of the pixels, {share:4.0%} of the error, {left[name]:4.0%} of local contrast left")
look = where["eyes"] | where["pupils"]
assert look.float().mean() < 0.05 and squares[look].sum() > 0.2 * squares.sum()
assert left["pupils"] > 0.75 and abs(left["whiskers"]) < 0.05

# %% jupyter={"source_hidden": true} tags=["hide-input"]


def power(x):
    """Strength of the waves with 1, 2, ..., 32 periods per picture."""
    waves = torch.fft.fft2(x - x.mean((2, 3), keepdim=True)).abs().square().mean((0, 1))
    periods = 64 * (torch.fft.fftfreq(64)[:, None].square() + torch.fft.fftfreq(64).square()).sqrt()
    return torch.stack([waves[periods.round() == k].sum() for k in range(1, 33)])


survives = {name: power(equal[name].clamp(-1, 1)) / power(images) for name in ("averages", "ours")}
alt = "Share of power that survives: ours stays near 1 up to 10 periods and falls to 0.3; averages are at 0 from 10 on."
plot.curves(survives, x=range(1, 33), xlabel="periods per picture (right: fine)", ylabel="power that is left", alt=alt)
ours_left, averages_left = survives["ours"], survives["averages"]
assert ours_left[:4].min() > 0.98 and ours_left[-4:].mean() < 0.5 and averages_left[10:].max() < 0.2

# %% jupyter={"source_hidden": true} tags=["hide-input"]
worst = psnr(ours, images).argsort()[:6]
gap = (ours - images)[worst].abs().mean(1, keepdim=True)
alt = "The six worst pictures, decoded without whiskers and with smeared spots, and maps of the error along outlines."
rows = {"worst": images[worst], "decoded": ours[worst], "error": 4 * gap - 1}
plot.grid(list(rows.values()), row_labels=list(rows), alt=alt)
print("their PSNR in dB:", [round(v, 1) for v in psnr(ours, images)[worst].tolist()])
assert psnr(ours, images)[worst].max() < quality - 1

# %% [markdown]
# *The six worst of a hundred. White in the last row is where it went wrong.*
#
# Error sits on outlines and on what is thin or small. Eyes and pupils fill under 5 % of the pixels and hold over 20 %
# of the error. Of the whiskers nothing is left, though they are drawn on two species of three. The fine waves come
# back at less than half their power: the picture is **blurred**. Is 512 too few? Yes, but blur is how *this loss*
# spends a shortage.
#
# Suppose the decoder must paint one pixel, and the latents leave two answers open: bright ($+1$) with probability $p$,
# dark ($-1$) otherwise. Which single value $a$ is best on average?
#
# - squared error: the mean, $a = 2p-1$;
# - absolute error: the median, $+1$ or $-1$, whichever is likelier;
# - the loss of our recipe, $\lvert e\rvert + 4 e^2$: set the derivative to zero and find $a = \tfrac98 (2p-1)$, clipped.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chances, answers = torch.linspace(0, 1, 101), torch.linspace(-1, 1, 2001)[:, None]
to_bright, to_dark = answers - 1, answers + 1
costs = {
    "squared error": (to_bright.square(), to_dark.square()),
    "absolute error": (to_bright.abs(), to_dark.abs()),
    "our recipe": tuple(distortion(answers, truth * torch.ones_like(answers))[:, None] for truth in (1, -1)),
}
best = {name: answers[(chances * up + (1 - chances) * down).argmin(0), 0] for name, (up, down) in costs.items()}
alt = "The best answer against p: a straight line for squares, a jump at one half for absolute error, ours in between."
plot.curves(best, x=chances, xlabel="p: how likely the pixel is bright", ylabel="best answer", size=(6, 2.6), alt=alt)
assert (best["squared error"] - (2 * chances - 1)).abs().max() < 2e-3
assert (best["our recipe"] - (9 / 8 * (2 * chances - 1)).clamp(-1, 1)).abs().max() < 2e-3
unsure = (chances - 0.5).abs() > 0.01
assert torch.equal(best["absolute error"][unsure].sign(), (chances - 0.5)[unsure].sign())

# %% [markdown]
# *At p = 0.3 two of the three answer with a grey that is never right.*
#
# A whisker that may be here or a pixel further is painted as a faint broad smear. No wrong weight is to blame; the mean
# is the best answer to the wrong question. Latent diffusion therefore adds two losses that ask other questions: a
# *perceptual* one compares the features of a network, an *adversarial* one asks whether a picture looks drawn at all.
# Our recipes know both (`perceptual_weight`, `adversary_weight`); the shipped autoencoder uses neither.
#
# ## 8. What one latent cell does
#
# Go the other way: change one number of one cell and see which pixels move.


# %%
def push_cell(latents, row, column, channel, amount):
    pushed = latents.clone()
    pushed[:, channel, row, column] += amount
    return autoencoder.decode(pushed)


own, near = [], []
for row, column, channel in itertools.product((2, 3, 4), (3, 4), range(8)):
    change = (push_cell(latents[:8], row, column, channel, 1) - ours[:8]).square().sum((0, 1))  # (64, 64)
    y, x = 8 * row, 8 * column
    own.append(change[y : y + 8, x : x + 8].sum() / change.sum())
    near.append(change[y - 8 : y + 16, x - 8 : x + 16].sum() / change.sum())
own, near = torch.stack(own).mean(), torch.stack(near).mean()
print(f"of the squared change, {own:.0%} in the cell's own 8x8 pixels, {near:.0%} within 24x24")
assert 0.4 < own < 0.6 and near > 0.93

# %% [markdown]
# So a latent is a *place*: half of what it does happens on its own 8x8 pixels, nearly all within 24x24. Click a cell.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
channel = widgets.IntSlider(value=0, min=0, max=7, description="channel")
push = widgets.FloatSlider(value=3, min=-4, max=4, step=0.5, description="push")
cells = [widgets.Button(description=f"{i // 8},{i % 8}", layout={"width": "42px", "margin": "0"}) for i in range(64)]
canvas, chosen = widgets.HTML(), [3, 3]


def redraw(event=None):
    with torch.inference_mode():
        after = push_cell(latents[4:5], *chosen, channel.value, push.value)
    row = torch.cat([ours[4:5], after, after - ours[4:5]])
    alt = f"A cat before and after channel {channel.value} of cell {tuple(chosen)} moved by {push.value}, and what changed."
    canvas.value = plot.grid(row, column_labels=["before", "after", "change"], alt=alt, display=False).html


def click(button):
    chosen[:] = map(int, button.description.split(","))
    redraw()


for cell in cells:
    cell.on_click(click)
for slider in (channel, push):
    slider.observe(redraw, "value")
redraw()
board = widgets.VBox([widgets.HBox(cells[i : i + 8]) for i in range(0, 64, 8)])
widgets.HBox([board, widgets.VBox([channel, push, canvas])])

# %% jupyter={"source_hidden": true} tags=["hide-input"]
first = canvas.value
cells[8 * 5 + 4].click()  # what your hand does
second, push.value = canvas.value, -3
assert first != second != canvas.value and "cell (5, 4) moved by -3" in canvas.value

# %% jupyter={"source_hidden": true} tags=["hide-input"]
rows = [torch.cat([push_cell(latents[4:5], 3, 3, k, amount) for k in range(8)]) for amount in (-3, 3)]
crop = [row[..., 12:52, 10:50] for row in rows]
alt = "One cat, sixteen times: each of eight channels of the cell at its left eye pushed down and up recolours that place."
plot.grid(crop, row_labels=["push -3", "push +3"], column_labels=[f"channel {k}" for k in range(8)], alt=alt)
spots = [(row - ours[4]).abs().mean((1, 2, 3)) for row in rows]
assert min(spot.min() for spot in spots) > 0.005  # every channel does something

# %% [markdown]
# *The static copy: cell (3, 3), all eight channels, both ways. No channel is "the eye"; together they are.*
#
# ## 9. Room for noise
#
# A diffusion model will not hand the decoder exactly what the encoder made. Its latents are a little off, always. So we
# ask four things of latents: enough of the picture in them, **no cliffs** (near latents, near pictures), **unit size**,
# because the noise of lesson 4 has size 1, and the **coarse in the coarse** (section 10).
#
# *KL regularisation* (Kingma and Welling, 2014) sees to the second. The encoder answers with a Gaussian, $\mathcal
# N(m, s^2)$ for each number. Training decodes a **sample** of it, and pays a little for
#
# $$ \mathrm{KL}\big(\mathcal N(m, s^2)\,\Vert\,\mathcal N(0, 1)\big) = \tfrac12\,(m^2 + s^2 - 1 - \log s^2). \tag{3}$$
#
# A small $s$ costs, so a number that matters little is left noisy, and the decoder learns to live with it.

# %%
raw, logvar = autoencoder.posterior(images)
assert torch.allclose(kl(raw, logvar), 0.5 * (raw**2 + logvar.exp() - 1 - logvar).sum((1, 2, 3)))
spread = ((0.5 * logvar).exp() / autoencoder.scale[:, None, None]).mean().item()
noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
levels = [0.0, 0.03, 0.1, 0.3, 1.0]
noisy = {level: autoencoder.decode(latents + level * noise) for level in levels}
quality_at = [psnr(row, images).mean().item() for row in noisy.values()]
sampled = psnr(autoencoder.decode(autoencoder.encode(images, seeds=0)), images).mean().item()
print(f"s in unit latents {spread:.3f}; PSNR of a sample {sampled:.2f} dB, of the mean {quality_at[0]:.2f} dB")
print("PSNR with noise:", {level: round(value, 1) for level, value in zip(levels, quality_at)})
bits = autoencoder.bits(images).mean()
print(f"bits: {bits:.0f} for a sample of the latents, {8 * images[0].numel()} for plain bytes")
assert 0.02 < spread < 0.05 and quality_at[0] - sampled < 0.5 and quality_at == sorted(quality_at, reverse=True)
assert quality_at[2] > quality_at[0] - 1.5 and 2000 < bits < 3200

# %% jupyter={"source_hidden": true} tags=["hide-input"]
alone = autoencoder.decode(noise[:3])
alt = "Three faces as noise is added to their latents: unharmed at 0.1, stained at 0.3, dissolving at 1; noise alone is blots."
columns = [f"noise {level}" for level in levels] + ["only noise"]
plot.grid([torch.stack([*(noisy[v][k] for v in levels), alone[k]]) for k in range(3)], column_labels=columns, alt=alt)

# %% [markdown]
# *No cliff anywhere: the picture dissolves slowly. Look at the last column, too.*
#
# The noise that training used costs less than half a decibel; three times as much, about one. A count by (3), in
# bits: a sample of the latents is worth about 2,500 bits, the plain bytes 98,304. That is another answer to the
# question of this lesson, and lesson 3 is about it.
#
# The last column is a warning. Unit size does not make latents white noise. `decode(randn)` is no animal, and the
# **diffusion model is what fills this gap**.
#
# ### The size
#
# Section 3 said that a reconstruction loss does not care about size. The KL does. Let the encoder multiply $m$ and $s$
# by $g$ and the decoder divide: the same pictures. The average of (3) becomes $\tfrac12\,(g^2\,\mathbb E[m^2+s^2] -
# \log g^2)$ and a constant, which is least where $g^2\,\mathbb E[m^2+s^2] = 1$. However small its weight, KL draws
# every channel towards unit size. Ours came within 25 %.

# %%
prices = {g: kl(g * raw, logvar + 2 * math.log(g)).mean().item() for g in (0.2, 0.5, 1.0, 2.0, 5.0)}
print("nats per picture if all latents were g times as large:", {g: round(price) for g, price in prices.items()})
print("size of the channels before scaling:", [round(v, 2) for v in autoencoder.scale.tolist()])
assert min(prices, key=prices.get) == 1.0 and (autoencoder.scale - 1).abs().max() < 0.25

# %% [markdown]
# The rest is measured once, after training, and kept in the autoencoder: `encode` divides by it, `decode` multiplies.
# One pass over the pictures, three sums per channel. The variance of a sample is the variance of the means plus the
# mean of the variances. The naive way, averaging the stds of batches, is **wrong**: pictures within a small batch
# differ less than pictures do.

# %%
batches = [*train[:50].split(1), train[50:200]]  # of unequal sizes
count, total, square = 0, 0.0, 0.0
for batch in batches:
    m, log_s2 = autoencoder.posterior(batch)
    count += m[:, 0].numel()
    total, square = total + m.sum((0, 2, 3)), square + (m**2 + log_s2.exp()).sum((0, 2, 3))
scale = (square / count - (total / count) ** 2).sqrt()

package = copy.deepcopy(autoencoder)
package.fit_scale(batches)
naive = torch.stack([autoencoder.posterior(batch)[0].std((0, 2, 3)) for batch in batches]).mean(0)
print("naive / right:", [round(v, 2) for v in (naive / scale).tolist()])
assert torch.allclose(scale, package.scale, rtol=1e-4) and (naive / scale).mean() < 0.9
assert (latents.std((0, 2, 3)) - 1).abs().max() < 0.1  # the shipped scale, on held-out pictures

# %% [markdown]
# A batch of one picture says, on average, too small a std. A schedule of noise is made for size 1 (lesson 4 shows what
# another size does), and Stable Diffusion carries its number, 0.18215, beside the weights. Forget it and nothing
# complains.
#
# ## 10. Between two pictures, and half a picture
#
# Latents can be averaged. Does the average of two pictures' latents mean anything? The world is drawn, so we can ask
# precisely: the same animal twice, $d$ pixels apart. The right answer stands in the middle. The rival is a cross-fade
# of the two *decoded* pictures.


# %%
middle_of = {"in latents": [], "cross-fade": []}
for d in (1, 2, 4, 8, 12):
    sides = [render(factors[:24].replace(x=side * d / 64)) for side in (-1, 1)]
    truth = render(factors[:24].replace(x=0.0))
    (y, a), (w, b) = map(through, sides)
    middle_of["in latents"].append(psnr(autoencoder.decode((y + w) / 2), truth).mean().item())
    middle_of["cross-fade"].append(psnr((a + b) / 2, truth).mean().item())
for name, row in middle_of.items():
    print(f"{name:10} d = 1, 2, 4, 8, 12 pixels:", [round(v, 1) for v in row], "dB")
gain = [inside - outside for inside, outside in zip(*middle_of.values())]
assert min(gain[1:3]) > 2 and max(gain[3:]) < 1

# %% jupyter={"source_hidden": true} tags=["hide-input"]
pairs = [(0, 6), (3, 9), (5, 11)]
fade = torch.stack([(ours[i] + ours[j]) / 2 for i, j in pairs])
inside = autoencoder.decode(torch.stack([(latents[i] + latents[j]) / 2 for i, j in pairs]))
columns = [images[[i for i, _ in pairs]], fade, inside, images[[j for _, j in pairs]]]
alt = "Three pairs of strangers; between each, a double exposure by cross-fade, and a muddled single face by latents."
labels = ["a", "cross-fade", "latents", "b"]
plot.grid([torch.stack(row) for row in zip(*columns)], column_labels=labels, scale=1.5, alt=alt)

# %% [markdown]
# *Between strangers neither column shows an animal that anyone would draw.*
#
# Over 2 or 4 pixels the latents win by more than 2 dB: within a cell a small move is a small, almost straight change.
# Over 8 pixels, a cell's width, they win nothing. **Smooth is not the same as meaningful.** Latents are a smaller
# picture, not a list of meanings. A space in which the middle between two animals is an animal comes with lesson 8.
#
# ### Half a picture
#
# One more line of our recipe. For nearly half of the training every second picture is decoded once more, from
# latents averaged over 2x2 cells, and the truth is then the picture at half the resolution (Skorokhodov et al., 2025).
# Why? A denoiser that sees mostly noise can only make out what is coarse in the latents. If coarse latents mean coarse
# pictures, it settles those first. We compare with two ways to do without: average the codes of four blocks in PCA, or
# let our encoder read the half-sized picture.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
small = halve(images)
code = ((blocks(images).double() - mean) @ axes[:, :8]).reshape(100, 8, 8, 8).permute(0, 3, 1, 2)
code = halve(code).permute(0, 2, 3, 1).reshape(-1, 8)
half = {
    "ours, latents halved": autoencoder.decode(halve(latents)),
    "ours, picture halved": through(small)[1],
    "block PCA, code halved": unblock(code @ axes[:, :8].T + mean, side=4).float(),
}
reached = {name: psnr(row, small).mean().item() for name, row in half.items()}
print({name: f"{value:.1f} dB" for name, value in reached.items()})
assert reached["ours, latents halved"] > max(list(reached.values())[1:]) + 0.5

# %% jupyter={"source_hidden": true} tags=["hide-input"]
alt = "Eight faces at half size; from halved latents soft but whole; from the small picture harsh; from PCA in blocks."
rows = [F.interpolate(row[:8], scale_factor=2) for row in (small, *half.values())]
plot.grid(rows, row_labels=["truth", *half], alt=alt)

# %% [markdown]
# *All rows are 32x32 pixels, enlarged.*
#
# Averaged latents are latents of the smaller picture, because the decoder was once asked for it. (Later it practised full
# size only, and forgot a part.) The encoder was never asked to *read* small pictures, and loses a decibel more.
#
# ## 11. What has it learnt?
#
# First, that all this is no matter of drawings: `fashion-autoencoder`, the same code with $f = 4$ and $c = 4$, on
# photographs. Then the test that every autoencoder should see: pictures from elsewhere. We compare with block PCA,
# which learnt from the same animals but is too simple to learn much.

# %%
shoe_autoencoder = minidiff.load("fashion-autoencoder")
shoes = FashionMNIST("subset")[torch.arange(0, 256, 4)]  # (64, 1, 32, 32)
shoe_latents = shoe_autoencoder.encode(shoes)
worn = shoe_autoencoder.decode(shoe_latents)
print(f"Fashion-MNIST: {shoes[0].numel()} -> {shoe_latents[0].numel()} numbers, {psnr(worn, shoes).mean():.1f} dB")
assert shoe_latents.shape[1:] == (4, 8, 8) and psnr(worn, shoes).mean() > 29

# %% jupyter={"source_hidden": true} tags=["hide-input"]
seed = torch.Generator().manual_seed(0)
foreign = {
    "critters": images[:32],
    "upside down": images[:32].flip(2),
    "negative": -images[:32],
    "sneakers": F.interpolate(shoes[:16], size=64, mode="bilinear").expand(-1, 3, -1, -1),
    "soft noise": F.interpolate(torch.rand(16, 3, 8, 8, generator=seed) * 2 - 1, size=64, mode="bicubic"),
}
away = {name: [psnr(row, x).mean().item() for row in (through(x)[1], block_pca(x, 8))] for name, x in foreign.items()}
for name, (bent_one, straight_one) in away.items():
    print(f"{name:12} ours {bent_one:.1f} dB, block PCA {straight_one:.1f} dB")
assert away["critters"][0] - away["critters"][1] > 7 and away["upside down"][0] < away["critters"][0] - 4
assert away["sneakers"][0] < away["sneakers"][1] - 1 and away["soft noise"][0] < away["soft noise"][1] - 1
assert max(abs(away[name][1] - away["critters"][1]) for name in ("upside down", "negative")) < 0.2

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chosen_ones = torch.cat([foreign["critters"][1:2], *(x[1:2] for name, x in foreign.items() if name != "critters")])
big = F.interpolate(torch.cat([shoes[8:9], shoes[40:41]]), size=64).expand(-1, 3, -1, -1)
own = F.interpolate(torch.cat([worn[8:9], worn[40:41]]), size=64).expand(-1, 3, -1, -1)
rows = [torch.cat([big, chosen_ones]), torch.cat([own, through(chosen_ones)[1]])]
labels = ["photograph", "photograph", *foreign]
alt = "Two photographs come back well from their own autoencoder; ours mends a face but spoils one upside down and a shoe."
plot.grid(rows, row_labels=["picture", "decoded"], column_labels=labels, alt=alt)

# %% [markdown]
# *The first two columns use the autoencoder of clothes, the others ours. What became of the mouth that is on top?*
#
# On its own world ours leads by more than 7 dB. It has learnt so much about animals that it expects them: on their
# heads they lose over 4 dB, and a sneaker it decodes *worse* than PCA does. **It has not learnt pictures; it has
# learnt Critters.** The gain over PCA is knowledge, and knowledge is about something. Before you trust a latent model
# with your own pictures, look at what its autoencoder alone makes of them.
#
# ## 12. What would you see if ...
#
# One row is right. Each of the others has one fault of a kind that happens in real projects:
#
# pictures in $[0, 1]$ instead of $[-1, 1]$ · height and width of the latents exchanged · decoded values turned into
# bytes without clamping · latents enlarged twofold in order to enlarge the picture · the picture encoded in four tiles
# · latents rounded to whole numbers.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
four, z = images[2:6], latents[2:6]
tiles = [torch.cat([through(tile)[1] for tile in band.split(32, 3)], dim=3) for band in four.split(32, 2)]
right = autoencoder.decode(z)
made = {
    "A": torch.cat(tiles, dim=2),
    "B": autoencoder.decode(z.transpose(2, 3)),
    "C": 2 * through((four + 1) / 2)[1] - 1,
    "D": right,
    "E": ((right + 1) * 127.5).round().long().remainder(256) / 127.5 - 1,
    "F": autoencoder.decode(z.round()),
    "G": halve(autoencoder.decode(F.interpolate(z, scale_factor=2.0, mode="bilinear"))),
}
alt = "Seven rows of four animals: two look almost right, others are torn, dotted, speckled or woven like cloth."
plot.grid(list(made.values()), row_labels=list(made), scale=1.4, alt=alt)
near = {letter: round(psnr(row, four).mean().item(), 1) for letter, row in made.items()}
print("dB:", near)
assert max(near, key=near.get) == "D" and near["D"] - 7 < near["C"] < near["D"] - 3
assert near["B"] < 16 and near["G"] < 20 and max(near["A"], near["E"]) < 23 < near["F"] < near["D"] - 3

# %% [markdown]
# ```{dropdown} Answers
# - **A**, four tiles. Each tile ends in padding and has its own norms: a cross of seams, and eyes that do not fit. (Large
#   pictures are tiled with overlap.)
# - **B**, height and width exchanged. Shapes fit, nothing complains.
# - **C**, $[0, 1]$. Paler pictures of half the contrast are still in the family. You see a faint net, and lose 6 dB.
# - **D** is right.
# - **E**, no clamp. The decoder overshoots a little; 257 becomes 1, and white turns dark.
# - **F**, rounded. Faces survive, colours slip: a first taste of a *quantiser* (lesson 3).
# - **G**, enlarged latents. A cell's neighbours are part of its meaning; interpolated cells are no cells.
# ```
#
# ## Summary
#
# 1. Pixels are wasteful because neighbours agree. PCA is the best straight way to use it, and its error is the sum of
#    the discarded eigenvalues.
# 2. Edges that move are not straight. One number with a bend beats sixteen without.
# 3. Ours keeps 512 of 12,288 numbers: two folds, a few convolutions, 8 channels for each 8x8 pixels. Block PCA needs
#    about six times as many.
# 4. Pixel losses answer doubt with the mean. Eyes get soft, whiskers vanish.
# 5. For diffusion, latents must bear noise, have unit size and keep the coarse in the coarse. They are still no noise,
#    and they know only their world.
#
# | here | in Hugging Face diffusers |
# |---|---|
# | `Autoencoder`, `AutoencoderConfig` | `AutoencoderKL`, its `block_out_channels`, `latent_channels` |
# | `encode(images)`, `encode(images, seeds=0)` | `vae.encode(x).latent_dist.mode()`, `.sample()`, not yet scaled |
# | `decode(latents)` | `vae.decode(latents / scaling_factor + shift_factor).sample` |
# | `autoencoder.scale`, `autoencoder.shift`, per channel | `1 / vae.config.scaling_factor`, `shift_factor`, one number |
# | space to depth | convolutions of stride 2 |
#
# ## Open questions
#
# 1. On the 1,500 pictures that it was fitted to, whole-picture PCA does better than on new ones. With more pictures the
#    two figures meet. Where? From which side does each come, and why is that a proof?
# 2. `bent` found the place of one edge. What does it need for two edges? For an edge in a picture of 8x8 pixels that may
#    also turn?
# 3. Whiskers are lost because they cost more than they are worth to a squared error. How would you measure whether a
#    model that invents plausible whiskers is better?
#
# ## References
#
# - R. Rombach, A. Blattmann, D. Lorenz, P. Esser, B. Ommer. *High-Resolution Image Synthesis with Latent Diffusion
#   Models.* CVPR 2022. arXiv:2112.10752.
# - C. Eckart, G. Young. *The Approximation of One Matrix by Another of Lower Rank.* Psychometrika 1, 1936.
# - P. Baldi, K. Hornik. *Neural Networks and Principal Component Analysis: Learning from Examples without Local Minima.*
#   Neural Networks 2, 1989.
# - G. Hinton, R. Salakhutdinov. *Reducing the Dimensionality of Data with Neural Networks.* Science 313, 2006.
# - D. Kingma, M. Welling. *Auto-Encoding Variational Bayes.* ICLR 2014. arXiv:1312.6114.
# - W. Shi et al. *Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural
#   Network.* CVPR 2016. arXiv:1609.05158.
# - W. Luo, Y. Li, R. Urtasun, R. Zemel. *Understanding the Effective Receptive Field in Deep Convolutional Neural
#   Networks.* NeurIPS 2016. arXiv:1701.04128.
# - Y. Wu, K. He. *Group Normalization.* ECCV 2018. arXiv:1803.08494.
# - I. Skorokhodov, S. Girish, B. Hu, W. Menapace, Y. Li, R. Abdal, S. Tulyakov, A. Siarohin. *Improving the
#   Diffusability of Autoencoders.* ICML 2025. arXiv:2502.14831.
# - H. Xiao, K. Rasul, R. Vollgraf. *Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms.*
#   2017. arXiv:1708.07747.
#
# *This lesson is licensed under CC BY 4.0.*
