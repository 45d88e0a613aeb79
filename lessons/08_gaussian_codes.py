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
# # 8. Gaussian codes: the latent space of any generator
#
# **Where does a picture live in the space of codes?**
#
# A generator needs random numbers, and then it needs nothing more. Write the numbers down first and call them the code:
# what remains is a function, from codes to pictures. This lesson looks at the space where the codes live. It asks which
# numbers hold which part of a picture, how to walk from one picture to another, and whether models that never met mean
# the same by the same numbers.

# %%
import math
from itertools import combinations, zip_longest
from pathlib import Path

import ipywidgets as widgets
import torch
import torch.nn.functional as F

import minidiff
from minidiff import plot, zoo
from minidiff.codes import code_statistics, difference, lerp, predicted_std, slerp
from minidiff.data.critters import Critters
from minidiff.evaluation import results
from minidiff.evaluation.probes import columns_correlation, read_all
from minidiff.evaluation.studies.common_space import kept, parts_of
from minidiff.evaluation.studies.marks import FACTORS
from minidiff.generators import Identity, LatentDiffusion
from minidiff.ideal import IdealDenoiser
from minidiff.schedule import linear
from minidiff.seeds import normal

torch.set_grad_enabled(False)
species = ("cat", "dog", "wild")
models = {name: minidiff.load(f"critters-{name}").replace(steps=10, eta=1.0) for name in species}
cat, probe = models["cat"], minidiff.load("critters-probe")
codes = cat.random_code(64, seeds=0)  # (64, 11, 8, 8, 8)
drawn = {name: model.decode(codes).clamp(-1, 1) for name, model in models.items()}
alt = (
    "Ten cats, the ten dogs and the ten foxes and tigers of the same codes: backgrounds, hats and glasses mostly agree."
)
plot.grid([drawn[name][:10] for name in species], row_labels=species, alt=alt)
right = [(read_all(probe, drawn[name])["species"] == i).float().mean().item() for i, name in enumerate(species)]
assert min(right) > 0.85

# %% [markdown]
# *One column is one code. The three models were trained apart, each on its own animals. Look down the columns: at the
# backgrounds, at the glasses and hats, at the way the eyes turn. Then look for what does not agree.*
#
# ```{tip}
# **After this lesson you can**
# 1. write any sampler as a function of a code, and test that it is one;
# 2. say in closed form which part of a code decides what, and check it on a trained model;
# 3. move in code space without leaving it: mix, add, and find the directions that matter.
#
# **Needs** lesson 4. **Read** 25 minutes. **Run** under a minute on two cores, under 2 GB.
# **Checkpoints** `critters-cat`, `critters-dog`, `critters-wild`, `critters-probe`; section 8 looks at every generator
# of the zoo.
# ```
#
# | symbol | in code | meaning | shape |
# |---|---|---|---|
# | $z$ | `code` | the standard normal numbers that a picture is made of | (B, blocks, 8, 8, 8), or (B, D) |
# | $x_T$ | `code[:, 0]` | block 0, where the sampler starts | (B, 8, 8, 8) |
# | $z_k$ | `code[:, k]` | block $k$, the noise of step $k$ | (B, 8, 8, 8) |
# | $G$ | `decode` | the generator, $x = G(z)$ | codes to pictures |
# | $J$ | | its Jacobian, $\partial G / \partial z$ | latents by numbers of a code |
# | $\bar\alpha_t,\ \eta,\ \sigma$ | `abar`, `eta`, `std` | signal power at level $t$; share of DDPM's noise that a step draws; the step's std | numbers |
#
# ## 1. A sampler is a function
#
# Wu and De la Torre (2023) look at all generators in one way: a deterministic map $x = G(z)$ from $z \sim N(0, I)$. They
# differ in what $z$ is.
#
# | family | the code $z$ | $G$ |
# |---|---|---|
# | GAN, VAE | one vector | one pass of a network |
# | flow | as many numbers as the picture | an invertible network |
# | diffusion, ODE ($\eta = 0$) | $x_T$ | all steps of the sampler |
# | diffusion, stochastic ($\eta > 0$) | $x_T, \epsilon_T, \dots, \epsilon_1$ | the same, and each step reads its noise from $z$ |
# | denoising diffusion GAN (Xiao et al.) | $x_T, z_T, \epsilon_T, \dots, z_1$ | a few large steps, each with a small GAN's code |
# | diffusion autoencoder (Preechakul et al.) | $z_T, x_T$ | the ODE of a vector that says what there is, then that of the picture |
#
# The fourth row is the new idea. A stochastic sampler seems to have no latent space, because it draws noise all the way.
# So draw all of it beforehand. Here is $G$ by hand, for one flat vector of numbers. The formula of a step is DDIM's, as
# in lesson 4; the last one lands on clean data, where $\sigma = 0$ and a random code holds zeros.


# %%
def by_hand(model, z):
    """z (B, D), x_T and then the noise of every step -> pictures (B, C, H, W)."""
    abar_at = model.denoiser.schedule.abar_at
    x, *noises = z.unflatten(1, (-1, *model.latent_shape)).unbind(1)
    for step, noise in zip_longest(model.grid, noises, fillvalue=0.0):  # with eta = 0 there are none
        abar_t, abar_s = abar_at(step.t), abar_at(step.s)
        std = model.eta * math.sqrt((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s))
        x0, eps = model.denoiser(x, step.t)
        mean = math.sqrt(abar_s) * x0 + math.sqrt(1 - abar_s - std**2) * eps
        x = mean + (std or 1.0) * noise  # where nothing is drawn the code holds what the mean lacks
    return model.to_images(x)


for eta in (0.0, 0.1, 1.0):
    model = cat.replace(eta=eta)
    z = codes[:2, : model.code_shape[0]]  # x_T alone for eta = 0
    assert (by_hand(model, z.flatten(1)) - model.decode(z)).abs().max() < 1e-4
print(f"numbers: picture {drawn['cat'][0].numel()}, latents {codes[0, 0].numel()}, code {codes[0].numel()}")
assert codes[0].numel() == (len(cat.grid) + 1) * codes[0, 0].numel()

# %% [markdown]
# The code has eleven blocks of the latents' size for a chain of ten steps; with fifty steps it has fifty-one. That is a
# lot of room for one picture, and lesson 9 shows that a whole surface of codes leads to the same one.
#
# **Seeds are points.** A seed is nothing but a short name of a code. So the picture of a seed must not depend on which
# others are drawn beside it. It does in many programs, where one stream of random numbers runs through the batch.

