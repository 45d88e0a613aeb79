"""What the recipe of AFHQ costs on this machine: seconds of a training step, memory, pictures encoded, the hours of it all.

`python -m benchmarks.afhq_costs` measures on the GPU if there is one, else on the CPU, and on an otherwise idle machine:
benchmarks/results/afhq_costs-DEVICE.json, and from all such files the table in book/afhq.md. `make bench` leaves it out: only
machines with a GPU have a use for it, though a CPU can be asked, too. For cards that are not at hand there is afhq_work. The
networks are those of the recipe with random weights and random latents, which take as long as trained ones and real
photographs; nothing is fetched.
"""

import argparse
import dataclasses
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from benchmarks import clock, memory
from minidiff.data.pictures import Pictures
from minidiff.evaluation import results
from minidiff.evaluation.results import Row, Table, row
from minidiff.files import write_whole
from minidiff.machine import machine
from minidiff.nets.autoencoder import Autoencoder
from minidiff.training.afhq import AFHQ, SIZE
from minidiff.training.bank import Bank, Watch, unwatched
from minidiff.training.denoisers import DenoiserRecipe
from minidiff.training.run import Run

FOLDER, PAGE = Path(__file__).parent / "results", Path(__file__).parents[1] / "book" / "afhq.md"
MARK = re.compile(r"(<!-- benchmarks: afhq_costs -->\n).*?(<!-- end -->)", re.DOTALL)
PHOTOGRAPHS = 5_153  # cats in AFHQ's train folder, the most of the three; each is encoded once more in the mirror
STABLE_DIFFUSION = {  # the settings of its AutoencoderKL
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
COLUMNS = {
    "step": "s a step",
    "memory": "GiB",
    "train": "h to train",
    "encode": "pictures/s encoded",
    "translate": "s a translation",
}
NONE = "Nothing has been measured yet: `python -m benchmarks.afhq_costs` on an idle machine fills this in.\n"


@dataclass(frozen=True, kw_only=True)
class RandomLatents(DenoiserRecipe):
    """A recipe whose bank is drawn: what a step costs does not depend on what it learns."""

    shape: tuple[int, int, int]

    def rows(self, pictures: Pictures, indices: range, watch: Watch = unwatched) -> Bank:
        mean = torch.randn(len(indices), *self.shape)
        return {"mean": mean, "std": torch.full_like(mean, 0.1)}


def measure(
    recipe: DenoiserRecipe,
    autoencoder: Autoencoder,
    batch: int,
    precision: str = "no",
    steps: int = 10,
    cpu: bool = False,
    size: int = SIZE,
) -> list[Row]:
    """One row for each of COLUMNS: of training at this batch and precision, scaled to the recipe's own batch and steps."""
    AcceleratorState._reset_state(reset_partial_state=True)  # each precision is an Accelerator of its own
    accelerator = Accelerator(cpu=cpu, mixed_precision=precision)
    device, shape = accelerator.device, autoencoder.latent_shape((3, size, size))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    fields = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
    fields |= {"pictures": partial(range, 256), "batch": batch, "autoencoder": "random", "shape": shape}
    run, numbers = Run(RandomLatents(**fields), accelerator), iter(range(recipe.steps))
    step = seconds(lambda: run.step(next(numbers), 1e-6), steps)
    held = peak(device)

    at_once, times = (min(batch, 8), 3) if device.type == "cuda" else (1, 1)
    autoencoder, images = autoencoder.to(device), torch.rand(at_once, 3, size, size, device=device) * 2 - 1
    x, t = torch.randn(len(images), *shape, device=device), torch.full((len(images),), 500, device=device)
    with torch.no_grad():
        encode = seconds(lambda: autoencoder.posterior(images), times) / len(images)
        decode = seconds(lambda: autoencoder.decode(x), times) / len(images)
        look = seconds(lambda: run.network(x, t), times) / len(images)
    path, hours = f"batch {batch}/{precision}", recipe.steps * recipe.batch / batch * step / 3600
    return [
        row(f"{path}/step", step, "s", recipe.seed, batch),
        row(f"{path}/memory", held, "GiB", recipe.seed, batch),
        row(f"{path}/train", hours + 2 * PHOTOGRAPHS * encode / 3600, "h", recipe.seed, batch),
        row(f"{path}/encode", 1 / encode, "pictures/s", recipe.seed, len(images)),
        row(f"{path}/translate", encode + decode + 2 * 50 * look, "s", recipe.seed, len(images)),
    ]


def seconds(work: Callable[[], object], times: int) -> float:
    """Median seconds of `times` runs, after one that is not counted; of the first where one must do."""
    if times == 1:
        return clock.once(work)
    return clock.median(clock.seconds({"work": work}, times, budget=float("inf"))["work"]).value


def peak(device: torch.device) -> float:
    """The most memory held so far, GiB: the GPU's where there is one, else this process's."""
    return (torch.cuda.max_memory_allocated() if device.type == "cuda" else memory.peak()) / 2**30


def device_name(cpu: bool) -> str:
    """The GPU, or the processor and its threads."""
    about = machine()
    return f"{about['processor']}, {about['threads']} threads" if cpu else torch.cuda.get_device_name()


def table(folder: Path = FOLDER) -> str:
    """The costs on every machine that was measured, as Markdown."""
    rows, lines = [], {}
    for path in sorted(folder.glob("afhq_costs-*.json")):
        found = results.read(path.stem, folder)
        device = found.settings["device"]
        rows += [dataclasses.replace(each, name=f"{device}/{each.name}") for each in found.rows]
        for each in found.rows:
            setting = each.name.rpartition("/")[0]
            batch, precision = setting.split("/")
            lines[f"{device}/{setting}"] = f"{device}, {batch}, {'float32' if precision == 'no' else precision}"
    return results.markdown_table(rows, Table(lines, COLUMNS, "on")) + "\n" if rows else NONE


def filled(text: str, folder: Path = FOLDER) -> str:
    """The page with the table in its place. Raises ValueError for a page without the marks."""
    if not MARK.search(text):
        raise ValueError("page: expected <!-- benchmarks: afhq_costs --> on a line of its own, and later <!-- end -->")
    return MARK.sub(lambda match: f"{match[1]}\n{table(folder)}\n{match[2]}", text)


def stable_diffusion() -> Autoencoder:
    """Stable Diffusion's autoencoder with random weights."""
    from diffusers import AutoencoderKL

    from minidiff.bridges.networks import DiffusersAutoencoder

    return DiffusersAutoencoder(AutoencoderKL(**STABLE_DIFFUSION)).eval().requires_grad_(False)


def main(arguments: Sequence[str] | None = None) -> None:
    cpu = not torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.afhq_costs", description=__doc__.split("\n\n")[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[4] if cpu else [64, 16], help="pictures a step")
    parser.add_argument("--precision", nargs="+", default=["no"] if cpu else ["no", "bf16"], help="no, bf16, fp16")
    parser.add_argument("--steps", type=int, default=2 if cpu else 20, help="steps that are timed")
    chosen = parser.parse_args(arguments)
    start, rows, autoencoder = time.perf_counter(), [], stable_diffusion()
    for precision in chosen.precision:
        for batch in chosen.batch:
            rows += measure(AFHQ[0], autoencoder, batch, precision, chosen.steps, cpu)
    device = device_name(cpu)
    name = "afhq_costs-" + re.sub(r"\W+", "-", device.lower()).strip("-")
    command = "python -m benchmarks.afhq_costs"
    spent = round(time.perf_counter() - start, 1)
    paths = dict.fromkeys(row.name.rpartition("/")[0] for row in rows)
    costs = Table({path: path.replace("/no", ", float32").replace("/", ", ") for path in paths}, COLUMNS, device)
    settings = {"device": device, **vars(chosen)}
    results.write(results.Results(name, command, rows, {"costs": costs}, settings, seconds=spent), FOLDER)
    write_whole(PAGE, filled(PAGE.read_text(encoding="utf-8")))
    print(table())


if __name__ == "__main__":
    main()
