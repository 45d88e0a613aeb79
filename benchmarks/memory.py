"""Peak memory: sampling and training, each in a process of its own, less what it held once its networks were loaded.

Copies that the fast path makes of the weights, in the order it reads them, count.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from minidiff.evaluation.results import Table, row
from minidiff.evaluation.studies.report import Report
from minidiff.generators import LatentDiffusion

QUICK = {"batches": (2,), "steps": 1, "ways": ("plain",)}
WAYS = {
    "plain": "minidiff",
    "fast": "minidiff, fast",
    "diffusers": "diffusers",
    "train": "a training step",
    "train diffusers": "one of diffusers",
}


def measure(
    name: str = "critters-cat", batches: Sequence[int] = (1, 64), steps: int = 3, ways: Sequence[str] = tuple(WAYS)
) -> Report:
    if "fast" in ways:
        in_a_process("plan", name, max(batches), steps)
    rows = [
        row(f"batch {batch}/{way}", in_a_process(way, name, batch, steps), "MiB", 0)
        for batch in batches
        for way in ways
    ]
    lines = {f"batch {batch}": str(batch) for batch in batches}
    return Report(rows, {"memory": Table(lines, {way: WAYS[way] for way in ways}, "batch: MiB at the peak")})


def in_a_process(way: str, name: str, batch: int, steps: int) -> float:
    """MiB that one way takes at most, beyond what its process had before."""
    return called("benchmarks.memory", way, name, batch, steps)


def called(module: str, *arguments: Any) -> float:
    """What `python -m module` prints for these arguments. Raises RuntimeError, with what it complained of, if it fails."""
    command = [sys.executable, "-m", module, json.dumps(arguments)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{module} of {arguments} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def one(way: str, name: str, batch: int, steps: int) -> float:

    from benchmarks import clock
    from minidiff import zoo
    from minidiff.fast import fastest

    model = zoo.load(name, device=clock.best_device()).replace(steps=steps, eta=0.0)
    if way == "plan":  # measured here and kept, so that it is not measured there
        fastest(model, batch)
        return 0.0
    return most_of(work(way, model, batch), model.device.type)


def most_of(run: Callable[[], Any], device: str) -> float:
    """MiB that a call takes at most, beyond what is held before it."""
    if device == "cuda":
        import torch

        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = status("VmRSS") or peak()
    count_anew()
    run()
    return max(0.0, (status("VmHWM") or peak()) - before) / 2**20


def work(way: str, model: LatentDiffusion, batch: int) -> Callable[[], Any]:
    """What one of the ways does; diffusers is imported only where it has a part."""
    if way in ("plain", "fast"):
        return lambda: model.sample(batch, batch=batch, fast=way == "fast")
    from benchmarks import peers
    from benchmarks.training import ours, stepper

    if way == "diffusers":
        pipe = peers.sampler(model)
        return lambda: pipe(batch_size=batch, num_inference_steps=model.steps, output_type="np")
    channels, side = model.latent_shape[:2]
    theirs = dict(peers.rivals(peers.parameters(model.denoiser.net), channels, side))
    return stepper(ours(model) if way == "train" else theirs["diffusers"], model, batch)


def status(name: str) -> int:
    """Bytes of memory that the process has now (VmRSS) or had at most (VmHWM); 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), 0)


def count_anew() -> None:
    """From here on VmHWM is the peak of what follows, if the system allows it."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> float:
    """Bytes of memory that the process had at most."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    print(one(*json.loads(sys.argv[1])))