# %%
assert torch.equal(cat.random_code(3, seeds=[5, 2, 40]), codes[[5, 2, 40]])  # to the last bit
alone, together = cat.decode(codes[[5]]).clamp(-1, 1), drawn["cat"][[5]]
print(f"seed 5 alone and among 64: pictures differ by {(alone - together).abs().max():.0e}")
assert (alone - together).abs().max() < 1e-3  # sums are rounded in another order, no more
assert (drawn["cat"][5] - drawn["cat"][2]).abs().max() > 0.3  # another point, another picture

# %% [markdown]
# ## 2. Wrong first: the straight line
#
# You have two pictures you like, and you want those between them. Walk from one code to the other, on the straight line
# $(1-w)\,a + w\,b$. Or you have eight that you like, and take the mean of their codes. What could be simpler?

# %%
weights = (0.0, 0.25, 0.5, 0.75, 1.0)
walks = {way: torch.cat([way(codes[:1], codes[4:5], w) for w in weights]) for way in (lerp, slerp)}
rows = [cat.decode(walk) for walk in walks.values()]
alt = "From one cat to another in five steps; on the straight line the colours in the middle are greyer."
plot.grid(rows, row_labels=["straight", "round"], column_labels=[f"w = {w}" for w in weights], scale=1.4, alt=alt)
means = codes.unflatten(0, (8, 8)).mean(1)  # (8, 11, 8, 8, 8): each the mean of eight codes
mended = means * math.sqrt(8)
eight = {"mean of 8": cat.decode(means).clamp(-1, 1), "on the shell": cat.decode(mended).clamp(-1, 1)}
alt = "Eight means of eight codes each are eight nearly equal plain cats; scaled back they are eight different cats."
plot.grid(list(eight.values()), row_labels=list(eight), alt=alt)


def size(z):
    """|z|^2 / d of each code, over the d numbers that are drawn."""
    return z.square().flatten(1).sum(1) / (cat.free.sum() * z[0, 0].numel())


def variety(images):
    """RMS distance of pictures from their mean."""
    return (images - images.mean(0)).square().mean().sqrt().item()


for name, z in (("straight", walks[lerp]), ("round", walks[slerp]), ("means of 8", means), ("on the shell", mended)):
    print(f"{name:13} |z|^2 / d:", *(f"{v:.2f}" for v in size(z).tolist()))
plain, varied = (variety(images) for images in eight.values())
print(f"variety of 64 samples {variety(drawn['cat']):.2f}, of the means {plain:.2f}, back on the shell {varied:.2f}")
assert abs(size(walks[lerp])[2] - 0.5) < 0.05 and (size(walks[slerp]) - 1).abs().max() < 0.06
assert (size(means) - 1 / 8).abs().max() < 0.02 and plain < 0.85 * min(varied, variety(drawn["cat"]))

# %% [markdown]
# *Below: eight different groups of cats, and their means are so plain and so alike. Above: compare the backgrounds half
# way.*
#
# These means are no codes. A code of $d$ numbers has the squared length $|z|^2$, a sum of $d$ independent squares: its
# mean is $d$ and its variance $2d$, so $|z|^2/d$ lies within about $\sqrt{2/d}$ of 1. In the plane the normal
# distribution is a hill with its top in the middle. In a thousand dimensions it is a **thin shell**, and nobody lives at
# the top. The mean of $n$ codes has an $n$-th of the squared length: far inside, where no sample ever is, and there the
# model draws the average cat.

# %%
torch.manual_seed(0)
fig, ax = plot.figure(7, 2.6)
for i, d in enumerate((2, 32, 512, 5120)):
    sizes = torch.distributions.Chi2(torch.tensor(float(d))).sample((20_000,)) / d
    near = ((sizes - 1).abs() < 0.02).float().mean().item()
    expected = math.erf(0.02 / math.sqrt(2 * 2 / d)) if d > 2 else math.exp(-0.98) - math.exp(-1.02)
    print(f"d = {d:5}: {near:.1%} of the codes have |z|^2 / d in [0.98, 1.02], expected {expected:.1%}")
    assert abs(near - expected) < 0.015
    density, edges = torch.histogram(sizes, bins=60, range=(0.0, 2.0), density=True)
    ax.plot((edges[1:] + edges[:-1]) / 2, density, label=f"d = {d}", **plot.style(i) | {"marker": None})
ax.axvline(0.5, color="grey", linewidth=0.8)
ax.set(xlabel="|z|² / d", ylabel="density", yscale="log", ylim=(0.03, 40))
ax.legend(frameon=False, fontsize="small")
alt = "Densities of the squared length over d: broad for 2 numbers, a spike at 1 for 5120, where 0.5 is out of reach."
plot.show(fig, alt=alt)
assert (sizes - 0.5).abs().min() > 0.3  # of 20,000 codes as long as ours

# %% [markdown]
# *The grey line is the middle of a straight walk. Follow what the curves have left there as $d$ grows.*
#
# So walk on the sphere. `slerp` (Shoemake, 1985) turns $a$ into $b$ by their angle $\theta$ and keeps the length:
#
# $$ \mathrm{slerp}(a, b; w) = \frac{\sin((1-w)\,\theta)\,a + \sin(w\,\theta)\,b}{\sin\theta}. $$
#
# Two random codes are nearly at right angles, and half way this is $(a+b)/\sqrt2$: standard normal again. The same
# square root mends every sum. Divide $\sum w_k z_k$ by $\sqrt{\sum w_k^2}$ and you are back on the shell.
#
# ## 3. Which part decides what? The closed form
#
# Take data where all is known: one coordinate of a picture, $N(m, s^2)$. The perfect denoiser is a straight line
# (lesson 4), so every step multiplies the distance from the mean by a number $a_t$ and adds its noise:
#
# $$ u_s = a_t\,u_t + \sigma_t z_k, \qquad
# a_t = \sqrt{\bar\alpha_s}\,k_t + \sqrt{1-\bar\alpha_s-\sigma_t^2}\;\frac{1-\sqrt{\bar\alpha_t}\,k_t}{\sqrt{1-\bar\alpha_t}},
# \qquad k_t = \frac{\sqrt{\bar\alpha_t}\,s^2}{\bar\alpha_t s^2+1-\bar\alpha_t}. $$
#
# Then $G$ is linear, $G(z) = m + \sum_k J_k z_k$: a noise is added, and from there on it shrinks or grows with all
# the rest. $J_k$ is $\sigma$ of step $k$ times all later $a_t$. The blocks are independent, so their shares of the
# variance add up: block $k$ decides $J_k^2 / \sum_j J_j^2$ of this coordinate.
#
# Pictures have coordinates of many widths. A background moves all the latents at once: along that direction the data
# are wide. A pupil moves two of them a little: narrow. So let us follow four widths.

