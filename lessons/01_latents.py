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
# # 1. What is a latent?
#
# **How many numbers does a picture need, and which?**
#
# Our pictures have 64x64 pixels of three colours: 12,288 numbers. Yet the program that draws these cats is told about
# two dozen things: where, how large, which coat, which mood. Everything else follows. Numbers that stand for a picture
# are called *latent* when you do not see them in the picture and can make the picture of them. This lesson looks for
# good ones, and begins with a test that bad ones fail: **what is half-way between two cats?**

# %%
import dataclasses
import math

import ipywidgets as widgets
import torch

import minidiff
from minidiff import plot
from minidiff.codes import lerp, principal_directions
from minidiff.codes import slerp as package_slerp
from minidiff.data.critters import Critters, render
from minidiff.data.factors import HATS
from minidiff.evaluation.metrics import psnr

torch.set_grad_enabled(False)
cat = minidiff.load("critters-cat").replace(steps=10, eta=1.0)  # a diffusion model, in few steps to be quick
world = Critters("cat", seed=2)  # cats that no model was trained on
cats, factors = world[:24], world.factors(slice(24))
a, b = cats[::2], cats[1::2]  # (12, 3, 64, 64): twelve pairs of strangers


def slerp(a, b, weight):
    """From a to b on the arc of a circle; section 6 says why."""
    dims = tuple(range(2, a.ndim))
    lengths = a.square().sum(dims, keepdim=True).sqrt() * b.square().sum(dims, keepdim=True).sqrt()
    angle = ((a * b).sum(dims, keepdim=True) / lengths).arccos()
    return (((1 - weight) * angle).sin() * a + (weight * angle).sin() * b) / angle.sin()


code_a, code_b = cat.encode(a, seeds=0), cat.encode(b, seeds=100)  # (12, 11, 8, 8, 8)
faded, between = (a + b) / 2, cat.decode(slerp(code_a, code_b, 0.5))
assert torch.allclose(slerp(code_a, code_b, 0.3), package_slerp(code_a, code_b, 0.3), atol=1e-4)
rows = {"a": a, "half, in pixels": faded, "half, in codes": between, "b": b}
alt = "Six pairs of cats; between each a double exposure with two pairs of ears, and one cat that is a little of both."
plot.grid([row[:6] for row in rows.values()], row_labels=list(rows), alt=alt)

# %% [markdown]
# *Count ears and eyes in the second row, then in the third.*
#
# ```{tip}
# **After this lesson you can**
# 1. write PCA in three lines, and say what it loses before you decode anything;
# 2. count the dimensions of a set of pictures, and say why three ways of counting give three answers;
# 3. name four things that a good latent space does, and test each.
#
# **Needs** lesson 0. **Read** 25 minutes. **Run** under half a minute on two cores, under 2 GB.
# **Checkpoints** `critters-autoencoder`, `critters-cat`, `critters-probe`.
# ```
#
# These are the words of the whole course. Other texts use *latent* and *z* for several of them; here each means one
# thing ([notation](../book/notation.md)).
#
# | word | symbol | in code | meaning |
# |---|---|---|---|
# | image | $x$ | `images` (B, 3, 64, 64) | a picture, numbers in $[-1, 1]$ |
# | factor | $\theta$ | `factors` | what the world itself was told: place, tilt, coat. Known here; for photographs, never |
# | latent | $y$ | `latents` | what an encoder writes down instead of the picture, and a decoder paints from |
# | code | $z$ | `code` | *standard normal* numbers that a generator turns into one picture |
# | class | $c$ | which model | what is told from outside: cat, dog, wild |
# | noise | $\epsilon$ | `noise` | what has no short description (section 8) |
# | | $\lambda_i$ | `values` | variance of the pictures along the $i$-th axis of a PCA, largest first |
#
# ## 1. Do it wrong first
#
# The middle of two lists of numbers is their mean. So take the mean of two pictures. The result is exactly as far from
# one as from the other, and it is a double exposure.
#
# How do you *measure* that something is no cat? Two ideas that do not work. Ask a network: the probe, which reads the
# factors of a picture, sees a cat in nearly every one. Or take the distance to the nearest of 500 known cats: it is no
# larger than for true cats, because averages lie towards the middle of everything.
#
# What works: let the probe read all the factors, and let the program draw what was read. A picture of this world agrees
# with its own **redrawing**. A double exposure has four ears, and no factors say so. The **miss** is the squared
# difference as a share of the picture's contrast, its squared distance from a plain sheet of its mean colour: 0 if the
# redrawing is the picture, 1 if it explains no more than a plain sheet would.

