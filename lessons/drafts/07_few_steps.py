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
# # 7. Fewer steps, better steps
#
# **How few steps will do?**
#
# A diffusion model is slow for one reason: it asks its network again and again. Lesson 4 asked fifty times for each
# picture. In this lesson nothing is trained and no network is changed, and five to twenty calls do the same work.
# Behind the sampler is a differential equation, and people have known for a century how to solve those with few looks.
#
# ```{tip}
# **After this lesson you can**
# 1. derive a second-order solver from one integral, and measure the order of any solver against an exact solution;
# 2. choose a solver, a spacing and a number of calls for a purpose, and say what another choice would cost;
# 3. say which errors fresh noise corrects and which it makes worse, and which solvers can be run backwards.
#
# **Needs** lesson 4; section 9 also lesson 9. **Read** 30 minutes. **Run** under a minute on two cores, under 2 GB.
# **Checkpoints** `critters-cat`, `critters-autoencoder`, `critters-probe`.
# ```
#
# | symbol | in code | meaning | shape |
# |---|---|---|---|
# | $\sigma_t$ | `sigma_at(t)` | $\sqrt{1-\bar\alpha_t}/\sqrt{\bar\alpha_t}$, noise per signal; 0 for clean data | a number |
# | $X$ | `X` | $x_t/\sqrt{\bar\alpha_t} = x_0 + \sigma_t\,\epsilon$, the state in units of the data | (B, c, h, w) |
# | $\hat x_0,\ \hat\epsilon$ | `x0`, `eps` | what the denoiser sees in it; one gives the other, $X = \hat x_0 + \sigma_t\,\hat\epsilon$ | (B, c, h, w) |
# | $\lambda$ | | $-\log\sigma$, rising on the way to the picture | a number |
# | $h$ | `h` | $\lambda_s - \lambda_t = \log(\sigma_t/\sigma_s)$, the width of the step from $t$ to $s$ | a number |
# | calls | `model.calls` | how often the network is asked for one picture | a whole number |

# %%
import math
import time

import ipywidgets as widgets
import torch

import minidiff
from minidiff import plot
from minidiff.data.critters import Critters
from minidiff.denoiser import to_prediction
from minidiff.evaluation.metrics import frechet_distance, psnr
from minidiff.evaluation.probes import read_all
from minidiff.ideal import IdealDenoiser
from minidiff.inversions import belm_decode, belm_encode, edict_decode, edict_encode
from minidiff.samplers import DDIM, count_blocks, decode_code, sampling
from minidiff.schedule import SPACINGS, Step, cosine, linear, sqrt_linear, step_grid
from minidiff.solvers import SAMPLERS, DPMSolver2M, Euler, Heun, UniPC

torch.set_grad_enabled(False)
LINEAR, cat = linear(), minidiff.load("critters-cat")
SOLVERS = {"DDIM": "euler", "Heun": "heun", "2M": "dpm++2m", "UniPC": "unipc"}
BUDGETS = [5, 10, 20, 50]


