"""The common latent space: what do models that never met make of the same codes, and which part of a code carries it?

Wu & De la Torre, "A latent space of stochastic diffusion models" (ICCV 2023), say that such a space emerges. Measured by the
correlation of each factor, as the probe reads it, across independently trained models: by eta, by part of the code, by
family, by how far training has gone, and by how related the domains are (`minidiff.training.relatives`).
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from minidiff import plot, zoo
from minidiff.codes import code_statistics, predicted_std
from minidiff.data.critters import COMMON_RATES, Critters
from minidiff.evaluation.probes import read_all
from minidiff.evaluation.results import Row, Table
from minidiff.evaluation.studies import codes_charts
from minidiff.evaluation.studies.common_space import (
    CARRIED,
    SEED,
    carried,
    compared,
    if_there,
    number,
    of_part,
    parts_of,
    read_models,
    stages,
)
from minidiff.evaluation.studies.compare import as_rows
from minidiff.evaluation.studies.report import Report
from minidiff.generators import LatentDiffusion
from minidiff.nets.probe import Probe
from minidiff.processes import bar
from minidiff.training.finished import finished

HELD_OUT = 2  # the seed of Critters
RELATED = {  # how related -> the second model; the first is always relatives-cat
    "siblings": "relatives-sibling",
    "relatives": "relatives-half",
    "cat and dog": "relatives-dog",
    "strangers": "relatives-stranger",
}
TURNED = ("relatives-stranger",)  # pictures that stand on their heads: the probe sees them upright
QUICK = {"n": 8, "steps": 5, "etas": (0.0, 0.5), "parts_etas": (0.5,), "statistics": 4}


def study(
    n: int = 400,
    steps: int = 30,
    etas: Sequence[float] = (0.0, 0.1, 0.5, 1.0),
    parts_etas: Sequence[float] = (0.1, 1.0),
    domains: Sequence[str] = ("cat", "dog", "wild"),
    families: Sequence[str] = ("vae", "flow", "gan"),
    family_eta: float = 0.1,
    statistics: int = 64,
    runs: str = "runs",
    batch: int = 125,
    load: Callable = zoo.load,
    from_run: Callable = finished,
) -> Report:
    """n codes for every comparison of the models critters-DOMAIN.

    What the zoo does not hold is taken from finished runs of `minidiff.training.relatives` in the folder `runs`: the models
    relatives-FAMILY-cat and -dog of each family, those of more or less related domains, and the stages of relatives-cat and
    -dog. The tables name what is not there. `statistics` true pictures are encoded to see how normal their codes are.
    """
    probe, models = load("critters-probe"), {name: load(f"critters-{name}") for name in domains}
    models = {name: model.replace(steps=steps) for name, model in models.items()}
    from_run = partial(from_run, runs=runs)
    kin = {label: if_there(from_run, ("relatives-cat", name)) for label, name in RELATED.items()}
    kin = {label: pair and [each.replace(steps=steps, eta=family_eta) for each in pair] for label, pair in kin.items()}
    trained = _stages(kin["cat and dog"], Path(runs))
    others = {name: if_there(from_run, [f"relatives-{name}-{each}" for each in ("cat", "dog")]) for name in families}
    report, total = Report(), len(etas) * len(domains) + 8 * len(parts_etas) + 2 * len(trained)
    with bar(total=total, desc="codes", unit="run") as shown:
        for eta in etas:
            read, pictures = read_models(_at(models, eta), probe, n, batch)
            report.rows += compared(f"eta {eta:g}", read)
            report.pictures[f"eta-{eta:g}"] = _examples(pictures, eta)
            shown.update(len(domains))
        for eta in parts_etas:
            report.rows += _parts(_at(models, eta), probe, eta, n, batch, shown.update)
        for step, then in trained.items():
            report.rows += compared(f"training/{step}", read_models(then, probe, n, batch)[0])
            shown.update(len(then))
        for name, found in others.items():
            if found:
                read, _ = read_models(dict(zip(("cat", "dog"), found)), probe, n, batch)
                report.rows += compared(f"family/{name}", read)
        for label, pair in kin.items():
            if pair:
                report.rows += _kinship(label, pair, probe, n, batch)
        measured = [eta for eta in etas if eta > 0]
        report.rows += _statistics(models[domains[0]], domains[0], measured, statistics)
    report.tables = _tables(domains, etas, parts_etas, families, family_eta, trained, others, kin, measured)
    report.figures = codes_charts.figures(report.rows, etas, parts_etas, measured, trained)
    return report


def _at(models: dict[str, LatentDiffusion], eta: float) -> dict[str, LatentDiffusion]:
    return {name: model.replace(eta=eta) for name, model in models.items()}


def _stages(pair: list[LatentDiffusion] | None, runs: Path) -> dict[int, dict[str, LatentDiffusion]]:
    """Step -> cats and dogs as they were drawn then, of the steps that both runs kept; none without the two."""
    if pair is None:
        return {}
    found = {name: stages(model, runs / f"relatives-{name}") for name, model in zip(("cat", "dog"), pair)}
    common = sorted(found["cat"].keys() & found["dog"].keys())
    return {step: {name: found[name][step] for name in found} for step in common}


def _parts(models: dict, probe: Probe, eta: float, n: int, batch: int, done: Callable[[int], None]) -> list[Row]:
    """What survives where one part of a code is kept and all else drawn anew: within the first model, and on to the second."""
    (name, model), (_, other) = list(models.items())[:2]
    whole, rows = read_models({name: model}, probe, n, batch)[0][name], []
    for label, blocks in parts_of(model.code_shape[0]).items():
        for to, target in {"within": model, "across": other}.items():
            seen = read_all(probe, of_part(target, n, blocks, batch))
            rows += as_rows(f"parts/eta {eta:g}/{to}/{label}", carried([(whole, seen)]), SEED)
            done(1)
    return rows


def _kinship(label: str, pair: list[LatentDiffusion], probe: Probe, n: int, batch: int) -> list[Row]:
    """The pair's correlations; a picture that stands on its head is turned before it is read."""
    images = [model.sample(n, SEED, batch) for model in pair]
    images[1] = images[1].flip(2) if RELATED[label] in TURNED else images[1]
    first, second = (read_all(probe, each) for each in images)
    return as_rows(f"kinship/{label}", carried([(first, second)]), SEED)