# %%
widths = torch.tensor([2.0, 1.0, 0.5, 0.2], dtype=torch.float64)
schedule = linear()
oracle = IdealDenoiser(schedule, torch.zeros(1, 1, 4), std=widths)
gaussian = LatentDiffusion(Identity(bound=None), oracle, (1, 1, 4), steps=50, eta=1.0)


def jacobian(model):
    """J (blocks, 4) in closed form: what one unit of block k becomes at the end."""
    rows = [torch.ones_like(widths)]
    for step in model.grid:
        (signal, noise), abar, std = schedule.levels(step.t, widths), schedule.abar_at(step.s), model.sampler.std(step)
        k = signal * widths**2 / (signal**2 * widths**2 + noise**2)
        a = math.sqrt(abar) * k + math.sqrt(1 - abar - std**2) * (1 - signal * k) / noise
        rows = [a * row for row in rows] + [std * torch.ones_like(widths)]
    return torch.stack(rows)


shares, half = {}, {}
fig, axes = plot.figure(8, 2.8, ncols=2, sharey=True)
for ax, eta in zip(axes, (1.0, 0.1)):
    model = gaussian.replace(eta=eta)
    J, levels = jacobian(model), torch.tensor([schedule.abar_at(step.t) for step in model.grid])[:, None]
    units = torch.eye(51, dtype=torch.float64).view(51, 51, 1, 1, 1).expand(-1, -1, 1, 1, 4)
    measured = (model.decode(units) - model.decode(torch.zeros_like(units[:1]))).flatten(1)  # (51, 4)
    assert (measured[:-1] - J[:-1]).abs().max() < 1e-9  # the last block is a residual, 0 in a random code
    shares[eta] = J.square() / J.square().sum(0)
    half[eta] = (shares[eta].cumsum(0) < 0.5).sum(0).tolist()
    for i, width in enumerate(widths.tolist()):
        ax.plot(shares[eta].cumsum(0)[:, i], label=f"width {width:g}", **plot.style(i) | {"marker": None})
        if eta == 1:
            theory = levels * width**2 / (levels * width**2 + 1 - levels)
            ax.plot(range(0, 50, 5), theory[::5], "o", color=plot.COLOURS[i], markersize=3)
    ax.set(xlabel="blocks known, from the start", title=f"eta = {eta:g}")
    stds = [round(v, 2) for v in J.norm(dim=0).tolist()]
    print(f"eta {eta:g}: std of the samples {stds}, half decided at block {half[eta]}")
axes[0].set(ylabel="share decided")
axes[0].legend(frameon=False, fontsize="small")
alt = "Share of the variance decided over the blocks. At eta 1 wide coordinates rise early and narrow ones late; at 0.1 x_T decides."
plot.show(fig, alt=alt)
fine = jacobian(gaussian.replace(steps=1000)).square()
abar = torch.tensor([schedule.abar_at(step.t) for step in gaussian.replace(steps=1000).grid])[:, None]
miss = (fine.cumsum(0) / fine.sum(0))[:-1] - abar * widths**2 / (abar * widths**2 + 1 - abar)
print(f"equation 1 and the chain of 1000 steps differ by at most {miss.abs().max():.3f}")
assert miss.abs().max() < 0.03 and half[1.0] == sorted(set(half[1.0]))  # the narrower, the later
assert shares[1.0][0].max() < 0.02 and shares[0.1][0].min() > 0.5

# %% [markdown]
# *Left: wide coordinates are decided early and narrow ones late; the dots are equation 1 below. Right: nearly
# everything is in $x_T$.*
#
# Equation 1 takes one line. With $\eta = 1$ and small steps a state $x_t$ of the sampler is distributed as noised data,
# and what it settles of $x_0$ is what the perfect denoiser sees in it:
#
# $$ \text{share decided at level } t \;=\; \frac{\operatorname{Var} E[x_0 \mid x_t]}{s^2} \;=\;
# \frac{\bar\alpha_t s^2}{\bar\alpha_t s^2 + 1 - \bar\alpha_t}. \tag{1}$$
#
# Half of a coordinate is decided when its signal is as strong as the noise. Earlier the sampler cannot see it, later it is
# settled. Each step forgets a little and draws anew, so the start is forgotten. With a small $\eta$ it is kept, and for
# $\eta = 0$ it is the whole code.
#
# ## 4. The same question, to a trained model
#
# Now the prediction: with $\eta = 1$ the start of a cat's code decides nothing, early blocks the background and the coat,
# later ones the eyes. To test it, keep one part of each code and draw the rest anew. The probe, a small network that
# reads factors from pictures, tells what has stayed: the correlation with the factors of the whole code's picture.

# %%
parts = parts_of(len(codes[0]))
print({name: blocks.tolist() for name, blocks in parts.items()})


def agreement(a, b, shift=0):
    """Correlation of each factor between two readings, item i of `a` with item i - shift of `b`."""
    r = {key: columns_correlation(a[key].double().view(64, -1), b[key].double().view(64, -1).roll(shift, 0))
         for keys in FACTORS.values() for key in keys}  # fmt: skip
    return {name: torch.cat([r[key] for key in keys]).mean().item() for name, keys in FACTORS.items()}


def heat(ax, rows):
    """A table of correlations, drawn and written."""
    table = torch.tensor([list(row.values()) for row in rows.values()])
    ax.imshow(table, vmin=0, vmax=1.2, cmap="Blues", aspect="auto")
    ax.set_xticks(range(len(FACTORS)), list(FACTORS))
    ax.set_yticks(range(len(rows)), list(rows))
    for (i, k), value in zip(torch.cartesian_prod(*map(torch.arange, table.shape)).tolist(), table.flatten().tolist()):
        ink = "white" if value > 0.75 else "black"
        ax.text(k, i, f"{value:.2f}", ha="center", va="center", color=ink, fontsize="small")


