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
# # 3. Rate and distortion
#
# **What does a bit buy?**
#
# Lesson 2 wrote a picture as 512 numbers and was proud of it. But a number is no measure of size: with enough digits,
# one number holds a library. What an autoencoder keeps is counted in *bits*, its **rate**. What it loses is counted in
# squared error, its **distortion**. Below, eight faces of 32x32 pixels, and what is left of them at five rates.

# %%
import math

import ipywidgets as widgets
import torch
from torch import nn
from torch.distributions import Normal
from torch.nn import functional as F

import minidiff
from minidiff import plot
from minidiff.data.critters import COMMON_RATES, Critters, render, semantic_map
from minidiff.data.renderer import PARTS
from minidiff.evaluation.intervals import Estimate
from minidiff.evaluation.metrics import psnr
from minidiff.evaluation.rate import Point, eight_bit, levels
from minidiff.evaluation.studies.compression_chart import Dot, describe, draw, knee
from minidiff.ideal import IdealDenoiser
from minidiff.nets import quantiser as vq
from minidiff.nets.autoencoder import kl
from minidiff.nets.discriminator import Discriminator, adaptive_weight, displeasure
from minidiff.nets.perceptual import perceptual
from minidiff.schedule import linear, step_grid
from minidiff.training.autoencoders import distortion

torch.set_grad_enabled(False)
faces = Critters("all", seed=1, size=32, rates=COMMON_RATES)[:1500]
N, SIZE = len(faces), faces[0].numel()  # 1500 pictures of 3072 colour values
flat = faces.flatten(1).double()
centre = flat.mean(0)
values, small = torch.linalg.eigh((flat - centre) @ (flat - centre).T / N)  # a PCA, through the small matrix
values, small = values.flip(0)[:-1], small.flip(1)[:, :-1]
along = small * (N * values).sqrt()  # (1500, 1499): every face, along the axes of the PCA


def painted(along):
    """(B, k) along the first k axes -> pictures (B, 3, 32, 32)."""
    k = along.shape[1]
    flat_again = centre + along.double() / (N * values[:k]).sqrt() @ small[:, :k].T @ (flat - centre)
    return flat_again.reshape(-1, 3, 32, 32).float()


def encode(along, water):
    """The best straight encoder that may be wrong by `water` on every axis: mean (B, 1499), log variance (1499,)."""
    share = (water / values).clamp(max=1)
    return (1 - share).sqrt() * along / values.sqrt(), share.log()


def decode(z, water):
    return (values - water).clamp(min=0).sqrt() * z


def through(along, water):
    mean, logvar = encode(along, water)
    noise = torch.randn(mean.shape, dtype=mean.dtype, generator=torch.Generator().manual_seed(0))
    return decode(mean + (0.5 * logvar).exp() * noise, water)  # a sample of the latents is decoded


def bits_at(water):
    return 0.5 * (values / water).clamp(min=1).log2().sum().item()


def lost_at(water):
    return values.clamp(max=water).sum().item()


shown = {bits_at(water): painted(through(along[:8], water)) for water in (200, 24, 1, 0.1, 0.01)}
alt = "One blurred ghost eight times; ghosts on coloured grounds; blurred faces; noisy faces; the faces again."
labels = [f"{bits:.0f} bits" for bits in shown]
plot.grid([*shown.values(), faces[:8]], row_labels=[*labels, "picture"], alt=alt)
corners, at_three = (x[:, :, :4, :4].mean((2, 3)) for x in (faces[:200], painted(through(along[:200], 24))))
assert (corners - at_three).square().mean() < 0.5 * corners.var(0).mean()  # three bits tell colours of backgrounds

# %% [markdown]
# *Read from the top. Without bits all are the same ghost, the mean of 1,500 faces. Three bits buy the colour of the
# background. In which row can you tell a cat from a dog? And what do the last 700 bits buy?*
#
# ```{tip}
# **After this lesson you can**
# 1. compute the fewest bits that a Gaussian needs at a given error, and train a small VAE that reaches them;
# 2. write a vector quantiser with its straight-through gradient, and keep its codes alive;
# 3. put KL models, VQ models and a diffusion model on one chart, and say which bits are worth sending.
#
# **Needs** lesson 2. **Read** 30 minutes. **Run** under a minute on two cores, under 3 GB.
# **Checkpoints** `critters-autoencoder`, `critters-probe`, eleven small `study-kl-...` and `study-vq-...`, `study-pixels`.
# ```
#
# | symbol | in code | meaning | shape |
# |---|---|---|---|
# | $R$ | `bits` | rate: what it costs to send the latents | bits per picture |
# | $D$ | `lost` | distortion: squared error, summed over the picture | a number |
# | $\lambda_i$ | `values` | variance of the data along the $i$-th axis of a PCA | (1499,) |
# | $\theta$ | `water` | the error that every axis may keep | a number |
# | $\beta$ | `beta` | weight of the KL (in nats) against the squared error of a whole picture | a number |
# | $e_k$ | `book` | the codes of a codebook | (K, c) |
#
# A *nat* is $1 / \ln 2 = 1.44$ bits: what comes out when the logarithm is the natural one.
#
# ## 1. Do it wrong first
#
# A *variational autoencoder* (VAE; Kingma and Welling, 2014) is that of lesson 2: the encoder answers with a Gaussian, a
# sample of it is decoded, and a KL is paid. The loss is "squared error plus KL", so we write just that. Both are averaged,
# as one does. (To learn in a second, ours reads and writes the first 64 coordinates of a PCA. That is a rotation, and a
# sum of squares does not notice.)


# %%
numbers = along[:, :64].float()


class VAE(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(64, 2 * width), nn.Linear(width, 64)

    def forward(self, x):
        mean, logvar = self.encoder(x).chunk(2, dim=1)
        z = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
        return self.decoder(z), 0.5 * (mean**2 + logvar.exp() - 1 - logvar)  # (B, 64), and nats (B, width)


@torch.enable_grad()
def fit(width, loss, steps=600):
    torch.manual_seed(0)
    vae = VAE(width)
    optimiser = torch.optim.Adam(vae.parameters(), lr=0.05, betas=(0.8, 0.95))
    slower = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, steps)
    for _ in range(steps):
        x = numbers[torch.randint(N, (250,))]
        answer, nats = vae(x)
        optimiser.zero_grad()
        loss((answer - x).square(), nats).backward()
        optimiser.step()
        slower.step()
    return vae


def naive(squares, nats):
    return squares.sum(1).mean() / SIZE + nats.mean()  # F.mse_loss of the pictures, and the mean KL


def figures(answer, nats):
    """Bits and squared error of a picture, and how many latents say anything."""
    lost = (answer - numbers).square().sum(1).mean() + values[64:].sum()
    return nats.sum(1).mean().item() / math.log(2), lost.item(), (nats.mean(0) > 0.05).sum().item()


trained, rows = {}, {"picture": faces[:8], "PCA, 16 numbers": painted(numbers[:8, :16])}
for width in (16, 64):
    answer, nats = fit(width, naive)(numbers)
    rows[f"VAE, {width} numbers"] = painted(answer[:8])
    trained[SIZE / width] = bits, lost, alive = figures(answer, nats)
    print(f"{alive} of {width} numbers say anything, {bits:.1f} bits in all")
alt = "Eight faces; softened but recognisable by PCA; eight times the same ghost; ghosts on coloured grounds."
plot.grid(list(rows.values()), row_labels=list(rows), alt=alt)
(few, _, one), (more, _, four) = trained.values()
assert (one, four) == (1, 4) and few < 0.5 and 2 < more < 4

