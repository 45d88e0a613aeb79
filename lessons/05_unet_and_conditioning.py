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
# # 5. The U-Net, and how it is told what to draw
#
# **What is inside the U-Net, and how is it told what to draw?**
#
# In lesson 4 the denoiser was a box: noisy latents and a noise level go in, a guess of the clean latents comes out. Now we
# open the box. Then we give it a second input, and it draws to a caption, fills in a map, enlarges a small picture or
# completes half a face.

# %%
import math

import ipywidgets as widgets
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import minidiff
from minidiff import plot
from minidiff.data.captions import attributes_of, compose, parse
from minidiff.data.critters import COMMON_RATES, Critters, semantic_map
from minidiff.data.degradations import shrink
from minidiff.data.renderer import PARTS
from minidiff.data.tokens import Tokenizer
from minidiff.denoiser import to_prediction
from minidiff.evaluation.attributes import words_right
from minidiff.evaluation.clip_scores import retrieval
from minidiff.evaluation.metrics import psnr
from minidiff.ideal import IdealDenoiser
from minidiff.inpaint import inpaint, paste
from minidiff.nets.blocks import CrossAttention, ResBlock, SelfAttention, time_embedding, watching
from minidiff.nets.segmenter import mean_iou
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.samplers import DDIM, decode_code, random_code
from minidiff.schedule import linear, step_grid
from minidiff.seeds import normal

torch.set_grad_enabled(False)
LINEAR = linear()
cat = minidiff.load("critters-cat").replace(steps=20, eta=1.0)
text, maps = (minidiff.load(name).replace(steps=25) for name in ("critters-text", "critters-maps"))
world = Critters("all", seed=2, rates=COMMON_RATES)  # pictures that no model was trained on
images, factors = world[:16], world.factors(slice(16))
said = attributes_of(factors)
captions = [compose(attributes) for attributes in said]
layout, small, half = semantic_map(factors), shrink(images, 4), torch.zeros(16, 1, 64, 64)
half[..., 32:] = 1  # 1 where the picture is known
coloured = plot.layout(layout)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
ways = {
    "caption": (text, {"text": captions}, torch.ones_like(images)),
    "map": (maps, {"layout": layout}, coloured),
    "small": (maps, {"low_res": small}, F.interpolate(small, 64)),
    "half": (maps, {"known": (images, half)}, images * half),
}
columns = []
for k, (model, given, shown) in enumerate(ways.values()):  # each way with a picture of its own, the k-th
    drawn = model.given(**given).rows(slice(k, k + 1)).sample(2, seeds=50)
    columns.append(torch.stack([shown[k], *drawn, images[k]]))
names = ["told", "drawn", "drawn again", "truth"]
alt = "A caption (printed below), a map, a small picture, half a picture; under each two answers and the truth."
plot.grid(list(torch.stack(columns, 1)), row_labels=names, column_labels=list(ways), alt=alt)
print("caption:", captions[0])
apart = {way: (column[1] - column[2]).square().mean().item() for way, column in zip(ways, columns)}
print("mean squared difference of the two answers:", {way: round(value, 3) for way, value in apart.items()})
assert min(apart.values()) == apart["small"]

# %% [markdown]
# *Top: what the model was told (the caption is printed below the pictures). Middle: two answers, from two noises. Bottom:
# the held-out picture behind the question. What the question leaves open, the model may invent. Compare the two answers:
# to the small picture they are nearly one. The map leaves the colours open, the caption shape and place as well.*
#
# ```{tip}
# **After this lesson you can**
# 1. name the parts of a U-Net, rebuild its forward pass, and say what is lost without each part;
# 2. write attention in seven lines and prove what it does to order, to masked tokens and to cost;
# 3. say in closed form what a condition adds to a denoiser, and pick the right route for a caption, a map or a hole.
#
# **Needs** lesson 4. **Read** 30 minutes. **Run** under a minute on two cores, under 3 GB.
# **Checkpoints** `critters-cat`, `critters-text`, `critters-maps`, `critters-clip`, `critters-probe`,
# `critters-segmenter`, `critters-autoencoder`.
# ```
#
# | symbol | in code | meaning | shape |
# |---|---|---|---|
# | $x_t$ | `x` | noisy latents, or what has become of them inside the network | (B, C, H, W) |
# | $Q$, $K$, $V$ | `q`, `k`, `v` | queries, keys and values of attention | (B, heads, n or m, d) |
# | $\tau$ | `tokens`, `mask` | what the network attends to, and which of it is there | (B, L, W), (B, L) |
# | $o = H x_0 + n$ | `seen` | an observation of the clean data (elsewhere $y$, our letter for latents) | (B, M) |
#
# ## 1. Do it wrong first
#
# What must a denoiser look at? Nearby things, you would think: edges, fur, the rim of an eye. So let each place see its
# own neighbourhood and no more. How good that can be needs no training. Let 500 cats be all the data there are. The best
# guess at a place is then an average of these cats, weighted by how well each explains the noisy window around it. (Kamb
# and Ganguli, 2025, predict in this way what convolutional networks draw.)