# %%
probe = minidiff.load("critters-probe")
hats = torch.tensor([(0, 0, 0), *HATS.values()])
known = Critters("cat", seed=1)[:500]


def redraw(images):
    """What the probe reads, drawn again; what it does not read (the length of ears, say) is taken from the middle."""
    read = probe.read(images.clamp(-1, 1))
    read["hat_colour"] = hats[read["hat_colour"]]
    anyone = world.factors(slice(len(images))).replace(ear_length=1.0, eye_size=1.0, marking=0.5)
    return render(anyone.replace(**read))


def miss(images):
    """What redrawing does not explain, as a share of the contrast; the mean over the pictures."""
    images = images.clamp(-1, 1).float()
    contrast = images - images.mean((2, 3), keepdim=True)
    return ((redraw(images) - images).square().sum((1, 2, 3)) / contrast.square().sum((1, 2, 3))).mean().item()


def to_nearest(images):
    return torch.cdist(images.flatten(1), known.flatten(1)).amin(1).mean().item()


misses = {name: miss(row) for name, row in {"true cats": cats, "in pixels": faded, "in codes": between}.items()}
distances = {name: to_nearest(row) for name, row in {"true cats": cats, "in pixels": faded}.items()}
said = (probe.read(faded)["species"] == 0).float().mean().item()
print(f"the probe says cat: {said:.0%} of the double exposures")
print("distance to the nearest known cat:", {name: round(value, 1) for name, value in distances.items()})
print("miss:", {name: round(value, 2) for name, value in misses.items()})
assert torch.allclose((faded - a).norm(), (faded - b).norm()) and said > 0.9
assert distances["in pixels"] < 1.05 * distances["true cats"]
assert misses["true cats"] < 0.25 and misses["in pixels"] > 3 * misses["true cats"]
assert misses["in pixels"] > 1.6 * misses["in codes"]

# %% jupyter={"source_hidden": true} tags=["hide-input"]
rows = {"cats": a[:6], "redrawn": redraw(a)[:6], "in pixels": faded[:6], "redrawn ": redraw(faded)[:6]}
alt = "Six cats and their redrawings, nearly the same; six double exposures, each redrawn as one ordinary cat."
plot.grid(list(rows.values()), row_labels=list(rows), alt=alt)

# %% [markdown]
# *Compare the rows two by two.*
#
# ## 2. The smallest world
#
# Why do averages leave the world? Take a world so small that it can be drawn on paper. Its pictures are rows of 64
# pixels that show one wave; the only factor is its place, an angle $\theta$:
#
# $$ x_i = \cos(u_i - \theta) = \cos\theta \cos u_i + \sin\theta \sin u_i, \qquad u_i = 2\pi i / 64. $$
#
# So each picture is a sum of two fixed pictures. With respect to these the whole world is a **circle** of radius
# $\sqrt{32}$ in a plane, and three counts of its dimensions differ: 64 pixels, 2 numbers for the plane, 1 factor. The
# covariance of all pictures has the eigenvalues 16, 16, 0, 0, ...
#
# Now model the world by what a covariance can say: a Gaussian with variance 16 in both directions of the plane. Draw
# from it, and call a draw a picture if its radius is right within 10 %. Since $r^2 / 32$ is exponentially distributed,
#
# $$ P\left(0.9 < \tfrac{r}{\sqrt{32}} < 1.1\right) = e^{-0.81} - e^{-1.21} \approx 15\,\%. \tag{1}$$


# %%
u = torch.arange(64, dtype=torch.float64) * math.tau / 64


def wave(theta):
    """(B,) -> pictures (B, 64)."""
    return (u - theta[:, None]).cos()


waves = wave(torch.arange(1000, dtype=torch.float64) * math.tau / 1000)
spread = torch.linalg.eigvalsh(waves.T @ waves / 1000).flip(0)
plane = torch.stack([u.cos(), u.sin()]) / 32**0.5  # (2, 64), of length 1
z = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
radius = (4 * z).norm(dim=1) / 32**0.5
share = ((0.9 < radius) & (radius < 1.1)).double().mean().item()
print("eigenvalues:", [round(v, 6) + 0.0 for v in spread[:4].tolist()])
print(f"Gaussian draws that are pictures: {share:.1%}; equation 1: {math.exp(-0.81) - math.exp(-1.21):.1%}")
assert (spread[:2] - 16).abs().max() < 1e-9 and spread[2:].abs().max() < 1e-9
assert abs(share - math.exp(-0.81) + math.exp(-1.21)) < 0.01