others = cat.random_code(64, seeds=1000)
mild = cat.replace(eta=0.1)
faces = {1.0: drawn, 0.1: {"cat": mild.decode(codes).clamp(-1, 1)}, 0.0: {}}  # pictures by eta and species
seen = {eta: {name: read_all(probe, images) for name, images in by_name.items()} for eta, by_name in faces.items()}
held, table = {}, {}
for name, blocks in parts.items():
    held[name] = cat.decode(kept(codes, others, blocks)).clamp(-1, 1)
    table[f"{name}, eta 1"] = agreement(seen[1.0]["cat"], read_all(probe, held[name]))
mixed = mild.decode(kept(codes, others, parts["start"])).clamp(-1, 1)
table["start, eta 0.1"] = agreement(seen[0.1]["cat"], read_all(probe, mixed))

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, ax = plot.figure(8, 2.4)
heat(ax, table)
plot.show(fig, alt="Correlations of eight factors with those of the whole code, by the part that is kept: with eta 1 nothing for the "
          "start, background and coat for early blocks, eyes for middle ones; with eta 0.1 all for the start.")  # fmt: skip
rows = [torch.stack([drawn["cat"][i], *(images[i] for images in held.values())]) for i in range(3)]
alt = "Three cats, and four for each that share a part of its code: the early part keeps most colours, the others less."
plot.grid(rows, column_labels=["whole code", *(f"{name} kept" for name in held)], alt=alt)

# %%
start, early, middle, late, mild_start = table.values()
assert max(abs(value) for value in start.values()) < 0.35 and max(late.values()) < 0.4
assert early["background"] > 0.5 and early["background"] > middle["background"] + 0.3
assert middle["eye"] > early["eye"] + 0.1
assert max(row[name] for row in (early, middle) for name in ("position", "tilt", "gaze")) < 0.65
assert mild_start["background"] > 0.8 and sum(mild_start.values()) / len(FACTORS) > 0.5

# %% [markdown]
# *Read the table by columns: which part of the code has most to say about this factor?*
#
# It is as the Gaussian said. At $\eta = 1$ the start says nothing, though the sampler begins there. The background is
# wide and is settled in the early blocks; the eyes follow in the middle. The late blocks change texture that no
# factor names. And with $\eta = 0.1$ the start alone holds most of what the probe can read. "The latent space of a
# diffusion model" is two different things, then, and $\eta$ chooses between them.
#
# No part alone keeps much of the pose: for that, early and middle blocks have to come together.
#
# ## 5. Are codes of real pictures normal?
#
# Lesson 9 runs $G$ backwards: DPM-Encoder finds a code of a given picture. Do such codes look like random ones? Three
# numbers tell: the std of each block, what the Gaussian of section 3 predicts for it, and the correlation of neighbouring
# blocks.

# %%
latents = cat.to_latents(Critters("cat", seed=2)[:8])  # cats that no model was trained on
for eta in (1.0, 0.1):
    model = cat.replace(eta=eta)
    found = code_statistics(model.encode_latents(latents))
    apart = code_statistics(model.encode_latents(latents, trajectory="independent"))
    ideal = predicted_std(model.sampler, model.grid, data_std=1.0)  # latents have std 1
    print(f"eta {eta:g}: std of start and noises", *(f"{v:.2f}" for v in found.std[:-1].tolist()))
    print("         Gaussian data              ", *(f"{v:.2f}" for v in ideal[:-1].tolist()))
    lags = [stats.lag1[2:8].mean().item() for stats in (found, apart)]
    print(f"         neighbours correlate by {lags[0]:.2f}, on an independent path by {lags[1]:.2f}")
    assert (found.std[:4] - 1).abs().max() < 0.2 and -0.65 < lags[1] < -0.3
    assert found.std[-2] < ideal[-2]
assert found.std[-2] > 2  # the last noise at eta = 0.1

# %% [markdown]
# The early blocks are standard normal, as far as one can tell. The last noises are not: they grow like $1/\eta$,
# because what the model could not foresee is divided by a small $\sigma$. (On the grid published with the paper the
# last one has a std of about $2/\eta$.) The cats' noises are smaller than the Gaussian's of width 1, because their
# latents hang together and a network can foresee more. And if the path is drawn with *independent* noises
# (Huberman-Spiegelglas et al., 2024), neighbours pull against each other, with a correlation of about $-\tfrac12$.
# Such codes decode to their pictures, but they are no points of the shell. Lesson 9 derives all three.
#
# ## 6. Models that never met
#
# Back to the first picture. The paper's boldest claim is that a **common latent space** emerges: the same code means
# the same to models of related domains. (Zhang et al., 2023, saw it between models of *one* domain.) We can measure
# it. Decode 64 codes with the three models, read the factors, and correlate across models, code by code. What is
# chance? Compare each picture with that of *another* code: there are 63 ways to shift the list, and a true agreement
# must beat the best of them.

# %%
pairs = list(combinations(species, 2))
for eta, name in ((0.0, "cat"), (0.0, "dog"), (0.0, "wild"), (0.1, "dog"), (0.1, "wild")):  # the others are there
    model = models[name].replace(eta=eta)
    faces[eta][name] = model.decode(codes[:, : model.code_shape[0]]).clamp(-1, 1)
    seen[eta][name] = read_all(probe, faces[eta][name])


def common(eta, shift=0):
    """The mean agreement of all pairs of models on each factor."""
    rows = [agreement(seen[eta][a], seen[eta][b], shift) for a, b in pairs]
    return {name: sum(row[name] for row in rows) / len(rows) for name in FACTORS}


table = {f"eta {eta:g}": common(eta) for eta in (0.0, 0.1, 1.0)}
chance = [common(1.0, shift) for shift in range(1, 64)]
table["best shift"] = {name: max(row[name] for row in chance) for name in FACTORS}

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, ax = plot.figure(8, 2.2)
heat(ax, table)
plot.show(fig, alt="Correlations of eight factors across models by eta: background most, then the colours of coat and eyes, "
          "then position, size and gaze; what the best of 63 shifted lists reaches stands in the last row.")  # fmt: skip
alt = "Ten cats, dogs and wild ones of the same ten starts by the ODE: again backgrounds and many glances agree."
plot.grid([faces[0.0][name][:10] for name in species], row_labels=species, alt=alt)

# %%
limit = table.pop("best shift")
for row in table.values():
    assert row["background"] > 0.75 and row["coat"] > limit["coat"] + 0.15 and row["eye"] > limit["eye"] + 0.05
    pose = [row[name] - limit[name] for name in ("position", "size", "gaze")]
    assert sum(pose) > 0 and row["background"] > row["smile"] + 0.3
