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
# # 4. Diffusion in latents
#
# **How does one turn noise into latents?**
#
# Drawing a cat from nothing is hard. Cleaning a cat that is slightly dirty is easy. Diffusion models draw by cleaning
# (Sohl-Dickstein et al., 2015): they start from pure noise and remove a little of it, fifty times. This lesson builds
# that idea from one line of algebra, proves it on data where everything can be computed, and ends with the models that
# ship with minidiff.
#
# ```{tip}
# **After this lesson you can**
# 1. compute the mean and the variance of a noisy $x_t$ and of a denoising step, at any pair of noise levels;
# 2. convert between the predictions eps, x0 and v, and say how low each loss can go;
# 3. name the fault behind a broken sampler by looking at its pictures.
#
# **Needs** lesson 0. **Read** 30 minutes. **Run** under a minute on two cores, under 3 GB.
# **Checkpoints** `critters-autoencoder`, `critters-cat`, `fashion-autoencoder`, `fashion-sneaker`, `critters-probe`.
# ```
#
# | symbol | in code | meaning | shape |
# |---|---|---|---|
# | $x_0$ | `x0` | clean data: a number, a point, or the latents $y$ of a picture | (B, c, h, w) |
# | $x_t$ | `x_t` | the same with noise up to level $t$; $t = T-1$ is the noisiest | (B, c, h, w) |
# | $\epsilon$ | `eps` | standard normal noise | (B, c, h, w) |
# | $\bar\alpha_t$ | `abar[t]` | share of signal power left at level $t$, from 1 down to almost 0 | (T,) |
# | $\eta$ | `eta` | how much fresh noise a sampler adds: 0 none, 1 as much as DDPM | a number |
# | $z$ | `code` | everything random that a sampler uses | (B, blocks, c, h, w) |

# %%
import math

import ipywidgets as widgets
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import minidiff
from minidiff import plot
from minidiff.data.critters import Critters
from minidiff.data.fashion import FashionMNIST
from minidiff.denoiser import Denoiser, Prediction, to_prediction, training_target
from minidiff.evaluation.metrics import psnr
from minidiff.ideal import IdealDenoiser
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.samplers import DDIM, DDPM, decode_code, random_code, sampling
from minidiff.schedule import Step, cosine, from_betas, linear, sqrt_linear, step_grid

cat = minidiff.load("critters-cat")
code = cat.random_code(2, seeds=11)
run = list(sampling(cat.denoiser, cat.sampler, cat.grid, code))
before = [code[:, 0]] + [step.x for step in run]  # before[k] is what step k looks at
picks = [0, 8, 16, 24, 32, 40, 49]
states = cat.to_images(torch.cat([before[k] for k in picks]))
guesses = cat.to_images(torch.cat([run[k].prediction.x0 for k in picks]))
alt = "Two cats emerge from left to right: x_t clears up late, the guess of x0 is a blurred cat early and sharpens."
rows, columns = [states[::2], guesses[::2], states[1::2], guesses[1::2]], [f"t = {run[k].step.t}" for k in picks]
plot.grid(rows, row_labels=["x_t", "guess of x0"] * 2, column_labels=columns, alt=alt)

# %% [markdown]
# *The answer, twice. Upper rows: the noisy latents $x_t$, passed through the decoder so that you can see them. Lower
# rows: what the network believes is behind the noise. Look for the order in which things are settled: first the
# background, then place and size, last the gaze and the markings of the coat.*
#
# ## 1. Do it wrong first
#
# Take the smallest data there are: one number, drawn from $\mathcal N(2, 0.5^2)$. Add a little noise a hundred times,
# with the noise sizes $\beta_t$ from which DDPM (Ho et al., 2020) starts and at which it ends, $10^{-4}$ and $0.02$.
# Then start from pure noise and walk back. For such data the best possible guess of $x_0$ is a formula (section 4
# explains it), so no network can be blamed for what happens.

# %%
MU, SD = 2.0, 0.5
beta = torch.linspace(1e-4, 0.02, 100, dtype=torch.float64)
abar = (1 - beta).cumprod(0)

