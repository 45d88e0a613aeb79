"""Editing by words against the right answer: six kinds of edits, five ways to make them, each at its own best.

Wu & De la Torre, "A latent space of stochastic diffusion models" (ICCV 2023), section 4.2, with edits whose true result
is known. An edit succeeds when the probe reads the new attribute; it keeps the rest when all other attributes and the
pose are as before (`minidiff.evaluation.attributes.outcomes`). Settings are chosen on edits of other pictures, by success x kept:
all of them on a few edits in few steps, and the best few of each method once more on more edits in all steps. Beside that,
what a search picture by picture adds: the best candidate by directional CLIP, and one taken at random.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from minidiff import edit as editing
from minidiff import plot, zoo
from minidiff.attention_control import Control
from minidiff.candidates import Search
from minidiff.data.edits import KINDS, Edits, edits
from minidiff.evaluation import results
from minidiff.evaluation.attributes import outcomes
from minidiff.evaluation.clip_scores import clip_score, directional_score
from minidiff.evaluation.intervals import Estimate, mean, share
from minidiff.evaluation.metrics import psnr
from minidiff.evaluation.probes import read_all
from minidiff.evaluation.results import Table
from minidiff.evaluation.studies.compare import as_rows
from minidiff.evaluation.studies.marks import Mark, Marks
from minidiff.evaluation.studies.report import Report
from minidiff.generators import LatentDiffusion
from minidiff.nets.probe import Probe

TUNING, HELD_OUT = 1, 2  # seeds of Critters
SEARCH_SEEDS = (0, 1)
QUICK = {
    "n": 1, "tuning": 1, "screening": 1, "kept": 1, "searched": 1, "steps": 5, "screening_steps": 4, "strengths": (0.6,),
    "scales": (1.0, 3.0), "etas": (1.0,),
}  # fmt: skip
METHODS: dict[str, tuple[str, dict[str, Any]]] = {  # name -> title and arguments of `edit`
    "cyclediffusion": ("CycleDiffusion", {}),
    "control": ("CycleDiffusion, attention control", {"control": Control()}),
    "local": ("CycleDiffusion, local", {"local": 0.5}),
    "local-control": ("CycleDiffusion, local, attention control", {"local": 0.5, "control": Control()}),
    "edit-friendly": ("edit-friendly", {"trajectory": "independent"}),
    "sdedit": ("SDEdit", {"method": "sdedit"}),
    "ddib": ("DDIB", {"method": "ddib"}),
}


@dataclass(frozen=True)
class Setting:
    """How one method is run."""

    method: str
    strength: float
    scale: float
    eta: float

    @property
    def path(self) -> str:
        return f"{self.method}/strength {self.strength:g}/scale {self.scale:g}/eta {self.eta:g}"


def study(
    n: int = 50,
    tuning: int = 10,
    screening: int = 3,
    kept: int = 3,
    searched: int = 3,
    steps: int = 50,
    screening_steps: int = 12,
    strengths: Sequence[float] = (0.5, 0.6, 0.7, 0.85, 1.0),
    scales: Sequence[float] = (1.0, 2.0, 3.0, 5.0),
    etas: Sequence[float] = (0.1, 1.0),
    kinds: Sequence[str] = KINDS,
    methods: Sequence[str] = tuple(METHODS),
    load: Callable = zoo.load,
) -> Report:
    """n held-out edits of each kind, by each method at its best setting: of all in `screening_steps` steps on `screening` other
    edits of each kind the best `kept`, and of these the best in `steps` steps on `tuning` edits of each kind. On `searched`
    held-out edits of each kind CycleDiffusion also tries all strengths and scales with two seeds, and CLIP chooses."""
    model, probe, report = load("critters-text"), load("critters-probe"), Report()
    size = model.image_shape[-1]
    few, trial, held_out = (
        edits(count, seed, kinds, size) for seed, count in ((TUNING, screening), (TUNING, tuning), (HELD_OUT, n))
    )
    settings = {
        method: [
            Setting(method, strength, scale, eta)
            for strength, scale, eta in product(strengths, scales, (0.0,) if method == "ddib" else etas)
        ]
        for method in methods
    }
    rounds = [sum(len(each) for each in settings.values()), sum(min(kept, len(each)) for each in settings.values())]
    sought = edits(searched, HELD_OUT, kinds, size)
    candidates = len(sought) * len(strengths) * len(scales) * len(SEARCH_SEEDS)
    total = rounds[0] * len(few) + rounds[1] * len(trial) + len(methods) * len(held_out) + candidates
    best, shown = {}, {}
    with tqdm(total=total, desc="editing", unit="edit") as bar:

        def products(todo: Edits, tried: Sequence[Setting], steps: int, stage: str) -> list[float]:
            """Success x kept of each setting, into the report, too."""
            found = []
            for setting in tried:
                marks = verdict(probe, run(model, todo, setting, steps, fast=True)[0], todo)
                report.rows += as_rows(f"editing/{stage}/{setting.path}", marks, TUNING)
                found.append(_product(marks))
                bar.update(len(todo))
            return found

        for method, tried in settings.items():
            screened = products(few, tried, screening_steps, "screening")
            order = sorted(range(len(tried)), key=lambda k: -screened[k])
            finalists = [tried[k] for k in order[:kept]]
            values = products(trial, finalists, steps, "tuning")
            best[method] = finalists[values.index(max(values))]
        for method, setting in best.items():
            images, cost = run(model, held_out, setting, steps)
            path = f"editing/best/{method}"
            report.rows += as_rows(
                path, verdict(probe, images, held_out) | likeness(model, images, held_out) | cost, HELD_OUT
            )
            report.rows += [
                results.row(f"{path}/{name}", getattr(setting, name), "", HELD_OUT)
                for name in ("strength", "scale", "eta")
            ]
            report.rows += _by_kind(path, probe, images, held_out)
            shown[method] = images[:: max(1, n)]
            bar.update(len(held_out))
        eta = best["cyclediffusion"].eta if "cyclediffusion" in best else max(etas)
        search = Search(
            model, model.text(), strengths, scales, SEARCH_SEEDS, {"steps": steps, "eta": eta, "fast": True}
        )
        report.rows += search_rows(search, probe, sought)
        bar.update(candidates)
    for name, images in {"copy": held_out.images, "truth": held_out.truth}.items():
        report.rows += as_rows(f"editing/best/{name}", verdict(probe, images, held_out), HELD_OUT)
        report.rows += _by_kind(f"editing/best/{name}", probe, images, held_out)
    report.tables = _tables(methods, kinds)
    report.pictures["examples"] = _examples(held_out, shown, n)
    return report


@torch.no_grad()
def run(model: LatentDiffusion, todo: Edits, setting: Setting, steps: int, fast: bool = False) -> tuple[Tensor, Marks]:
    """The edited pictures, and seconds and network calls an edit; with `fast`, sooner where a method can, and uncounted."""
    calls, start = 0, time.perf_counter()

    def count(net, inputs, output) -> None:
        nonlocal calls
        calls += len(inputs[0])

    hook = model.denoiser.net.register_forward_hook(count)
    try:
        settings = {"strength": setting.strength, "scale": setting.scale, "steps": steps}
        settings |= {} if setting.method == "ddib" else {"eta": setting.eta}
        own = METHODS[setting.method][1]
        settings |= {"fast": fast and not {"local", "control"} & own.keys()}
        images = editing.edit(model, todo.images, todo.source, todo.target, **settings, **own)
    finally:
        hook.remove()
    seconds = Estimate((time.perf_counter() - start) / len(todo), None, len(todo))
    return images.clamp(-1, 1), {
        "seconds": Mark(seconds, "s"),
        "calls": Mark(Estimate(calls / len(todo), None, len(todo)), "calls"),
    }


def verdict(probe: Probe, images: Tensor, todo: Edits) -> Marks:
    """Success, what else was kept, and both at once."""
    success, kept = outcomes(read_all(probe, images), todo)
    both = {"success": success, "kept": kept, "both": success & kept}
    marks = {name: Mark(share(hits), "share") for name, hits in both.items()}
    return marks | {"product": Mark(Estimate(_product(marks), None, len(images)), "share")}


def search_rows(search: Search, probe: Probe, todo: Edits) -> list[results.Row]:
    """Marks of each picture's best candidate by directional CLIP, and of one at random: the mean of all, by picture."""
    found = search.run_all(todo.images, todo.source, todo.target)
    ranks = [torch.stack([candidate.image for candidate in column]).clamp(-1, 1) for column in zip(*found)]
    success, kept = (torch.stack(hits) for hits in zip(*(outcomes(read_all(probe, images), todo) for images in ranks)))
    scores = torch.tensor([[candidate.score for candidate in column] for column in zip(*found)])
    marks = {"success": success, "kept": kept, "both": success & kept, "directional": scores}  # (candidates, B) each
    rows = [results.row("editing/search/candidates", len(ranks), "candidates", HELD_OUT)]
    for name, part in {"selected": slice(1), "unselected": slice(None)}.items():
        for key, values in marks.items():
            unit = "cosine" if key == "directional" else "share"
            rows.append(
                results.row(f"editing/search/{name}/{key}", mean(values[part].double().mean(0)), unit, HELD_OUT)
            )
    return rows


