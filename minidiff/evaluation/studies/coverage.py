"""Rare groups and individuals: does a generator draw them as often as they are, can it be led to them, what does it miss?

Wu & De la Torre, "A latent space of stochastic diffusion models" (ICCV 2023), say that under the same guidance diffusion
models cover sub-populations and individuals of low density better than GANs do. Here the true rates are known. Rates are read
by the probe and corrected for its errors on true pictures (`minidiff.evaluation.prevalence`); chains are led by CLIP and by
the identity network, and judged by the probe and by pictures that led nobody.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from minidiff import energies, zoo
from minidiff.data.critters import RARE_RATES
from minidiff.evaluation import manifold, results
from minidiff.evaluation.intervals import Estimate, share
from minidiff.evaluation.prevalence import Count, corrected
from minidiff.evaluation.probes import read_all
from minidiff.evaluation.results import Row, Table
from minidiff.evaluation.studies import coverage_charts
from minidiff.evaluation.studies.compare import as_rows
from minidiff.evaluation.studies.individuals import Gallery, gallery, towards
from minidiff.evaluation.studies.marks import CROWD, Mark, Marks, crowd_marks
from minidiff.evaluation.studies.rare_world import GROUPS, Errors, RareWorld, errors_of, generators
from minidiff.evaluation.studies.report import Report
from minidiff.evaluation.studies.steered import best_of, looks, steered
from minidiff.generators import Generator
from minidiff.nets.probe import Probe
from minidiff.processes import bar

SAMPLES, TUNING, CHAINS = 30_000, 40_000, 50_000  # seeds of codes
FIRST = next(iter(GROUPS))
MODELS = ("critters-pixels", "critters-latents", "critters-gan", "critters-vae")
QUICK = {
    "n": 40, "judge": 60, "members": 20, "steps": 4, "chains": 4, "tuning": 2, "individuals": 6, "references": 2,
    "calls": 8, "more_calls": 16, "candidates": 1, "gradient_steps": 2, "copies": 0,
}  # fmt: skip


def study(
    models: Sequence[str] = MODELS,
    psis: Sequence[float] = (1.0, 0.7),
    n: int = 5000,
    judge: int = 10_000,
    members: int = 1000,
    steps: int = 20,
    chains: int = 40,
    individuals: int = 200,
    references: int = 4,
    calls: int = 150,
    more_calls: int = 1800,
    candidates: int = 10,
    patient: Sequence[str] = ("critters-latents",),
    gradient_steps: int = 5,
    step_sizes: Sequence[float] = (0.02, 0.05),
    person_step_sizes: Sequence[float] = (0.01, 0.02),
    last_person_step_size: float = 0.005,
    tuning: int = 12,
    clip_weight: float = 1000.0,
    identity_weight: float = 5000.0,
    copies: int = 2,
    rates: Mapping[str, float] = RARE_RATES,
    population: int | None = 2000,
    load: Callable = zoo.load,
) -> Report:
    """n plain samples of each model; `chains` led to each group and one to each of `individuals`, at `calls` network calls.

    The calls pay for the best of `candidates` to begin with and for Langevin's steps. A GAN is truncated by each of `psis`, and
    led as it is. `patient` models are led to the first group and to all individuals once more, at `more_calls` and as many more
    candidates: what is only slow is told from what cannot be reached.

    The probe's errors are counted on `judge` true pictures and `members` of each group. The models were trained on Critters
    of all species with groups at `rates` and `population` known individuals (None: a stranger in every picture). The size of
    Langevin's steps is each model's best on `tuning` other chains of a group, and individuals; towards an individual it falls
    to `last_person_step_size`, for the noise of the last steps is what is left of a chain that has arrived.
    """
    probe, clip, network = load("critters-probe"), load("critters-clip"), load("critters-identity")
    found = generators(models, psis, steps, load)
    there = {name: model for name, model in found.items() if model is not None}
    led = {name: model for name, model in there.items() if getattr(model, "psi", 1.0) == 1.0}
    for model in led.values():
        looks(model, min(calls, more_calls), gradient_steps, candidates)
    check_people(population, individuals, tuning)
    world = RareWorld(rates, population, next(iter(there.values())).image_shape[-1])
    true, factors = world.pictures(judge)
    read = read_all(probe, true)
    errors = errors_of(probe, world, read, factors, members)
    real = read["features"][:n]
    wishes = {group: energies.clip(clip, text, copies) * clip_weight for group, text in GROUPS.items()}
    cats = {group: world.members(group, max(members, 10), "cat") for group in GROUPS}
    crowds = {group: read_all(probe, images)["features"] for group, images in cats.items()}
    people, others = (
        gallery(network, probe, world, who, references)
        for who in (torch.arange(individuals), individuals + torch.arange(tuning))
    )
    budget = {"calls": calls, "gradient_steps": gradient_steps, "candidates": candidates}
    more = budget | {"calls": more_calls, "candidates": candidates * more_calls // calls}
    falling = {"last_step_size": last_person_step_size}

    report, shown = Report(), {}
    report.rows += truth_rows(world, errors, factors, true, people, crowds, read["features"], n)
    parts = len(there) + len(led) * (1 + len(GROUPS)) + 2 * len(led.keys() & set(patient))
    with bar(total=parts, desc="coverage", unit="part") as progress:
        for name, model in there.items():
            images = model.sample(n, SAMPLES).clamp(-1, 1).cpu()
            report.rows += plain_rows(name, read_all(probe, images), errors, real)
            shown[name] = [images[:4]]
            progress.update()
        for name, model in led.items():
            size = best_of(step_sizes, partial(group_worth, model, probe, wishes, tuning, budget))
            report.rows.append(results.row(f"guided/{name}/step_size", size, "", TUNING))
            for group in GROUPS:
                drawn, marks = to_group(model, probe, wishes[group], crowds[group], group, chains, budget, size)
                report.rows += as_rows(f"guided/{name}/{group}", marks, CHAINS)
                shown[name].append(drawn[:4])
                progress.update()
            if name in patient:
                _, marks = to_group(model, probe, wishes[FIRST], crowds[FIRST], FIRST, chains, more, size)
                report.rows += as_rows(f"guided/{name} at {more_calls} calls/{FIRST}", marks, CHAINS)
                progress.update()

            size = best_of(person_step_sizes, partial(person_worth, model, others, identity_weight, budget | falling))
            report.rows.append(results.row(f"individuals/{name}/step_size", size, "", TUNING))
            drawn, cost = to_people(model, people, identity_weight, budget | falling, size)
            report.rows += as_rows(f"individuals/{name}", people.marks(drawn) | cost, CHAINS)
            shown[name].append(drawn[:4])
            progress.update()
            if name in patient:
                drawn, cost = to_people(model, people, identity_weight, more | falling, size)
                report.rows += as_rows(f"individuals/{name} at {more_calls} calls", people.marks(drawn) | cost, CHAINS)
                progress.update()
    report.tables = tables(found, list(led), [f"{name} at {more_calls} calls" for name in led if name in patient])
    report.figures["rates"] = coverage_charts.rates(report.rows, list(there))
    report.figures["reach"] = coverage_charts.reach(report.rows, list(led))
    report.pictures["examples"] = coverage_charts.examples({name: shown[name] for name in led}, people)
    return report


def check_people(population: int | None, individuals: int, tuning: int) -> None:
    """Raise ValueError unless the population holds those to be reached and those to tune on, and enough to compare."""
    if individuals < 2 or tuning < 2:
        raise ValueError(f"individuals, tuning: expected at least 2 of each, got {individuals} and {tuning}")
    if population is not None and population < individuals + tuning:
        raise ValueError(f"population: expected at least {individuals} + {tuning} individuals, got {population}")


def plain_rows(name: str, read: dict[str, Tensor], errors: Errors, real: Tensor) -> list[Row]:
    """Rates of the groups as read and corrected; precision, recall, density, coverage and distances of plain samples."""
    rows = []
    for group in GROUPS:
        found = Count(int((read[group] == 1).sum()), len(read[group]))
        right = corrected(found, errors.caught[group], errors.spared[group])
        rows.append(results.row(f"rates/{name}/{group}", right, "share", SAMPLES))
        rows.append(results.row(f"rates/{name}/{group}_read", share(read[group] == 1), "share", SAMPLES))
    return rows + as_rows(f"crowd/{name}", crowd_of(read["features"], real), SAMPLES)


def crowd_of(drawn: Tensor, real: Tensor) -> Marks:
    """Where drawn features (M, D) lie among real ones (N, D)."""
    return {
        "precision": Mark(manifold.precision(real, drawn), "share"),
        "recall": Mark(manifold.recall(real, drawn), "share"),
        "density": Mark(manifold.density(real, drawn), ""),
        "coverage": Mark(manifold.coverage(real, drawn), "share"),
    } | crowd_marks(drawn, real)


def group_marks(group: str, read: dict[str, Tensor], crowd: Tensor) -> Marks:
    """Of pictures led to a group: how many are of it; of these, how real and how diverse (1: as true members are).

    The Frechet distance is of all of them, which few successes would make meaningless.
    """
    hit = read[group] == 1
    hits, n = read["features"][hit], int(hit.sum())
    real = manifold.precision(crowd, hits) if n else Estimate(torch.nan, None, 0)
    diverse = manifold.spread(hits) / manifold.spread(crowd)
    return {
        "success": Mark(share(hit), "share"),
        "cats": Mark(share(read["species"] == 0), "share"),
        "precision": Mark(real, "share"),
        "diversity": Mark(Estimate(diverse, None, n), ""),
    } | crowd_marks(read["features"], crowd)


def group_worth(model: Generator, probe: Probe, led: dict, count: int, budget: dict[str, int], size: float) -> float:
    """The share of tuning chains that arrive, over all groups."""
    hits = []
    for group, energy in led.items():
        images, _ = steered(model, energy, count, step_size=size, seeds=TUNING, **budget)
        hits.append(read_all(probe, images)[group] == 1)
    return torch.cat(hits).double().mean().item()


def to_group(
    model: Generator,
    probe: Probe,
    energy: energies.Energy,
    crowd: Tensor,
    group: str,
    chains: int,
    budget: dict,
    size: float,
) -> tuple[Tensor, Marks]:
    """Chains led to a group."""
    drawn, cost = steered(model, energy, chains, step_size=size, seeds=CHAINS, **budget)
    return drawn, group_marks(group, read_all(probe, drawn), crowd) | cost


def to_people(
    model: Generator, people: Gallery, weight: float, budget: dict, size: float, seeds: int = CHAINS
) -> tuple[Tensor, Marks]:
    """One chain led to each individual of a gallery."""

    def steer(index: slice) -> energies.Energy:
        return towards(people.network, people.leading[index]) * weight

    return steered(model, steer, len(people.leading), step_size=size, seeds=seeds, **budget)


def person_worth(model: Generator, people: Gallery, weight: float, budget: dict, size: float) -> float:
    """How near the tuning chains come on average."""
    return people.cosines(to_people(model, people, weight, budget, size, TUNING)[0]).mean().item()


def truth_rows(world, errors, factors, true, people: Gallery, crowds, features: Tensor, n: int) -> list[Row]:
    """The ends of every scale: true rates, the probe's errors, true pictures among true ones, true pictures of individuals."""
    rows = []
    for group in GROUPS:
        rows.append(results.row(f"rates/truth/{group}", world.rate(group), "share", 0))
        rows.append(results.row(f"rates/true pictures/{group}", share(getattr(factors, group)), "share", 2))
        for kind in ("caught", "spared"):
            count = getattr(errors, kind)[group]
            value = Estimate(count.hits / count.n, None, count.n)
            rows.append(results.row(f"rates/probe, {kind}/{group}", value, "share", 2))
        half = len(crowds[group]) // 2
        marks = crowd_marks(crowds[group][:half], crowds[group][half:])
        rows += as_rows(f"guided/true pictures/{group}", marks, 2)
    if len(features) >= n + 100:  # others than those the samples are compared with
        rows += as_rows("crowd/true pictures", crowd_of(features[n : 2 * n], features[:n]), 2)
    rows += as_rows("individuals/true pictures", people.marks(people.pictures), 2)
    median = Estimate(people.median, None, len(people.pictures))
    rows.append(results.row("individuals/true pictures/median", median, "cosine", 2))
    rows += as_rows("individuals/strangers", people.marks(people.pictures.roll(1, 0)), 2)
    return rows


