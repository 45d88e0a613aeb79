"""The work of tests/test_processes.py: done there in one process, and as a script by `accelerate launch` in two."""

import runpy
import sys
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

from minidiff.data.critters import Critters
from minidiff.evaluation.studies import reproduce
from minidiff.nets.autoencoder import AutoencoderConfig
from minidiff.processes import from_first, here, joined, share, shared, summed
from minidiff.training import train
from minidiff.training.autoencoders import AutoencoderRecipe

RECIPE = AutoencoderRecipe(
    name="tiny-autoencoder",
    config=AutoencoderConfig(latent_channels=4, patch=2, encoder=(8, 16), decoder=(8, 8, 16), depth=1),
    pictures=partial(Critters, species="all", length=47, size=16, seed=7),
    held_out=partial(Critters, species="all", length=20, size=16, seed=8),
    seed=1,
    steps=6,
    batch=8,
    lr=1e-3,
    warmup=3,
    log_every=2,
    checkpoint_every=3,
)
STUDY = {"steps": 4, "strengths": (0.5,), "etas": (0.5,), "refines": (0.0, 0.25), "cases": ("cat-dog",)}
STUDY |= {"n": 9, "tuning": 5, "crowd": 71}  # odd numbers: no two processes have as many


def work(folder: Path) -> None:
    """Put items together, train wholly, halfway and from another's halfway, and evaluate; all into `folder`."""
    squares = torch.tensor([[i, i * i] for i in range(7)])
    parts = {f"joined {n}": joined(squares[list(share(n))], n) for n in (1, 2, 7)}
    parts["shared"] = shared(lambda index: index.double()[:, None] ** 2, 5, batch=2)
    parts["summed"] = torch.tensor(summed(len(share(7))))
    parts["first"] = torch.tensor(from_first(lambda: here()[0]))
    parts["bank"] = RECIPE.bank()["images"]
    save_file(parts, folder / f"parts-{here()[0]}.safetensors")

    list(train(RECIPE, folder / "whole", cpu=True))
    for step in train(RECIPE, folder / "half", cpu=True):
        if step.step == 4:  # one more than the checkpoint holds
            break
    list(train(RECIPE, folder / "begun", cpu=True))

    tiny = runpy.run_path(str(Path(__file__).with_name("conftest.py")))["tiny"]
    reproduce("translation", quick=True, out=folder / "results", load=tiny, **STUDY)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