# %%
def window(known, size):
    """The best denoiser of the known latents (N, c, h, w) whose every place sees a window of `size` places across."""

    def denoise(x_t, t):
        signal, noise = LINEAR.levels(t, x_t)
        miss = (x_t[:, None] - signal * known).square().sum(2)  # (B, N, h, w)
        miss = F.avg_pool2d(miss, size, 1, size // 2, divisor_override=1)  # summed over the window
        x0 = torch.einsum("bnhw,nchw->bchw", (-miss / (2 * noise**2)).softmax(1), known)
        return to_prediction("x0", x_t, x0, signal, noise)

    return denoise


known = cat.to_latents(Critters("cat", seed=1)[:500])
x = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
everything = IdealDenoiser(LINEAR, known, std=0.0)  # the data are these 500 points and nothing else
assert torch.allclose(window(known, 15)(x, 600).x0, everything(x, 600).x0, atol=1e-3)

code = cat.random_code(8, seeds=40)
drawn = {f"window {size}": decode_code(window(known, size), cat.sampler, cat.grid, code) for size in (3, 15)}
drawn["the U-Net"] = cat.decode_latents(code)
views = {name: cat.to_images(latents) for name, latents in drawn.items()}
alt = "Window 3: faces and grounds like patchwork. Window 15 and the U-Net: whole cats."
plot.grid(list(views.values()), row_labels=list(views), alt=alt)

corners = [(p[..., 2:8, 2:8].mean((2, 3)) - p[..., 2:8, -8:-2].mean((2, 3))).abs().mean() for p in views.values()]
copied = [(torch.cdist(y.flatten(1), known.flatten(1)).amin(1) ** 2 / 512).mean() for y in drawn.values()]
for name, torn, near in zip(views, corners, copied):
    print(f"{name:9} upper corners differ by {torn:.3f}, squared distance to the nearest known cat {near:.3f}")
assert corners[0] > 0.1 and max(corners[1:]) < 0.03 and copied[1] < 0.001 and copied[2] > 0.1

# %% [markdown]
# *Look at the backgrounds of the first row, then at its eyes. Every patch is fine; nothing agrees with anything.*
#
# With a window of 3 places the left does not know what the right decided. With a window of 15, which covers everything,
# all agree, because each picture *is* one of the 500 known cats. A denoiser has to see **near and
# far**, and to be **not too exact**: it must find rules where the formula keeps a list. The U-Net (Ronneberger et al.,
# 2015, made for cells under a microscope; Ho et al., 2020, made it a denoiser) is one answer.
#
# ## 2. The U-Net, part by part
#
# ### The way through
#
# Down one level, where a step reaches twice as far; through the middle; up again. At each level a copy is handed across,
# a **skip**:
#
# ```
# 8 x 8    x -- first -- down.0 ---------- skip ---------- up.0 -- last -- v
#                           |                                |
#                        shrink.0                          grow.0
#                           |                                |
# 4 x 4                  down.1 ---------- skip ---------- up.1
#                           |                                |
#                           +------------ middle ------------+
# ```
#
# Here is the forward pass by hand, from the network's own parts. (Its three switches are for later.)


# %%
def walk(net, x, t, upper_skip=1, lower_skip=1, below=1):
    time = net.time(time_embedding(t, net.config.channels[0]))  # (B, 256)
    upper = net.down[0](net.first(x), time)  # (B, 96, 8, 8)
    lower = net.down[1](net.shrink[0](upper), time)  # (B, 192, 4, 4)
    h = net.middle(lower, time)
    h = net.up[1](torch.cat([h, lower_skip * lower], dim=1), time)  # 384 channels in, 192 out
    h = net.up[0](torch.cat([below * net.grow[0](h), upper_skip * upper], dim=1), time)  # 192 in, 96 out
    return net.last(F.silu(net.norm(h)))  # (B, 8, 8, 8)


net, t = cat.denoiser.net, torch.tensor([10, 700])
assert torch.equal(walk(net, x, t), net(x, t))
total = sum(p.numel() for p in net.parameters())
low = sum(p.numel() for part in (net.down[1], net.middle, net.up[1]) for p in part.parameters())
print(f"{total / 1e6:.1f} M weights, {low / total:.0%} of them on the lower level")
assert 0.74 < low / total < 0.8

# %% [markdown]
# Three quarters of the weights sit below, where there are only 16 places to apply them to: there knowledge is cheap.
#
# ### What the skips carry
#
# A stage on the way up receives two things, what comes from below and the skip. Switch one of them off. (Crude: a network
# trained that way would do better. But it shows what travels where.)

# %%
cats, cat_factors = Critters("cat", seed=2)[:6], Critters("cat", seed=2).factors(slice(6))
latents = cat.to_latents(cats)
noisy = LINEAR.add_noise(latents, torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)), 200)
guesses = {"whole": cat.denoiser(noisy, 200).x0}
for switch in ("upper_skip", "lower_skip", "below"):
    v = walk(net, noisy, torch.full((6,), 200), **{switch: 0})
    guesses["no " + switch.replace("_", " ")] = to_prediction("v", noisy, v, *LINEAR.levels(200, noisy)).x0
alt = "Six noisy cats cleaned in one call: well by the whole; speckled without the upper skip; ghosts without below."
plot.grid([cats, *map(cat.to_images, guesses.values())], row_labels=["truth", *guesses], alt=alt)
loss = {name: (guess - latents).square().mean().item() for name, guess in guesses.items()}
print("mean squared error of the guess at t = 200:", {name: round(value, 3) for name, value in loss.items()})
assert min(loss["no upper skip"], loss["no below"]) > 3 * loss["whole"] > 2.5 * loss["no lower skip"]

# %% [markdown]
# *One call of the network each, at $t = 200$. What is left in the third row, and what in the last?*
#
# Without the upper skip you get the right cat under speckles: the network no longer knows which noise sat where, so it
# cannot take it away. Without what comes from below you get clean grounds with a ghost of a face: places without an
# overview. The lower skip is hardly missed, for only one block lies between its ends. **From below, what it is; across,
# where it is.**
#
# ### A block
#
# Every stage begins with the same block (He et al., 2016):
# $x + \mathrm{conv}(\mathrm{silu}(\mathrm{norm}(\mathrm{conv}(\mathrm{silu}(\mathrm{norm}(x))))))$.
# The *norm* gives each group of channels mean 0 and variance 1, in each picture by itself (Wu and He, 2018): no picture
# depends on its neighbours in the batch. Between the two convolutions time speaks, by scaling and shifting every channel.


# %%
def block(layer, x, time):
    scale, shift = layer.time(time)[:, :, None, None].chunk(2, dim=1)
    h = layer.conv1(F.silu(layer.norm1(x)))
    h = layer.norm2(h) * (1 + scale) + shift
    return layer.skip(x) + layer.conv2(F.silu(h))


time, h = net.time(time_embedding(t, 96)), torch.randn(2, 96, 4, 6, generator=torch.Generator().manual_seed(1))
theirs = net.down[0].block
assert torch.allclose(block(theirs, h, time), theirs(h, time), atol=1e-4)
assert torch.allclose(theirs.norm1(10 * h + 3), theirs.norm1(h), atol=1e-3)
assert torch.allclose(net(x[:1], t[:1]), net(x, t)[:1], atol=1e-4)  # the neighbour in the batch has no say

fresh = UNet(UNetConfig(channels=(32, 64)))
with torch.enable_grad():
    (fresh(x, t) - x).square().mean().backward()