def tables(found: dict[str, Generator | None], led: list[str], again: list[str]) -> dict[str, Table]:
    missing = [name for name, model in found.items() if model is None]

    def lines(path: str, names: Sequence[str], *more: str) -> dict[str, str]:
        known = {f"{path}/{name}": name + (" (not in the zoo)" if name in missing else "") for name in names}
        return known | {f"{path}/{name}": name for name in more}

    read = {
        name: heading
        for group in GROUPS
        for name, heading in {group: group, f"{group}_read": f"{group}, as read"}.items()
    }
    ends = [f"{name}/{group}" for group in GROUPS for name in (*led, "true pictures")]
    ends += [f"{name}/{FIRST}" for name in again]
    groups = {f"guided/{end}": end.replace("/", ", ") for end in ends}
    groups |= {f"guided/{name}": f"{name} (not in the zoo)" for name in missing}
    near = {"reached": "reached", "recognised": "recognised", "cosine": "cosine"}
    looks_like = {"species": "species", "pattern": "pattern", "coat": "coat", "eye": "eye"}
    cost = {"calls": "calls"}
    where = {name: name for name in ("precision", "recall", "density", "coverage")} | CROWD
    reached = {"success": "success", "cats": "cats", "precision": "precision", "diversity": "diversity"} | CROWD
    return {
        "rates": Table(
            lines("rates", found, "truth", "true pictures", "probe, caught", "probe, spared"), read, "model"
        ),
        "guided": Table(groups, reached | cost, "model and group"),
        "individuals": Table(
            lines("individuals", [*led, *again, *missing], "true pictures", "strangers"),
            near | looks_like | {"step_size": "h"} | cost,
            "model",
        ),
        "crowd": Table(lines("crowd", found, "true pictures"), where, "model"),
    }