# %% [markdown]
# *Second row: what 16 numbers can do (lesson 2). Third row: what ours does with 16. Look for a difference between its
# pictures.*
#
# Nothing crashed, the loss fell. And yet of 16 numbers 15 are silent, and the last one says less than half a bit. Of 64
# numbers four speak. No line of code asked for that.
#
# The two averages did. Multiply the loss by 3,072: it is the squared error of a whole picture plus $\beta$ times its KL,
#
# $$\beta = \frac{3072}{\text{width}} ,$$
#
# 192 or 48. Change the width, and you change what a bit may cost, without knowing that there is a price. So we sum both
# over the picture and set the price ourselves. What does a price mean?
#
# ## 2. One number
#
# Take the smallest source: one number from $\mathcal N(0, s^2)$, to be sent with a squared error of at most $D$ on
# average. Shannon (1959) proved how many bits it takes, at least, however clever the code:
#
# $$ R(D) = \tfrac12 \log_2 \frac{s^2}{D}, \qquad\text{or}\qquad D = s^2\, 2^{-2R}. \tag{1}$$
#
# **A bit buys a factor of four**, 6 dB; and the first one buys $\tfrac34 s^2$, the second a quarter of that. Each bit buys
# less than the one before. Two ways to come near:
#
# **Round it.** Send $x$ rounded to a multiple of some step, and give frequent values short names. The *entropy*, $-\sum_k
# p_k \log_2 p_k$, is what the names then cost on average (Shannon, 1948).
#
# **Send noise.** A VAE would send $z = m + \sqrt v\, n$ with $m = \sqrt{1 - v}\, x / s$ and decode $\sqrt{1 - v}\, s z$.
# Its KL is exactly (1). But is a KL a number of bits? A real number $z$ has endless digits. The trick (Hinton and van
# Camp, 1993) is that the receiver can undo the choice of $z$. Write $z$ to a precision $\delta$ with names made for
# $\mathcal N(0, 1)$: that takes $-\log_2 p(z)\delta$ bits. Let the noise $n$ not come from dice but from *another file*
# that you have to send anyway; of that, $-\log_2 q(z \mid x)\delta$ bits are now aboard. The receiver reads $z$, then $x$,
# then knows $q$, and gets these **bits back**. The difference is the price: $\delta$ cancels, and the mean is the KL.


# %%
draws = torch.randn(400_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
gaps = {}
for step in (2, 1, 0.5, 0.25):
    multiples = (draws / step).round()
    counts, lost = multiples.unique(return_counts=True)[1], (draws - step * multiples).square().mean().item()
    gaps[step] = vq.entropy(counts).item() - 0.5 * math.log2(1 / lost)
print("bits above (1), by step:", {step: round(gap, 3) for step, gap in gaps.items()})
assert abs(gaps[0.25] - 0.5 * math.log2(math.pi * math.e / 6)) < 0.01

x, v = 1.0, 0.1  # a picture of one number as large as its std; D = v
mean, logvar = torch.tensor([[(1 - v) ** 0.5 * x]]), torch.tensor([[math.log(v)]])
z = mean.item() + v**0.5 * draws
paid, back = (-gauss.log_prob(z) / math.log(2) for gauss in (Normal(0.0, 1.0), Normal(mean.item(), v**0.5)))
for delta in (1e-2, 1e-6):
    digits = math.log2(1 / delta)
    print(f"z to {delta}: {paid.mean() + digits:.2f} bits paid, {back.mean() + digits:.2f} bits back")
net = (paid - back).mean().item()
assert abs(net - kl(mean, logvar).item() / math.log(2)) < 0.01 and abs(net - 0.5 * math.log2(1 / v)) < 0.01

# %% [markdown]
# Rounding in fine steps costs a quarter of a bit too much, $\tfrac12 \log_2 \tfrac{\pi e}{6} = 0.254$ (Gish and Pierce,
# 1968). The VAE costs nothing too much: **a KL is the honest price in bits of a noisy number.** (It has been built: Townsend et
# al., 2019, compress pictures with bits back.)
#
# ## 3. Many numbers: the water
#
# A picture has many axes, with variances $\lambda_i$. Suppose one bit more is to be spent. On axis $i$ it buys the more
# the larger the error still is. So the best plan keeps the errors level: every axis may be wrong by $\theta$, and an axis
# that varies less than $\theta$ is not sent at all.
#
# $$ D(\theta) = \sum_i \min(\theta, \lambda_i), \qquad R(\theta) = \sum_i \max\!\big(0, \tfrac12 \log_2
# \tfrac{\lambda_i}{\theta}\big). \tag{2}$$
#
# This is *reverse water-filling* (Kolmogorov, 1956; Cover and Thomas, 2006, section 10.3): the variances are hills, the
# water stands at $\theta$, and only what is above the water is sent. `encode` and `decode` at the top of this lesson are
# (2), axis by axis the VAE of section 2. Is that the best that a VAE can do? For each axis, $R$ nats leave the error
# $\lambda e^{-2R}$. Differentiate $\lambda e^{-2R} + \beta R$ and set it to zero:
#
# $$ \lambda e^{-2R} = \beta / 2 = \theta, \qquad\text{or } R = 0 \text{ if } \lambda < \theta. \tag{3}$$
#
# **The weight of the KL is the water level, twice.** And there is a third name for it. Let the decoder say $p(x \mid z) =
# \mathcal N(\hat x, \sigma^2)$. Then the *evidence lower bound*, a lower bound of $\log p(x)$, is
#
# $$ \mathrm{ELBO} = \mathbb E_q \log p(x \mid z) - \mathrm{KL}(q \,\Vert\, p) \;\le\; \log p(x), \tag{4}$$
#
# and up to a constant it is $-\tfrac{1}{2\sigma^2}\big(\lVert x - \hat x\rVert^2 + 2\sigma^2\, \mathrm{KL}\big)$. So
# $\beta = 2\sigma^2$: the price of a bit is the noise that you concede to your decoder. (Who turns it at will has a
# *beta-VAE*; Higgins et al., 2017.) For a straight decoder $p(x)$ is a Gaussian that can be written down (*probabilistic
# PCA*, Tipping and Bishop, 1999), and (4) can be checked, face by face.


# %%
def elbo(mean, logvar, water):
    """Equation (4) in nats, for every face, of a decoder with the variance `water` on each colour value, (1500,)."""
    spread = ((values - water).clamp(min=0) * logvar.exp()).sum()  # E |decode(z) - decode(mean)|^2
    squares = (along - decode(mean, water)).square().sum(1) + spread
    return -0.5 * (squares / water + SIZE * math.log(math.tau * water)) - kl(mean, logvar)


def log_p(water):
    """log N(x; centre, W W^T + water): along the axes the variances are max(values, water), beside them water."""
    variances = F.pad(values.clamp(min=water), (0, SIZE - len(values)), value=water)
    return -0.5 * (F.pad(along, (0, SIZE - len(values))).square() / variances + (math.tau * variances).log()).sum(1)


for water in (24, 1, 0.01):
    mean, logvar = encode(along, water)
    assert math.isclose(kl(mean, logvar).mean() / math.log(2), bits_at(water), rel_tol=1e-9)  # (2)
    lost = (along - through(along, water)).square().sum(1).mean().item()
    assert math.isclose(lost, lost_at(water), rel_tol=0.01)
    assert torch.allclose(elbo(mean, logvar, water), log_p(water), rtol=1e-9)  # equality, for every face

worse = 0.9 * mean, logvar + 0.3
gap = log_p(water) - elbo(*worse, water)
to_posterior = 0.5 * ((worse[0] - mean).square() / logvar.exp() + math.exp(0.3) - 1 - 0.3).sum(1)  # KL(worse || best)
print(f"log p(x) {log_p(water).mean():.0f} nats a face; a worse encoder says at least {elbo(*worse, water).mean():.0f}")
assert gap.min() > 0 and torch.allclose(gap, to_posterior, rtol=1e-6)

# %% [markdown]
# With the best encoder the bound is no bound but an equality, for every single face. Any other encoder loses exactly its
# KL from the best one. So for straight models everything is known, and section 1 becomes a prediction. Two more VAEs are
# trained with prices of our choice, $\beta = 8$ and $4$.


# %%
def summed(beta):
    return lambda squares, nats: (squares.sum(1).mean() + beta * nats.sum(1).mean()) / SIZE


for beta in (8.0, 4.0):
    trained[beta] = figures(*fit(64, summed(beta))(numbers))
for beta, (bits, lost, alive) in trained.items():
    awake = ((values / (beta / 2)).log() / 2 > 0.05).sum().item()  # at the very surface training cannot tell
    wanted, least = bits_at(beta / 2), lost_at(beta / 2)
    print(f"beta {beta:3.0f}: {alive} alive ({awake}), {bits:.1f} bits ({wanted:.1f}), error {lost:.0f} ({least:.0f})")
    assert abs(alive - awake) <= max(1, awake / 3) and abs(bits - wanted) < 0.15 + 0.05 * wanted
    assert lost < 1.06 * least


def rmse(lost):
    """From the squared error of a picture to what people can imagine: a typical error, on the scale of 0 to 255."""
    return 127.5 * (lost / SIZE) ** 0.5


waters = torch.logspace(2.2, -3, 100).tolist()
line = [bits_at(water) for water in waters], [rmse(lost_at(water)) for water in waters]

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, axs = plot.figure(8.5, 3.1, ncols=2)
order = torch.arange(1, len(values) + 1)
axs[0].plot(order, values, color=plot.COLOURS[4], linewidth=1.2)
axs[0].fill_between(order, values.clamp(max=1.0), 1e-3, color=plot.COLOURS[6], alpha=0.4, linewidth=0)
axs[0].fill_between(order, values, 1.0, where=values > 1.0, color=plot.COLOURS[1], alpha=0.4, linewidth=0)
axs[0].text(2.2, 4, "sent")
axs[0].text(1.5, 0.03, "lost: the water, at 1.0")
axs[0].set(xscale="log", yscale="log", ylim=(1e-3, 300), xlim=(1, 1500), xlabel="axis", ylabel="variance")
axs[1].plot(*line, color=plot.COLOURS[0], label="equation 2")
for index, (name, kind) in enumerate({"two means": (SIZE / 16, SIZE / 64), "sums": (8.0, 4.0)}.items(), 1):
    look = plot.style(index) | {"linestyle": "", "markersize": 7}
    at = [(trained[beta][0], rmse(trained[beta][1])) for beta in kind]
    axs[1].plot(*zip(*at), label=f"trained, {name}", **look)
axs[1].set(xscale="log", xlim=(0.1, 1000), xlabel="bits per picture", ylabel="RMSE, of 255", ylim=(0, 60))
axs[1].legend(frameon=False, fontsize="small")
alt = "Left: variances fall with the axis and dive below the water after the fortieth. Right: four VAEs on the curve."
plot.show(fig, alt=alt)

# %% [markdown]
# *Left: faces have hills of very different height. Right: all four lie on the curve. The two careless ones are good
# VAEs, too; they only sit where nobody wanted to be.*
#
# The silent numbers have a name, *posterior collapse*: $q(z \mid x)$ is the prior, whatever $x$. It is often taken for an
# accident of training. Here it is the optimum (Lucas et al., 2019): the axis is under water.
#
# Turn the price yourself. The slider is exact: it is (2), and no training.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
slider = widgets.FloatSlider(value=1, min=-2, max=2.5, step=0.25, description="log10 beta", continuous_update=False)
canvas = widgets.HTML()


def redraw(change=None):
    with torch.inference_mode():
        water = 10**slider.value / 2
        rows, bits, awake = [faces[:8], painted(through(along[:8], water))], bits_at(water), (values > water).sum()
    alt = f"Eight faces, and what {bits:.3g} bits each leave of them."
    canvas.value = plot.grid(rows, row_labels=["picture", f"{bits:.3g} bits"], alt=alt, display=False).html
    canvas.value += f"<p>water {water:.3g}: {awake} axes above it, RMSE {rmse(lost_at(water)):.1f} of 255</p>"


slider.observe(redraw, "value")
redraw()
widgets.VBox([slider, canvas])

# %%
first, slider.value = canvas.value, -1.5  # what your hand does
assert canvas.value != first and f"{bits_at(10**-1.5 / 2):.3g} bits" in canvas.value

# %% [markdown]
# *Walk from the left to the right. At which beta is the first hat lost? At which the last eye?*
#
# Two warnings. The PCA was fitted to these very faces, so it looks better than on new ones (lesson 2). And (2) is the
# least that *a Gaussian* costs. Of all sources with the same covariance it is the dearest: a bent code may do better.
#
# ## 4. Two bottlenecks
#
# Now a real autoencoder. That of lesson 2 is a **KL model**: its latents are noisy numbers, and their price can be read
# cell by cell. Where does it spend its bits?

# %%
autoencoder = minidiff.load("critters-autoencoder")
world = Critters("all", seed=2)  # pictures of 64x64 that no model was trained on
images, factors = world[:64], world.factors(slice(0, 64))
mean, logvar = autoencoder.posterior(images)
cells = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).sum(1) / math.log(2)  # (64, 8, 8): bits
bits = autoencoder.bits(images)
assert torch.allclose(cells.sum((1, 2)), bits, rtol=1e-4)