awake = [name for name, p in fresh.named_parameters() if p.grad.any()]
print("parameters with a gradient in the first step:", awake)
assert torch.equal(ResBlock(96, 96)(h), h) and not fresh(x, t).any() and awake == ["last.weight", "last.bias"]

# %% [markdown]
# The last layer of every block starts at zero, so a new block is the identity and a new network answers 0. In the first
# step of training only the very last layer has a gradient: a deep network begins as a shallow one.
#
# ### Time
#
# A single number $t$ becomes 96 sines and cosines, of wavelengths from 6 to 52,000 levels (Vaswani et al., 2017). Fast
# waves tell neighbours apart, slow ones the ends. Two linear layers turn the waves into the `time` that scales and shifts;
# a network steered so is called *FiLM* (Perez et al., 2018). Does it listen? Tell it something wrong.


# %%
def told_loss(true, told):
    """Loss of v when the noise level is `true` and the network is told another."""
    signal, noise = LINEAR.levels(true, latents)
    eps = torch.randn(latents.shape, generator=torch.Generator().manual_seed(true))
    v = net(signal * latents + noise * eps, torch.full((len(latents),), told))
    return (v - (signal * eps - noise * latents)).square().mean().item()


fast, slow = math.tau / time_embedding(torch.tensor([1]), 96)[0, [48, 95]].asin()  # from the sines at t = 1
assert 6 < fast < 7 and 51_000 < slow < 52_000

offered = list(range(0, 1000, 50))
wrong = {f"true t = {true}": [told_loss(true, told) for told in offered] for true in (100, 250, 450)}
alt = "Three curves over the time that the network is told, each lowest where the told time is true."
plot.curves(wrong, x=offered, xlabel="t that the network is told", ylabel="loss of v", logy=True, alt=alt)
assert [offered[row.index(min(row))] for row in wrong.values()] == [100, 250, 450]

# %% [markdown]
# *Each curve is lowest where the network is told the truth.*
#
# ## 3. Attention
#
# A convolution sees its neighbours. **Attention** sees everything, at a price. Each place asks a question (its *query*),
# each place carries a tag (its *key*) and has something to say (its *value*). The answer is an average of what all say,
# weighted by how well tag and question match (Vaswani et al., 2017, equation 1):
#
# $$ \mathrm{softmax}\Big(\frac{Q K^\top}{\sqrt d}\Big) V . \tag{1} $$


# %%
def attention(q, k, v, mask=None):
    """q (..., n, d), k and v (..., m, d) -> (..., n, d); `mask` (..., m) is True where a key may be seen."""
    scores = q @ k.mT / math.sqrt(q.shape[-1])  # (..., n, m)
    if mask is not None:
        scores = scores.masked_fill(~mask[..., None, :], -torch.inf)
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    return weights / weights.sum(-1, keepdim=True) @ v