def draw(z):
    """A generator for this world: two standard normal numbers -> a picture."""
    return wave(torch.atan2(z[:, 1], z[:, 0]))


ends = torch.tensor([0.4, 2.9], dtype=torch.float64)
walks = {"in pixels": lerp(*wave(ends)[:, None], 0.5), "in the factor": wave(ends.mean()[None])}
sizes = {name: (picture @ plane.T).norm().item() / 32**0.5 for name, picture in walks.items()}
print("radius of the middle:", {name: round(size, 2) for name, size in sizes.items()}, "; of generated ones:", 1.0)
assert math.isclose(sizes["in pixels"], math.cos(1.25), rel_tol=1e-9) and math.isclose(sizes["in the factor"], 1)
assert ((draw(z) @ plane.T).norm(dim=1) / 32**0.5 - 1).abs().max() < 1e-9

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, panels = plot.figure(8, 3.1, ncols=2, width_ratios=[1, 1.5])
ring = torch.linspace(0, math.tau, 200, dtype=torch.float64)
panels[0].scatter(*(4 * z[:700]).T, s=3, color=plot.COLOURS[6])
panels[0].plot(*(wave(ring) @ plane.T).T, color=plot.COLOURS[4], linewidth=1)
panels[0].plot(*(wave(ends) @ plane.T).T, "s-", color=plot.COLOURS[1])
panels[0].plot(
    *(wave(torch.linspace(*ends.tolist(), 50, dtype=torch.float64)) @ plane.T).T, color=plot.COLOURS[2], linewidth=3
)
panels[0].set(aspect="equal", xlabel="first number", ylabel="second number", xlim=(-13, 13), ylim=(-13, 13))
pictures = {"an end": wave(ends[:1]), "the other": wave(ends[1:]), **walks, "Gaussian": 4 * z[4:5] @ plane}
for index, (name, picture) in enumerate(pictures.items()):
    panels[1].plot(picture[0], label=name, **plot.style(index) | {"marker": None})
panels[1].set(xlabel="pixel", ylabel="brightness")
panels[1].legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
plot.show(fig, alt="A circle in a cloud of dots, with a chord and an arc; waves of height 1, one flatter, one higher.")

# %% [markdown]
# *Left: the black circle is the world, the dots are draws from the Gaussian, orange is the walk in pixels, green the
# walk in the factor. Right: pictures of this world have height 1. Which two have not?*
#
# The Gaussian has the right mean and the right covariance and is wrong six times out of seven: the world is **bent**,
# and neither the middle of a chord nor a random point of the plane lies on it. `draw` does better with the same two
# random numbers. It takes their direction and forgets their length, and *every* code gives a picture. That is what we
# want for cats: a map that bends a simple space onto the world.
#
# ## 3. Counting the dimensions of cats
#
# The first count is easy, as the world's program has a parameter list: 22 numbers and five choices (species, pattern,
# glasses, hat, baby).
#
# The second count needs only pictures. Take one spotted cat and let all its numbers tremble, by a millionth. If 22
# numbers can move, the cloud of pictures should be flat in all but 22 directions; 19 to be precise, as the colour of a
# hat that nobody wears does not show.
#
# The third count takes 500 cats at once, and their covariance.

# %%
NUMBERS = {name: value[0].numel() for name, value in factors.tensors().items() if value.is_floating_point()}


def to_numbers(factors):
    """(B, 22) in float64."""
    return torch.cat([getattr(factors, name).double().reshape(len(factors), -1) for name in NUMBERS], dim=1)


def with_numbers(factors, numbers):
    parts = [p.squeeze(1) if p.shape[1] == 1 else p for p in numbers.split(list(NUMBERS.values()), dim=1)]
    return dataclasses.replace(factors, **dict(zip(NUMBERS, parts)))


def pca(pictures):
    """(N, ...) -> their mean (D,), variances (N,) in falling order, and the axes (N, D) they belong to."""
    rows = pictures.double().flatten(1)
    mean = rows.mean(0)
    _, lengths, axes = torch.linalg.svd(rows - mean, full_matrices=False)
    return mean, lengths**2 / len(rows), axes