parts = semantic_map(factors)  # (64, 64, 64)


def cells_with(name):
    return F.max_pool2d((parts == PARTS.index(name)).float()[:, None], 8)[:, 0] > 0


empty = F.max_pool2d((parts != PARTS.index("background")).float()[:, None], 8)[:, 0] == 0
looks = cells_with("pupils")
print(f"{bits.mean():.0f} bits a picture, from {bits.min():.0f} to {bits.max():.0f}")
print(f"{cells[empty].mean():.0f} bits for an empty cell, {cells[looks].mean():.0f} for one with a pupil")
assert cells[looks].mean() > 1.15 * cells[empty].mean() and bits.max() > 1.1 * bits.min()

# %% jupyter={"source_hidden": true} tags=["hide-input"]
dark, bright = cells.quantile(0.02), cells.quantile(0.998)
chart = F.interpolate((cells[:8, None] - dark) / (bright - dark) * 2 - 1, scale_factor=8)
alt = "Eight faces, and maps of 8x8 cells: dark on the background, grey on the heads, bright at eyes and mouths."
plot.grid([images[:8], chart], row_labels=["picture", "bits"], alt=alt)

# %% [markdown]
# *White cells cost most. Nobody told the autoencoder where animals look.*
#
# A **VQ model** (*vector quantised*; van den Oord et al., 2017) has no noise. It owns a *codebook* of $K$ vectors, and
# each cell of the latents is replaced by the nearest of them. What is sent is only which one:
#
# $$ R = \text{cells} \cdot \log_2 K . \tag{5}$$
#
# Every picture costs the same, an empty one as much as a crowd, and there are no bits back: (5) is the size of a file.
# If some codes are used more than others, short names for these make it smaller: the entropy of how often each is used.
# Its power of two is the *perplexity*: so many codes, if all were used alike, would carry as much.

# %%
counts = torch.tensor([4, 2, 1, 1])  # four codes: names of 1, 2, 3 and 3 bits
names = (4 * 1 + 2 * 2 + 1 * 3 + 1 * 3) / 8
assert names == 1.75 == vq.entropy(counts).item() and math.isclose(vq.perplexity(counts), 2**1.75)
print(f"{names} bits instead of 2; perplexity {vq.perplexity(counts):.2f} of 4")