def _statistics(model: LatentDiffusion, species: str, etas: Sequence[float], count: int) -> list[Row]:
    """How normal the blocks of encoded pictures are, and how the noises of independent trajectories correlate."""
    images = Critters(species, length=count, seed=HELD_OUT, size=model.image_shape[-1], rates=COMMON_RATES)[:]
    latents, rows = model.to_latents(images.to(model.device)), []
    for eta in etas:
        now = model.replace(eta=eta)
        free = int(now.free.sum())  # the blocks that are noises in units of the sampler's std
        found = code_statistics(now.encode_latents(latents, SEED))
        apart = code_statistics(now.encode_latents(latents, SEED, "independent"))
        ideal, path = predicted_std(now.sampler, now.grid, 1.0), f"statistics/eta {eta:g}"
        rows += [number(f"{path}/block {k}/std", std, "", count) for k, std in enumerate(found.std[:free].tolist())]
        rows += [number(f"{path}/block {k + 1}/ideal", std) for k, std in enumerate(ideal[: free - 1].tolist())]
        early = slice(0, max(1, 2 * free // 3))
        rows += [
            number(f"{path}/mean", found.mean[early].abs().max().item(), "", count),
            number(f"{path}/std", found.std[early].mean().item(), "", count),
            number(f"{path}/last", found.std[free - 1].item(), "", count),
            number(f"{path}/predicted", 2 / eta),
            number(f"{path}/lag1", found.lag1[1 : free - 1].mean().item(), "r", count),
            number(f"{path}/independent", apart.lag1[1 : free - 1].mean().item(), "r", count),
        ]
    return rows


def _examples(pictures: dict[str, Tensor], eta: float) -> plot.Picture:
    alt = (
        f"{len(next(iter(pictures.values())))} columns of pictures, each column of one code at eta {eta:g}. "
        f"From top to bottom by the models of {', '.join(pictures)}, which were trained apart."
    )
    return plot.grid(list(pictures.values()), row_labels=list(pictures), alt=alt, display=False)


def _tables(domains, etas, parts_etas, families, family_eta, trained, others, kin, measured) -> dict[str, Table]:
    columns = {name: name for name in CARRIED} | {"pattern": "pattern agrees"}
    pairs = [f"{a}-{b}" for i, a in enumerate(domains) for b in domains[i + 1 :]]
    lines = [f"eta {eta:g}/{what}" for eta in etas for what in (*pairs, "all pairs", "shuffled")]
    parts = [
        f"parts/eta {eta:g}/{to}/{part}"
        for eta in parts_etas
        for to in ("within", "across")
        for part in ("start", "early", "middle", "late")
    ]
    of_families = (
        {f"eta {family_eta:g}/all pairs": f"latent diffusion, eta {family_eta:g}"} if family_eta in etas else {}
    )
    for name in families:
        missing = "" if others[name] else " (not trained)"
        of_families |= {
            f"family/{name}/all pairs": name + missing,
            f"family/{name}/shuffled": f"{name}, shuffled{missing}",
        }
    related = {f"kinship/{name}": name + ("" if pair else " (not trained)") for name, pair in kin.items()}
    tables = {
        "eta": Table({line: line.replace("/", ", ") for line in lines}, columns, "codes shared by"),
        "parts": Table(
            {line: line[6:].replace("/", ", ") for line in parts}, columns, "the part of the code that is kept"
        ),
        "families": Table(of_families, columns, "family"),
        "kinship": Table(related, columns, "domains"),
        "statistics": Table(
            {f"statistics/eta {eta:g}": f"eta {eta:g}" for eta in measured},
            {
                "mean": "largest mean, early and middle",
                "std": "std, early and middle",
                "last": "std, last noise",
                "predicted": "2 / eta",
                "lag1": "lag 1, posterior",
                "independent": "lag 1, independent",
            },
            "sampler",
        ),
    }
    if trained:
        steps = {
            f"training/{step}/{what}": f"{step} steps, {what}" for step in trained for what in ("all pairs", "shuffled")
        }
        tables["training"] = Table(steps, columns, "training")
    return tables