spotted = int(((factors.pattern == 2) & ~factors.hat).nonzero()[0])
one = factors[torch.full((60,), spotted)]
tremble = 1e-6 * torch.randn(60, 22, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
_, near, _ = pca(render(with_numbers(one, to_numbers(one) + tremble)))
mean, values, axes = pca(known)
need = {share: int((values.cumsum(0) < share * values.sum()).sum()) + 1 for share in (0.5, 0.9, 0.95, 0.99)}
print(
    "parameters:",
    sum(NUMBERS.values()),
    "; trembling cat: std of axis 1, 19, 20:",
    [f"{near[k].sqrt():.1e}" for k in (0, 18, 19)],
)
print("axes needed for a share of the variance of 500 cats:", need)
assert sum(NUMBERS.values()) == 22 and len(factors.tensors()) - len(NUMBERS) - 1 == 5  # one says who it is
assert near[18] > 100 * near[19] and need[0.5] < 10 and need[0.95] > 100

# %% jupyter={"source_hidden": true} tags=["hide-input"]
lines = {
    "one cat, trembling": (range(1, 41), near[:40] / near[0]),
    "500 cats": (range(1, 401), values[:400] / values[0]),
}
alt = "Variance by axis: of the trembling cat it falls off a cliff after axis 19, of 500 cats it falls smoothly for hundreds."
plot.curves(lines, logx=True, logy=True, xlabel="axis", ylabel="variance, of the first axis", alt=alt)

# %% [markdown]
# *Look for the cliff in one line and for a cliff in the other.*
#
# Seen from near, the world of cats has 19 dimensions, exactly. Seen as a whole it spreads over hundreds, because it is
# bent, as the circle was. **Straight axes count how much room a world takes; factors count what there is to know.**
#
# ## 4. The smallest autoencoder
#
# The function `pca` above is *principal component analysis* (Pearson, 1901) in three lines. Centre the pictures; the
# singular vectors of the table are the axes along which they vary most; the squares of the singular values are the
# variances. Keep $k$ axes, and you have an encoder and a decoder:
#
# $$ y = A\,(x - m), \qquad \hat x = m + A^\top y, \qquad A A^\top = I. $$
#
# The axes are orthonormal, so what is lost is what lay along the others, and the mean squared error over the pictures
# that $A$ was made of is known before anything is decoded:
#
# $$ \mathbb E\,\lVert x - \hat x \rVert^2 = \sum_{i>k} \lambda_i. \tag{2}$$
#
# From (2) you also get the $k$ for a wanted error without trying: look it up in the cumulative sum.


# %%
def encode(images, k):
    """images (B, 3, 64, 64) -> latents (B, k)."""
    return (images.double().flatten(1) - mean) @ axes[:k].T


def decode(latents):
    return (mean + latents @ axes[: latents.shape[1]]).view(-1, 3, 64, 64)


def squared(x, y):
    return (x - y).square().sum((1, 2, 3)).mean()


left = values.sum() - values.cumsum(0)
k = int((left > 30).sum()) + 1  # the first k that leaves at most 30
print(f"for a squared error of 30 keep {k} numbers: they leave {left[k - 1]:.2f}, one fewer {left[k - 2]:.2f}")
assert left[k - 1] <= 30 < left[k - 2]
for kept in (1, 64, k):
    assert math.isclose(squared(decode(encode(known, kept)), known), values[kept:].sum(), rel_tol=1e-6)  # equation 2
assert (axes[:499] @ axes[:499].T - torch.eye(499)).abs().max() < 1e-9

few = known[:100].double()
ours, package = pca(few), principal_directions(few, 8)
assert torch.allclose(package.std**2, ours[1][:8] * 100 / 99)  # it divides by N - 1
assert torch.allclose((package.axes.flatten(1) * ours[2][:8]).sum(1).abs(), torch.ones(8).double())  # up to the sign

kept, sets = [1, 4, 16, 64, 256], {"pictures it was made of": known[:100], "others": cats}
rows = [torch.cat([cats[i : i + 1], *(decode(encode(cats[i : i + 1], k)) for k in kept)]) for i in (2, 3, 4)]
alt = "Three cats from 1, 4, 16, 64 and 256 numbers: first a plain colour with a blur, then a ghost, then a rough cat."
plot.grid(rows, column_labels=["picture", "1 number"] + [f"{k} numbers" for k in kept[1:]], alt=alt)
quality = {name: [psnr(decode(encode(row, k)), row).mean().item() for k in kept] for name, row in sets.items()}
for name, row in quality.items():
    print(f"PSNR of {name:23}", [round(value, 1) for value in row], "dB")
old, new = quality.values()
assert old[-1] > new[-1] + 2 and new == sorted(new)

# %% [markdown]
# *What comes first, what comes last?*
#
# First the colour of the background, then a blob in the right place, much later a face. Gaze and mood come last, as they
# change few pixels. **Variance is not importance.** And compare the two rows of figures: (2) is about the pictures that
# $A$ was made of. On others PCA loses more, the more so the more axes you keep. (The sign of an axis is nobody's
# business: flip it, and the latent changes sign, the picture does not. *PSNR* is $10 \log_{10} (2^2 / \text{mean
# squared error})$: 6 dB less is twice the error.)
#
# ## 5. The first generative model
#
# Divide each latent by its standard deviation, and you have numbers of mean 0 and variance 1. Read that backwards, and
# you have a **generator**: draw a code $z$ of standard normal numbers, and decode.
#
# $$ G(z) = m + A^\top \Lambda^{1/2} z, \qquad z \sim \mathcal N(0, I). \tag{3}$$
#
# It is the Gaussian with the mean and the covariance of the pictures, as far as $k$ axes go. And like the Gaussian of
# section 2, it draws what is not in the world.


# %%
def generate(z):
    return decode(z * values[: z.shape[1]].sqrt())


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


draws = encode(generate(normal(5000, 16)), 16)
off = (draws.T @ draws / 5000) / (values[:16, None] * values[:16]).sqrt() - torch.eye(16)
assert off.abs().max() < 5 * (2 / 5000) ** 0.5 and torch.linalg.matrix_rank(draws) == 16  # the covariance is right
ghosts = {k: generate(normal(24, k)).float() for k in (4, 32, 300)}
strange = {k: miss(row) for k, row in ghosts.items()}
print("miss:", {k: round(value, 2) for k, value in strange.items()}, "; true cats", round(misses["true cats"], 2))
alt = "Three rows of ghosts: coloured fogs with a bright blob, more with traces of ears and eyes, none of them a cat."
plot.grid([row[:8] for row in ghosts.values()], row_labels=[f"{k} numbers" for k in ghosts], alt=alt)
assert min(strange.values()) > 3 * misses["true cats"]

# %% [markdown]
# *Each row uses more axes. Does it get better?*
#
# Mean and covariance are right; we have checked. More axes do not help: they add traces of more ears. What is missing
# is what no covariance knows: *if* there is an ear here, there is none there.
#
# ### What do the axes mean?
#
# Because PCA's latents are uncorrelated, the share of a factor's variance that a straight line can read from all of
# them is simply the sum of the squared correlations.

# %%
shown = {"background": 3, "coat": 3, "x": 1, "y": 1, "size": 1, "tilt": 1, "gaze_x": 1, "smile": 1}
truth = Critters("cat", seed=1).factors(slice(500))
table = torch.cat([getattr(truth, name).double().reshape(500, -1) for name in shown], dim=1)  # (500, 12)
table, y = (table - table.mean(0)) / table.std(0, correction=0), encode(known, 32)
r = table.T @ (y / values[:32].sqrt()) / 500  # (12, 32) correlations
names = [name + (f" {c}" if width > 1 else "") for name, width in shown.items() for c in "rgb"[:width]]
reads = dict(zip(names, r.square().sum(1).tolist()))
print("read by a straight line from 32 latents:", {name: f"{share:.0%}" for name, share in reads.items()})
assert min(reads[f"background {c}"] for c in "rgb") > 0.9 and max(reads["gaze_x"], reads["smile"]) < 0.4

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, ax = plot.figure(7, 3.2)
shade = ax.imshow(r[:, :16].abs().numpy(), vmin=0, vmax=1, cmap="Blues", aspect="auto")
ax.set(xticks=range(0, 16), yticks=range(12), xticklabels=range(1, 17), yticklabels=names, xlabel="axis")
fig.colorbar(shade, label="|correlation|")
plot.show(
    fig,
    alt="Correlations of factors with 16 axes: dark for background colours on axes 1 to 3, faint and spread elsewhere.",
)

# %% [markdown]
# *Find a row with one dark square, then a row with none.*
#
# The first axes are colours, stirred together: those of the background, which most pixels show, and of the coat. Place
# is spread over many axes and mixed with other things; of gaze and smile there is hardly anything. Move both kinds of
# sliders: axes of PCA, in standard deviations, change the left cat, factors the right one.

# %%
sliders = {
    f"axis {k}": widgets.FloatSlider(value=0, min=-3, max=3, step=0.25, description=f"axis {k}") for k in (1, 2, 6)
}
sliders |= {
    name: widgets.FloatSlider(value=0, min=low, max=high, step=0.05, description=name)
    for name, low, high in (("x", -0.15, 0.15), ("tilt", -0.4, 0.4), ("smile", -1, 1))
}
canvas, start = widgets.HTML(), factors[2:3].replace(x=0.0, tilt=0.0, smile=0.0)


def redraw_both(change=None):
    now = {name: slider.value for name, slider in sliders.items()}
    with torch.inference_mode():
        latents = encode(render(start), 64)
        for name in list(now)[:3]:
            k = int(name.split()[1]) - 1
            latents[:, k] += now[name] * values[k].sqrt()
        pair = torch.cat(
            [decode(latents), render(start.replace(**{name: now[name] for name in ("x", "tilt", "smile")}))]
        )
    alt = "A cat by PCA and the same cat by factors, at " + ", ".join(f"{k} {v:g}" for k, v in now.items()) + "."
    canvas.value = plot.grid(pair, column_labels=["PCA", "factors"], scale=3, alt=alt, display=False).html


for slider in sliders.values():
    slider.observe(redraw_both, "value")
redraw_both()
first = canvas.value
sliders["axis 6"].value, sliders["smile"].value = 2, 1  # what your hand does
assert canvas.value != first and "axis 6 2" in canvas.value and "smile 1" in canvas.value
widgets.HBox([widgets.VBox(list(sliders.values())), canvas])

# %% jupyter={"source_hidden": true} tags=["hide-input"]
steps, at_rest = [-2, -1, 0, 1, 2], factors[torch.full((5,), 2)].replace(x=0.0, tilt=0.0, smile=0.0)
by_axis = [
    torch.cat([decode(encode(render(start), 64) + s * values[k].sqrt() * torch.eye(64)[k].double()) for s in steps])
    for k in (0, 1, 5)
]
by_factor = [
    render(at_rest.replace(**{name: top * torch.tensor(steps) / 2}))
    for name, top in (("x", 0.15), ("tilt", 0.4), ("smile", 1))
]
alt = "A cat five times: along axes of PCA its colours change and ghosts appear; along factors it moves, turns and smiles."
plot.grid(by_axis + by_factor, row_labels=["axis 1", "axis 2", "axis 6", "x", "tilt", "smile"], scale=1.4, alt=alt)

# %% [markdown]
# *The static copy. Which rows change one thing?*
#
# ## 6. Walks
#
# Back to the question of the beginning, with five spaces to walk in: pixels, PCA, the latents of the shipped
# autoencoder, the codes of the diffusion model, and the factors.
#
# PCA will not help, and you can say so without a picture: encoding and decoding are straight, so the middle of the
# latents *is* the latent of the middle. We assert it instead of drawing it.
#
# In codes one does not walk straight on. A standard normal code of $D$ numbers has a length close to $\sqrt D$, always;
# the middle of two of them is shorter by $\sqrt{1/2}$, and the generator has never seen such a thing. `slerp` walks
# along the arc, on the sphere where the codes are (Shoemake, 1985). It was written at the top of this lesson. Lesson 8
# walks on that sphere. Lesson 9 says how a code is found for a given picture; there are many, and a seed picks one.

# %%
y_a, y_b = encode(a, 64), encode(b, 64)
assert (decode(lerp(y_a, y_b, 0.3)) - lerp(decode(y_a), decode(y_b), 0.3)).abs().max() < 1e-9  # PCA: nothing but pixels
lengths = {way.__name__: (way(code_a, code_b, 0.5)[:, 0].norm() / code_a[:, 0].norm()).item() for way in (lerp, slerp)}
print("length of the middle code, of that of an end:", {name: round(value, 2) for name, value in lengths.items()})
assert abs(lengths["lerp"] - 0.5**0.5) < 0.05 and abs(lengths["slerp"] - 1) < 0.05

latents_a, latents_b = cat.to_latents(a), cat.to_latents(b)  # (12, 8, 8, 8), by the autoencoder


def by_factors(weight):
    """Numbers move straight on; choices flip half-way."""
    sides = factors[torch.arange(0, 24, 2)], factors[torch.arange(1, 24, 2)]
    return render(with_numbers(sides[round(weight)], lerp(*map(to_numbers, sides), weight)))


ways = {
    "pixels, PCA": lambda w: lerp(a, b, w),
    "latents": lambda w: cat.to_images(lerp(latents_a, latents_b, w)),
    "codes": lambda w: cat.decode(slerp(code_a, code_b, w)),
    "factors": lambda w: by_factors(w).float(),
}
weights = [0, 0.2, 0.4, 0.5, 0.6, 0.8, 1]
walk = {name: torch.stack([way(w) for w in weights]) for name, way in ways.items()}  # each (7, 12, 3, 64, 64)
along = {name: [miss(step) for step in steps] for name, steps in walk.items()}
for name, row in along.items():
    print(f"{name:12} miss:", [round(value, 2) for value in row])
middle = {name: row[3] for name, row in along.items()}
assert min(middle["pixels, PCA"], middle["latents"]) > 1.5 * middle["codes"] and middle["codes"] > middle["factors"]

# %% jupyter={"source_hidden": true} tags=["hide-input"]
rows = [walk[name][:, pair] for pair in (1, 3) for name in ways]
alt = "Two walks from cat to cat: double in pixels and latents, one cat at every step in codes and in factors."
plot.grid(rows, row_labels=list(ways) * 2, column_labels=[f"{w:g}" for w in weights], alt=alt)
alt = "Miss along the walk: a steep hill for pixels, one for latents, a low one for codes, level ground for factors."
plot.curves(along, x=weights, xlabel="from a to b", ylabel="miss", alt=alt)

# %% [markdown]
# *Follow the ears in each row, then compare the hills.*
#
# The autoencoder's latents do little better than pixels: they were made to be small, not to be walked in (lesson 2 says
# what one of them does). Of the learned spaces only the codes lead from cat to cat. They are not perfect: the ends have
# passed the autoencoder, which blurs, and half-way the network is less sure of itself. But there is one animal at every
# step.
#
# ## 7. Four wishes
#
# A good latent space does four things. **(1)** It leads back: pictures encode, and decode to themselves. **(2)** Its
# random points are pictures. **(3)** Near points are like pictures, and the way between two passes through pictures.
# **(4)** Its directions mean something. You have tested 3 and 4. Here is 2, in all five spaces.

# %%
random = torch.Generator().manual_seed(0)
points = {
    "pixels": torch.randn(16, 3, 64, 64, generator=random),
    "PCA": ghosts[300][:16],
    "latents": cat.to_images(torch.randn(16, *cat.latent_shape, generator=random)),
    "codes": cat.sample(16, seeds=0),
    "factors": Critters("cat", seed=3)[:16],
}
strange = {name: miss(row) for name, row in points.items()}
print("miss of random points:", {name: round(value, 2) for name, value in strange.items()})
alt = "Random points: coloured snow, ghosts, blots, cats, cats."
plot.grid([row[:8] for row in points.values()], row_labels=list(points), alt=alt)
assert min(strange["pixels"], strange["PCA"], strange["latents"]) > 1.6 * strange["codes"] > 1.6 * strange["factors"]

# %% [markdown]
# *Where do cats begin?*
#
# | | pixels | PCA | autoencoder's latents | diffusion model's codes | factors |
# |---|---|---|---|---|---|
# | numbers | 12,288 | as many as you keep | 512 | 11 blocks of 512 | 22, and five choices |
# | 1. leads back | exactly | loses (2) | loses little | as the latents do | if you can read them |
# | 2. random points are pictures | snow | ghosts | blots | **cats** | **cats** |
# | 3. the way between | double | double | double | **cats** | **cats** |
# | 4. directions mean something | no | some colours | places | not by themselves | **yes** |
#
# The last column has everything, and outside a drawn world nobody will give it to you. The column before it can be
# *learned* from pictures alone. It is large, and its directions have to be found (lessons 8 and 11); that is the price.
# And note what it is made of: the *small* space of the autoencoder, and on top of it a map that bends standard normal
# numbers onto it. This is latent diffusion.
#
# ## 8. Code, class, noise
#
# Three words are left that are often mixed up. The **class** is told from outside, and everybody who is told gets the
# same. The **code** is the rest: all that tells this cat from other cats. **Noise** is what has no short description.
# White noise is spread evenly over all directions, so $k$ axes of $D$ keep the share $k/D$ of it, and most of a cat:
# an encoder that is too small for noise *removes* it.

# %%
k, D = 64, 12288
noise = 0.5 * torch.randn(24, 3, 64, 64, generator=random)
share = (encode(noise + mean.view(3, 64, 64), k).square().sum() / noise.double().square().sum()).item()
noisy, cleaned = cats + noise, decode(encode(cats + noise, k))
before, after = psnr(noisy, cats).mean().item(), psnr(cleaned, cats).mean().item()
print(f"of the noise {share:.2%} is left, predicted {k / D:.2%}; PSNR {before:.1f} dB before, {after:.1f} dB after")
assert abs(share * D / k - 1) < 0.15 and after > before + 3
drawn = {name: render(factors.replace(species=name)) for name in ("cat", "dog", "wild")}
rows = [row[:7] for row in (*drawn.values(), noisy, cleaned)]
alt = "Seven animals as cats, dogs and wild ones in the same poses and colours; the cats under noise; cleaned, but ghostly."
plot.grid(rows, row_labels=[*drawn, "with noise", "by PCA"], alt=alt)

# %% [markdown]
# *Columns share a code (here: the factors), rows share a class. The last two rows are cats, with noise and without.*
#
# A generator turns the tables. Its code is drawn at random: it *is* noise, until it is decoded. The same numbers are
# noise to those who do not know the decoder, and a cat to those who do.
#
# ## 9. What would you see if ...
#
# PCA with 64 numbers. One row is right, each of the others has one fault:
#
# the mean was not added · the pictures came in $[0, 1]$ · the axes were made of 30 pictures · the axes were made of
# dogs · the latents were multiplied by 2 · the latents were kept in reverse order.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
four = cats[2:6]


def through(images, mean, axes):
    rows = images.double().flatten(1) - mean
    return (mean + rows @ axes.T @ axes).view_as(images)


dog_mean, _, dog_axes = pca(Critters("dog", seed=1)[:200])
small_mean, _, small_axes = pca(known[:30])
y = encode(four, 64)
made = {
    "A": decode(2 * y),
    "B": through(four, small_mean, small_axes[:29]),
    "C": decode(y) - mean.view(3, 64, 64),
    "D": decode(y),
    "E": decode(y.flip(1)),
    "F": through(four, dog_mean, dog_axes[:64]),
    "G": 2 * decode(encode((four + 1) / 2, 64)) - 1,
}
alt = "Seven rows of four cats: one blurred but right, the others caricatured, ghostly, dark, scrambled, with soft ears or pale."
plot.grid(list(made.values()), row_labels=list(made), scale=1.4, alt=alt)
reached = {letter: round(psnr(row, four).mean().item(), 1) for letter, row in made.items()}
print("dB:", reached)
assert max(reached, key=reached.get) == "D"

# %% [markdown]
# ```{dropdown} Answers
# - **A**, multiplied by 2. Twice as far from the mean cat: a caricature.
# - **B**, 30 pictures. Every picture becomes a mixture of the 30.
# - **C**, no mean. The mean cat is a faint blob, so its absence is faint, too: faces too dark, less of a glow. Measure.
# - **D** is right.
# - **E**, reverse order. Large numbers on small axes: no shape complains.
# - **F**, dogs. Colours and places are fine, as they are shared; the ears are nobody's.
# - **G**, $[0, 1]$. Paler pictures are pictures, too; the encoder takes the shift for a bright background.
# ```
#
# ## Summary
#
# 1. A picture has 12,288 numbers, a cat 22 and five choices. Latents are what stands between.
# 2. PCA is the best straight way: three lines, orthonormal, and its error is the sum of the discarded eigenvalues.
# 3. The world is bent. From near it has as many dimensions as factors, from afar hundreds, and a Gaussian misses it.
# 4. Middles in pixels, PCA and an autoencoder's latents are double exposures; in codes they are cats.
# 5. Four wishes: leads back, random points are pictures, ways pass through pictures, directions mean something.
#
# | here | elsewhere |
# |---|---|
# | `pca`, `principal_directions` | `sklearn.decomposition.PCA`, its `components_`, `explained_variance_` |
# | `cat.to_latents`, `cat.to_images` | `vae.encode`, `vae.decode` in diffusers |
# | `cat.decode(cat.random_code(4))` | a pipeline with its `latents=` argument, for the start alone |
# | `slerp` | written anew in most projects |
#
# ## Open questions
#
# 1. `draw` bends two numbers onto a circle. A straight walk of its codes passes through pictures only, but for some
#    ends. Which? Could any generator with two normal numbers avoid this?
# 2. Let the cat tremble by 0.001 or 0.1 instead of a millionth. What becomes of the cliff, and what does that say about
#    the size of a world's bends?
# 3. The miss needs a probe and a program. For photographs there is no program. How would you measure that a picture is
#    a double exposure?
#
# ## References
#
# - K. Pearson. *On Lines and Planes of Closest Fit to Systems of Points in Space.* Philosophical Magazine 2, 1901.
# - M. Turk, A. Pentland. *Eigenfaces for Recognition.* Journal of Cognitive Neuroscience 3, 1991. PCA of faces.
# - K. Shoemake. *Animating Rotation with Quaternion Curves.* SIGGRAPH 1985.
# - R. Rombach, A. Blattmann, D. Lorenz, P. Esser, B. Ommer. *High-Resolution Image Synthesis with Latent Diffusion
#   Models.* CVPR 2022. arXiv:2112.10752.
# - C. H. Wu, F. De la Torre. *A Latent Space of Stochastic Diffusion Models for Zero-Shot Image Editing and Guidance.*
#   ICCV 2023; first as arXiv:2210.05559.
#
# *This lesson is licensed under CC BY 4.0.*