print(
    "agreement from most to least:",
    *sorted(FACTORS, key=lambda name: -sum(row[name] for row in table.values())),
    sep=" ",
)

# %% [markdown]
# *Top to bottom: the ODE, the paper's setting, DDPM's noise, and what chance can reach. Below: the ODE's pictures, from
# the starts of the codes of the first figure.*
#
# The claim holds, by degrees. Backgrounds agree best, nearly perfectly, then the colours of coat and eyes. The place and
# size of the head and the glance agree more than by chance. Small and late things, such as the curve of a mouth, agree far
# less than backgrounds do.
#
# Why should it hold at all? Section 3 has an answer for Gaussians. With $\eta = 0$ the map $z \mapsto x$ is fixed by the
# data and the schedule; nothing of the training is in it. Two data sets whose covariances are alike have maps that are
# alike. All three models work in the latents of *one* autoencoder, where the background lies in the same direction for
# all species: one code, one background. What each species draws in its own way, each model maps in its own way.
# Lesson 10 turns this into a method and shows where it breaks.
#
# If that is the reason, three things follow, and each can be measured (`minidiff reproduce codes`; small models, 400
# codes each, $\eta = 0.1$). **The more alike two worlds are, the more they share.** Siblings are two models of cats,
# each with cats and a seed of its own; relatives, cats and what lies half-way to dogs; strangers, cats and dogs that
# stand on their heads:
#
# <!-- results: codes kinship -->
#
# | domains | background | coat | eye | position | size | tilt | gaze | smile | glasses | hat | pattern agrees |
# | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |
# | siblings | 0.92 | 0.93 | 0.85 | 0.83 | 0.81 | 0.85 | 0.81 | 0.81 | 0.58 | 0.65 | 80.2 % |
# | relatives | 0.92 | 0.92 | 0.78 | 0.77 | 0.76 | 0.66 | 0.74 | 0.75 | 0.51 | 0.59 | 80.8 % |
# | cat and dog | 0.90 | 0.87 | 0.72 | 0.55 | 0.64 | 0.53 | 0.59 | 0.46 | 0.48 | 0.61 | 78.5 % |
# | strangers | 0.86 | 0.71 | 0.65 | 0.01 | 0.58 | -0.34 | 0.01 | -0.07 | 0.42 | 0.08 | 67.5 % |
#
# <!-- end -->
#
# Even siblings do not agree on all: what a model has not learned well is its own. Down the table pose and smile go
# first, colours last. Of the strangers' pose nothing is left but the size, and the tilt is *reversed*: both lean to the
# same side of the picture, and one of them stands on its head. **It must be there early**, as it comes from what is
# simplest about the data. Cats and dogs along one training:
#
# <!-- results: codes training -->
#
# | training | background | coat | eye | position | size | tilt | gaze | smile | glasses | hat | pattern agrees |
# | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |
# | 50 steps, all pairs | 0.86 | 0.93 | 0.89 | 0.87 | 0.88 | 0.87 | 0.89 | 0.92 | 0.70 | 0.74 | 89.8 % |
# | 50 steps, shuffled | 0.01 | -0.00 | 0.05 | -0.01 | -0.01 | -0.07 | 0.01 | -0.03 | 0.00 | 0.01 | 51.0 % |
# | 100 steps, all pairs | 0.86 | 0.94 | 0.88 | 0.84 | 0.83 | 0.87 | 0.87 | 0.86 | 0.69 | 0.82 | 88.2 % |
# | 100 steps, shuffled | 0.01 | 0.01 | 0.07 | -0.01 | -0.04 | -0.11 | -0.03 | -0.06 | -0.06 | 0.01 | 51.0 % |
# | 200 steps, all pairs | 0.85 | 0.89 | 0.82 | 0.77 | 0.79 | 0.79 | 0.78 | 0.72 | 0.69 | 0.62 | 79.5 % |
# | 200 steps, shuffled | 0.03 | 0.02 | 0.01 | -0.06 | 0.02 | -0.12 | -0.00 | 0.04 | 0.01 | -0.03 | 55.0 % |
# | 500 steps, all pairs | 0.87 | 0.87 | 0.81 | 0.64 | 0.70 | 0.69 | 0.71 | 0.58 | 0.48 | 0.62 | 83.0 % |
# | 500 steps, shuffled | -0.04 | 0.02 | 0.01 | -0.01 | 0.03 | -0.04 | 0.03 | 0.03 | 0.05 | -0.07 | 63.2 % |
# | 1500 steps, all pairs | 0.90 | 0.87 | 0.72 | 0.55 | 0.64 | 0.53 | 0.59 | 0.46 | 0.48 | 0.61 | 78.5 % |
# | 1500 steps, shuffled | -0.02 | 0.03 | 0.02 | -0.03 | 0.04 | -0.01 | 0.00 | -0.00 | 0.09 | -0.09 | 63.7 % |
#
# <!-- end -->
#
# It is there after fifty steps, when the pictures are hardly pictures yet (and the probe has to read what it never saw),
# and for everything but the background it is *highest* there. The more a model learns of
# what is special about dogs, the less its dogs have in common with the cats of the same codes. The common space does
# not emerge; it is what is left. **And where nothing ties a code to the data there must be none**: that is section 8.

# %%
study = results.read("codes", next(path for path in (Path("results"), Path("../results")) if path.is_dir()))
kin = {name: [study[f"kinship/{name}/{factor}"].value for factor in FACTORS] for name in
       ("siblings", "relatives", "cat and dog", "strangers")}  # fmt: skip
shared = {name: sum(values) / len(values) for name, values in kin.items()}
print("mean correlation:", {name: round(value, 2) for name, value in shared.items()})
assert shared["siblings"] > shared["relatives"] > shared["cat and dog"] > shared["strangers"] + 0.2
assert study["kinship/strangers/background"].value > 0.8 and study["kinship/strangers/tilt"].value < -0.2
early, late = ([study[f"training/{step}/all pairs/{factor}"].value for factor in FACTORS] for step in (50, 1500))
assert min(early) > 0.8 and sum(late) < sum(early) - 1

# %% [markdown]
# ## 7. Directions
#
# **Arithmetic.** Take the 64 cats of the ODE and sort them by the green channel of their background: purple and red have
# little of it, yellow and green much. The mean $x_T$ of the upper half less that of the lower half is a direction, and it
# is learnt from cats. Now turn new codes towards it and away from it, along the shell, and decode with *all* models.