x = start = torch.randn(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
for t in reversed(range(100)):
    signal, noise = abar[t].sqrt(), (1 - abar[t]).sqrt()
    x0 = MU + signal * SD**2 / (signal**2 * SD**2 + noise**2) * (x - signal * MU)  # the best guess
    eps = (x - signal * x0) / noise
    cleaner = abar[t - 1] if t else torch.tensor(1.0)
    x = cleaner.sqrt() * x0 + (1 - cleaner).sqrt() * eps

print(f"abar_T {abar[-1]:.3f}; data: mean {MU}, std {SD}; samples: mean {x.mean():.3f}, std {x.std():.3f}")
assert 1.25 < x.mean() < 1.35 and 0.55 < x.std() < 0.62 and abs(abar[-1] - 0.364) < 0.001

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, axes = plot.figure(8, 2.2, ncols=2, sharey=True)
ends = [abar[-1].sqrt() * MU, (abar[-1] * SD**2 + 1 - abar[-1]).sqrt()]
at = torch.linspace(-4, 4, 400, dtype=torch.float64)
titles = "where we start, and where the data end", "what we get, and what we want"
for ax, values, (mean, std), title in zip(axes, (start, x), (ends, (MU, SD)), titles):
    ax.hist(values.numpy(), 80, density=True, color=plot.COLOURS[6])
    ax.plot(at, torch.exp(-(((at - mean) / std) ** 2) / 2) / std / math.tau**0.5, color=plot.COLOURS[1])
    ax.set(title=title, xlabel="x")
plot.show(fig, alt="Our start is centred on 0, noisy data on 1.2; our samples are centred on 1.3, the data on 2.")

# %% [markdown]
# *Bars: ours. Lines: the truth. Look at the left picture first: the fault is already there.*
#
# The samples centre on 1.30 instead of 2: wrong by 1.4 standard deviations, with a perfect denoiser. The reason is
# $\bar\alpha_T = (1-\beta_1)(1-\beta_2)\cdots = 0.364$. After a hundred steps 60 % of the amplitude is still there
# ($\sqrt{0.364}$), so noisy data centre on 1.2. We started at 0, where no data ever end. The denoiser answers the
# question it was built for; we asked another one.
#
# The cure is to add noise until nothing is left. The same $\beta$ over $T = 1000$ steps leave $\bar\alpha_T = 0.00004$.
# ("Cosine" is the schedule of Nichol and Dhariwal, 2021.) This fault is no beginner's privilege: the schedule of Stable
# Diffusion keeps 6.8 % of the amplitude at its end, and Lin et al. (2024) trace its trouble with very dark and very
# bright pictures to it.

# %%
known = {schedule.name: schedule.abar for schedule in (linear(), sqrt_linear(), cosine())}
print("signal amplitude at the end:", {name: round(values[-1].sqrt().item(), 5) for name, values in known.items()})
assert known["linear"][-1] < 5e-5 and round(known["sqrt_linear"][-1].sqrt().item(), 3) == 0.068
alt = "Three schedules fall from 1 to nearly 0 in 1000 steps, cosine the slowest; ours stops at 0.36 after 100 steps."
plot.curves(known | {"ours, 100 steps": abar}, xlabel="t", ylabel="signal power abar", alt=alt)

# %% [markdown]
# ## 2. Forwards: a jump to any noise level
#
# One small step shrinks the signal and adds noise $n \sim \mathcal N(0, 1)$:
#
# $$x_t = \sqrt{1-\beta_t}\, x_{t-1} + \sqrt{\beta_t}\, n .$$
#
# The shrinking is there for a reason: if $x_{t-1}$ has variance 1, then $x_t$ has $(1-\beta_t) + \beta_t = 1$ again.
# Sums of independent Gaussians are Gaussian, so many small steps make one big one. With $\bar\alpha_t = \prod_{i \le t}
# (1-\beta_i)$,
#
# $$x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1-\bar\alpha_t}\, \epsilon, \qquad \epsilon \sim \mathcal N(0, 1). \tag{1}$$
#
# You can reach any level at once, and that is what makes training cheap. For data $\mathcal N(\mu, s^2)$ equation (1)
# says: the mean is $\sqrt{\bar\alpha_t}\,\mu$, the variance $\bar\alpha_t s^2 + 1 - \bar\alpha_t$. A thousand small
# steps must agree.

# %%
LINEAR = linear()
ABAR = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
assert torch.equal(ABAR, LINEAR.abar)  # the package's schedule is this very line

mean, var = MU, SD**2
for t, b in enumerate((1 - ABAR / torch.cat([torch.ones(1), ABAR[:-1]])).tolist()):
    mean, var = (1 - b) ** 0.5 * mean, (1 - b) * var + b
    assert math.isclose(mean, ABAR[t].sqrt() * MU, rel_tol=1e-9)
    assert math.isclose(var, ABAR[t] * SD**2 + 1 - ABAR[t], rel_tol=1e-9)
print(f"after 1000 steps: mean {mean:.4f}, variance {var:.6f}")

# %% [markdown]
# ## 3. Backwards, if someone tells you the end
#
# Now walk back from level $t$ to a cleaner level $s$. Suppose for a moment that $x_0$ is known. Two facts then pin down
# $x_s$, both of the form of equation (1), with $\alpha = \bar\alpha_t / \bar\alpha_s$ for the way between:
#
# - it came from the data: $x_s \sim \mathcal N(\sqrt{\bar\alpha_s}\, x_0,\; 1-\bar\alpha_s)$;
# - it led to what we see: $x_t \sim \mathcal N(\sqrt{\alpha}\, x_s,\; 1-\alpha)$.
#
# Bayes' rule multiplies the two densities. For Gaussians that means: precisions (one over variance) add, and the means
# are averaged with the precisions as weights. The result is the *posterior* $q(x_s \mid x_t, x_0)$, the one Gaussian
# that every sampler of this course imitates. Below it is written exactly so, then compared with the package, which uses
# the rearranged formula of the DDPM paper.


# %%
def posterior(x0, x_t, abar_t, abar_s):
    """Mean and std of q(x_s | x_t, x0), by adding precisions."""
    alpha = abar_t / abar_s
    from_data, from_x_t = 1 / (1 - abar_s), alpha / (1 - alpha)
    mean = (from_data * abar_s**0.5 * x0 + from_x_t * x_t / alpha**0.5) / (from_data + from_x_t)
    return mean, (from_data + from_x_t) ** -0.5


for t, s in [(999, 979), (500, 499), (40, 3)]:
    x0, eps = torch.randn(2, 8, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(t))
    x_t = LINEAR.add_noise(x0, eps, t)
    mean, std = posterior(x0, x_t, LINEAR.abar_at(t), LINEAR.abar_at(s))
    for sampler in (DDPM(LINEAR), DDIM(LINEAR, eta=1.0)):
        package_mean, package_std = sampler.transition(x_t, Prediction(x0, eps), Step(t, s))
        assert torch.allclose(mean, package_mean, rtol=0, atol=1e-10) and math.isclose(std, package_std, rel_tol=1e-9)

# %% [markdown]
# ## 4. What the network is asked
#
# Nobody tells us $x_0$, so a network has to guess it. Equation (1) ties $x_t$, $x_0$ and $\epsilon$ together: given
# $x_t$, knowing one of the other two is knowing both. So we may ask for the clean data (*x0*), for the noise (*eps*),
# or for the mixture
#
# $$v = \sqrt{\bar\alpha_t}\,\epsilon - \sqrt{1-\bar\alpha_t}\, x_0 ,$$
#
# which turns equation (1) into a rotation (Salimans and Ho, 2022): $x_0 = \sqrt{\bar\alpha_t}\, x_t -
# \sqrt{1-\bar\alpha_t}\, v$ and $\epsilon = \sqrt{1-\bar\alpha_t}\, x_t + \sqrt{\bar\alpha_t}\, v$. The choice is not
# innocent. Turn an eps-prediction into $x_0$ and you divide by $\sqrt{\bar\alpha_t}$: at the noisy end an error grows
# 157 times. Turn an x0-prediction into eps and at the clean end an error grows 100 times. A rotation never enlarges
# anything, and this is why the shipped models predict $v$.

# %%
x0, eps = torch.randn(2, 1000, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
levels = LINEAR.levels(torch.arange(1000), x0)  # one item at every noise level
x_t = levels[0] * x0 + levels[1] * eps
for predicts in ("eps", "x0", "v"):
    target = training_target(predicts, x0, eps, *levels)
    back = to_prediction(predicts, x_t, target, *levels)
    off = to_prediction(predicts, x_t, target + 1, *levels)  # a network that is wrong by 1
    grows = (off.x0 - back.x0).abs().max(), (off.eps - back.eps).abs().max()
    print(f"asked for {predicts:3}: an error of 1 becomes up to {grows[0]:5.1f} in x0 and {grows[1]:5.1f} in eps")
    assert torch.allclose(back.x0, x0, atol=1e-10) and torch.allclose(back.eps, eps, atol=1e-10)
    assert (max(grows) < 1.001) == (predicts == "v")

# %% [markdown]
# Training is regression: draw $x_0$, $\epsilon$ and $t$, form $x_t$, and minimise the squared error of the answer. The
# best answer is the average of all targets that could hide behind this $x_t$, the conditional mean. It is not the
# target itself, so **the best loss is not zero**. What remains is the conditional variance. For data $\mathcal N(\mu,
# s^2)$ and $\bar\sigma_t^2 = \bar\alpha_t s^2 + 1 - \bar\alpha_t$ the rules of section 3 give
#
# $$\operatorname{Var}[x_0 \mid x_t] = \frac{s^2(1-\bar\alpha_t)}{\bar\sigma_t^2}, \quad
# \operatorname{Var}[\epsilon \mid x_t] = \frac{\bar\alpha_t s^2}{\bar\sigma_t^2}, \quad
# \operatorname{Var}[v \mid x_t] = \frac{s^2}{\bar\sigma_t^2} .$$
#
# Check it with `IdealDenoiser`, which knows the conditional mean of any mixture of Gaussians exactly.


# %%
@torch.no_grad()
def losses(model, x0, eps, t):
    """Mean squared error of a denoiser's x0, eps and v."""
    signal, noise = LINEAR.levels(t, x0)
    said = model(signal * x0 + noise * eps, t)
    errors = {"x0": said.x0 - x0, "eps": said.eps - eps}
    errors["v"] = signal * errors["eps"] - noise * errors["x0"]
    return {name: error.square().mean().item() for name, error in errors.items()}


ideal = IdealDenoiser(LINEAR, torch.full((1, 1, 1), MU), SD)
x0 = ideal.sample(40_000, seeds=1)
eps = torch.randn(x0.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
for t in (50, 300, 900):
    a, total = ABAR[t].item(), ABAR[t].item() * SD**2 + 1 - ABAR[t].item()
    floor = {"x0": SD**2 * (1 - a) / total, "eps": a * SD**2 / total, "v": SD**2 / total}
    found = losses(ideal, x0, eps, t)
    print(f"t = {t}: " + ", ".join(f"{name} loss {found[name]:.4f}, floor {floor[name]:.4f}" for name in floor))
    assert all(abs(found[name] / floor[name] - 1) < 0.04 for name in floor)

# %% [markdown]
# Two consequences. First, the three losses are one loss with other weights: divide the x0 loss by $1-\bar\alpha_t$ for
# $v$, and multiply that by $\bar\alpha_t$ for eps. What you ask for decides which noise levels the network cares about.
# Second, for $s = 1$ the floor of $v$ is 1 at every level: from white noise there is nothing to learn. A $v$ loss below
# 1 measures structure.
#
# ## 5. Backwards, step by step
#
# Put the network's guess where section 3 had the true $x_0$, and you have a sampler. DDPM draws from the posterior as
# it is. DDIM (Song et al., 2021) keeps a dial for the fresh noise:
#
# $$x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{1-\bar\alpha_s-\sigma^2}\,\hat\epsilon + \sigma n,
# \qquad \sigma = \eta \cdot \text{the posterior's std.} \tag{2}$$
#
# The two noise terms always add up to the variance $1-\bar\alpha_s$ that level $s$ must have. So any $\eta$ in $[0, 1]$
# is legitimate: 1 gives DDPM's Gaussian, 0 gives a deterministic path. Both hats come from the network (equation 1
# again).
#
# With Gaussian data every step is an affine function of $x_t$ plus noise. Two probes tell its slope and offset, and
# then the mean and the variance of the samples follow exactly, for any sampler and any number of steps.


# %%
def exact_chain(sampler, steps):
    """Mean and std of what a sampler makes of N(0, 1) with the perfect denoiser of N(MU, SD^2)."""
    perfect = IdealDenoiser(sampler.schedule, torch.full((1, 1, 1), MU), SD)
    probes = torch.tensor([0.0, 1.0], dtype=torch.float64).view(2, 1, 1, 1)
    mean, var = 0.0, 1.0
    for step in step_grid(sampler.schedule.T, steps):
        answer, std = sampler.transition(probes, perfect(probes, step.t), step)
        offset, slope = answer[0].item(), (answer[1] - answer[0]).item()
        mean, var = slope * mean + offset, slope**2 * var + std**2
    return mean, var**0.5


grid = step_grid(1000, 10)
for sampler in (DDIM(LINEAR, 0.0), DDIM(LINEAR, 0.5), DDPM(LINEAR)):  # does the recursion hold?
    drawn = decode_code(ideal, sampler, grid, random_code((1, 1, 1), grid, sampler, count=40_000, dtype=torch.float64))
    mean, std = exact_chain(sampler, 10)
    assert abs(drawn.mean() - mean) < 0.02 and abs(drawn.std() / std - 1) < 0.02

counts = [1, 2, 3, 5, 7, 10, 20, 50, 100, 200, 500, 1000]
samplers = DDIM(LINEAR, 0.0), DDIM(LINEAR, 1.0), DDPM(LINEAR, "large")
ode, sde, large = ([exact_chain(sampler, n)[1] for n in counts] for sampler in samplers)
assert [round(ode[k], 4) for k in (0, 5, 7, -1)] == [0.0016, 0.3700, 0.4714, 0.4985] and max(large) > SD
assert all(a > b for a, b in zip(ode[3:], sde[3:]))
lines = {"DDIM, eta = 0": ode, "DDIM, eta = 1": sde, "DDPM, large": large, "the data": [SD] * len(counts)}
alt = "The samples' spread grows from 0 at one step to 0.5 at 1000; eta = 0 is ahead of eta = 1, large overshoots."
plot.curves(lines, x=counts, logx=True, xlabel="number of steps", ylabel="std of the samples", alt=alt)

# %% [markdown]
# *Look for two things: where the lines start, and from which side they arrive.*
#
# One step of a perfect denoiser returns the average of all data, every time: std 0.002 instead of 0.5. Few steps mean
# too little variety, and in pictures that looks like blur. With 10 steps DDIM reaches 0.37, with 50 0.47, with 1000
# 0.4985. DDPM's other variance, "large", errs to the other side. And with few steps fresh noise hurts: $\eta = 0$ is
# ahead of $\eta = 1$ from 5 steps on.
#
# Fresh noise has its own virtue. Back to the short schedule of section 1, which starts in the wrong place:

# %%
short = from_betas("short", beta)
for name, schedule in {"short": short, "sqrt_linear": sqrt_linear(), "linear": LINEAR}.items():
    ode, ddpm = (exact_chain(DDIM(schedule, eta), schedule.T)[0] for eta in (0.0, 1.0))
    print(f"{name:12} mean of the samples: {ode:.4f} with eta = 0, {ddpm:.4f} with eta = 1 (data {MU})")
    assert abs(ddpm - MU) < abs(ode - MU)
forgets, keeps = exact_chain(DDIM(short, 1.0), 100)[0], exact_chain(DDIM(short, 0.0), 100)[0]
assert (
    round(forgets, 2) == 1.75 and 0.3 < (MU - forgets) / (MU - keeps) < 0.4 and abs(keeps - x.mean()) < 0.02
)  # section 1, predicted

# %% [markdown]
# A deterministic path carries a wrong start to the end: 1.30. A noisy one forgets, because each fresh $n$ replaces a
# part of the past: 1.75, a third of the error. Remember both halves. Lesson 9 turns "nothing is forgotten" into an
# encoder.
#
# ## 6. From scratch
#
# Now without a formula for the guess. The data are points in the plane, scattered around a drawing: 96 little Gaussians
# along the outline of a head, three heavier ones for the eyes and the nose. It is still a mixture of Gaussians, so we
# know the lowest loss that any network can reach.

# %%
angle = torch.arange(96) / 96 * math.tau
ears = [1.5 - 1.8 * (angle - ear).abs() for ear in (0.28 * math.pi, 0.72 * math.pi)]
radius = torch.stack([torch.ones(96), *ears]).amax(0)
outline = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
centres = 1.3 * torch.cat([outline, torch.tensor([[-0.4, 0.2], [0.4, 0.2], [0.0, -0.3]])])
face = IdealDenoiser(LINEAR, centres.view(-1, 2, 1, 1), 0.06, weights=torch.tensor([1.0] * 96 + [10.0] * 3))
points = face.sample(20_000, dtype=torch.float32)  # (20000, 2, 1, 1)


class Tiny(nn.Module):
    """Points (B, 2, 1, 1) and noise levels t (B,) -> (B, 2, 1, 1)."""

    def __init__(self, width=64):
        super().__init__()
        self.waves = math.pi * 2.0 ** torch.arange(-2, 3)  # sines of these let a small network draw sharp lines
        hidden = [layer for _ in range(2) for layer in (nn.SiLU(), nn.Linear(width, width))]
        self.layers = nn.Sequential(nn.Linear(33, width), *hidden, nn.SiLU(), nn.Linear(width, 2))

    def forward(self, x, t):
        seen = torch.cat([x.flatten(1), t[:, None] / 1000], dim=1)  # (B, 3)
        angles = (seen[:, :, None] * self.waves).flatten(1)  # (B, 15)
        return self.layers(torch.cat([seen, angles.sin(), angles.cos()], dim=1)).view_as(x)


def our_loss(net, x0, eps, t):
    signal, noise = (part.float()[:, None, None, None] for part in (ABAR[t].sqrt(), (1 - ABAR[t]).sqrt()))
    return (net(signal * x0 + noise * eps, t) - (signal * eps - noise * x0)).square().flatten(1).mean(1)  # (B,)


def our_sampler(net, code, steps, eta):
    x, *noises = code.unbind(1)
    times = [round(1000 * k / steps) - 1 for k in range(steps, -1, -1)]  # 999, ..., -1
    for t, s, n in zip(times[:-1], times[1:], noises):
        a_t, a_s = ABAR[t], ABAR[s] if s >= 0 else torch.tensor(1.0)
        v = net(x, torch.full((len(x),), t))
        x0, eps = a_t.sqrt() * x - (1 - a_t).sqrt() * v, (1 - a_t).sqrt() * x + a_t.sqrt() * v
        std = eta * ((1 - a_s) / (1 - a_t) * (1 - a_t / a_s)).sqrt()
        x = a_s.sqrt() * x0 + (1 - a_s - std**2).clamp(min=0).sqrt() * eps + std * n
    return x


torch.manual_seed(0)
net, history, STEPS = Tiny(), [], 2500
optimiser = torch.optim.Adam(net.parameters(), lr=8e-3, fused=True)
slower = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, STEPS)
for _ in range(STEPS):
    x0 = points[torch.randint(len(points), (256,))]
    loss = our_loss(net, x0, torch.randn_like(x0), torch.randint(1000, (256,))).mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    slower.step()
    history.append(loss.item())

# %% [markdown]
# These are all the parts of a diffusion model. The package has the same ones; with equal inputs they must give equal
# outputs. And how good is a loss of 0.77? Only the floor can tell.

# %%
denoiser = Denoiser(net, LINEAR, "v")
seed = torch.Generator().manual_seed(3)
eps, t = torch.randn(points.shape, generator=seed), torch.randint(1000, (len(points),), generator=seed)
grid, sampler = step_grid(1000, 50), DDIM(LINEAR, eta=1.0)
point_code = random_code((2, 1, 1), grid, sampler, count=1500)
with torch.no_grad():
    assert torch.allclose(our_loss(net, points, eps, t), denoiser.loss(points, eps, t), atol=1e-4)
    drawn = our_sampler(net, point_code, 50, eta=1.0)
    assert torch.allclose(drawn, decode_code(denoiser, sampler, grid, point_code), atol=1e-3)
    exact = decode_code(face, sampler, grid, point_code)

mine, floor = losses(denoiser, points, eps, t)["v"], losses(face, points, eps, t)["v"]
print(f"loss of our network {mine:.4f}, lowest possible {floor:.4f}: {100 * (mine / floor - 1):.1f} % above")
assert floor < mine < 1.02 * floor and floor > 0.7

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, axes = plot.figure(9, 2.6, ncols=4, width_ratios=[1.4, 1, 1, 1])
axes[0].plot(torch.tensor(history).view(-1, 25).mean(1), color=plot.COLOURS[0])
axes[0].axhline(floor, color=plot.COLOURS[1], linestyle="--")
axes[0].set(title="loss, and its floor", xlabel="training step / 25", ylim=(0.7, 0.9))
for ax, cloud, title in zip(axes[1:], (points[:1500], exact, drawn), ("data", "exact denoiser", "our network")):
    ax.scatter(*cloud.flatten(1).T, s=1, color=plot.COLOURS[0])
    ax.set(title=title, aspect="equal", xticks=[], yticks=[], xlim=(-1.9, 1.9), ylim=(-1.7, 1.9))
plot.show(
    fig,
    alt="The loss falls to just above its floor; a cat's face of points, which our network draws with strays inside.",
)

# %% [markdown]
# *Compare the last two clouds: the same noises went in. Look for points that stand where no data are.*
#
# The loss ends less than 2 % above the floor, and yet you see the difference at once: stray points inside the head. A
# tiny excess in the loss can be a visible fault in the samples, because the loss is an average over levels at most of
# which everything is easy. **Judge samples, not losses.**
#
# ## 7. Why in latents
#
# Rombach et al. (2022) moved diffusion from pixels to latents to save work. How much? The network runs once a step, so
# what does one call cost? Count multiply-adds, with no clock and no luck involved: build the network of `critters-cat`
# twice, once for its 8x8 latents with 8 channels, once for 64x64 pixels with 3. (On the device "meta" tensors have
# shapes but no values, so counting is free.)


# %%
def multiply_adds(net, *inputs):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(*inputs)
    return counter.get_total_flops() / 2  # a multiplication and an addition each count as one


def one_call(channels, size, attention):
    with torch.device("meta"):
        settings = vars(cat.denoiser.net.config) | {"in_channels": channels, "attention": (attention, attention)}
        return multiply_adds(UNet(UNetConfig(**settings)), torch.zeros(1, channels, size, size), torch.zeros(1))


latent, pixel, plain = one_call(8, 8, True), one_call(3, 64, True), one_call(3, 64, False)
whole = 50 * latent + multiply_adds(cat.autoencoder.decoder, torch.zeros(1, 8, 8, 8))
print(f"one call: {latent / 1e6:.0f} M in latents, {pixel / 1e6:.0f} M in pixels ({plain / 1e6:.0f} M plain)")
print(f"one picture of 50 steps: {whole / 1e9:.1f} G in latents, {50 * pixel / 1e9:.0f} G in pixels")
assert 145 < pixel / latent < 160 and 50 < plain / latent < 64 and pixel > 2 * whole

# %% [markdown]
# One call in pixels costs more than two complete pictures in latents, decoder included. About 60 of the factor come
# from there being 64 times as many places; the rest is self-attention, whose cost grows with the square of their
# number. (In pixels one would leave attention out at full size: "plain". The factor of 50 to 64 stays.)
#
# The price is what the autoencoder loses. And it owes us one service: **unit scale**. The noise has variance 1, so a
# schedule means something only relative to the size of the data. `Autoencoder` measures shift and scale once, keeps
# them, and undoes them when it decodes.

# %%
animals = Critters("all", seed=2)[:200]
latents, (raw, _) = cat.autoencoder.encode(animals), cat.autoencoder.posterior(animals)
quality = psnr(cat.autoencoder.decode(latents), animals).mean()
print(f"{animals[0].numel()} numbers -> {latents[0].numel()}, and back with a PSNR of {quality:.1f} dB")
for name, values in {"raw": raw, "scaled": latents}.items():
    print(f"{name:6} std per channel:", [round(v, 2) for v in values.std((0, 2, 3)).tolist()])
assert quality > 30 and (latents.std((0, 2, 3)) - 1).abs().max() < 0.1 and raw.std((0, 2, 3)).max() < 2.5

balance = [(ABAR * size**2 / (1 - ABAR) < 1).nonzero()[0].item() for size in (0.18, 1.0, 5.5)]
print("signal and noise balance at t =", balance, "for data of std 0.18, 1 and 5.5")
assert balance == [52, 259, 582]

# %% [markdown]
# With a std of 5.5 the balance moves from $t = 259$ to 582, with 0.18 to 52. Same schedule, same $t$, another task.
# Stable Diffusion's famous 0.18215 is this scale, carried by hand: 1 / 5.5.
#
# ## 8. The shipped models
#
# Two models, trained apart: one on latents of drawn cats, one on latents of real sneakers. First the question of
# section 4: what is their loss worth? The floor is unknown here, but a Gaussian with the mean and the covariance of the
# latents is a fair rival: its ideal denoiser is the best *linear* one.

# %%
known = cat.to_latents(Critters("cat", seed=1)[:1000])
rival = IdealDenoiser(LINEAR, known.mean(0), cov=torch.cov(known.flatten(1).T))
fresh = cat.to_latents(Critters("cat", seed=2)[:64])
eps = torch.randn(fresh.shape, generator=torch.Generator().manual_seed(4))
levels = [10, 50, 100, 200, 300, 400, 500, 600, 700, 800, 900, 990]
linear_one, ours = ([losses(model, fresh, eps, t)["v"] for t in levels] for model in (rival, cat.denoiser))
alt = "White noise would cost 1 at every level; the best linear denoiser costs less, and critters-cat less again."
lines = {"white noise": [1.0] * len(levels), "best linear denoiser": linear_one, "critters-cat": ours}
plot.curves(lines, x=levels, xlabel="t", ylabel="loss of v", alt=alt)
print(f"the network's loss is {sum(ours) / sum(linear_one):.2f} of the best linear one's")
gain = [b - a for a, b in zip(ours, linear_one)]
assert min(gain[:7]) > 0.03 and max(map(abs, gain[-3:])) < 0.02 and abs(ours[-1] - known.var(0).mean()) < 0.05

# %% [markdown]
# *Look for the levels where the network leaves the straight rival behind.*
#
# It gains up to the middle levels, where edges, eyes and patterns are at stake: such things are anything but Gaussian. At
# the noisy end the two agree, for there is nothing left to know but the mean. (Both end near the variance of cat
# latents. It is not 1, because the scale was measured on all species, and cats alone vary less.)

# %%
sneaker = minidiff.load("fashion-sneaker")
shoes, cats = (model.replace(eta=1.0).sample(32, seeds=100) for model in (sneaker, cat))
alt = "Eight drawn cats above eight sampled ones, with heads, coats and backgrounds of the same kinds."
plot.grid([Critters("cat", seed=2)[:8], cats[:8]], row_labels=["drawn", "sampled"], alt=alt)
alt = "Eight grey photographs of sneakers above eight sampled ones of similar shapes and shades."
plot.grid([FashionMNIST("subset", classes=["sneaker"])[:8], shoes[:8]], row_labels=["photos", "sampled"], alt=alt)
share = (minidiff.load("critters-probe").read(cats.clamp(-1, 1))["species"] == 0).float().mean()
print(f"the probe reads {100 * share:.0f} % of {len(cats)} samples as cats")
assert share >= 0.9

# %% [markdown]
# *Upper rows: pictures that no model was trained on. Lower rows: made from noise. Look for what the samples get wrong:
# thin whiskers, pairs of eyes that should match, laces.*
#
# ## 9. Turn the noise up yourself
#
# Take three cats that the model never saw, add noise up to level $t$, and look at the model's guess. Nothing is sampled
# here: each guess is a single call, an average over every cat that could be behind this noise.

# %%
noise = torch.randn(3, *cat.latent_shape, generator=torch.Generator().manual_seed(5))
chosen = fresh[:3]


@torch.inference_mode()
def at_level(t):
    """Noisy latents and the guess behind them, as pictures: two of (3, 3, 64, 64)."""
    x_t = LINEAR.add_noise(chosen, noise, t)
    return cat.to_images(x_t), cat.to_images(cat.denoiser(x_t, t).x0)


shown = [20, 150, 300, 450, 600, 800, 999]
pairs = [at_level(t) for t in shown]
rows = [torch.stack([pair[kind][animal] for pair in pairs]) for animal in range(2) for kind in range(2)]
alt = "Two cats at seven noise levels; the guess is sharp at 20, blurred at 600, and one grey average for both at 999."
plot.grid(rows, row_labels=["x_t", "guess of x0"] * 2, column_labels=[f"t = {t}" for t in shown], alt=alt)
errors = [(guess - cat.to_images(chosen)).square().mean().item() for _, guess in pairs]
assert errors == sorted(errors)  # the noisier, the worse the guess
assert pairs[-1][1].std(0).mean() < 0.3 * pairs[0][1].std(0).mean()  # from pure noise, everyone gets the same guess

# %%
slider = widgets.IntSlider(value=300, min=0, max=999, description="t", continuous_update=False)
canvas = widgets.HTML()


def redraw(change):
    alt = f"Three cats at noise level {change['new']}, and below them the model's guesses of what is behind."
    picture = plot.grid(at_level(change["new"]), row_labels=["x_t", "guess of x0"], alt=alt, display=False)
    signal, noise_level = LINEAR.levels(change["new"], chosen)
    canvas.value = f"{picture.html}<p>signal {signal:.2f}, noise {noise_level:.2f}</p>"


slider.observe(redraw, names="value")
redraw({"new": slider.value})
first, slider.value = canvas.value, 700  # what your hand does
assert canvas.value != first and "level 700" in canvas.value
widgets.VBox([slider, canvas])

# %% [markdown]
# Move it from 999 down. Where does the background get its colour? Where does the cat get its tilt? Where do stripes and
# patches appear? Each factor has a level at which it is decided. Lesson 10 uses this: editing from a middle level
# keeps what is decided above it.
#
# ## 10. What would you see if ...
#
# One code, four cats, eight samplers. **A** is right. Each of the others has one fault, of a kind that happens in real
# projects. Find its pictures before you open the answers, or read the code:
#
# too few steps · another noise schedule than in training · $v$ taken for eps · Stable Diffusion's 0.18215 applied to
# latents of unit size · the step's number passed as the time · `torch.rand` instead of `torch.randn` at the start · the
# fresh noise added with its variance for its std.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
four = cat.replace(steps=25, eta=1.0)
code, net, grid = four.random_code(4, seeds=300), cat.denoiser.net, four.grid
number = {step.t: len(grid) - 1 - k for k, step in enumerate(grid)}


def wrong_time(x, t):
    return to_prediction("v", x, net(x, torch.full((len(x),), number[t])), *LINEAR.levels(t, x))


class VarianceForStd(DDIM):
    def transition(self, x_t, prediction, step):
        mean, std = super().transition(x_t, prediction, step)
        return mean, std**2


other_start = code.clone()
other_start[:, 0] = torch.rand(code[:, 0].shape, generator=torch.Generator().manual_seed(6))
with torch.no_grad():
    made = [
        four.decode(code),
        cat.replace(steps=2, eta=0.0).decode(code[:, :1]),
        cat.to_images(decode_code(Denoiser(net, cosine(), "v"), DDIM(cosine(), 1.0), grid, code)),
        cat.to_images(decode_code(Denoiser(net, LINEAR, "eps"), four.sampler, grid, code)),
        cat.to_images(0.18215 * four.decode_latents(code)),
        cat.to_images(decode_code(wrong_time, four.sampler, grid, code)),
        four.decode(other_start),
        cat.to_images(decode_code(cat.denoiser, VarianceForStd(LINEAR, 1.0), grid, code)),
    ]
gallery = {letter: made[k] for letter, k in zip("ABCDEFGH", (0, 3, 6, 1, 5, 4, 2, 7))}
alt = "Eight rows of four cats: A is right, C is hard to tell from it, and the other six are damaged in different ways."
plot.grid(list(gallery.values()), row_labels=list(gallery), scale=1.4, alt=alt)

near = {letter: round(psnr(gallery[letter], gallery["A"]).mean().item(), 1) for letter in "BCEFGH"}
print("dB to row A:", near)
assert near.pop("C") > 26 and max(near.values()) < 22
detail = {letter: (pictures[..., 1:] - pictures[..., :-1]).abs().mean() for letter, pictures in gallery.items()}
assert max(detail["D"], detail["H"]) < detail["A"]

# %% [markdown]
# ```{dropdown} Answers
# - **B**, $v$ taken for eps. Section 4: turned into $x_0$, the error grows up to 157 times.
# - **C**, `torch.rand`. The same cats, here and there on another background. With $\eta = 1$ a wrong start is nearly
#   forgotten (section 5), and such a fault can live in a project for years. Below the same fault with $\eta = 0$: it shows.
# - **D**, too few steps: two. The averages of section 5, as pictures: blur. (Other cats, because a code belongs to its
#   steps and its $\eta$.)
# - **E**, the step's number for the time. The network is told that the picture is almost clean, so it leaves the noise
#   in.
# - **F**, another autoencoder's scale. Latents with a fifth of their size decode to a fifth of a cat: all four fade
#   into the mean picture.
# - **G**, cosine instead of linear. At equal $t$ cosine has less noise, so the network takes signal for noise and
#   overdoes the contrast.
# - **H**, variance for std. Variances below 1 are smaller than their roots: too little fresh noise, and with it the
#   fine texture is gone.
# ```

# %% jupyter={"source_hidden": true} tags=["hide-input"]
ode = cat.replace(steps=25, eta=0.0)
right, wrong = ode.decode(code[:, :1]), ode.decode(other_start[:, :1])
alt = "Four different cats above; below, from the wrong start, four orange cats that are nearly the same."
plot.grid([right, wrong], row_labels=["randn", "rand"], scale=1.4, alt=alt)
assert psnr(wrong, right).mean() < 15 and wrong.std(0).mean() < 0.5 * right.std(0).mean()

# %% [markdown]
# ## Summary
#
# 1. $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$: any noise level in one jump. At the last level
#    nothing of $x_0$ may be left.
# 2. A network guesses $x_0$, $\epsilon$ or $v$; each gives the others. The best guess is an average, so the best loss
#    is not zero.
# 3. A sampler step is a Gaussian around what the guess suggests. $\eta$ sets its width. Few steps lose variety; fresh
#    noise forgets errors.
# 4. In latents the same network costs 150 times less a call, if the autoencoder delivers latents of unit size.
# 5. With all its noises in one `code`, a sampler is a plain function. Lesson 9 runs it backwards.
#
# | here | in Hugging Face diffusers |
# |---|---|
# | `linear()`, `sqrt_linear()`, `cosine()` | `beta_schedule="linear"`, `"scaled_linear"`, `"squaredcos_cap_v2"` |
# | `predicts="eps"`, `"x0"`, `"v"` | `prediction_type="epsilon"`, `"sample"`, `"v_prediction"` |
# | `step_grid(1000, 50)` | `timestep_spacing="trailing"` |
# | `DDIM(schedule, eta)`, `DDPM(schedule)` | `DDIMScheduler.step(..., eta=...)`, `DDPMScheduler` |
# | `autoencoder.shift`, `autoencoder.scale` | `vae.config.shift_factor`, `1 / vae.config.scaling_factor` |
#
# ## Open questions
#
# 1. Let the data be two points, $-1$ and $+1$, equally likely. What is the best guess of $x_0$ as a function of $x_t$,
#    at low and at high noise? At which level does a sampler make up its mind? (`IdealDenoiser` takes mixtures.)
# 2. `step_grid` spaces its levels evenly in $t$. `exact_chain` tells you the error of any other choice without a single
#    sample. How few steps get the std to 0.49, if you may place them freely?
# 3. Scaling gives each latent channel a std of 1, but section 8 shows that latents are far from white noise. Would an
#    autoencoder with fully whitened latents make the denoiser's task easier, or only move it elsewhere?
#
# ## References
#
# - J. Sohl-Dickstein, E. Weiss, N. Maheswaranathan, S. Ganguli. *Deep Unsupervised Learning using Nonequilibrium
#   Thermodynamics.* ICML 2015. arXiv:1503.03585.
# - J. Ho, A. Jain, P. Abbeel. *Denoising Diffusion Probabilistic Models.* NeurIPS 2020. arXiv:2006.11239.
# - J. Song, C. Meng, S. Ermon. *Denoising Diffusion Implicit Models.* ICLR 2021. arXiv:2010.02502.
# - A. Nichol, P. Dhariwal. *Improved Denoising Diffusion Probabilistic Models.* ICML 2021. arXiv:2102.09672.
# - T. Salimans, J. Ho. *Progressive Distillation for Fast Sampling of Diffusion Models.* ICLR 2022. arXiv:2202.00512.
# - R. Rombach, A. Blattmann, D. Lorenz, P. Esser, B. Ommer. *High-Resolution Image Synthesis with Latent Diffusion
#   Models.* CVPR 2022. arXiv:2112.10752.
# - S. Lin, B. Liu, J. Li, X. Yang. *Common Diffusion Noise Schedules and Sample Steps Are Flawed.* WACV 2024.
#   arXiv:2305.08891.
# - H. Xiao, K. Rasul, R. Vollgraf. *Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms.*
#   2017, arXiv:1708.07747.
#
# *This lesson is licensed under CC BY 4.0.*