def likeness(model: LatentDiffusion, images: Tensor, todo: Edits) -> Marks:
    """Nearness to the truth and to the source in dB, CLIP score and directional CLIP."""
    clip = model.text()
    return {
        "psnr_truth": Mark(mean(psnr(images, todo.truth)), "dB"),
        "psnr_source": Mark(mean(psnr(images, todo.images)), "dB"),
        "clip": Mark(mean(clip_score(clip, images, todo.target).detach()), "cosine"),
        "directional": Mark(
            mean(directional_score(clip, todo.images, images, todo.source, todo.target).detach()), "cosine"
        ),
    }


def _by_kind(path: str, probe: Probe, images: Tensor, todo: Edits) -> list[results.Row]:
    success, kept = outcomes(read_all(probe, images), todo)
    rows = []
    for kind in dict.fromkeys(todo.kinds):
        these = torch.tensor([each == kind for each in todo.kinds])
        for name, hits in (("success", success), ("kept", kept)):
            rows.append(results.row(f"{path}/{kind}/{name}", share(hits[these]), "share", HELD_OUT))
    return rows


def _product(marks: Marks) -> float:
    return marks["success"].estimate.value * marks["kept"].estimate.value


def _tables(methods: Sequence[str], kinds: Sequence[str]) -> dict[str, Table]:
    ends = {"copy": "the picture as it was", "truth": "the true answer"}
    titles = {method: METHODS[method][0] for method in methods} | ends
    columns = {
        "success": "success",
        "kept": "rest kept",
        "product": "product",
        "both": "both",
        "psnr_truth": "PSNR to truth",
    }
    columns |= {"psnr_source": "PSNR to source", "clip": "CLIP", "directional": "directional CLIP"}
    columns |= {"strength": "strength", "scale": "scale", "eta": "eta", "seconds": "s", "calls": "calls"}
    by_kind = {
        f"editing/best/{method}/{kind}": f"{title}, {kind}" for method, title in titles.items() for kind in kinds
    }
    return {
        "best": Table({f"editing/best/{method}": title for method, title in titles.items()}, columns, "method"),
        "kinds": Table(by_kind, {"success": "success", "kept": "rest kept"}, "method and edit"),
        "search": Table(
            {"editing/search/selected": "the best", "editing/search/unselected": "one at random"},
            {"success": "success", "kept": "rest kept", "both": "both", "directional": "directional CLIP"},
            "of all candidates",
        ),
    }


def _examples(todo: Edits, shown: dict[str, Tensor], n: int) -> plot.Picture:
    """The first edit of each kind, by each method."""
    first = slice(None, None, max(1, n))
    rows = {"source": todo.images[first], "truth": todo.truth[first]} | {
        METHODS[m][0]: images for m, images in shown.items()
    }
    alt = "Columns are edits: " + "; ".join(f"{a} to {b}" for a, b in zip(todo.source[first], todo.target[first])) + "."
    return plot.grid(list(rows.values()), row_labels=list(rows), alt=alt, display=False)