# %%
ode = {name: model.replace(eta=0.0) for name, model in models.items()}
green = seen[0.0]["cat"]["background"][:, 1].argsort()
more_green = difference(codes[green[32:], :1], codes[green[:32], :1])
fresh = cat.random_code(6, seeds=500)[:, :1]


def turn(z, direction, angle):
    """z (B, 1, c, h, w) turned by an angle towards a direction, on the sphere if that is at right angles to z."""
    length = z.flatten(1).norm(dim=1).view(-1, 1, 1, 1, 1)
    return math.cos(angle) * z + math.sin(angle) * length * direction / direction.norm()


turned = {f"{name} {sign} green": model.decode(turn(fresh, more_green, angle)).clamp(-1, 1)
          for name, model in ode.items() for sign, angle in (("less", -0.4), ("more", 0.4))}  # fmt: skip
alt = "Six codes as cats, dogs and wild ones, each turned from green and towards it: purple and red turn yellow or green in all."
plot.grid(list(turned.values()), row_labels=list(turned), scale=1.0, alt=alt)
level = {key: read_all(probe, images)["background"][:, 1].mean().item() for key, images in turned.items()}
print("mean green of the background:", {key: round(value, 2) for key, value in level.items()})
assert all(level[f"{name} more green"] > level[f"{name} less green"] + 0.1 for name in species)

# %% [markdown]
# *Compare the rows in pairs, first the backgrounds and then the rest.* A direction found with one model works in others
# that never saw its pictures: the common space again, now as a tool. It is not a clean tool. The mean of 32 codes is mostly
# noise, and the animals change with it.
#
# **Which directions matter?** The Jacobian says it: along its leading singular vectors a small step in $z$ changes
# most. $J$ has 512 columns here, but you need not build it. Push a few random vectors $v$ through $G$; their images $Jv$
# span nearly the space of the largest changes (Halko et al., 2011). Pull an orthonormal basis of that space back with one
# gradient, and a small SVD gives values and directions. The Gaussian, whose Jacobian is known, is the test.


# %%
def leading(decode, z, probes=16):
    """Singular values and directions (K, ...) of the Jacobian at z (1, ...), largest first; and all values squared, summed."""
    v = normal(torch.arange(probes), z.shape[1:], "probe", z.dtype)
    pushed = (decode(z + 0.02 * v) - decode(z - 0.02 * v)).flatten(1) / 0.04  # J v
    basis = torch.linalg.qr(pushed.T).Q.T
    with torch.enable_grad():
        at = z.expand_as(v).clone().requires_grad_()
        (decode(at).flatten(1) * basis).sum().backward()  # rows of at.grad: basis @ J
    _, values, directions = torch.linalg.svd(at.grad.flatten(1), full_matrices=False)
    return values, directions.view_as(v), pushed.square().sum(1).mean()


falling = 2 * 0.7 ** torch.arange(64, dtype=torch.float64)
known = IdealDenoiser(schedule, torch.zeros(1, 8, 8), std=falling.view(1, 8, 8))
known = LatentDiffusion(Identity(bound=None), known, (1, 8, 8), steps=10, eta=0.0)
zero = torch.zeros(1, 1, 1, 8, 8, dtype=torch.float64)
exact = (known.decode(torch.eye(64, dtype=torch.float64).view(64, 1, 1, 8, 8)) - known.decode(zero)).flatten(1).diag()
guess, _, _ = leading(known.decode, zero)
print("known:", *(f"{v:.3f}" for v in exact[:4].tolist()), "  by 16 probes:", *(f"{v:.3f}" for v in guess[:4].tolist()))
assert (guess[:4] / exact.sort(descending=True).values[:4] - 1).abs().max() < 0.02

point = codes[2:3, :1]
values, directions, total = leading(cat.replace(eta=0.0, recompute=False).decode_latents, point)
random = normal(torch.tensor([7]), point.shape[1:], "random")[0]
rows = [torch.cat([ode["cat"].decode(turn(point, way, angle)) for angle in (-0.3, -0.15, 0.0, 0.15, 0.3)]).clamp(-1, 1)
        for way in (*directions[:3], random)]  # fmt: skip
alt = "A cat moved along three leading directions changes its colours, place or size; along a random one hardly at all."
angles = ["-0.3", "-0.15", "0", "0.15", "0.3"]
plot.grid(rows, row_labels=["1st", "2nd", "3rd", "random"], column_labels=angles, alt=alt)
moved = [(row[[0, -1]] - row[2]).square().mean().sqrt().item() for row in rows]
print("singular values:", *(f"{v:.1f}" for v in values[:8].tolist()), f"  RMS of all 512: {math.sqrt(total / 512):.2f}")
print("change at the ends:", *(f"{v:.3f}" for v in moved))
caught = (values.square().sum() / total).item()
print(f"16 directions of 512 make {caught:.0%} of all change")
assert caught > 0.5 and values[0] > 3 * math.sqrt(total / 512) and min(moved[:2]) > 2 * moved[3]

# %% [markdown]
# *The same angles in every row. Which changes do you see, and in which row none?* A random direction is a mix of all 512,
# and most of those do next to nothing: sixteen make most of all change. They carry no labels, and each mixes what we
# would keep apart. And they are those of this point: elsewhere the Jacobian is another.
#
# ## 8. All families, one contract
#
# Section 1 promised that every generator is a map from standard normal codes. What all of them must keep can be written
# down, and run over whatever the zoo holds.

# %%
error = {}
print(f"{'model':18}{'kind':10}{'code':18}{'numbers':>8}{'calls':>7}   back")
for name, entry in zoo.manifest().items():
    if entry["kind"] not in zoo.GENERATORS:
        continue
    model = minidiff.load(name)
    model = model.given("a cat") if "text" in entry else model  # some must be told what to draw
    model = model.replace(steps=10) if hasattr(model, "steps") else model
    z = model.random_code(3, seeds=7)
    images = model.decode(z)
    assert z.shape[1:] == model.code_shape and images.shape[1:] == model.image_shape
    assert (model.decode(z) - images).abs().max() < 1e-3  # a function
    assert (model.decode(z[1:2]) - images[1:2]).abs().max() < 1e-3  # of each code alone
    assert (model.sample(3, seeds=7) - images).abs().max() < 1e-3  # to sample is to decode random codes
    back = "none" if not hasattr(model, "encode") else "search"
    if back != "none" and entry["kind"] != "gan":
        x = images.clamp(-1, 1)
        error[name] = (
            (model.decode(model.encode(x)) - model.to_images(model.to_latents(x))).square().mean().sqrt().item()
        )
        back = f"{error[name]:.0e}"
    print(f"{name:18}{entry['kind']:10}{str(tuple(z.shape[1:])):18}{z[0].numel():8}{model.calls:7}   {back}")