# %% [markdown]
# | | KL model | VQ model |
# |---|---|---|
# | a cell is | $c$ noisy numbers | one of $K$ vectors of $c$ numbers |
# | its price | KL, in bits-back coding | $\log_2 K$, or the entropy |
# | who sets it | the weight $\beta$ | $K$, before training |
# | a dull place | is cheaper | costs the same |
# | when it goes wrong | posterior collapse | dead codes |
# | diffusion runs on | samples, scaled | vectors *before* they are replaced |
#
# ## 5. A vector quantiser from scratch
#
# The gradient alone trains none of it.
#
# - **The encoder.** "Which code is nearest" does not change under a small step, so its derivative is zero. The
#   *straight-through* trick (Bengio et al., 2013) goes forwards through the code and backwards past it.
# - **The codes.** Each moves to the mean of the vectors that it stands for: K-means (Lloyd, 1957), with running means,
#   because vectors come in batches: $N_k \leftarrow \gamma N_k + (1-\gamma)\, n_k$, $m_k \leftarrow \gamma m_k +
#   (1-\gamma) \sum x$, $e_k = m_k / N_k$.
# - **The distance.** The encoder pays $\tfrac14$ of the mean of $(x - e)^2$, its *commitment*, or its vectors would wander
#   off faster than the codes can follow.
#
# A code that stands for nothing never moves, so it stands for nothing for ever: it is *dead*. The cure is plain: a code that
# has been idle for too long is put onto a vector of the batch (Dhariwal et al., 2020).


# %%
def nearest(x, book):  # (B, c), (K, c) -> (B,)
    return (book.square().sum(1) - 2 * x @ book.T).argmin(1)  # |x - e|^2 without |x|^2, which all codes share


def straight_through(x, code):
    return x + (code - x).detach()


def commitment(x, code):
    return 0.25 * (x - code.detach()).square().mean()


class Keeper:
    """Moves a codebook (K, c) to the running means of what its codes stand for."""

    def __init__(self, book, patience):
        self.book, self.patience = book.clone(), patience
        self.count, self.total = torch.zeros(len(book)), torch.zeros_like(book)
        self.idle = torch.full((len(book),), patience)  # at first all count as dead

    def step(self, x, revive=True):
        which = F.one_hot(nearest(x, self.book), len(self.book)).float()  # (B, K)
        self.count = 0.95 * self.count + 0.05 * which.sum(0)
        self.total = 0.95 * self.total + 0.05 * which.T @ x
        used = which.sum(0) > 0
        self.book[used] = (self.total / self.count[:, None])[used]
        self.idle = (self.idle + 1) * ~used
        dead = (self.idle >= self.patience) & revive
        self.book[dead] = x[torch.randint(len(x), (int(dead.sum()),))]
        self.total[dead], self.count[dead], self.idle[dead] = self.book[dead], 1.0, 0
        return dead


torch.manual_seed(0)
theirs, upkeep = vq.VectorQuantiser(32, 3), vq.Upkeep(32, 3, patience=10)
theirs.codebook *= 3  # many codes too far out
ours = Keeper(theirs.codebook, patience=10)
for _ in range(30):
    raw = torch.randn(2, 3, 8, 8)  # as the encoder makes them
    x, index = raw.movedim(1, -1).reshape(-1, 3), theirs.nearest(raw)  # (128, 3), (2, 8, 8)
    assert torch.equal(nearest(x, ours.book), index.flatten())
    upkeep(theirs, raw, index, torch.tensor([0]), revive=False)
    ours.step(x, revive=False)
    assert torch.allclose(ours.book, theirs.codebook, atol=1e-5)

code = ours.book[index.flatten()]
assert torch.allclose(commitment(x, code), theirs.loss(raw, index).mean())
with torch.enable_grad():
    raw.requires_grad_(), x.requires_grad_()
    push = torch.randn(2, 3, 8, 8)  # what the decoder wants
    (down,) = torch.autograd.grad((theirs(raw) * push).sum(), raw)
    (own,) = torch.autograd.grad((straight_through(x, code) * push.movedim(1, -1).reshape(-1, 3)).sum(), x)
    (pull,) = torch.autograd.grad(commitment(x, code), x)
assert torch.equal(down, push) and torch.equal(own, push.movedim(1, -1).reshape(-1, 3))  # past the quantiser
assert torch.allclose(pull, 0.5 * (x - code) / x.numel())  # towards the code
dead = ours.step(x.detach())
assert dead.any() and torch.equal(dead, upkeep(theirs, raw, index, torch.tensor([0])))
assert all((x == code).all(1).any() for code in ours.book[dead])  # each on a vector of the batch
print(f"the same codes, gradients and deaths in both; {dead.sum()} codes revived")

# %% [markdown]
# Now look at it. Points along a spiral, 40 codes that all start in one corner, with revival and without.

# %%
seed = torch.Generator().manual_seed(1)
turn = torch.rand(4000, generator=seed).sqrt()
spiral = (0.15 + 0.85 * turn)[:, None] * torch.stack([(9 * turn).cos(), (9 * turn).sin()], dim=1)
spiral = spiral + 0.03 * torch.randn(4000, 2, generator=seed)
start = 0.9 + 0.1 * torch.randn(40, 2, generator=seed)


def keep(book, patience, points, steps=300, batch=256):
    """Codebook after so many batches, and its perplexity after each."""
    torch.manual_seed(0)
    keeper, history = Keeper(book, patience), []
    for _ in range(steps):
        x = points[torch.randint(len(points), (batch,))]
        history.append(vq.perplexity(vq.use(nearest(x, keeper.book), len(book))).item())
        keeper.step(x, revive=patience < steps)
    return keeper.book, history


books, histories = {"start": start}, {}
for name, patience in {"no revival": 10**6, "revival": 20}.items():
    books[name], histories[name] = keep(start, patience, spiral)
uses = {name: vq.use(nearest(spiral, book), 40) for name, book in books.items()}
miss = {name: (spiral - book[nearest(spiral, book)]).square().sum(1).mean().sqrt() for name, book in books.items()}
for name, used in uses.items():
    print(f"{name:10} {(used > 0).sum()} of 40 in use, perplexity {vq.perplexity(used):.1f}, error {miss[name]:.3f}")
assert (uses["no revival"] > 0).sum() < 20 and (uses["revival"] > 0).sum() >= 38
assert vq.perplexity(uses["revival"]) > 30 and miss["revival"] < 0.5 * miss["no revival"]

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, axs = plot.figure(9, 2.7, ncols=4, width_ratios=[1, 1, 1, 1.2])
for ax, (name, book) in zip(axs, books.items()):
    index, lives = nearest(spiral, book), uses[name] > 0
    ax.scatter(*spiral.T, s=2, color=[plot.COLOURS[k % 7] for k in index.tolist()], alpha=0.5, linewidths=0)
    ax.plot(*book[lives].T, "o", color="black", markersize=3)
    ax.plot(*book[~lives].T, "x", color="#C00000", markersize=5)
    ax.set(title=name, aspect="equal", xticks=[], yticks=[], xlim=(-1.3, 1.3), ylim=(-1.3, 1.3))
for index, (name, history) in enumerate(histories.items()):
    axs[3].plot(history, label=name, **plot.style(index) | {"marker": None})
axs[3].set(xlabel="batches", title="perplexity", ylim=(0, 40))
axs[3].legend(frameon=False, fontsize="small")
alt = "A spiral; all codes in a corner; then few on the spiral and many dead ones behind; with revival all on it."
plot.show(fig, alt=alt)

# %% [markdown]
# *Dots are codes in use, red crosses are dead. A colour is one code's share of the points.*
#
# Whether a codebook is alive is the first thing to ask of a VQ model, and the perplexity answers it.
#
# ### A codebook for faces
#
# Quantise the latents that we have: pairs of channels, all with one book. That is no VQ model yet, since encoder and
# decoder know nothing of it. But it is a price list in pictures.


# %%
def pairs(latents):
    """(B, 8, h, w) -> (B * 4 * h * w, 2)."""
    return latents.unflatten(1, (4, 2)).movedim(2, -1).reshape(-1, 2)