def solver(name, calls, spacing="trailing"):
    """critters-cat with this sampler and the steps that so many calls pay for; a step of Heun takes two, its last one."""
    return cat.replace(sampler=name, steps=(calls + 1) // 2 if name == "heun" else calls, spacing=spacing)


def rms(x):
    return x.square().mean().sqrt().item()


code = solver("unipc", 5).random_code(4, seeds=11)  # (4, 1, 8, 8, 8): no step draws noise, so the start is all
limit = solver("unipc", 100, "karras").decode_latents(code)
found = {label: [solver(name, calls).decode_latents(code) for calls in BUDGETS] for label, name in SOLVERS.items()}
off = {label: [rms(latents - limit) for latents in row] for label, row in found.items()}
rows = [cat.to_images(torch.stack([*row, limit])[:, :2].transpose(0, 1).flatten(0, 1)) for row in found.values()]
alt = "Two cats by four solvers at 5 to 100 calls: all alike from 20 on; at 5 DDIM is pale and Heun glaring."
plot.grid(rows, row_labels=list(found), column_labels=[str(calls) for calls in [*BUDGETS, 100]] * 2, alt=alt)
for label, row in off.items():
    print(f"{label:6} RMS distance to the limit: " + "  ".join(f"{n} calls {d:.3f}" for n, d in zip(BUDGETS, row)))
assert all(row == sorted(row, reverse=True) for row in off.values())
assert off["UniPC"][1] < 0.7 * off["DDIM"][1] and off["Heun"][0] > 1.3 * off["DDIM"][0]
assert max(row[-1] for row in off.values()) < 0.08 < 0.7 < rms(limit)

# %% [markdown]
# *The answer. Each row is a solver, each column a number of calls, and the last column is where all of them go. One
# code for the left half, one for the right. Look at the first column: pale with DDIM, glaring with Heun. From 20 calls
# on, look for any difference at all.*
#
# Every solver here follows the same path to the same cat; they differ in how soon they are there. TODO(model): with ten
# calls UniPC is as near to the limit (0.07) as DDIM is with twenty (0.08).
#
# ## 1. Do it wrong first
#
# Three natural ideas. **Fewer steps**: take DDIM and spread five levels evenly from 999 to 0. **A better method**:
# Heun's is a textbook improvement on Euler's, with the same five calls. **Stop early**: the last step hardly matters,
# does it?

# %%
uniform, halted = solver("euler", 5, "uniform"), solver("euler", 5)
states = list(sampling(cat.denoiser, uniform.sampler, uniform.grid, code))
wrong = {
    "limit": limit,
    "uniform": states[-1].x,
    "Heun": solver("heun", 5, "uniform").decode_latents(code),
    "stop early": decode_code(cat.denoiser, halted.sampler, halted.grid[:-1], code),
}
alt = "Four cats; pale with five uniform steps; blown up beyond recognition by Heun; in blotches without the last step."
plot.grid([cat.to_images(latents) for latents in wrong.values()], row_labels=list(wrong), scale=1.4, alt=alt)
print("uniform levels:", [step.t for step in uniform.grid], " trailing levels:", [step.t for step in halted.grid])
last, left = rms(states[-1].x - states[-2].x), LINEAR.sigma_at(halted.grid[-1].t)
print(f"the last of the five uniform calls moved the latents by {last:.3f}; stopping early leaves noise of {left:.2f}")
assert last < 0.03 and left > 0.5 and off["DDIM"][0] < rms(wrong["uniform"] - limit) < rms(wrong["Heun"] - limit) / 3

# %% [markdown]
# *Look at what kind of wrong each row is: too little contrast, too much of everything, blotches (noise, as the decoder
# sees it).*
#
# The uniform grid pays for a call at $t = 0$, where nothing is left to remove: one call of five is thrown away. The
# better method, on the same grid, is a catastrophe. And a grid that ends above clean data leaves its noise in the
# picture. Method and grid have to be chosen together, and for that we need to know what is being solved.
#
# ## 2. An ODE behind the sampler
#
# Divide DDIM's step at $\eta = 0$ (equation 2 of lesson 4) by the signal, and it becomes
#
# $$X_s = X_t + (\sigma_s - \sigma_t)\,\hat\epsilon. \tag{1}$$
#
# A straight line in $\sigma$, with the predicted noise as its slope. That is Euler's method, from 1768, for
#
# $$\frac{dX}{d\sigma} = \hat\epsilon(X, \sigma), \tag{2}$$
#
# the probability flow ODE (Song et al., 2021; Karras et al., 2022). So "DDIM" and "Euler" are two names for one thing.
# For data $\mathcal N(\mu, d^2)$ the best guess is $\hat\epsilon = \sigma (X-\mu)/(d^2+\sigma^2)$. Put it into (2),
# separate the variables, and the solution is
#
# $$\frac{X - \mu}{\sqrt{d^2 + \sigma^2}} = \text{constant}. \tag{3}$$
#
# Far out, where $\sigma \gg d$, this is a straight line, and even a wide step makes hardly any error. Near the data,
# $\sigma \ll d$, it stands still. **All of the bending happens where the noise is about as large as the data.** There a
# tangent overshoots towards the mean, and that is why few steps of DDIM give pale pictures.

# %%
MU, SD = 2.0, 0.5
ideal = IdealDenoiser(LINEAR, torch.full((1, 1, 1), MU), SD)
starts = torch.linspace(-2, 2, 5, dtype=torch.float64).view(5, 1, 1, 1, 1)  # five codes


def signal(t):
    return math.sqrt(LINEAR.abar_at(t))


def exact(x, t, s):
    """Equation (3), from x at level t to level s."""
    shrink = math.hypot(SD, LINEAR.sigma_at(s)) / math.hypot(SD, LINEAR.sigma_at(t))
    return signal(s) * (MU + shrink * (x / signal(t) - MU))


def end_error(sampler, grid):
    """How far the ends of the five paths are from the exact ones, at the worst."""
    return (decode_code(ideal, sampler, grid, starts) - exact(starts[:, 0], grid[0].t, grid[-1].s)).abs().max().item()


seen, step = ideal(starts[:, 0], 700), Step(700, 300)  # equation (1) is DDIM's step
line = starts[:, 0] / signal(700) + (LINEAR.sigma_at(300) - LINEAR.sigma_at(700)) * seen.eps
for sampler in (DDIM(LINEAR, 0.0), Euler(LINEAR)):
    assert torch.allclose(signal(300) * line, sampler.transition(starts[:, 0], seen, step)[0], rtol=0, atol=1e-12)

methods = {"DDIM": Euler(LINEAR), "Heun": Heun(LINEAR), "2M": DPMSolver2M(LINEAR), "UniPC": UniPC(LINEAR)}
counts, errors, slopes = [5, 10, 20, 40, 80, 160], {}, {}
for name, sampler in methods.items():
    sizes = [n // 2 if name == "Heun" else n for n in counts]  # equal calls
    grids = [step_grid(LINEAR, n + 1, spacing="karras")[:-1] for n in sizes]  # without the step to clean data, for now
    errors[name] = [end_error(sampler, grid) for grid in grids]
    calls = torch.tensor([float(sampler.calls(grid)) for grid in grids]).double()
    steep = torch.stack([calls.log(), calls**0], 1)[2:]
    slopes[name] = -torch.linalg.lstsq(steep, torch.tensor(errors[name][2:]).double().log()[:, None]).solution[0].item()
whole = [end_error(methods["UniPC"], step_grid(LINEAR, n, spacing="karras")) for n in (*counts, 320)]
print("orders, from 20 calls on:", {name: round(slope, 2) for name, slope in slopes.items()})
for name, order in {"DDIM": 1, "Heun": 2, "2M": 2, "UniPC": 3}.items():
    assert abs(slopes[name] - order) < 0.15
floor = LINEAR.sigma_at(0) ** 2 / (2 * SD) * 2  # equation (4), at the outermost start
assert 0.8 < whole[-1] / floor < 1.2 and errors["2M"][1] > errors["2M"][0]

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, axes = plot.figure(9, 3.4, ncols=2)
sigmas = torch.linspace(0, 2.4, 200, dtype=torch.float64)
grid = step_grid(LINEAR, 5)
paths = torch.stack([step.x.flatten() / signal(step.step.s) for step in sampling(ideal, methods["DDIM"], grid, starts)])
levels = [LINEAR.sigma_at(step.s) for step in grid]
constant = (starts.flatten() / signal(999) - MU) / math.hypot(SD, LINEAR.sigma_at(999))  # equation (3)
for k, (label, dashed) in enumerate([("exact", "DDIM, 5 steps")] + 4 * [(None, None)]):
    curve = MU + constant[k] * (SD**2 + sigmas**2).sqrt()
    axes[0].plot(sigmas, curve, color=plot.COLOURS[4], linewidth=1, label=label)
    axes[0].plot(levels, paths[:, k], "s--", color=plot.COLOURS[1], markersize=4, label=dashed)
axes[0].set(xlim=(2.4, 0), ylim=(-3, 7), xlabel="sigma (right: clean data)", ylabel="X", title="five paths")
axes[0].legend(frameon=False, fontsize="small")
for k, (name, row) in enumerate(errors.items()):
    axes[1].plot(counts, row, label=f"{name}, order {slopes[name]:.2f}", **plot.style(k))
axes[1].plot((*counts, 320), whole, label="UniPC, to clean data", **plot.style(4))
axes[1].set(xscale="log", yscale="log", xlabel="calls", ylabel="largest error", title="errors")
axes[1].legend(frameon=False, fontsize="small")
alt = "Left: exact paths bend near sigma 0.5, DDIM's tangents end nearer the mean. Right: errors fall with slopes 1, 2, 2, 3."
plot.show(fig, alt=alt)

# %% [markdown]
# *Left: follow a dashed path to the right edge and see on which side of its line it ends. Right: compare the slopes
# first, then look at what happens left of 20 calls, and at where the black line leaves the dotted one.*
#
# A method of **order** $p$ has an error that falls as $\text{calls}^{-p}$. Measured in float64 against (3), the slopes
# are 0.97 for DDIM, 2.09 for Heun, 2.07 for 2M and 3.04 for UniPC.
#
# Two more things are in the right picture. **Order is a promise about many calls.** With 5 and 10 the lines cross, and
# 2M is worse with 10 than with 5. And **there is a floor**. The grid runs from $\sigma = 157$ to 0.01; the last step,
# from there to clean data, is Euler's in every solver, and its error does not depend on how many steps came before:
#
# $$ d - \frac{d^2}{\sqrt{d^2+\sigma_0^2}} \approx \frac{\sigma_0^2}{2d} \tag{4} $$
#
# for each standard deviation that a point is away from the mean. It is $10^{-4}$ here: nobody will see it, but a test
# that forgets it will "find" that UniPC does not converge.
#
# ## 3. From scratch: the part that is known, exactly
#
# Euler treats (2) as if nothing were known about it. But we know that $\hat\epsilon = (X - \hat x_0)/\sigma$. The first
# half of that is linear and can be solved once and for all. Divide $X$ by $\sigma$ and the linear part is gone:
#
# $$\frac{d}{d\sigma}\frac{X}{\sigma} = -\frac{\hat x_0}{\sigma^2}
# \quad\Longrightarrow\quad
# X_s = \frac{\sigma_s}{\sigma_t} X_t + \sigma_s \int_{\lambda_t}^{\lambda_s} e^{\lambda}\, \hat x_0(\lambda)\, d\lambda . \tag{5}$$
#
# Nothing has been approximated yet. This form is called an exponential integrator, and only the guess of the picture is
# left to approximate. If it stays as it is during the step, the second term is
# $\sigma_s (1/\sigma_s - 1/\sigma_t)\,\hat x_0$, so
#
# $$X_s = \frac{\sigma_s}{\sigma_t} X_t + \Big(1-\frac{\sigma_s}{\sigma_t}\Big) D, \qquad D = \hat x_0 : \tag{6}$$
#
# DDIM once more. **DDIM would be exact if the network's guess did not change during the step.** Of course it changes,
# and we have seen how: we remember the last guess. DPM-Solver++ 2M (Lu et al., 2022) draws a line in $\lambda$ through
# the last two guesses and takes its value in the middle of the coming step. If the last step had the width $h'$ and the
# coming one $h$,
#
# $$D = \hat x_0 + \frac{h}{2h'}\big(\hat x_0 - \hat x_0'\big). \tag{7}$$
#
# The "2M" is for second order, multistep: the second look is one that was paid for already.


# %%
def dpm_solver_2m(denoiser, schedule, grid, x, end=0.0):
    """x_T (B, C, H, W) -> x0 by equations (6) and (7); `end` is the sigma that stands for clean data."""
    X, before, h_before = x / math.sqrt(schedule.abar_at(grid[0].t)), None, None
    for step in grid:
        sigma_t, sigma_s = schedule.sigma_at(step.t), schedule.sigma_at(step.s) or end
        D = now = denoiser(math.sqrt(schedule.abar_at(step.t)) * X, step.t).x0
        h = math.log(sigma_t / sigma_s) if sigma_s else math.inf
        if before is not None and sigma_s:  # an infinite step cannot be extrapolated
            D = now + h / (2 * h_before) * (now - before)
        X = sigma_s / sigma_t * X + (1 - sigma_s / sigma_t) * D
        before, h_before = now, h
    return X


for spacing in SPACINGS:
    for denoiser, z in ((ideal, starts), (cat.denoiser, code[:1].double())):
        grid = step_grid(LINEAR, 8, spacing=spacing)
        ours = dpm_solver_2m(denoiser, LINEAR, grid, z[:, 0])
        assert torch.allclose(ours, decode_code(denoiser, DPMSolver2M(LINEAR), grid, z), rtol=0, atol=1e-5)
print("Our 2M and minidiff's agree, for the exact denoiser and for a network.")

# %% [markdown]
# `DPMSolver2M` is the same formula written as "DDIM's step with a better $\hat x_0$". From here on you may use it.
#
# The other two in one sentence each. **Heun** steps to $X_s$ with Euler, looks again there, and repeats the step with
# the mean of both slopes. **UniPC** (Zhao et al., 2023) steps like 2M; when it looks at the place where it landed, it
# first uses that look to take the finished step once more, now knowing both its ends, and goes on from there. No call
# is added, and the order rises to three.
#
# ## 4. Calls are the currency
#
# "Twenty steps" says nothing until you know the solver. Count the network's calls instead: everything else that a
# sampler does is a few additions.

# %%
asked = []
hook = cat.denoiser.net.register_forward_hook(lambda net, inputs, output: asked.append(len(inputs[0])))
for name in SAMPLERS:
    model = cat.replace(sampler=name, steps=4)
    model.decode_latents(model.random_code(1))
    print(f"{name:16} 4 steps, {len(asked)} calls" + (", draws noise" if model.eta else ""))
    assert len(asked) == model.calls == (7 if "heun" in name else 4)
    asked.clear()
hook.remove()

# %% [markdown]
# Heun pays twice for each step but the last. In the first figure it had to make do with 3 steps where the others had 5.
#
# ## 5. Where the steps go
#
# Three spacings are in the package; a fourth, "leading", was the first of all and is still the default of many
# programs. (It counts up from $t = 0$ in equal strides and begins wherever that ends.)


# %%
def leading(steps, T=1000):
    levels = [k * (T // steps) for k in reversed(range(steps))]
    return tuple(Step(t, s) for t, s in zip(levels, [*levels[1:], -1]))


def moments(denoiser, sampler, grid):
    """Exact mean and std of the samples: with Gaussian data a chain is affine, and unit codes tell all of it."""
    blocks = count_blocks(sampler, grid)
    units = torch.cat([torch.zeros(1, blocks), torch.eye(blocks)]).double()
    if blocks > 1:
        units[-1] = 0  # the last step draws no noise
    x0 = decode_code(denoiser, sampler, grid, units.view(-1, blocks, 1, 1, 1)).flatten()
    return x0[0].item(), (x0[1:] - x0[0]).square().sum().sqrt().item()


spaced = {"leading": leading(10)} | {
    name: step_grid(LINEAR, 10, spacing=name) for name in ("uniform", "trailing", "karras")
}
fig, ax = plot.figure(8, 2.2)
for k, (name, grid) in enumerate(spaced.items()):
    ax.plot([LINEAR.sigma_at(step.t) for step in grid], [name] * 10, **plot.style(k) | {"linestyle": ""})
ax.axvline(SD, color=plot.COLOURS[4], linewidth=1)
ax.set(xscale="log", xlabel="sigma at which the network is asked", xlim=(300, 0.006), ylim=(3.5, -0.5))
alt = "Ten levels on a log axis. Leading starts late; leading and uniform jump at the end; trailing stops at 0.34; Karras is even."
plot.show(fig, alt=alt)

spread = {}
for spacing, grid in spaced.items():
    spread[spacing] = {name: moments(ideal, sampler, grid)[1] for name, sampler in methods.items()}
    print(
        f"{spacing:9} std of the samples (data {SD}):  " + "  ".join(f"{n} {v:.3f}" for n, v in spread[spacing].items())
    )
assert spread["uniform"]["2M"] > 0.65 and spread["leading"]["2M"] > 0.65  # too much
assert spread["trailing"]["2M"] < 0.42 and abs(spread["karras"]["2M"] - SD) < 0.06  # too little, and nearly right
wide, even = (
    [math.log(LINEAR.sigma_at(step.t) / LINEAR.sigma_at(step.s)) for step in spaced[name][:-1]]
    for name in ("uniform", "karras")
)
print("widths h, uniform:", [round(h, 2) for h in wide], " karras:", [round(h, 2) for h in even])
outside = moments(ideal, Heun(LINEAR), step_grid(LINEAR, 3, spacing="uniform"))[1]
print(f"Heun with 3 uniform steps, 5 calls: std {outside:.2f}")
assert wide[-1] > 4 * wide[-2] and all(a < b < 4 / 3 * a for a, b in zip(even, even[1:])) and outside > 4 * SD

# %% [markdown]
# *The vertical line is the size of the data, $d$, where the paths bend. Look at how many dots each spacing has to the
# right of it, and at how wide its last gap is.*
#
# - **Uniform** ends at $t = 0$, at $\sigma = 0.01$. The last call is wasted. The gap before it is worse: with
#   a width of 3.6 after one of 0.8, equation (7) extends its line far beyond what two guesses can tell. The spread is
#   0.69 instead of 0.5. The same gap blew up Heun in section 1: it takes the mean of the slopes at both ends, and at the
#   clean end the slope is nearly 0, so it goes half of the way and stays outside, with a spread of 2.5.
# - **Trailing** takes equal strides and lands with the last one on clean data. Every call does the same share of the
#   work, and no extrapolation is long. But the last stride is a long one, from $\sigma = 0.34$, and all variety below
#   that is lost: 0.40.
# - **Karras** spaces $\sigma^{1/7}$ evenly: each step is at most a third wider in $\lambda$ than the one before, and
#   there are dots on both sides of the bend. Its levels lie between whole $t$; the network takes fractions. It suits
#   schedules whose $\sigma$ ends at about 100. Cosine's ends at 20,000, and more than half of 20 steps would walk
#   through pure noise.
#
# Both ends of a grid deserve a check. **The start**: the first level must be one where nothing of the picture is left,
# since we start from pure noise. "Leading" with 10 steps starts at $t = 900$; with the schedule of Stable Diffusion the
# noisy data there still have 12 % of their amplitude. Even at its last level that schedule keeps 6.8 %. The ODE forgets
# nothing (lesson 4, section 5), so however many steps you take, the mean of the samples is off by 6.8 % of the data's
# mean, shrunk by $d$: 1.93 instead of 2 (Lin et al., 2024). With 10 steps it is 1.95, and 1.90 if they lead.

# %%
SD_LIKE = sqrt_linear()
its_ideal, ode = IdealDenoiser(SD_LIKE, torch.full((1, 1, 1), MU), SD), Euler(SD_LIKE)
starting = {"leading, 10": leading(10), "trailing, 10": step_grid(1000, 10), "trailing, 1000": step_grid(1000, 1000)}
means = {name: moments(its_ideal, ode, grid)[0] for name, grid in starting.items()}
amplitude = math.sqrt(SD_LIKE.abar_at(999))
predicted = MU - amplitude * MU * SD / math.hypot(amplitude * SD, math.sqrt(1 - amplitude**2))  # by equation (3)
print({name: round(mean, 3) for name, mean in means.items()}, f"predicted for many steps: {predicted:.3f}, data: {MU}")
assert abs(means["trailing, 1000"] - predicted) < 1e-3 and means["leading, 10"] < means["trailing, 10"] - 0.03
assert abs(math.sqrt(SD_LIKE.abar_at(900)) - 0.12) < 0.005 and abs(amplitude - 0.068) < 0.001
assert sum(cosine().sigma_at(step.t) > 100 for step in step_grid(cosine(), 20, spacing="karras")) == 12

# %% [markdown]
# **The end**: the last level must be clean data, not a level that is nearly clean; section 1 has the picture.
#
# Now the network. Cats are no Gaussian, so measure again: how far from the limit are the four cats of the first figure?

# %%
away = {(name, "trailing"): off[name][:3] for name in ("2M", "UniPC")}
for spacing in ("uniform", "karras"):
    for name in ("2M", "UniPC"):
        models = [solver(SOLVERS[name], calls, spacing) for calls in BUDGETS[:3]]
        away[name, spacing] = [rms(model.decode_latents(code) - limit) for model in models]
lines = {", ".join(which): row for which, row in away.items()}
alt = "Distance to the limit over calls. Trailing is nearest at 5 and 10 calls, Karras at 20, uniform never."
plot.curves(lines, x=BUDGETS[:3], logy=True, xlabel="calls", ylabel="RMS distance to the limit", alt=alt)
for name, row in lines.items():
    print(f"{name:16}" + "".join(f"{value:8.3f}" for value in row))
assert away["UniPC", "trailing"][0] < 0.7 * away["UniPC", "karras"][0]  # 5 calls
assert away["UniPC", "karras"][2] < 0.8 * away["UniPC", "trailing"][2]  # 20 calls
assert all(a < b for name in ("2M", "UniPC") for a, b in zip(away[name, "trailing"], away[name, "uniform"]))

# %% [markdown]
# *Look for the crossing of trailing and Karras.*
#
# TODO(model): five calls: 0.15 trailing, 0.35 Karras. Twenty: 0.036 and 0.018. With few calls Karras' steps are so wide
# that its extrapolation overshoots; with twenty it spends them where the bend is. Uniform is never the best.
#
# ## 6. What fresh noise is good for
#
# With $\eta > 0$ each step removes more noise than it has to and puts fresh noise in. Why would one? Push a state
# aside: add $\delta$ to $X$ at the level $\sigma$, a mistake of the network for example. What is left of it in the
# picture? By equation (3) the ODE only shrinks it with everything else. At $\eta = 1$ many pictures can follow, drawn
# from the true posterior; their average is the best guess $\hat x_0$, and that moves less:
#
# $$\eta = 0:\ \ \delta\,\frac{d}{\sqrt{d^2+\sigma^2}}, \qquad \eta = 1:\ \ \delta\,\frac{d^2}{d^2+\sigma^2}. \tag{8}$$
#
# The second is the square of the first. What the ODE keeps a tenth of, noise leaves a hundredth of.

# %%
for t in (799, 499, 299, 99):
    sigma, kept = LINEAR.sigma_at(t), []
    grid = step_grid(1000, 1000)[999 - t :]  # from t down, one level at a time
    for eta in (0.0, 1.0):
        sampler = DDIM(LINEAR, eta)
        pushed = torch.zeros(2, count_blocks(sampler, grid), 1, 1, 1, dtype=torch.float64)
        pushed[1, 0] = signal(t)  # X + 1
        one, other = decode_code(ideal, sampler, grid, pushed).flatten().tolist()
        kept.append(other - one)
    shrink = SD / math.hypot(SD, sigma)
    print(
        f"sigma {sigma:5.2f}: of 1 are left {kept[0]:.4f} at eta 0 ({shrink:.4f}), {kept[1]:.5f} at eta 1 ({shrink**2:.5f})"
    )
    assert abs(kept[0] / shrink - 1) < 0.01 and abs(kept[1] - shrink**2) < 1e-9

# %% [markdown]
# So noise helps against **early** mistakes. Now a denoiser that is deliberately wrong: it takes the mean of the data
# for 3 instead of 2, either in the noisy half of all levels or in the last 50. And noise has a price: more of the path
# has to be walked anew at each step, and wide steps do that badly.


# %%
deluded = IdealDenoiser(LINEAR, torch.full((1, 1, 1), MU + 1), SD)


def mistaken(levels):
    return lambda x, t: (deluded if t in levels else ideal)(x, t)


misled, etas, grid50 = {}, [0.0, 0.25, 0.5, 0.75, 1.0], step_grid(LINEAR, 50)
for when, levels in {"wrong above t = 500": range(500, 1000), "wrong below t = 50": range(50)}.items():
    misled[when] = [moments(mistaken(levels), DDIM(LINEAR, eta), grid50)[0] - MU for eta in etas]
few = [3, 5, 10, 20, 50, 100]
narrow = {
    f"DDIM, eta {eta:g}": [moments(ideal, DDIM(LINEAR, eta), step_grid(LINEAR, n))[1] for n in few]
    for eta in (0.0, 0.5, 1.0)
}
narrow["2M, eta 1"] = [moments(ideal, DPMSolver2M(LINEAR, 1.0), step_grid(LINEAR, n))[1] for n in few]

fig, axes = plot.figure(9, 3, ncols=2)
for ax, x, lines in ((axes[0], etas, misled), (axes[1], few, narrow)):
    for k, (name, row) in enumerate(lines.items()):
        ax.plot(x, row, label=name, **plot.style(k))
    ax.legend(frameon=False, fontsize="small")
axes[1].axhline(SD, color=plot.COLOURS[4], linewidth=1)
axes[0].set(xlabel="eta", ylabel="error of the mean", ylim=(0, None))
axes[1].set(xlabel="calls", ylabel="std of the samples", xscale="log")
alt = "Left: an early mistake fades as eta grows, a late one grows. Right: at few calls eta 1 has less spread than eta 0; 2M repairs it."
plot.show(fig, alt=alt)
early, late = misled.values()
print(f"early mistake: {early[0]:.3f} at eta 0, {early[-1]:.3f} at eta 1; late mistake: {late[0]:.3f}, {late[-1]:.3f}")
assert early == sorted(early, reverse=True) and early[-1] < 0.2 * early[0]
assert late == sorted(late) and late[-1] > 1.3 * late[0]
assert all(ode > sde for ode, sde in zip(narrow["DDIM, eta 0"][1:], narrow["DDIM, eta 1"][1:]))
assert abs(narrow["2M, eta 1"][3] - SD) < 0.2 * abs(narrow["DDIM, eta 1"][3] - SD)

# %% [markdown]
# *Left: two mistakes of equal size, with opposite fates. Right: how many calls each needs to reach the line at 0.5.*
#
# An early mistake of 1 leaves 0.13 in the mean at $\eta = 0$ and 0.02 at $\eta = 1$. A late one is not forgotten by
# anybody, and fresh noise makes it worse (0.05 becomes 0.07): whoever forgets the past believes the last thing heard.
# And with 10 calls the spread is 0.37 at $\eta = 0$ but 0.33 at $\eta = 1$. 2M's extrapolation works with noise as
# well, and then 20 calls give 0.49.
#
# So: few calls, no noise. Many calls and a network that errs at high noise, some noise (Xu et al., 2023, make a method
# of it). And lesson 9 needs noise for a reason of its own.
#
# ## 7. Time to equal quality
#
# The limit of the ODE is not the goal, good cats are. Compare crowds: 96 samples with 400 cats that no model ever saw,
# by the **Frechet distance** between two Gaussians that are fitted to the probe's 64 features (Heusel et al., 2017).
# First let it compare cats with cats. The truth is 0.

# %%
probe, world, SAMPLES = minidiff.load("critters-probe"), Critters("cat", seed=2), 96
features = read_all(probe, torch.cat([world[k : k + 200] for k in range(0, 800, 200)]))["features"]
crowd, others = features[:400], features[400:]
bias = {}
for n in (32, 96, 400):
    parts = others[: 400 // n * n].split(n)
    bias[n] = sum(frechet_distance(part, crowd) for part in parts) / len(parts)
through = cat.to_images(cat.to_latents(world[400 : 400 + SAMPLES]))
redrawn = frechet_distance(read_all(probe, through)["features"], crowd)
print("held-out cats to held-out cats:", {n: round(value, 1) for n, value in bias.items()}, "for so many pictures")
print(f"the same cats through the autoencoder and back: {redrawn:.1f} for {SAMPLES}")
assert bias[32] > 1.5 * bias[96] > 2 * bias[400] > 0 and redrawn < 3 * bias[96]

# %% [markdown]
# The distance is never negative, so chance can only push it up. TODO(model): 56 for 32 pictures, 21 for 96, 7 for 400,
# roughly as one over the number. **A Frechet distance without its number of pictures means nothing**, and two are
# comparable only for equal numbers (Chong and Forsyth, 2020). Published ones use 50,000. Ours use 96, so that you need
# not wait; 21 is our zero.

# %%
runs = {"DDIM, eta 1": ["ddpm"], "DDIM": ["euler"], "UniPC": ["unipc"], "UniPC, karras": ["unipc", "karras"]}
quality = {label: [] for label in runs}
for label, (name, *spacing) in runs.items():
    for calls in BUDGETS[:3]:
        begin = time.perf_counter()
        pictures = solver(name, calls, *spacing).sample(SAMPLES, seeds=1000)
        seconds = time.perf_counter() - begin
        quality[label].append(frechet_distance(read_all(probe, pictures)["features"], crowd))
        print(f"{label:14} {calls:2} calls: {seconds:4.1f} s, Frechet distance {quality[label][-1]:.0f}")
alt = "Frechet distance over calls: eta 1 is worst at 5 calls, UniPC with Karras best there; all come near each other at 20."
plot.curves(quality, x=BUDGETS[:3], xlabel="calls", ylabel="Frechet distance, 96 samples", alt=alt)
good = 1.15 * min(map(min, quality.values()))
reach = {label: next((n for n, q in zip(BUDGETS, row) if q <= good), None) for label, row in quality.items()}
print(f"calls to come within 15 % of the best ({good:.0f}):", reach)
noisy, crisp = quality["DDIM, eta 1"], quality["UniPC, karras"]
assert noisy[0] > 1.2 * crisp[0] and noisy[0] > noisy[2] and min(map(min, quality.values())) > bias[96]
# TODO(model): assert reach["UniPC, karras"] == 5 and reach["DDIM, eta 1"] == 20

# %% [markdown]
# *Look at the left edge first, then at how little is left to choose at the right one.*
#
# TODO(model): all numbers of this section. At five calls the choice matters: 181 with fresh noise, 137 with DDIM, 148
# with UniPC on trailing steps, 106 with UniPC on Karras' steps. At twenty all lie between 96 and 105. To come near the
# best (within 15 %) takes UniPC 5 calls with Karras' spacing; DDIM and UniPC on trailing steps need 10, and $\eta = 1$
# needs 20. The seconds beside them are the time to equal quality.
#
# Section 5 found trailing *better* than Karras at five calls; here it is worse. Both are right. Trailing ends near the
# cat that many calls would give, but pale, for want of its last details. Karras lands at another cat, with all its
# contrast. And the crowd does not reward UniPC for being nearer to the limit than DDIM. If you need *the* picture of a
# code (lessons 8 to 10), ask for nearness; if any good picture will do, ask the crowd.
#
# No solver gets below 96, though cats that only went through the autoencoder have 18. The rest is the network's own
# error. More calls do not remove it; training does.
#
# ## 8. Many pictures at once
#
# The calls of one picture must follow each other. Those of different pictures need not: put them into one batch.


# %%
def speed(batch, repeats=3):
    """Denoised items a second."""
    x = torch.randn(batch, *cat.latent_shape, generator=torch.Generator().manual_seed(0)).to(cat.device)
    cat.denoiser(x, 500)  # to warm up
    begin = time.perf_counter()
    for _ in range(repeats):
        seen = cat.denoiser(x, 500)
    seen.x0.sum().item()  # waits for the device
    return repeats * batch / (time.perf_counter() - begin)


cores = torch.get_num_threads()
for threads in sorted({1, cores}):
    torch.set_num_threads(threads)
    rates = {f"batch {batch}": round(speed(batch)) for batch in (1, 8, 64)}
    print(f"{threads} thread(s), denoised items per second: {rates}")
torch.set_num_threads(cores)

quick = solver("unipc", 5)
together, apart = quick.sample(4, seeds=50), torch.cat([quick.sample(2, seeds=50), quick.sample(2, seeds=[52, 53])])
print(f"four at once, or two and two: largest difference {(together - apart).abs().max():.0e}")
assert torch.allclose(together, apart, atol=1e-3)

# %% [markdown]
# Where this was written, one core does three to four times as many items a second in batches of 64 as one by one. The
# rate depends on the machine, so nothing asserts it. What is asserted is that it makes no difference *which* pictures
# share a batch: picture $i$ depends on seed $i$ alone. So you can give half of the seeds to another process, or another
# machine, and lay the results side by side.
#
# **On a GPU** nothing in this lesson changes but the clock. The code of a seed is the same, because it is counted and
# not drawn from the device's generator. The grid, the widths and the factors of a step are Python floats, made on the
# CPU in float64. Calls are still the currency. What changes is the price: with a network as small as this a GPU takes
# about as long for one item as for many, because it is busy with starting work rather than with doing it. So the number
# of calls decides how long you wait, and the batch how much you get. The cell below runs where there is one.

# %%
if torch.cuda.is_available():
    on_cpu = quick.decode(code)
    cat.to("cuda")
    same = quick.random_code(4, seeds=11)
    assert same.is_cuda and torch.allclose(same.cpu(), code, atol=1e-5)
    assert psnr(quick.decode(same).cpu(), on_cpu).min() > 30
    print({f"batch {batch}": f"{speed(batch, repeats=20):.0f} items/s" for batch in (1, 64, 1024)})
    cat.to("cpu")
else:
    print("No CUDA device here.")

# %% [markdown]
# ## 9. Which solvers can be undone?
#
# CycleDiffusion needs the code of a *given* picture (lessons 9 and 10). Try to encode and decode two cats with every
# sampler of the package.

# %%
latents, trips = cat.to_latents(world[:2]).double(), {}
for name in SAMPLERS:
    model = cat.replace(sampler=name, steps=10)
    try:
        trips[name] = rms(model.decode_latents(model.encode_latents(latents)) - latents)
    except ValueError as why:
        trips[name] = None
        refused = why
grid = step_grid(LINEAR, 10)
for name, encode, decode in (("EDICT", edict_encode, edict_decode), ("O-BELM", belm_encode, belm_decode)):
    z = encode(cat.denoiser, LINEAR, grid, latents)
    trips[name] = rms(decode(cat.denoiser, LINEAR, grid, z) - latents)
for name, error in trips.items():
    print(f"{name:16}", "refused" if error is None else f"round trip error {error:.0e}")
print("for example:", refused)
drawing = {name for name in SAMPLERS if SAMPLERS[name](LINEAR).eta > 0}
assert drawing == {"ddim", "ddpm", "euler_ancestral", "dpm++2m_sde"} and max(trips[name] for name in drawing) < 1e-10
assert trips["euler"] > 0.01 and max(trips["EDICT"], trips["O-BELM"]) < 1e-6
assert {name for name, error in trips.items() if error is None} == {"heun", "flow_heun", "dpm++2m", "unipc"}

# %% [markdown]
# - **Solvers that draw noise** are undone exactly by DPM-Encoder, whatever their order: each step is solved for its
#   noise. 2M with $\eta = 1$ needs fewer calls than DDPM *and* has exact codes.
# - **DDIM** at $\eta = 0$ is undone approximately, and with ten steps badly; the error shrinks with the steps (lesson
#   9).
# - **Heun, 2M and UniPC** at $\eta = 0$ are refused. What such a step believes depends on looks that lie in the unknown
#   part of the path.
# - **EDICT** (Wallace et al., 2023) and **O-BELM** (Wang et al., 2024) are deterministic and exact: they carry two
#   states, and each line changes one with the help of the other, so every line can be solved for what it changed. EDICT
#   pays with two calls a step; O-BELM takes one and has second order.
#
# ## 10. Choose for yourself
#
# Four cats, one code each. Find the smallest number of calls that you would accept from each solver. The row below the
# controls is what you chose, the last row the limit.

# %%
method = widgets.Dropdown(options=SOLVERS, value="euler", description="solver")
place = widgets.Dropdown(options=SPACINGS, value="trailing", description="spacing")
count = widgets.IntSlider(value=3, min=1, max=30, description="calls", continuous_update=False)
canvas, goal = widgets.HTML(), cat.to_images(limit)


def redraw(change=None):
    with torch.inference_mode():
        model = solver(method.value, count.value, place.value)
        latents = model.decode_latents(code)
        alt = f"Four cats by {method.label} with {model.calls} calls on {place.value} steps, and the same four at the limit."
        picture = plot.grid([model.to_images(latents), goal], row_labels=["yours", "limit"], alt=alt, display=False)
        canvas.value = f"{picture.html}<p>{model.calls} calls, {rms(latents - limit):.3f} from the limit</p>"


for control in (method, place, count):
    control.observe(redraw, names="value")
redraw()
first, method.value, count.value = canvas.value, "unipc", 8  # what your hand does
assert canvas.value != first and "UniPC with 8 calls" in canvas.value
widgets.VBox([widgets.HBox([method, place]), count, canvas])

# %% jupyter={"source_hidden": true} tags=["hide-input"]
chosen, rows = (1, 2, 3, 4, 6, 8, 12), {}
for spacing in ("trailing", "karras"):
    rows[spacing] = [solver("unipc", calls, spacing).decode_latents(code[1:2]) for calls in chosen]
alt = "One cat by UniPC at 1 to 12 calls. Trailing: a blur, and from two calls on the cat. Karras: a blur twice, then garish, then the cat."
pictures, columns = [cat.to_images(torch.cat(row)) for row in rows.values()], [f"calls: {calls}" for calls in chosen]
plot.grid(pictures, row_labels=list(rows), column_labels=columns, alt=alt)
assert rms(rows["trailing"][0] - rows["karras"][0]) < 1e-5  # one call is one call
assert rms(rows["karras"][1] - rows["karras"][0]) < 0.1 < rms(rows["trailing"][1] - rows["trailing"][0])

# %% [markdown]
# *A static copy: UniPC, from one call on. Look at the first two columns. One call returns the average cat, whatever the
# code. With Karras' spacing two calls do the same: the second one is made at $t = 0$, where there is nothing left to
# decide.*
#
# ## 11. What would you see if ...
#
# Four cats, ten calls, seven samplers. **A** is right. Each of the others has one fault that real programs have had:
#
# the guess clipped to $[-1, 1]$, as is right for pixels · fresh noise left out at $\eta = 1$ · 2M extrapolating into
# the last step, to a $\sigma$ of 0.001 for clean data · Heun's second look told the old level · the network shown $X$
# instead of $x_t$ · the network told a rounded $t$ on Karras levels.


# %% jupyter={"source_hidden": true} tags=["hide-input"]
net, ten = cat.denoiser.net, step_grid(LINEAR, 10)


def shown(picture, t, level):
    """What a network says that is shown `picture` at level t, as if it had seen the state x at `level`."""
    return lambda x: to_prediction("v", x, net(picture(x), torch.full((len(x),), float(t))), *LINEAR.levels(level, x))


def clipped(x, t):
    return to_prediction("x0", x, cat.denoiser(x, t).x0.clamp(-1, 1), *LINEAR.levels(t, x))


def unscaled(x, t):
    return shown(lambda x: x / signal(t), t, t)(x)


def rounded(x, t):
    return shown(lambda x: x, round(t), t)(x)


class OldLevel(Heun):
    def look(self, denoiser, x_t, step, seen=None):
        told = [step.t, step.t]
        return super().look(lambda x, t: shown(lambda x: x, told.pop(), t)(x), x_t, step)


silent = torch.cat([code, torch.zeros(4, 10, *cat.latent_shape)], dim=1)
made = {
    "A": solver("unipc", 10).decode_latents(code),
    "B": decode_code(cat.denoiser, DDIM(LINEAR, 1.0), ten, silent),
    "C": decode_code(unscaled, UniPC(LINEAR), ten, code),
    "D": decode_code(rounded, UniPC(LINEAR), step_grid(LINEAR, 10, spacing="karras"), code),
    "E": dpm_solver_2m(cat.denoiser, LINEAR, ten, code[:, 0], end=0.001),
    "F": decode_code(clipped, UniPC(LINEAR), ten, code),
    "G": decode_code(cat.denoiser, OldLevel(LINEAR), step_grid(LINEAR, 5), code),
}
gallery = {letter: cat.to_images(latents) for letter, latents in made.items()}
alt = "Seven rows of four cats: A right, D much like it, B four pale ones, C with strange markings, F grey, E and G glaring."
plot.grid(list(gallery.values()), row_labels=list(gallery), scale=1.4, alt=alt)
near = {letter: round(psnr(gallery[letter], gallery["A"]).mean().item(), 1) for letter in "BCDEFG"}
size = {letter: round(rms(latents) / rms(limit), 2) for letter, latents in made.items()}
print("dB to row A:", near, " size of the latents against the limit's:", size)

told_exactly = psnr(gallery["D"], solver("unipc", 10, "karras").decode(code)).mean()
print(f"D to the same steps with exact t: {told_exactly:.1f} dB")
assert near["D"] == max(near.values()) and told_exactly > 30
assert max(size["B"], size["F"]) < 0.85 < size["A"] < min(size["E"], size["G"]) - 0.04

# %% [markdown]
# ```{dropdown} Answers
# - **B**, fresh noise left out. With $\eta = 1$ each step removes more noise than it should, and waits for the new.
#   Without it the state is too clean for its level, the network takes the rest for noise, and all cats sink towards the
#   average one.
# - **C**, the network is shown $X$. At the noisy end the numbers are up to 157 times too large. Most networks would
#   return rubbish; this one normalises its features, so cats survive, with markings that the code never asked for.
# - **D**, a rounded $t$. You cannot see it, and some programs do it on purpose. (D differs from A because Karras' steps
#   do.)
# - **E**, 2M extrapolates into the last step. Its width to $\sigma = 0.001$ is 5.8, after one of 0.7, so the last
#   change of the guess is repeated four times over: too crisp, with halos. Programs call the cure "lower order final".
# - **F**, the guess clipped. Pixels end at $\pm 1$, latents do not. A third of their size is cut away, and all colours
#   with it.
# - **G**, the old level. The second slope belongs to another state, so the step goes too far: garish, like too few
#   steps.
# ```
#
# ## Summary
#
# 1. DDIM without noise is Euler's method for $dX/d\sigma = \hat\epsilon$. Far from the data the path is straight; it
#    bends where the noise is as large as the data, and there the looks are needed.
# 2. Solve the linear part exactly and extrapolate only the guess: that is 2M, second order for one call a step. UniPC
#    adds a correction that costs nothing and has third order. Count calls, not steps.
# 3. The grid matters as much as the method: start where nothing is left of the picture, end at clean data, change the
#    width slowly.
# 4. Fresh noise squares the factor by which early mistakes fade. It makes late ones worse, and it needs more calls.
# 5. How few will do depends on what for. TODO(model): five, with UniPC and Karras' spacing, for good cats; ten, with
#    UniPC and trailing steps, to be near the cat of a code. Beyond twenty only a better network helps.
#
# | here | in Hugging Face diffusers |
# |---|---|
# | `"euler"`, or `"ddim"` with `eta=0` | `EulerDiscreteScheduler`, `DDIMScheduler` |
# | `"ddpm"`, `"euler_ancestral"` | `DDPMScheduler`, `EulerAncestralDiscreteScheduler` |
# | `"heun"` | `HeunDiscreteScheduler` |
# | `"dpm++2m"` | `DPMSolverMultistepScheduler(algorithm_type="dpmsolver++")` |
# | `"dpm++2m_sde"` | `DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++")` |
# | `"unipc"` | `UniPCMultistepScheduler` |
# | Euler and `"flow_heun"` on `straight()` | `FlowMatchEulerDiscreteScheduler`, `FlowMatchHeunDiscreteScheduler` |
# | `spacing="trailing"`, `"uniform"`, `"karras"` | `timestep_spacing="trailing"`, `"linspace"`, `use_karras_sigmas=True` |
# | not here | `timestep_spacing="leading"`, the default of `DDIMScheduler` and `DDPMScheduler` |
#
# ## Open questions
#
# 1. `moments` gives the exact error of any grid without a single sample. Which ten levels are the best for DDIM, which
#    for 2M? How far from Karras' are they?
# 2. The bend of (3) sits at $\sigma = d$. Cats have coarse features of large variance and fine ones of small. Where do
#    you expect the bends of a picture, and what follows for the order in which things are settled (lesson 4)?
# 3. The calls of one picture must follow each other, or so it seems. Guess the whole path, improve all of its points in
#    one batch, and repeat (Shih et al., 2023). When is that faster?
# 4. All solvers ask a network that was trained for single levels. What would you train if you wanted one call to do?
#    (Salimans and Ho, 2022; Song et al., 2023.)
#
# ## References
#
# - J. Song, C. Meng, S. Ermon. *Denoising Diffusion Implicit Models.* ICLR 2021. arXiv:2010.02502.
# - Y. Song, J. Sohl-Dickstein, D. P. Kingma, A. Kumar, S. Ermon, B. Poole. *Score-Based Generative Modeling through
#   Stochastic Differential Equations.* ICLR 2021. arXiv:2011.13456.
# - T. Karras, M. Aittala, T. Aila, S. Laine. *Elucidating the Design Space of Diffusion-Based Generative Models.*
#   NeurIPS 2022. arXiv:2206.00364.
# - C. Lu, Y. Zhou, F. Bao, J. Chen, C. Li, J. Zhu. *DPM-Solver++: Fast Solver for Guided Sampling of Diffusion
#   Probabilistic Models.* 2022. arXiv:2211.01095.
# - W. Zhao, L. Bai, Y. Rao, J. Zhou, J. Lu. *UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of
#   Diffusion Models.* NeurIPS 2023. arXiv:2302.04867.
# - S. Lin, B. Liu, J. Li, X. Yang. *Common Diffusion Noise Schedules and Sample Steps Are Flawed.* WACV 2024.
#   arXiv:2305.08891.
# - Y. Xu, M. Deng, X. Cheng, Y. Tian, Z. Liu, T. Jaakkola. *Restart Sampling for Improving Generative Processes.*
#   NeurIPS 2023. arXiv:2306.14878.
# - M. Heusel, H. Ramsauer, T. Unterthiner, B. Nessler, S. Hochreiter. *GANs Trained by a Two Time-Scale Update Rule
#   Converge to a Local Nash Equilibrium.* NeurIPS 2017. arXiv:1706.08500.
# - M. J. Chong, D. Forsyth. *Effectively Unbiased FID and Inception Score and Where to Find Them.* CVPR 2020.
#   arXiv:1911.07023.
# - C. H. Wu, F. De la Torre. *A latent space of stochastic diffusion models for zero-shot image editing and guidance.*
#   ICCV 2023; first as arXiv:2210.05559.
# - B. Wallace, A. Gokul, N. Naik. *EDICT: Exact Diffusion Inversion via Coupled Transformations.* CVPR 2023.
#   arXiv:2211.12446.
# - F. Wang, H. Yin, Y. Dong, H. Zhu, C. Zhang, H. Zhao, H. Qian, C. Li. *BELM: Bidirectional Explicit Linear Multi-step
#   Sampler for Exact Inversion in Diffusion Models.* NeurIPS 2024. arXiv:2410.07273.
# - T. Salimans, J. Ho. *Progressive Distillation for Fast Sampling of Diffusion Models.* ICLR 2022. arXiv:2202.00512.
# - Y. Song, P. Dhariwal, M. Chen, I. Sutskever. *Consistency Models.* ICML 2023. arXiv:2303.01469.
# - A. Shih, S. Belkhale, S. Ermon, D. Sadigh, N. Anari. *Parallel Sampling of Diffusion Models.* NeurIPS 2023.
#   arXiv:2305.16317.
#
# *This lesson is licensed under CC BY 4.0.*