exact = [name for name in error if name not in ("critters-vae", "critters-diffae")]
assert all(error[name] < 1e-4 for name in exact) and "critters-flow" in exact
assert all(0.01 < error[name] < 0.3 for name in ("critters-vae", "critters-diffae"))
ddgan = minidiff.load("critters-ddgan")
pieces = ddgan.random_code(8, seeds=7).split(ddgan.sizes, dim=1)  # x_T, z, eps, z, eps, z, eps, z
draws = [part if k % 2 else part[:1].expand_as(part) for k, part in enumerate(pieces)]  # one x_T, one eps, eight z's
only_z, whole = (ddgan.decode(torch.cat(code, dim=1)).std(0).mean().item() for code in (draws, pieces))
print(f"ddgan: std over eight codes {whole:.3f}, over eight z's {only_z:.3f}")
assert only_z < 0.15 * whole

# %% [markdown]
# *back* is the error of the round trip (RMS; pictures are in [-1, 1]). Diffusion by DPM-Encoder and a normalizing
# flow are exact up to rounding. A VAE's encoder is only near: 128 numbers do not hold a picture. A diffusion
# autoencoder runs its ODE backwards, which is near in ten steps and nearer in more. A GAN has no way back and must
# search, step by step downhill; and in a denoising-diffusion GAN (`ddgan`), whose four steps each draw a guess,
# nobody has built one. (Ours is a poor one: the game that should teach it to guess was short, so its pictures differ by
# $x_T$ and the noises of the steps, and hardly by its guesses.)
#
# One network, many steps, or a chain of both: to `decode` it is all the same. What differs is what the numbers of a
# code *mean*. In diffusion and in the flow they have a place in the picture. In a VAE and a GAN they are 128 numbers
# without a place, and who trains the same network twice gets two codes that have nothing to do with each other. What
# of section 6 is left in other families? Cats and dogs, in each family by two networks trained apart, decode the same
# 400 codes:
#
# <!-- results: codes families -->
#
# | family | background | coat | eye | position | size | tilt | gaze | smile | glasses | hat | pattern agrees |
# | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |
# | latent diffusion, eta 0.1 | 0.95 | 0.78 | 0.60 | 0.44 | 0.48 | 0.39 | 0.41 | 0.39 | 0.54 | 0.68 | 56.9 % |
# | vae | -0.06 | 0.10 | -0.01 | -0.04 | -0.00 | 0.17 | -0.02 | 0.02 | -0.01 | -0.02 | 58.5 % |
# | vae, shuffled | 0.06 | 0.03 | 0.01 | -0.03 | -0.04 | 0.08 | 0.03 | 0.03 | 0.01 | 0.02 | 55.8 % |
# | flow | -0.05 | -0.02 | -0.02 | 0.02 | -0.00 | 0.02 | -0.03 | -0.08 | 0.11 | -0.05 | 55.0 % |
# | flow, shuffled | 0.03 | -0.00 | 0.02 | 0.04 | 0.00 | 0.11 | 0.03 | -0.02 | 0.05 | -0.05 | 52.8 % |
# | gan | -0.00 | -0.00 | 0.05 | 0.00 | -0.04 | -0.12 | -0.02 | -0.06 | -0.02 | -0.05 | 55.8 % |
# | gan, shuffled | -0.02 | -0.07 | -0.02 | 0.02 | -0.08 | -0.04 | -0.03 | -0.02 | -0.02 | -0.02 | 54.5 % |
#
# <!-- end -->

# %%
for family in ("vae", "flow", "gan"):
    assert all(abs(study[f"family/{family}/all pairs/{factor}"].value) < 0.25 for factor in FACTORS), family

# %% [markdown]
# Not even the flow's, whose numbers have places: there are many invertible maps from the data to Gaussian numbers, and each
# training finds one of them. The ODE of diffusion is *one* map, which the data alone fix.
#
#
# ## 9. Walk from seed to seed
#
# Pick two seeds and walk between them on the sphere, with the whole code or with one part of it.

# %%
first = widgets.BoundedIntText(0, 0, 9999, description="from seed")
second = widgets.BoundedIntText(3, 0, 9999, description="to seed")
weight = widgets.FloatSlider(0.0, min=0.0, max=1.0, step=0.1, description="mix", continuous_update=False)
part = widgets.Dropdown(options=["whole", *parts], description="blocks")
picture = widgets.Image(format="png")


def mix(a, b, w, which):
    """Code a with these blocks on their way to code b."""
    blocks = parts.get(which, torch.arange(len(a[0])))
    return kept(slerp(a, b, w), a, blocks)


def redraw(change=None):
    with torch.inference_mode():
        a, b = (cat.random_code(1, seeds=box.value) for box in (first, second))
        z = mix(a, b, weight.value, part.value)
        row = torch.cat([model.decode(z) for model in models.values()])
    caption = f"Cat, dog and wild one of a code {weight.value:.0%} of the way, {part.value} blocks."
    picture.value = plot.grid(row, column_labels=species, alt=caption, display=False).png


for control in (first, second, weight, part):
    control.observe(redraw, "value")
redraw()
widgets.VBox([widgets.HBox([first, second]), widgets.HBox([weight, part]), picture])

# %%
before, weight.value = picture.value, 1.0
whole, part.value = picture.value, "late"
assert picture.value != whole != before and picture.value[1:4] == b"PNG"

# %% jupyter={"source_hidden": true} tags=["hide-input"]
choices = ["whole", "early", "middle", "late"]
walks = {which: torch.cat([mix(codes[:1], codes[3:4], w, which) for w in weights]) for which in choices}
rows = [cat.decode(walk).clamp(-1, 1) for walk in walks.values()]
alt = "From one cat to another with the whole code; with early blocks only, mostly the colours change; with late ones, little."
plot.grid(rows, row_labels=choices, column_labels=[f"{w}" for w in weights], alt=alt)
ways = dict(zip(choices, [(row[-1] - row[0]).square().mean().sqrt().item() for row in rows]))
print("how far each walk leads:", {name: round(value, 2) for name, value in ways.items()})
assert ways["late"] < 0.6 * ways["whole"] and ways["late"] < 0.8 * min(ways["early"], ways["middle"])