def unpair(rows, like):
    b, c, h, w = like.shape
    return rows.view(b, c // 2, h, w, 2).movedim(-1, 2).reshape(b, c, h, w)


latents = autoencoder.encode(images)
assert torch.equal(unpair(pairs(latents), latents), latents)
known = pairs(autoencoder.encode(Critters("all", seed=1)[:200]))
priced = {}
for K in (4, 16, 64, 256):
    book, _ = keep(known[torch.randperm(len(known))[:K]], 20, known, steps=100, batch=2048)
    index = nearest(pairs(latents), book)
    again = autoencoder.decode(unpair(book[index], latents))
    per_picture = len(index) / len(images)  # 256 indices
    priced[K] = per_picture * math.log2(K), psnr(again, images).mean().item(), again
    print(f"{K:3} codes: {priced[K][0]:.0f} bits, entropy {per_picture * vq.entropy(vq.use(index, K)):.0f}", end="; ")
    print(f"{priced[K][1]:.1f} dB")
sampled = autoencoder.decode(autoencoder.encode(images, seeds=0))
paid = psnr(sampled, images).mean().item()
print(f"as a KL model {bits.mean():.0f} bits, {paid:.1f} dB")
gains = [priced[4 * K][1] - priced[K][1] for K in (4, 16, 64)]
assert gains[0] > gains[1] > gains[2] > 1 and paid - 4 < priced[256][1] < paid

# %% jupyter={"source_hidden": true} tags=["hide-input"]
rows = [again[:8] for _, _, again in priced.values()] + [sampled[:8], images[:8]]
labels = [f"{bits:.0f} bits" for bits, _, _ in priced.values()] + [f"KL, {bits.mean():.0f} bits", "picture"]
alt = "Faces at four rates of a codebook: torn patches, then faces in wrong colours, then faces almost as the KL's."
plot.grid(rows, row_labels=labels, alt=alt)

# %% [markdown]
# *Read downwards. What comes right first: the background, the outline, the colour of the eyes?*
#
# From row to row the code says one bit more of every number, and each such step gains less than the one before. With
# 2,048 bits the pictures are near those of the KL model, which pays a quarter more and loses less.
#
# ## 6. Eleven autoencoders
#
# Rombach et al. (2022) compared autoencoders of many factors $f$ and both bottlenecks (their table 8). Here is that table
# in miniature: the same pictures of 32x32, the same widths and training; only $f$, the number of channels $c$ and the
# bottleneck differ. All KL models have the same price of a bit, `kl_weight=0.05`.

# %%
NAMES = [f"study-kl-{size}" for size in ("f2-c2", "f4-c3", "f8-c4", "f8-c8", "f8-c16", "f16-c8", "f16-c16")]
NAMES += [f"study-vq-{size}" for size in ("f2-c2", "f4-c3", "f8-c4", "f16-c8")]
held_out = Critters("all", seed=2, size=32, rates=COMMON_RATES)[:200]
studied, again, dots = {name: minidiff.load(name) for name in NAMES}, {}, []
print("                  numbers   bits a picture  (a pixel)   PSNR   codes in use: perplexity, entropy in bits")
for name, model in studied.items():
    f, c, K = model.config.factor, model.config.latent_channels, model.config.codes
    again[name] = model.decode(model.encode(held_out, seeds=0)).clamp(-1, 1)
    cost, quality = model.bits(held_out).mean().item(), psnr(again[name], held_out).mean().item()
    row = f"{name:16} {c * (32 // f) ** 2:8} {cost:12.0f} {cost / 32**2:14.2f} {quality:9.1f}"
    if K:
        index = model.quantiser.nearest(model.posterior(held_out)[0])  # (200, h, w)
        used = vq.use(index, K)
        row += f"   {(used > 0).sum():4} of {K}: {vq.perplexity(used):.0f}, {index[0].numel() * vq.entropy(used):.0f}"
        assert math.isclose(cost, (32 // f) ** 2 * math.log2(K), rel_tol=1e-6)  # (5)
    print(row)
    lost = (again[name] - held_out).square().sum((1, 2, 3)).mean().item()
    dots.append(Dot(name, "VQ" if K else "KL", f"f{f} c{c}", cost / SIZE, rmse(lost)))
kl_dots, vq_dots = ({dot.label: dot for dot in dots if dot.kind == kind} for kind in ("KL", "VQ"))
for mine, order in (
    (kl_dots, ("f2 c2", "f4 c3", "f8 c4", "f16 c8")),
    (vq_dots, vq_dots),
    (kl_dots, ("f8 c16", "f8 c8", "f8 c4")),
):
    errors = [mine[label].rmse for label in order]
    assert errors == sorted(errors)
assert 3 < kl_dots["f2 c2"].rate / kl_dots["f8 c4"].rate < 6  # bits, for eight times as many numbers

# %% jupyter={"source_hidden": true} tags=["hide-input"]
alt = "Eight faces above eleven rows of what is left of them, from almost all at f = 2 to soft ghosts at f = 16."
plot.grid([held_out[:8], *(row[:8] for row in again.values())], row_labels=["picture", *again], alt=alt)

# %% [markdown]
# *Go down within one kind: what is lost first? Then compare the kinds at the same f.*
#
# Three things to read from the table.
#
# - **Error rises with $f$**: by 4 dB from $f = 2$ to 4, by 3 dB from there to 8, in both kinds.
# - **Channels buy it back.** At $f = 8$: 21 dB with 4, 22 with 8, 23 with 16 channels.
# - **Numbers are not bits.** f2-c2 has 512 numbers and f8-c4 has 64, eight times fewer; in bits the two differ by less than
#   five. The price was the same, so the water was, too: where there are many numbers, each has less to say.
#   What the number of channels sets is only the most that can be sent.
#
# And where would the straight code be? The curve of section 3 is for the faces that it was fitted to. On these new ones
# it pays more and loses more, and what does not lie along its axes at all is lost for certain. Then we move the new faces four
# pixels down and to the right.


# %%
def straight(pictures):
    """The straight code on other pictures: their bits, and their RMSE on average over the noise of the latents."""
    new = pictures.flatten(1).double() - centre
    new_along = new @ (flat - centre).T @ small / (N * values).sqrt()
    outside = new.square().sum(1) - new_along.square().sum(1)
    line = []
    for water in (water for water in waters if water > 0.004):
        mean, logvar = encode(new_along, water)
        spread = ((values - water).clamp(min=0) * logvar.exp()).sum()
        lost = (outside + (new_along - decode(mean, water)).square().sum(1) + spread).mean().item()
        line.append((kl(mean, logvar).mean().item() / math.log(2), rmse(lost)))
    return tuple(zip(*line))


def at_bits(line, bits):
    """The RMSE of a line at so many bits."""
    k = min(range(len(line[0])), key=lambda k: abs(line[0][k] - bits))
    return line[1][k]


moved = held_out.roll((4, 4), (2, 3))
new_line, moved_line, moved_dots = straight(held_out), straight(moved), []
for name in ("study-kl-f4-c3", "study-vq-f4-c3"):
    model = studied[name]
    lost = (model.decode(model.encode(moved, seeds=0)).clamp(-1, 1) - moved).square().sum((1, 2, 3)).mean().item()
    moved_dots.append((model.bits(moved).mean().item(), rmse(lost)))
assert all(dot.rmse > at_bits(new_line, dot.rate * SIZE) for dot in dots if dot.rate * SIZE < max(new_line[0]))
for (bits, error), dot in zip(moved_dots, (kl_dots["f4 c3"], vq_dots["f4 c3"])):
    assert (
        error < 1.2 * dot.rmse
        and error < at_bits(moved_line, bits)
        and at_bits(moved_line, bits) > 1.5 * at_bits(new_line, bits)
    )

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, ax = plot.figure(7, 3.4)
ax.plot(*line, color="black", linewidth=1, linestyle=":", label="straight, on its own faces")
ax.plot(*new_line, color="black", linewidth=1, label="straight, on new faces")
ax.plot(*moved_line, color="black", linewidth=1, linestyle="--", label="straight, on moved faces")
for index, kind in enumerate(("KL", "VQ")):
    mine = [dot for dot in dots if dot.kind == kind]
    at = [(dot.rate * SIZE, dot.rmse) for dot in mine]
    ax.plot(*zip(*at), label=kind, **plot.style(index) | {"linestyle": ""})
    for dot, place in zip(mine, at):
        ax.annotate(dot.label, place, (4, 4), textcoords="offset points", fontsize="x-small")
for index, place in enumerate(moved_dots):
    look = plot.style(index) | {"linestyle": "", "markerfacecolor": "none"}
    ax.plot(*place, label=f"{'KL VQ'.split()[index]} f4 c3, moved", **look)
ax.set(xscale="log", xlim=(10, 6000), ylim=(0, 40), xlabel="bits per picture", ylabel="RMSE, of 255")
ax.legend(frameon=False, fontsize="small", loc="upper right")
places = "; ".join(f"{dot.name} {dot.rate * SIZE:.0f} bits, {dot.rmse:.1f}" for dot in dots)
plot.show(fig, alt=f"RMSE against bits for the best straight code and eleven autoencoders: {places}.")

# %% [markdown]
# *Compare each dot with the solid line at the same number of bits. Then the two hollow marks with the dashed line.*
#
# A defeat: every network lies above the solid line. Is a PCA all you need? For squared error on *these* faces it nearly is: they
# all sit in the middle, and its axes know where. Moved by four pixels, the straight code loses more than half as much again, and
# the two networks a tenth or two. They look through small windows that are the same everywhere, so they have learned ears and
# edges, not places. The line is bought with a world that stands still; and what the networks were trained for was not
# squared error alone (section 7).
#
# ### A picture as a table of codes
#
# With $f = 4$, a VQ model turns a picture into 8x8 numbers from 0 to 511. Below, the numbers as colours: a code has three
# channels, so we show it as red, green and blue. And what does a single code stand for? Collect the pieces of 4x4 pixels
# at the places where it was chosen.

# %%
model = studied["study-vq-f4-c3"]
index = model.quantiser.nearest(model.posterior(held_out)[0])  # (200, 8, 8)
vectors = model.quantiser.look_up(index)  # (200, 3, 8, 8)
coloured = F.interpolate(vectors / vectors.abs().amax((0, 2, 3), keepdim=True), size=32)
alt = "Eight faces; mosaics of 8x8 colours in which heads can be made out; the faces decoded from them."
rows = {"picture": held_out[:8], "codes": coloured[:8], "decoded": again["study-vq-f4-c3"][:8]}
plot.grid(list(rows.values()), row_labels=list(rows), alt=alt)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
often = vq.use(index, 512).argsort(descending=True)[[0, 5, 10, 20, 40, 80]].tolist()
pieces = held_out.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5)  # (200, 8, 8, 3, 4, 4)
rows = {f"code {k}": pieces[index == k][:16] for k in often if (index == k).any()}
alt = "Six rows of pieces of pictures; within a row most look alike."
plot.grid(list(rows.values()), row_labels=list(rows), scale=8, alt=alt)
apart = [pieces[index == k].var(0).mean() for k in often]
assert max(apart) < 0.6 * pieces.flatten(0, 2).var(0).mean()

# %% [markdown]
# *Above: can you find the head in the codes? Below: within a row, what is alike, and what is not?* A code stands for a colour or
# an edge, but not for that alone. Its neighbours change what is painted: the decoder sees all of them at once.
#
# ## 7. What a squared error forgives
#
# Lesson 2 found the flaw of squared error: where the bits leave a question open, it wants the *mean* of all answers. How
# much does each loss want it? One animal at two places, equally likely; the decoder paints both at half strength, or
# decides for one. Cost of the mean, divided by the cost of deciding:

# %%
probe = minidiff.load("critters-probe")
rulers = {
    "squared": lambda a, b: (a - b).square().flatten(1).mean(1),
    "absolute": lambda a, b: (a - b).abs().flatten(1).mean(1),
    "our recipe": distortion,
    "perceptual": lambda a, b: perceptual(probe.maps, a, b),
}
ratios = {name: [] for name in rulers}
for d in (1, 2, 4, 8):  # pixels apart
    a, b = (render(factors[:24].replace(x=side * d / 64)) for side in (-1, 1))
    both = (a + b) / 2
    for name, ruler in rulers.items():
        ratios[name].append(((ruler(both, a) + ruler(both, b)).sum() / ruler(a, b).sum()).item())
for name, row in ratios.items():
    print(f"{name:10} 1, 2, 4, 8 pixels apart:", [round(ratio, 2) for ratio in row])
assert max(abs(ratio - 0.5) for ratio in ratios["squared"]) < 1e-4
assert max(abs(ratio - 1.0) for ratio in ratios["absolute"]) < 1e-4
assert min(ratios["perceptual"]) > 0.5 and max(ratios["perceptual"]) > 0.75

# %% [markdown]
# A squared error gives the mean at half price. An absolute error is indifferent. A **perceptual loss** compares the
# features of a network, here those of the zoo's probe (Zhang et al., 2018, take one of photographs), and charges more for
# the double face. But it is a squared error again, only of features, and answers doubt with *their* mean.
#
# To refuse the mean altogether, ask not "is it near?" but "does it look like a picture?". What would a perfect yes cost?
# In the straight model we can say. Its reconstruction lacks the variance that was not sent. Draw it at random,
# $\min(\theta, \lambda_i)$ on every axis, and the results have exactly the variances of faces.

# %%
water = 1.0
sent = through(along, water)
missing = torch.randn(along.shape, dtype=along.dtype, generator=torch.Generator().manual_seed(1))
drawn = sent + values.clamp(max=water).sqrt() * missing
price = (along - drawn).square().sum() / (along - sent).square().sum()
share_sent, share_drawn = ((what.square().mean(0) / values)[:200] for what in (sent, drawn))
print(f"of the variance of 200 axes sent {share_sent.mean():.2f}, with the drawn {share_drawn.mean():.2f}")
print(f"squared error times {price:.2f}")
assert abs(price - 2) < 0.02 and (share_drawn - 1).abs().max() < 0.2 and share_sent.mean() < 0.3
alt = "Eight soft faces; the same faces under coloured grain; the pictures."
plot.grid([painted(sent[:8]), painted(drawn[:8]), faces[:8]], row_labels=["sent", "and drawn", "picture"], alt=alt)

# %% [markdown]
# *The grain has the right strength on every axis. That is all a Gaussian knows about detail.*
#
# To draw what is missing doubles the squared error, and no realism needs to cost more than these 3 dB (Blau and Michaeli,
# 2018). A Gaussian draws grain. A decoder that was trained against an **adversary** draws *plausible* detail. Latent
# diffusion's autoencoders are (after VQGAN; Esser et al., 2021): a critic looks at small patches (Isola et al., 2017) and
# learns beside the decoder to tell reconstructions from pictures. How loud may it be? As loud as all other terms
# together, where they reach the last layer of the decoder: its loss is multiplied by $\lVert\nabla \text{others}\rVert /
# \lVert\nabla \text{critic}\rVert$.

# %%
torch.manual_seed(0)
critic, last = Discriminator(), autoencoder.last_layer.requires_grad_()
with torch.enable_grad():
    painted_now = autoencoder.decode(latents[:4])
    others, weights = distortion(painted_now, images[:4]).mean(), []
    for loud in (1.0, 1000.0):
        doubt = loud * displeasure(critic, painted_now).mean()
        weights.append(adaptive_weight(others, doubt, last))
        pulls = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (others, weights[-1] * doubt)]
        assert abs(pulls[1] / pulls[0] - 1) < 0.05
last.requires_grad_(False)
print(f"weight {weights[0]:.3g}; and if the critic shouts a thousand times as loud, {weights[1]:.3g}")
assert weights[1] < 2e-3 * weights[0]

# %% [markdown]
# Our shipped autoencoders use neither term: they are honest, and soft. The recipes know both (`perceptual_weight`,
# `adversary_weight`).
#
# ## 8. Diffusion spends bits, too
#
# One more encoder, which you will meet in lesson 4 as a painter. Send a picture under heavy noise, then with a little
# less, and so on, until it is clean. With $\bar\alpha$ for the share of the variance that is still picture,
#
# $$ x_t = \sqrt{\bar\alpha}\, x_0 + \sqrt{1-\bar\alpha}\, \epsilon, \qquad \mathrm{snr} = \bar\alpha / (1 - \bar\alpha), $$
#
# snr for *signal-to-noise ratio*. At any moment the receiver has a *denoiser*, which guesses $x_0$ from $x_t$. What is
# sent are noisy numbers, and their price is a KL as in section 2. How many bits have been spent by then? With the best
# denoiser one law answers it for all data (Guo, Shamai and Verdú, 2005), and a worse one pays by the same law for its
# larger error:
#
# $$ R(\mathrm{snr}) = \frac{1}{2 \ln 2} \int_0^{\mathrm{snr}} \text{error}(u)\, du. \tag{6}$$
#
# **Half the area under the error is the rate.** For $\mathcal N(0, s^2)$ the error is $s^2 / (1 + s^2\,\mathrm{snr})$,
# the area gives $R = \tfrac12\log_2(1 + s^2\,\mathrm{snr})$, and together they are (1): a Gaussian under noise is sent
# at the bound, at every moment. With finitely many steps the area becomes a staircase above the curve. Its steps are the
# terms of DDPM's ELBO (Ho et al., 2020): from $t$ to the cleaner $t'$, $\tfrac12 (\mathrm{snr}_{t'} - \mathrm{snr}_t)
# \cdot \text{error}_t$ nats (Kingma et al., 2021). `levels` walks down these stairs.


# %%
def area(run, schedule):
    """Equation (6) in bits per number, and the error, at every level of a run of `levels`, each (L,)."""
    abar = torch.tensor([schedule.abar_at(level.step.t) for level in run], dtype=torch.float64)
    snr, error = abar / (1 - abar), torch.stack([level.error.mean() for level in run])
    heights = snr * error  # over log snr, where the levels lie more evenly
    strips = (heights[1:] + heights[:-1]) / 2 * snr.log().diff()
    return run[0].rate.mean() + F.pad(strips.cumsum(0), (1, 0)) / (2 * math.log(2)), error, snr


LINEAR, S = linear(), 0.5
ideal = IdealDenoiser(LINEAR, torch.zeros(1, 1, 1), S)
x0 = ideal.sample(4000)
truth = 0.5 * math.log2(2 * math.pi * math.e * S**2)  # bits of the density of N(0, S^2)
for name, grid in {"1000 even": step_grid(1000, 1000), "100 karras": step_grid(LINEAR, 100, spacing="karras")}.items():
    run = list(levels(ideal, x0, grid, decoder="density", batch=4000))
    rate, error, snr = area(run, LINEAR)
    formula = 0.5 * (1 + S**2 * snr).log2()
    stairs, last_step = torch.stack([level.rate.mean() for level in run]), run[-1].cost.mean()
    print(f"{name:10} levels: area {rate[-1]:.2f}, formula {formula[-1]:.2f}, stairs {stairs[-1]:.2f} bits", end="; ")
    print(f"in the end {rate[-1] + last_step:.2f} by area, {stairs[-1] + last_step:.2f} by stairs, true {truth:.2f}")
    assert (rate - formula).abs().max() < 0.03 and (stairs > formula - 0.01).all() and stairs[-1] > formula[-1] + 0.3
    assert (0.5 * (S**2 / error).log2() - rate).abs().max() < 0.08  # it lies on the bound (1)
    assert abs(rate[-1] + last_step - truth) < 0.05

# %% [markdown]
# The area agrees with the formula. The stairs of DDPM's 1000 levels waste 0.6 bits a number, most of it in the last
# three levels, where snr doubles from one to the next.
#
# Now a network: `study-pixels` was trained on pixels of 32x32.

# %%
pixels = minidiff.load("study-pixels").denoiser
x0 = eight_bit(held_out[:16])
run = list(levels(pixels, x0, step_grid(pixels.schedule, 64, spacing="karras"), bound=1.0))
rate, error, _ = area(run, pixels.schedule)
points = [
    Point(level.step.t, Estimate(bits.item(), None, 16), Estimate(rmse(SIZE * wrong.item()), None, 16))
    for level, bits, wrong in zip(run, rate, error)
]
border = points[knee(points)]
whole = (rate[-1] + run[-1].cost.mean()).item()
print(f"the whole picture, every byte exact: {whole:.2f} bits a number instead of 8")
print(f"the curve bends at {border.rate.value:.3f} bits a number, at an RMSE of {border.distortion.value:.1f}")
plot.show(draw(points, dots), alt=describe(points, dots))
assert whole < 5 and border.rate.value < 0.1 * whole and border.distortion.value < 0.2 * points[0].distortion.value

# %% [markdown]
# *Compare the two shaded widths. How much of the picture is there at the border?*
#
# The left region has less than a tenth of the bits and removes more than four fifths of the error: where the animal is, what it is,
# its colours, its stripes. Rombach et al. call this *semantic* compression. The right region has all the other bits, and they remove
# the last seven grey levels: exact edges and shades, *perceptual* compression. (More than half of them are not even on the chart:
# they name the exact byte of every colour value in the end.) **Most bits buy what nobody sees.** A model of pixels must learn
# them all. An autoencoder cuts them off, and diffusion in its latents spends its effort on the left. That is the idea of
# latent diffusion in one figure.
#
# What does the receiver see on the way, at the rates of our first figure? And where do the straight codes lie?

# %%
stops = [min(range(len(run)), key=lambda k: abs(rate[k].item() * SIZE - bits)) for bits in (3, 35, 234, 937, 3000)]
guesses = []
for k in stops:
    t = run[k].step.t
    noise = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(k))
    guesses.append(pixels(pixels.schedule.add_noise(x0[:8], noise, t), t).x0)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