def self_attention(layer, x):
    """Every place of x (B, C, H, W) asks every place, in `heads` separate conversations of C / heads numbers."""
    qkv = layer.qkv(layer.norm(x)).flatten(2).mT  # (B, H * W, 3 C)
    q, k, v = qkv.unflatten(2, (3, layer.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, heads, H * W, d)
    answer = attention(q, k, v).transpose(1, 2).flatten(2)  # (B, H * W, C)
    return x + layer.out(answer.mT.unflatten(2, x.shape[2:]))


q, k, v = torch.randn(3, 2, 4, 5, 32, generator=torch.Generator().manual_seed(2))
assert torch.allclose(attention(q, k, v), F.scaled_dot_product_attention(q, k, v), atol=1e-5)
layer, conv = net.down[0].attention, net.down[0].block.conv1
assert torch.allclose(self_attention(layer, h), layer(h), atol=1e-4)  # h is 4 x 6: not square, so no axis is mistaken

order = torch.randperm(24, generator=torch.Generator().manual_seed(3))
shuffled, after = (p.flatten(2)[:, :, order].view_as(h) for p in (h, layer(h)))
assert torch.allclose(layer(shuffled), after, atol=1e-4)
assert not torch.allclose(conv(shuffled), conv(h).flatten(2)[:, :, order].view_as(h), atol=0.1)

# %% [markdown]
# Our lines agree with torch's and with the package's. The last two asserts say: **attention has no idea where anything
# is.** Shuffle the places and the answers are shuffled, nothing else. A convolution objects.
#
# **Why divide by $\sqrt d$?** Let the numbers in a query and a key be independent, with variance 1. Their product is a sum
# of $d$ terms of variance 1: its variance is $d$. A softmax of $n$ scores from $\mathcal N(0, s^2)$ listens to
# $n\, e^{-s^2/2}$ keys (the exponential of its entropy), as long as $s^2 < 2 \log n$. Beyond, it freezes on the few
# largest. With the division $s = 1$: 61 % of the keys have a say. Without it $s^2 = d = 32$, and $2 \log 64$ is 8.3.
#
# **What does it cost?** For $n$ places of $C$ channels four 1x1 convolutions and two products: $4nC^2 + 2n^2C$
# multiply-adds.

# %%
random = torch.Generator().manual_seed(5)
q, k = torch.randn(500, 1, 32, generator=random), torch.randn(500, 64, 32, generator=random)
scores = (q @ k.mT)[:, 0]  # (500, 64)
heard = [torch.distributions.Categorical(logits=s).entropy().mean().exp().item() for s in (scores, scores / 32**0.5)]
print(f"variance {scores.var():.1f}; of 64 keys heard: {heard[0]:.1f} as they are, {heard[1]:.1f} divided by sqrt(d)")
assert abs(scores.var() / 32 - 1) < 0.1 and heard[0] < 4 and abs(heard[1] / (64 * math.exp(-0.5)) - 1) < 0.04

n, C = 64, 96
with FlopCounterMode(display=False) as counter, torch.device("meta"):  # on "meta" nothing is computed, only counted
    SelfAttention(C)(torch.zeros(1, C, 8, 8))
assert counter.get_total_flops() / 2 == 4 * n * C**2 + 2 * n**2 * C
assert round(n / (2 * C), 2) == 0.33 and round(4096 / (2 * C)) == 21  # the square's share of the rest

# %% [markdown]
# At 64 places the square adds a third to the convolutions. On 64x64 pixels it would be 21 times the rest: one more reason
# to work in latents.
#
# And what does a trained network do with it? `watching` shows us the weights of each attention layer as it runs.


# %% jupyter={"source_hidden": true} tags=["hide-input"]
def lit(pictures, heat):
    """Pictures (B, 3, 64, 64), bright where heat (B, 8, 8) is high."""
    heat = F.interpolate(heat[:, None], 64)
    return (pictures.clamp(-1, 1) + 1) * (0.15 + 0.85 * heat / heat.amax((2, 3), keepdim=True)) - 1


seen = []
with watching(net, SelfAttention, lambda p: seen.append(p.mean(1)) or p):  # (B, places, places), mean over heads
    cat.denoiser(noisy, 200)
hears, parts = seen[-1], semantic_map(cat_factors)  # of the last of four layers
eyes = torch.isin(parts, torch.tensor([PARTS.index("eyes"), PARTS.index("pupils")]))
is_left = torch.arange(64) < 32 + 32 * cat_factors.x[:, None, None]
left, right, ground = (F.avg_pool2d(m.float(), 8).flatten(1) for m in (eyes & is_left, eyes & ~is_left, parts == 0))
asks = F.one_hot(left.argmax(1), 64).float()  # the cell in the middle of the left eye
to_eye = (asks[:, None] @ hears)[:, 0]  # what it hears, (6, 64)
rows = {"asks": asks, "the eye hears": to_eye, "a corner hears": hears[:, 0]}
alt = "Six cats; of each one cell at an eye; what that cell hears, mostly eyes; what a corner hears: background."
plot.grid([cats, *(lit(cats, p.unflatten(1, (8, 8))) for p in rows.values())], row_labels=["cats", *rows], alt=alt)

more = 64 * (to_eye * right).sum(1) / right.sum(1)
stays, strays = ((hears @ ground[:, :, None])[where].mean().item() for where in (ground > 0.99, ground < 0.01))
print("the left eye hears the right one so many times more than an average cell:", [round(m, 1) for m in more.tolist()])
print(f"ground: {ground.mean():.0%} of the picture, {stays:.0%} of what ground hears, {strays:.0%} of what faces hear")
assert more.median() > 4 and stays > 0.9 and strays < 0.3

# %% [markdown]
# *Third row: bright cells are those that the eye above listens to. Fourth row: those that the upper left corner listens
# to.*
#
# Nobody told the network what an eye is. It found out that the best way to guess one eye is to look at the other, wherever
# it may be. And background listens to background. These are the two things that fell apart in section 1.
#
# ## 4. Cross-attention: the first route
#
# Now the second input. In **cross-attention** (Rombach et al., 2022, section 3.3) the queries come from the picture, as
# before, and keys and values come from a list of vectors, the **tokens**. A token may be a word, or a class label (one
# from a table of three). Three facts follow from equation (1), and random tokens are enough to check them.


# %%
def cross_attention(layer, x, tokens, mask):
    q = layer.q(layer.norm(x)).flatten(2).mT.unflatten(2, (layer.heads, -1)).transpose(1, 2)  # (B, heads, H * W, d)
    k, v = layer.kv(tokens).unflatten(2, (2, layer.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, L, d)
    answer = attention(q, k, v, mask[:, None]).transpose(1, 2).flatten(2)
    return x + layer.out(answer.mT.unflatten(2, x.shape[2:]))


torch.manual_seed(4)
cross = CrossAttention(96, context=128)
nn.init.normal_(cross.out.weight, std=0.1)  # it starts at zero, as every block does
tokens, mask = torch.randn(2, 6, 128), torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
assert torch.allclose(cross_attention(cross, h, tokens, mask), cross(h, tokens, mask), atol=1e-4)

order = torch.tensor([3, 0, 5, 1, 4, 2])  # one: the tokens are a set
assert torch.allclose(cross(h, tokens[:, order], mask[:, order]), cross(h, tokens, mask), atol=1e-4)

seen = []  # two: a masked token has no weight, three: and no gradient
with watching(cross, CrossAttention, lambda p: seen.append(p.movedim(3, 1)) or p), torch.enable_grad():
    cross(h, tokens.requires_grad_(), mask).square().sum().backward()
assert (seen[0][~mask] == 0).all() and (tokens.grad[~mask] == 0).all() and (tokens.grad[mask] != 0).any(1).all()

# %% [markdown]
# **Order does not matter**: the tokens are a set. **Masked tokens do not exist**: they get weight zero, not nearly zero,
# and no gradient. So captions of different length fit in one batch. And every place takes *some* mixture of the tokens:
# there must be at least one. "No caption" is therefore a caption too, the empty one.
#
# ## 5. From a caption to tokens
#
# If tokens are a set, who knows that "a green cat on an orange background" is not "an orange cat on a green background"?
# Whoever makes the tokens. A **tokenizer** turns words into numbers; a word outside the grammar is an error with a
# suggestion. A **text tower**, a small transformer with positions, turns the numbers into vectors that know their place
# and all words before them. Ours comes from **CLIP** (Radford et al., 2021): two networks, one for pictures and one for
# captions, trained together so that the two vectors of a pair point the same way, and those of different pairs do not.
# Stable Diffusion took CLIP's tower and froze it, and so do we.

# %%
tokenizer = Tokenizer()
print(tokenizer("an orange cat on a green background")[0].tolist())
with pytest.raises(ValueError, match="did you mean") as refused:
    tokenizer("a smilling cat")
print(refused.value)

clip = minidiff.load("critters-clip")  # its text tower is the one that critters-text attends to
found = retrieval(clip, world[:128], [compose(attributes) for attributes in attributes_of(world.factors(slice(128)))])
print("found among 64:", {name: f"{found[name]:.0%}" for name in ("picture_to_caption", "caption_to_picture")})
assert min(found["picture_to_caption"], found["caption_to_picture"]) > 0.95

swapped = ["an orange cat on a green background", "a green cat on an orange background"]
hidden, there = clip.text_tokens([*swapped, "an orange cat on a red background"])  # (3, 20, 128), (3, 20)
words = [sorted(row) for row in tokenizer(swapped).tolist()]
assert words[0] == words[1] and (hidden[0, :9].sum(0) - hidden[1, :9].sum(0)).norm() > 0.1  # same words, other tokens
early, late = ((hidden[0, places] - hidden[2, places]).norm() for places in (slice(0, 6), slice(6, 9)))
assert early < 1e-4 < 0.1 < late and there.sum(1).tolist() == [9, 9, 9]  # a token knows the words before it, no others

# %% [markdown]
# Shown a picture and 64 captions, ours hardly ever picks a wrong one. The two captions with green and orange
# swapped have the same words, and for the U-Net they are different sets: the word *orange* was read before *cat* in one and
# before *background* in the other, and its vector knows.
#
# ## 6. Where does a word look?
#
# A U-Net with cross-attention asks its tokens at every stage and every step. Average the weights over heads, stages and
# steps, and you have a map for each word (Hertz et al., 2023, edit with such maps).

# %%
ask = "a smiling striped orange cat wearing glasses and a blue hat on a green background"
words, kept = ["start", *ask.split(), "end"], []


def keep(p):
    """p (B, heads, places, L) -> remember (B, L, 8, 8), the mean over heads."""
    side = math.isqrt(p.shape[2])
    kept.append(F.interpolate(p.mean(1).mT.unflatten(2, (side, side)), 8))
    return p


with watching(text.denoiser.net, CrossAttention, keep):
    hatted = text.given(ask).sample(4, seeds=60).clamp(-1, 1)
heat = torch.stack(kept).mean(0)  # (4, L, 8, 8)
assert torch.allclose(heat[:, : len(words)].sum(1), torch.ones(4, 8, 8), atol=1e-4)  # every place spends all it has
assert not heat[:, len(words) :].any()  # and nothing on padding

assert 0.3 < heat[:, [0, words.index("end")]].sum(1).mean() < 0.5
species = text.given(label=[0, 1, 2]).sample(seeds=60)  # no words at all: a token for each species
segmenter, probe = minidiff.load("critters-segmenter"), minidiff.load("critters-probe")
assert probe.read(species.clamp(-1, 1))["species"].tolist() == [0, 1, 2]

# %% jupyter={"source_hidden": true} tags=["hide-input"]
bare = text.given(ask.replace(" and a blue hat", "")).sample(4, seeds=60).clamp(-1, 1)  # from the same noise
looked = ["smiling", "orange", "hat", "green", "start"]
tiles = torch.stack([hatted, *(lit(hatted, heat[:, words.index(word)]) for word in looked), bare], 1)
alt = "Three smiling cats with glasses and hat; smiling is heard below, orange and hat in the face, green at the hat; no hats."
plot.grid(list(tiles[:3]), column_labels=["drawn", *looked, "no hat asked"], alt=alt)

parts, focus = segmenter.read(hatted), {}
pairs = {"smiling": "mouth", "orange": "head", "hat": "hat", "green": "hat", "start": "background"}
for word, part in pairs.items():
    share, heard = F.avg_pool2d((parts == PARTS.index(part)).float(), 8), heat[:, words.index(word)]
    focus[word] = ((heard * share).sum() / share.sum() / ((heard * (1 - share)).sum() / (1 - share).sum())).item()
    print(f"{word!r} is heard {focus[word]:.1f} times as much where the {part} is as elsewhere")
assert min(focus[word] for word in ("smiling", "orange", "green", "start")) > 1.5 and focus["green"] > focus["hat"]

moved = (hatted - bare).square().mean(1)  # (4, 64, 64)
at_hat, on_ground = (moved[parts == PARTS.index(part)].mean().item() for part in ("hat", "background"))
print(
    f"without the words 'and a blue hat' the hat's pixels change by {at_hat:.2f}, the background's by {on_ground:.3f}"
)
assert at_hat > 8 * on_ground

hits = words_right(probe, hatted, [parse(ask)] * 4)
print("of 4 pictures, right:", {name: hit.sum().item() for name, hit in hits.items()})
assert min(hits[name].sum() for name in ("species", "mood", "glasses", "hat")) >= 3 and hits["all"].sum() < 4

# %% [markdown]
# *Each column is lit where its word is heard. Look for the words that have found their place, and for the one that has
# found a wrong one.*
#
# *Smiling* is heard most around the mouth, *orange* on the head. *Hat* has no place of its own: much of the face hears it.
# And *green*, which in this caption belongs to the ground, is heard at the hat. Still the hats are blue and the grounds
# green or nearly so. For a map shows where the network *looks*, not what a word *does*. What the hat's words do, the last
# column shows: leave them out, keep the noise, and the picture changes most where the hat was. (A teal ground turned green
# as well; perhaps *blue* had leaked.)
#
# Two fifths of all attention go to *start* and *end*. The one is the same in every caption and says nothing; the ground,
# which needs little, listens to it. The other has read the whole sentence. (Not all four pictures get every word right.
# Lesson 6 makes the network listen.)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
picker = widgets.Dropdown(options=[(f"{k}  {word}", k) for k, word in enumerate(words)], value=0, description="token")
canvas = widgets.HTML()


def redraw(change):
    word, heard = words[change["new"]], heat[:, change["new"]]
    alt = f"Four cats, lit where the network listens to the token {word}."
    picture = plot.grid(lit(hatted, heard), alt=alt, display=False)
    canvas.value = f"{picture.html}<p>{word}: {heard.mean():.1%} of all attention</p>"


picker.observe(redraw, names="value")
redraw({"new": picker.value})
before, picker.value = canvas.value, words.index("hat")  # what your hand does
assert canvas.value != before and "token hat" in canvas.value
widgets.VBox([picker, canvas])

# %% [markdown]
# Where no kernel is running, the figure above stands in for the picker.
#
# ## 7. Concatenation: the second route, in closed form
#
# A map, a small picture, a picture with a hole: each of their places belongs to a place of $x_t$. There is no need to
# search by attention; lay them on top. A small encoder brings them to 8x8, and they enter the first convolution as more
# channels, next to $x_t$. Nothing else in the network changes.
#
# What must the network do with them? Go to the smallest case: data $x_0 \sim \mathcal N(\mu, \Sigma)$, an observation
# $o = H x_0 + n$ with noise $n \sim \mathcal N(0, R)$. $H$ picks known pixels, or averages, or blurs. Let $P_t$ be the
# covariance of $x_0$ given $x_t$, what is still unknown once $x_t$ is seen. Then the best guess from both is
#
# $$ \mathbb E[x_0 \mid x_t, o] = \mathbb E[x_0 \mid x_t] + K_t\,\big(o - H\,\mathbb E[x_0 \mid x_t]\big), \qquad
# K_t = P_t H^\top (H P_t H^\top + R)^{-1}. \tag{2} $$
#
# Read it aloud: *the guess without $o$, plus a gain times the surprise in $o$*. It is one step of Kalman's filter. Below,
# a "picture" is a row of 16 smooth pixels.

# %%
D, NOISE = 16, 0.05
place, eye = torch.arange(D, dtype=torch.float64), torch.eye(D, dtype=torch.float64)
bell = -(place[:, None] - place).square() / 2
SIGMA = (bell / 2.5**2).exp() + 0.01 * eye
row = IdealDenoiser(LINEAR, torch.zeros(1, 1, D), cov=SIGMA)  # the exact denoiser, told nothing
is_known = (place < 5) | (place > 10)
looks = {"hole": eye[is_known], "small": eye.view(4, 4, D).mean(1), "blurred": (bell / 2**2).softmax(1)}  # H


def unknown(t):
    """Cov[x0 | x_t]."""
    signal, noise = LINEAR.levels(t, SIGMA)
    return SIGMA - signal**2 * SIGMA @ torch.linalg.solve(signal**2 * SIGMA + noise**2 * eye, SIGMA)


def gain(H, P):
    return P @ H.T @ torch.linalg.inv(H @ P @ H.T + NOISE**2 * torch.eye(len(H), dtype=torch.float64))


def told(H, seen):
    """Equation (2): the exact denoiser of rows of which `seen` (B, M) = H x0 + noise was observed."""

    def denoise(x_t, t):
        guess = row(x_t, t).x0.flatten(1)
        x0 = (guess + (seen - guess @ H.T) @ gain(H, unknown(t)).T).view_as(x_t)
        return to_prediction("x0", x_t, x0, *LINEAR.levels(t, x_t))

    return denoise


truth = row.sample(1000).flatten(1)  # (1000, 16)
speck = NOISE * normal(torch.arange(1000), (D,), "seen", torch.float64)
x, levels, gains = row.sample(5, seeds=70), [0, 20, 50, 100, 200, 300, 400, 500, 600, 700, 800, 900, 999], {}
for name, H in looks.items():
    seen, K = truth @ H.T + speck[:, : len(H)], gain(H, SIGMA)
    given_o = IdealDenoiser(LINEAR, (K @ seen[0]).view(1, 1, D), cov=(eye - K @ H) @ SIGMA)  # the data that fit o
    assert all(torch.allclose(told(H, seen[:1])(x, t).x0, given_o(x, t).x0, atol=1e-9) for t in levels)
    gains[name] = [((gain(H, unknown(t)) @ H).norm() / (K @ H).norm()).item() for t in levels]
    assert gains[name] == sorted(gains[name]) and gains[name][0] < 0.03 and gains[name][-1] > 0.999
alt = "The gain of each observation rises with the noise level from 0 to its full size; that of the hole rises last."
plot.curves(gains, x=levels, xlabel="t", ylabel="gain, as a share of its largest", size=(7, 2.6), alt=alt)

# %% [markdown]
# *Look at the two ends of each curve.*
#
# The exact denoiser of the Gaussian *given* $o$, which knows nothing of equation (2), says the same to $10^{-9}$. And the
# figure tells when a condition is heard: **at high noise**, where it is all there is to know. Near clean data $x_t$ itself
# knows better, and the gain falls to zero. That is what training must find: a guess, a comparison, a gain that depends on
# $t$.
#
# How well can a hole be filled? Let $P$ be the unknown variance in the hole given $o$, and $S$ that of the data. The
# conditional *mean* errs by $P$, and a *sample*, which has a variance $P$ of its own, by $2P$. The lazy way is to draw
# freely and *paste* the known pixels over it: that fills the hole with a stranger, who errs by $2S$.

# %%
H, steps, ddpm = looks["hole"], step_grid(1000, 100), DDIM(LINEAR, 1.0)
K, seen = gain(H, SIGMA), truth @ H.T + speck[:, : len(H)]
code = random_code((1, 1, D), steps, ddpm, 80, count=1000, dtype=torch.float64)
painted = decode_code(told(H, seen), ddpm, steps, code).flatten(1)
fills = {"the mean": seen @ K.T, "told": painted, "pasted": row.sample(1000, seeds=5000).flatten(1)}
error = {name: (fill - truth)[:, ~is_known].square().mean().item() for name, fill in fills.items()}
P, S = (cov.diagonal()[~is_known].mean().item() for cov in ((eye - K @ H) @ SIGMA, SIGMA))
print(f"P = {P:.2f}, S = {S:.2f}; squared error in the hole:", {name: round(e, 2) for name, e in error.items()})
assert abs(error["the mean"] / P - 1) < 0.1 and abs(error["pasted"] / (2 * S) - 1) < 0.1
assert 0.85 < error["told"] / (2 * P) < 1.05

# %% [markdown]
# Remember the factor 2. **A perfect sample has twice the squared error of the mean**, so in PSNR it loses
# $10 \log_{10} 2 = 3.01$ dB. PSNR prefers an average to a picture.
#
# ## 8. Maps and small pictures
#
# `critters-maps` takes maps, small pictures, blurred ones and holes through one encoder, each in channels of its own. A
# channel of ones goes along with every colour picture: else "nothing" and "a grey picture" would look the same. In
# training each item of a batch was told some of them, and one in ten nothing (lesson 6 says what for).

# %%
to_map = maps.given(layout=layout).sample(seeds=600).clamp(-1, 1)
sharp = torch.stack([maps.given(low_res=small).sample(seeds=100 * k).clamp(-1, 1) for k in (7, 8, 9, 10)])
bicubic = F.interpolate(small, 64, mode="bicubic").clamp(-1, 1)
shown = {"map": coloured, "drawn to the map": to_map, "16x16": F.interpolate(small, 64), "bicubic": bicubic,
         "drawn": sharp[0], "mean of 4": sharp.mean(0), "truth": images}  # fmt: skip
alt = (
    "Eight critters: maps and what was drawn to them; small pictures, bicubic, drawn anew, the mean of four; the truth."
)
plot.grid([pictures[:8] for pictures in shown.values()], row_labels=list(shown), alt=alt)

iou, best = (mean_iou(segmenter.read(pictures), layout, len(PARTS))[0] for pictures in (to_map, images))
db = {name: round(psnr(shown[name], images).mean().item(), 1) for name in ("bicubic", "drawn", "mean of 4")}
print(f"IoU of the map {iou:.2f}, in the true pictures {best:.2f}; PSNR in dB {db}")
assert 0.72 < iou < best and db["bicubic"] + 2 < db["drawn"] < db["mean of 4"] - 0.5

# %% [markdown]
# *Look for what the condition settles and what it leaves open. The colours in the second row are the model's own idea:
# a map has none. Then compare the eyes of the fifth row with those of the last.*
#
# A *segmenter* reads the map back. IoU, shared area over joint area, averaged over the parts, is about 0.8; in true pictures
# it is 0.9. Heads, eyes and hats sit where they should; the ears of dogs melt into the head, and stripes are often lost. Guidance
# (lesson 6) makes a model listen to maps, too.
#
# Bicubic interpolation is a fixed formula that knows nothing of cats, and the drawn pictures beat it in PSNR as well as to
# the eye. But the mean of four answers beats the first of them, softer as it is: the mean of $k$ errs by $P + P/k$, so four can
# gain up to $10 \log_{10} (2 / 1.25) = 2.04$ dB. Whoever reports only PSNR can win by blurring. Saharia et al. (2022) asked
# people instead.
#
# ## 9. Half a cat
#
# Now the hole, in pictures. What `critters-cat` draws can only be pasted over. `critters-maps` was trained with holes.

# %%
hole = half[:6]
strangers, painted = cat.sample(6, seeds=70), inpaint(maps, cats, hole, seeds=70)
halves = {"pasted": paste(cats, strangers, hole), "told": painted, "truth": cats}
alt = "Six half cats; pasted, each gets the half of a stranger; told, the halves belong together; the truth."
plot.grid([cats * hole, *halves.values()], row_labels=["known", *halves], alt=alt)
seam = {name: (p[..., 32] - p[..., 31]).square().mean().item() for name, p in halves.items()}
print("mean squared jump at the seam:", {name: round(jump, 3) for name, jump in seam.items()})
assert seam["pasted"] > 2.5 * seam["told"] and seam["told"] > 1.2 * seam["truth"]
assert torch.equal(painted[..., 32:], cats[..., 32:])  # known pixels to the last bit

# %% [markdown]
# *Look at the middle of each face. In the second row every left half belongs to somebody else. In the third it has the
# right ground, size and height; then compare the coats.*
#
# Told is better than pasted, and far from perfect: the heads meet in the middle and the grounds nearly do, but the new halves
# are blurred, and a brown cheek leans on an orange one. The seam still jumps more than it should.
#
# `inpaint` pastes too, but as a finish and not as a method: what comes out of an autoencoder never has the known pixels
# to the last digit.
#
# ## 10. Both routes at once
#
# A map says where, a caption says which colour. Together they are *hybrid* conditioning.

# %%
coats, scenes = [("orange", "blue"), ("white", "red"), ("black", "yellow")], [6, 7, 8]
asked = [said[k] | {"coat": coat, "background": ground} for coat, ground in coats for k in scenes]
wanted = layout[scenes].repeat(3, 1, 1)
table = maps.given(text=[compose(a) for a in asked], layout=wanted).sample(seeds=80).clamp(-1, 1)
alt = "Three maps, and below each three pictures of the same shapes: orange on blue, white on red, black on yellow."
plot.grid([coloured[scenes], *table.split(3)], row_labels=["map", *map(" on ".join, coats)], scale=2, alt=alt)
hits, (iou, _) = words_right(probe, table, asked), mean_iou(segmenter.read(table), wanted, len(PARTS))
print("of 9 pictures, right:", {name: hits[name].sum().item() for name in ("coat", "background")}, f"; IoU {iou:.2f}")
assert min(hits["coat"].sum(), hits["background"].sum()) >= 8 and iou > 0.68

# %% [markdown]
# *Columns share a map, rows the colours of a caption. Shapes stay in their column and colours in their row; the eyes,
# about which nobody said anything, are anybody's.*
#
# ## 11. What would you see if ...
#
# Five critters, five times. **A** is drawn to a map and a caption, as it should be (its wrong hats are the model's own).
# Each of the others has one fault. Find its pictures before you open the answers:
#
# the captions of the neighbours · part numbers off by one · the mask upside down · colours in [0, 1] where [-1, 1] was
# meant.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
five = slice(9, 14)
scene, words_said, here, plate = images[five], captions[five], layout[five], half[five]
faults = {
    "A": {"layout": here, "text": words_said},
    "B": {"layout": here, "text": words_said[1:] + words_said[:1]},
    "C": {"low_res": (small[five] + 1) / 2},
    "D": {"layout": (here + 1) % len(PARTS), "text": words_said},
    "E": {"known": (scene, 1 - plate)},
}
gallery = {letter: maps.given(**given).sample(seeds=90).clamp(-1, 1) for letter, given in faults.items()}
gallery["E"] = paste(scene, gallery["E"], plate)
alt = "Five critters five times: row A is right, and each of the other four has a fault of its own."
plot.grid([scene, *gallery.values()], row_labels=["truth", *gallery], scale=1.3, alt=alt)
sums = {}
for letter, pictures in gallery.items():
    hits, (iou, _) = words_right(probe, pictures, said[five]), mean_iou(segmenter.read(pictures), here, len(PARTS))
    sums[letter] = hits["coat"].sum().item() + hits["background"].sum().item(), iou, pictures.mean().item()
    print(f"{letter}: coats and grounds right {sums[letter][0]} of 10, IoU {iou:.2f}, brightness {sums[letter][2]:.2f}")
honest = inpaint(maps, scene, plate, seeds=90)
guessed, peeked = (psnr(p[..., :32], scene[..., :32]).mean().item() for p in (honest, gallery["E"]))
print(f"PSNR of the left halves: guessed {guessed:.1f} dB, in E {peeked:.1f} dB")
assert sums["A"][0] >= sums["B"][0] + 3 and sums["D"][1] < 0.3 < 0.6 < sums["A"][1]
assert sums["C"][2] > sums["A"][2] + 0.2 and peeked > guessed

# %% [markdown]
# ```{dropdown} Answers
# - **B**, the neighbours' captions. The heads stand where the map says, and coats and grounds belong to the next column, so
#   do hats that no map has: a shuffle that reached the captions and not the maps.
# - **C**, colours in [0, 1]. The picture is read as one without any dark: pale critters on pale grounds.
# - **D**, part numbers off by one. The grounds are to be ears, which no map ever said; patterns come out white as
#   muzzles, eyes dark as pupils. Nothing is out of range, so nothing can be refused.
# - **E**, the mask upside down. The model was shown the half that it should paint. It looks better than section 9, and it
#   read the answer: the left halves are nearer to the truth than an honest guess. (In diffusers white means "paint
#   here", in minidiff 1 means "known".)
# ```
#
# Faults that *can* be seen from outside are refused before any work is done:

# %%
for wrong in (
    lambda: maps.given(layout=layout[:, ::2, ::2]),  # a map of half the size
    lambda: maps.given(known=(images, half * 0.5)),  # neither known nor unknown
    lambda: maps.given(low_res=127.5 * (small + 1)),  # values up to 255
    lambda: maps.given(layout=layout[:3], text=captions[:2]),  # whose caption is missing?
    lambda: cat.given(text="a cat"),  # a model that knows no words
):
    with pytest.raises(ValueError) as refused:
        wrong()
    print(refused.value)

# %% [markdown]
# ## Summary
#
# 1. A U-Net sees near and far: below it knows *what*, across the skips it knows *where*. Time scales and shifts every
#    block, and every block starts as the identity.
# 2. Attention is an average with learnt weights. It knows no places; $\sqrt d$ keeps it from freezing; its cost grows with
#    the square of the places.
# 3. Words and labels go in as tokens, by cross-attention. A masked token does not exist. The order of the words is known
#    to the text tower alone.
# 4. Pictures go in as channels. The exact task is a gain times a surprise, heard most at high noise. Pasting at the end
#    is not inpainting.
# 5. A sample has twice the squared error of the mean, 3 dB. Judge conditional pictures by more than PSNR.
#
# | here | in Hugging Face diffusers |
# |---|---|
# | `UNet(UNetConfig(channels=..., attention=...))` | `UNet2DConditionModel(block_out_channels=..., down_block_types=...)` |
# | `context`; `tokens`, `mask` | `cross_attention_dim`; `encoder_hidden_states`, `encoder_attention_mask` |
# | `labels`, one token each | `class_labels`, added to the embedding of time |
# | `features`, laid over $x_t$ | more `in_channels`: 9 for inpainting with Stable Diffusion (4 + 1 + 4) |
# | `watching(net, CrossAttention, watch)` | `unet.set_attn_processor(...)` |
# | `model.given(text=..., known=(images, mask))` | `pipeline(prompt=..., image=..., mask_image=...)` |
#
# ## Open questions
#
# 1. A picture with noise shows how much noise it has. Is the time needed at all? Sun et al. (2025) train without, and get
#    on well. How exactly can $t$ be read from $\lVert x_t \rVert$, and what does an error cost by the curves of section 2?
# 2. A way to paint without training: draw freely, but before each step overwrite the known part of $x_t$ with the known
#    picture under fresh noise (Lugmayr et al., 2022, start from here). How far from $2S$ to $2P$ does that get in section
#    7, and what holds it back?
# 3. Give a map of a cat and a caption that says dog. Who wins, at which noise level, and should it be so?
#
# ## References
#
# - O. Ronneberger, P. Fischer, T. Brox. *U-Net: convolutional networks for biomedical image segmentation.* MICCAI 2015.
#   arXiv:1505.04597.
# - A. Vaswani, N. Shazeer, N. Parmar, J. Uszkoreit, L. Jones, A. Gomez, L. Kaiser, I. Polosukhin. *Attention is all you
#   need.* NeurIPS 2017. arXiv:1706.03762.
# - J. Ho, A. Jain, P. Abbeel. *Denoising diffusion probabilistic models.* NeurIPS 2020. arXiv:2006.11239.
# - R. Rombach, A. Blattmann, D. Lorenz, P. Esser, B. Ommer. *High-resolution image synthesis with latent diffusion models.*
#   CVPR 2022. arXiv:2112.10752.
# - A. Radford, J. W. Kim, C. Hallacy, et al. *Learning transferable visual models from natural language supervision.* ICML
#   2021. arXiv:2103.00020.
# - E. Perez, F. Strub, H. de Vries, V. Dumoulin, A. Courville. *FiLM: visual reasoning with a general conditioning layer.*
#   AAAI 2018. arXiv:1709.07871.
# - C. Saharia, J. Ho, W. Chan, T. Salimans, D. Fleet, M. Norouzi. *Image super-resolution via iterative refinement.* IEEE
#   TPAMI 2022. arXiv:2104.07636.
# - A. Lugmayr, M. Danelljan, A. Romero, F. Yu, R. Timofte, L. Van Gool. *RePaint: inpainting using denoising diffusion
#   probabilistic models.* CVPR 2022. arXiv:2201.09865.
# - M. Kamb, S. Ganguli. *An analytic theory of creativity in convolutional diffusion models.* ICML 2025. arXiv:2412.20292.
# - K. He, X. Zhang, S. Ren, J. Sun. *Deep residual learning for image recognition.* CVPR 2016. arXiv:1512.03385.
# - Y. Wu, K. He. *Group normalization.* ECCV 2018. arXiv:1803.08494.
# - A. Hertz, R. Mokady, J. Tenenbaum, K. Aberman, Y. Pritch, D. Cohen-Or. *Prompt-to-prompt image editing with cross
#   attention control.* ICLR 2023. arXiv:2208.01626.
# - Q. Sun, Z. Jiang, H. Zhao, K. He. *Is noise conditioning necessary for denoising generative models?* ICML 2025.
#   arXiv:2502.13129.
#
# *This lesson is licensed under CC BY 4.0.*