# %% [markdown]
# *The static copy: from seed 0 to seed 3. Which row changes the background, which one the face, and which one least?*
#
# ## 10. The right length is not enough
#
# Five of these rows are decoded from codes that nobody drew from $N(0, I)$. All of them have the right length. Which are
# damaged, and by what?

# %%
z, rest = codes[:8, :-1], codes[:8, -1:]
blurred = F.avg_pool2d(F.pad(z.flatten(0, 2)[:, None], (1, 1, 1, 1), mode="circular"), 3, 1).view_as(z)
single = torch.zeros_like(z)
single[:, 1] = z[:, 1] * len(z[0]) ** 0.5
wrong = {"A": z, "B": z.sign(), "C": z.flip(1), "D": z[:, :1].expand_as(z), "E": blurred / blurred.std(), "F": single}
wrong = {letter: torch.cat([part, rest], 1) for letter, part in wrong.items()}
gallery = {letter: cat.decode(part).clamp(-1, 1) for letter, part in wrong.items()}
alt = "Six rows of five cats. A, B and C are cats like any; D is torn and garish, E has strange colours, in F all are much alike."
plot.grid([images[:5] for images in gallery.values()], row_labels=list(gallery), scale=1.4, alt=alt)
print("|z|^2 / d:", {letter: round(size(part).mean().item(), 2) for letter, part in wrong.items()})
sharp = {letter: (images[..., 1:] - images[..., :-1]).abs().mean().item() for letter, images in gallery.items()}
print("detail:", {letter: round(value, 3) for letter, value in sharp.items()})
assert all(abs(size(part).mean() - 1) < 0.1 for part in wrong.values())
sound = [sharp[letter] for letter in "ABC"]
assert sharp["D"] > 1.25 * max(sound) and sharp["F"] < 0.95 * min(sound)

# %% [markdown]
# ```{dropdown} Answers
# - **A**: a code as it should be.
# - **B**: every number replaced by its sign, $-1$ or $+1$. Not normal at all, and nothing is wrong with it. The network
#   only meets sums of many such numbers, and sums of coins are as good as normal. Independence matters, the bell does not.
# - **C**: the blocks in reverse order. Independent normal numbers in any order are a code again: of other cats.
# - **D**: the first block, ten times. In section 3 the blocks' effects then add up as $\sum J_k$ where they should as
#   $\sqrt{\sum J_k^2}$: everything overshoots.
# - **E**: noise blurred in space and scaled back. Neighbours agree, so wide coordinates get too much and narrow ones too
#   little.
# - **F**: all of the length in block 1. The early block decides wide things only; the later noises are 0, and what they
#   should have decided stays at its average.
# ```
#
# The shell is necessary and not sufficient: typical codes are also *unstructured*. Whoever moves codes about, by editing,
# averaging or guidance (lesson 11), has to mind both.
#
# ## Summary
#
# 1. A generator is a function from standard normal codes to pictures. For a stochastic sampler the code is the start and
#    every step's noise.
# 2. Codes live on a thin shell, $|z|^2 \approx d$. Walk on the sphere: straight lines leave it, and pictures fade.
# 3. A coordinate is decided where its signal rises out of the noise: wide ones early, narrow ones late. A small $\eta$
#    puts all of it into $x_T$.
# 4. Diffusion models trained apart in one space of latents agree on the same codes: on wide things almost wholly, on small ones
#    less, the more the more alike their worlds are, and most of all early in training. VAEs, flows and GANs do not.
# 5. A few directions matter, and a direction found with one model moves the others.
#
# | here | in Hugging Face diffusers |
# |---|---|
# | block 0 of `random_code(...)` | `latents=` of a pipeline |
# | blocks 1, 2, ... | `variance_noise=` of `DDIMScheduler.step`; pipelines draw them from `generator=` |
# | `seeds=[5, 2]` | `generator=[torch.Generator().manual_seed(5), ...]`, one for each item |
# | `eta=` | `eta=` of a pipeline with a DDIM scheduler |
# | `slerp`, `combine`, `difference`, `principal_directions` of `minidiff.codes` | none |
#
# ## Open questions
#
# - With $\eta = 1$ the code has ten times as many numbers as the latents. How many of them could you drop before a
#   picture changes? Section 3 gives the answer for Gaussians.
# - The direction of section 7 was a difference of means of 64 codes, mostly noise. How fast does it get better with more
#   codes, and does a better one travel better between models?
# - Let two models share the data and differ in the autoencoder only. What is left of the common space?
#
# ## References
#
# - C. H. Wu, F. De la Torre. *A latent space of stochastic diffusion models for zero-shot image editing and guidance.*
#   ICCV 2023; first as *Unifying diffusion models' latent space, with applications to CycleDiffusion and guidance*,
#   arXiv 2210.05559.
# - J. Song, C. Meng, S. Ermon. *Denoising diffusion implicit models.* ICLR 2021, arXiv 2010.02502.
# - K. Shoemake. *Animating rotation with quaternion curves.* SIGGRAPH 1985.
# - N. Halko, P. G. Martinsson, J. A. Tropp. *Finding structure with randomness: probabilistic algorithms for constructing
#   approximate matrix decompositions.* SIAM Review 2011, arXiv 0909.4061.
# - K. Preechakul, N. Chatthee, S. Wizadwongsa, S. Suwajanakorn. *Diffusion autoencoders: toward a meaningful and decodable
#   representation.* CVPR 2022, arXiv 2111.15640.
# - Z. Xiao, K. Kreis, A. Vahdat. *Tackling the generative learning trilemma with denoising diffusion GANs.* ICLR 2022,
#   arXiv 2112.07804.
# - I. Huberman-Spiegelglas, V. Kulikov, T. Michaeli. *An edit friendly DDPM noise space: inversion and manipulations.*
#   CVPR 2024, arXiv 2304.06140.
# - H. Zhang, J. Zhou, Y. Lu, M. Guo, P. Wang, L. Shen, Q. Qu. *The emergence of reproducibility and consistency in
#   diffusion models.* 2023, arXiv 2310.05264.
#
# *This lesson is licensed under CC BY 4.0.*