alt = "What a diffusion model guesses at five rates: coloured ghosts, then animals, then the very pictures."
labels = [f"{rate[k] * SIZE:.0f} bits" for k in stops]
plot.grid([*guesses, x0[:8]], row_labels=[*labels, "picture"], alt=alt)

lines = {"straight, on new faces": new_line, "study-pixels": (rate * SIZE, rmse(SIZE * error))}
fig = plot.draw_curves(lines, xlabel="bits per picture", ylabel="RMSE, of 255", logx=True)
fig.axes[0].set(xlim=(1, 2e4), ylim=(0, None))
plot.show(fig, alt="RMSE against bits: a curve for straight codes, and one for the diffusion model.")
for bits, part in {300: 0.95, 600: 0.85, 1200: 0.7}.items():
    assert at_bits(lines["study-pixels"], bits) < part * at_bits(new_line, bits)
assert at_bits(lines["study-pixels"], 600) < 0.6 * vq_dots["f4 c3"].rmse  # which takes 576 bits

# %% [markdown]
# *Above: compare the row of 229 bits with the autoencoders of section 6, which had more. Below: where do the lines cross?*
#
# Up to a hundred bits the straight code wins: squared error is all that it was made for. Then the world shows that it is
# no Gaussian. An ear is there or not, and stripes are stripes; who knows that needs fewer bits than (2) says a
# Gaussian costs. With as many bits as the best table of codes of section 6, diffusion makes half the error.
#
# ## 9. What would you see if ...
#
# One row is right: latents of lesson 2's autoencoder, quantised in pairs with 256 codes. Each of the others has one fault
# of a kind that happens in real projects:
#
# the log variance taken for the std · the codebook of another training, with the same vectors in another order · the nearest
# code by the largest dot product · only four codes alive · height and width of the table of codes exchanged · looked-up
# vectors reshaped to `(B, c, h, w)` without moving the channels back.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
four, z, x = images[2:6], latents[2:6], pairs(latents[2:6])
index, order = nearest(x, book), torch.randperm(256, generator=torch.Generator().manual_seed(0))
mean, logvar = autoencoder.posterior(four)
noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(1))
few = book[vq.use(index, 256).argsort(descending=True)[:4]]
made = {
    "A": unpair(book[(x @ book.T).argmax(1)], z),
    "B": book[index].view_as(z),
    "C": unpair(few[nearest(x, few)], z),
    "D": (mean + logvar * noise - autoencoder.shift[:, None, None]) / autoencoder.scale[:, None, None],
    "E": unpair(book[index], z),
    "F": unpair(book[order][index], z),
    "G": unpair(book[index.view(4, 4, 8, 8).transpose(2, 3).flatten()], z),
}
made = {letter: autoencoder.decode(what) for letter, what in made.items()}
alt = "Seven rows of four cats: one is right; in others they are garish, smeared, torn, or gone behind coloured blots."
plot.grid(list(made.values()), row_labels=list(made), scale=1.4, alt=alt)
near = {letter: round(psnr(row, four).mean().item(), 1) for letter, row in made.items()}
print("dB:", near)
assert near.pop("E") > 25 and max(near.values()) < 20 and -9 < logvar.mean() < -5

