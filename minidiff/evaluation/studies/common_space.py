"""What two models make of the same codes: what they share, which part of the code carries it, and when it appears.

Correlations are of what the probe reads in the pictures of two models, code by code; "shuffled" compares each picture with
that of the next code instead, and says what chance is.
"""

import copy
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from minidiff.evaluation import results
from minidiff.evaluation.intervals import correlation, mean
from minidiff.evaluation.probes import read_all
from minidiff.evaluation.results import Row
from minidiff.evaluation.studies.compare import as_rows
from minidiff.evaluation.studies.marks import FACTORS, Mark, Marks
from minidiff.generators import LatentDiffusion, chunks
from minidiff.nets.probe import Probe
from minidiff.training.checkpoint import load as read_checkpoint
from minidiff.training.loop import STAGES
from minidiff.training.run import part
from minidiff.zoo import UnknownModel

Readings = dict[str, Tensor]
Model = LatentDiffusion  # or one of minidiff.families: all that is asked of it is `sample`
CARRIED = FACTORS | {"glasses": ("glasses",), "hat": ("hat",)}
SEED = 20_000  # of the codes


def carried(pairs: Sequence[tuple[Readings, Readings]]) -> Marks:
    """For pairs of readings of the same codes: each factor's correlation, and how often the pattern is one; mean over pairs.

    The interval is that of one pair. NaN for what never varies.
    """

    def columns(side: int, names: Sequence[str]) -> Tensor:
        return torch.cat(
            [pair[side][name].double().reshape(len(pair[side][name]), -1) for pair in pairs for name in names], 1
        )

    marks = {name: Mark(correlation(columns(0, names), columns(1, names)), "r") for name, names in CARRIED.items()}
    agree = torch.stack([a["pattern"] == b["pattern"] for a, b in pairs]).double().mean(0)
    return marks | {"pattern": Mark(mean(agree), "share")}


def shuffled(readings: Readings) -> Readings:
    """The readings of the next code in place of each."""
    return {name: values.roll(1, 0) for name, values in readings.items()}


def compared(path: str, read: dict[str, Readings]) -> list[Row]:
    """Rows for every pair of models, for all pairs together, and for all with the codes shuffled."""
    pairs = {f"{a}-{b}": (read[a], read[b]) for a, b in combinations(read, 2)}
    rows = [row for name, pair in pairs.items() for row in as_rows(f"{path}/{name}", carried([pair]), SEED)]
    rows += as_rows(f"{path}/all pairs", carried(list(pairs.values())), SEED)
    chance = [(a, shuffled(b)) for a, b in pairs.values()]
    return rows + as_rows(f"{path}/shuffled", carried(chance), SEED)


def parts_of(blocks: int) -> dict[str, Tensor]:
    """The blocks of a code by when they speak: its start, and the noises in thirds. Raises ValueError below 4 blocks."""
    if blocks < 4:
        raise ValueError(f"blocks: expected at least 4, a start and three noises, got {blocks}")
    thirds = zip(("early", "middle", "late"), torch.arange(1, blocks).tensor_split(3), strict=True)
    return {"start": torch.tensor([0]), **dict(thirds)}


def kept(code: Tensor, others: Tensor, blocks: Tensor) -> Tensor:
    """`others` with these blocks of `code`, (B, blocks, C, H, W): what else there was is drawn anew."""
    mixed = others.clone()
    mixed[:, blocks] = code[:, blocks]
    return mixed


@torch.no_grad()
def of_part(model: LatentDiffusion, n: int, blocks: Tensor, batch: int) -> Tensor:
    """The pictures of codes that share only these blocks with those of seeds SEED, SEED + 1, ..., (n, C, H, W)."""
    seeds = SEED + torch.arange(n, device=model.device)

    def decoded(index: Tensor) -> Tensor:
        code, others = (model.random_code(len(index), index + offset) for offset in (0, 10 * SEED))
        return model.decode(kept(code, others, blocks))

    return torch.cat([decoded(seeds[i]) for i in chunks(n, batch)])


def read_models(
    models: dict[str, Model], probe: Probe, n: int, batch: int
) -> tuple[dict[str, Readings], dict[str, Tensor]]:
    """What the probe reads in each model's pictures of the same n codes, and the first eight of them.

    Raises ValueError when the models' codes differ in shape: the same codes are then no codes for all.
    """
    shapes = {name: tuple(model.code_shape) for name, model in models.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"models: expected codes of one shape for all, got {shapes}")
    read, shown = {}, {}
    for name, model in models.items():
        images = model.sample(n, SEED, batch).clamp(-1, 1)
        read[name], shown[name] = read_all(probe, images), images[:8]
    return read, shown


def if_there(load: Callable, names: Sequence[str]) -> list | None:
    """The models of these names; None when the zoo lacks one of them."""
    try:
        return [load(name) for name in names]
    except UnknownModel:
        return None


def stages(model: LatentDiffusion, folder: str | Path) -> dict[int, LatentDiffusion]:
    """The model as it was at each stage that its run in `folder` kept, by steps of training, with its averaged weights.

    They are what training keeps by a recipe's `stages`. Raises ValueError for a damaged one or one of another network.
    """
    found = {}
    for path in sorted(Path(folder).glob(STAGES)):
        tensors, state = read_checkpoint(path)
        denoiser = copy.deepcopy(model.denoiser)
        try:
            denoiser.load_state_dict(part(tensors, "network/") | part(tensors, "average/"))
        except RuntimeError as error:
            raise ValueError(f"stages: {path} is of another network ({error})") from error
        found[state["step"]] = model.replace(denoiser=denoiser)
    return dict(sorted(found.items()))


def marks_of(rows: Sequence[Row], path: str, names: Sequence[str]) -> list[float]:
    """The values of some quantities under a path; NaN for what is undefined."""
    found = {row.name: row.value for row in rows}
    return [torch.nan if (value := found[f"{path}/{name}"]) is None else value for name in names]


def number(path: str, value: float, unit: str = "", n: int = 1) -> Row:
    return results.row(path, value, unit, SEED, n)