# %% [markdown]
# ```{dropdown} Answers
# - **A**, dot product. Distance is dot product minus half the code's squared length. Without that, long codes win: the
#   outline stays, the colours glare.
# - **B**, reshaped without moving the channels. Every number is there, at another place.
# - **C**, four codes. Something with ears is left. The perplexity would have told.
# - **D**, log variance for std. It is about -7, and noise of that size drowns everything.
# - **E** is right.
# - **F**, another order of the codes. To the eye the same as B: each cell gets vectors that are not its own. Indices
#   mean nothing without their codebook, and nothing complains.
# - **G**, height and width exchanged. The cat lies on its side, but every piece of it is painted upright.
# ```
#
# ## Summary
#
# 1. Count bits, not numbers. A bit buys a factor of four in squared error, on the axes where there is error left.
# 2. The weight of the KL is the price of a bit, twice the water level, and twice the noise conceded to the decoder. Sum
#    both terms over the picture, or the width of the network sets the price.
# 3. A KL is paid in full only by bits back; a VQ index is a file of $\log_2 K$ bits. Watch collapse in the one and dead
#    codes in the other.
# 4. Squared error buys means. A perceptual loss makes them dearer, an adversary forbids them, for at most 3 dB.
# 5. A diffusion model is a coder as well: half the area under its error is its rate. Most of its bits are details, and
#    that is what an autoencoder is for.
#
# | here | in Hugging Face diffusers |
# |---|---|
# | `kl(mean, logvar)`, `autoencoder.bits(images)` in bits | `vae.encode(x).latent_dist.kl()`, in nats |
# | `Autoencoder` with `bottleneck="vq"`, `codes`, `latent_channels` | `VQModel`, its `num_vq_embeddings`, `vq_embed_dim` |
# | `decode(latents)`, which quantises | `vq_model.decode(h)`, which does, unless `force_not_quantize=True` |
# | `quantiser.nearest(raw)`, `look_up(index)` | `vq_model.quantize(h)[2][2]`, `quantize.get_codebook_entry` |
# | `COMMITMENT` on the encoder's term | `VectorQuantizer(beta=0.25)`; its default `legacy=True` puts it on the other term |
# | `Upkeep`: running means, revival | none: there the codebook learns by gradient |
#
# ## Open questions
#
# 1. In section 1 the price is 3,072 / width. Draw the faces at 64x64: both the picture and the variances $\lambda_i$ grow
#    fourfold. Which axes are silent now? And if only the KL is averaged, the squared error summed?
# 2. Take white noise and one bit for each number, and let `keep` quantise 1, 2, 4 or 8 numbers at a time, with 2 to 256
#    codes. The error is 1.6 dB above (1) for one and 1.2 dB for eight. Why do vectors win, if their numbers have nothing
#    to do with each other?
# 3. Diffusion adds the same noise to all axes, so some bits go to axes that are under water. Which noise would not waste
#    any, and what would a schedule with one $\bar\alpha$ for each axis have to do?
#
# ## References
#
# - C. Shannon. *A Mathematical Theory of Communication.* Bell System Technical Journal 27, 1948.
# - C. Shannon. *Coding Theorems for a Discrete Source with a Fidelity Criterion.* IRE National Convention Record, 1959.
# - A. Kolmogorov. *On the Shannon Theory of Information Transmission in the Case of Continuous Signals.* IRE Transactions
#   on Information Theory 2, 1956.
# - T. Cover, J. Thomas. *Elements of Information Theory.* Second edition, Wiley, 2006.
# - S. Lloyd. *Least Squares Quantization in PCM.* IEEE Transactions on Information Theory 28, 1982 (written in 1957).
# - H. Gish, J. Pierce. *Asymptotically Efficient Quantizing.* IEEE Transactions on Information Theory 14, 1968.
# - G. Hinton, D. van Camp. *Keeping the Neural Networks Simple by Minimizing the Description Length of the Weights.* COLT
#   1993.
# - J. Townsend, T. Bird, D. Barber. *Practical Lossless Compression with Latent Variables using Bits Back Coding.* ICLR
#   2019. arXiv:1901.04866.
# - D. Kingma, M. Welling. *Auto-Encoding Variational Bayes.* ICLR 2014. arXiv:1312.6114.
# - I. Higgins et al. *beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework.* ICLR 2017.
# - M. Tipping, C. Bishop. *Probabilistic Principal Component Analysis.* Journal of the Royal Statistical Society B 61,
#   1999.
# - J. Lucas, G. Tucker, R. Grosse, M. Norouzi. *Don't Blame the ELBO! A Linear VAE Perspective on Posterior Collapse.*
#   NeurIPS 2019. arXiv:1911.02469.
# - A. van den Oord, O. Vinyals, K. Kavukcuoglu. *Neural Discrete Representation Learning.* NeurIPS 2017.
#   arXiv:1711.00937.
# - Y. Bengio, N. Léonard, A. Courville. *Estimating or Propagating Gradients Through Stochastic Neurons for Conditional
#   Computation.* 2013. arXiv:1308.3432.
# - P. Dhariwal, H. Jun, C. Payne, J. W. Kim, A. Radford, I. Sutskever. *Jukebox: a Generative Model for Music.* 2020.
#   arXiv:2005.00341.
# - R. Rombach, A. Blattmann, D. Lorenz, P. Esser, B. Ommer. *High-Resolution Image Synthesis with Latent Diffusion
#   Models.* CVPR 2022. arXiv:2112.10752.
# - R. Zhang, P. Isola, A. Efros, E. Shechtman, O. Wang. *The Unreasonable Effectiveness of Deep Features as a Perceptual
#   Metric.* CVPR 2018. arXiv:1801.03924.
# - Y. Blau, T. Michaeli. *The Perception-Distortion Tradeoff.* CVPR 2018. arXiv:1711.06077.
# - P. Isola, J.-Y. Zhu, T. Zhou, A. Efros. *Image-to-Image Translation with Conditional Adversarial Networks.* CVPR 2017.
#   arXiv:1611.07004.
# - P. Esser, R. Rombach, B. Ommer. *Taming Transformers for High-Resolution Image Synthesis.* CVPR 2021.
#   arXiv:2012.09841.
# - J. Ho, A. Jain, P. Abbeel. *Denoising Diffusion Probabilistic Models.* NeurIPS 2020. arXiv:2006.11239.
# - D. Kingma, T. Salimans, B. Poole, J. Ho. *Variational Diffusion Models.* NeurIPS 2021. arXiv:2107.00630.
# - D. Guo, S. Shamai, S. Verdú. *Mutual Information and Minimum Mean-Square Error in Gaussian Channels.* IEEE Transactions
#   on Information Theory 51, 2005.
#
# *This lesson is licensed under CC BY 4.0.*
