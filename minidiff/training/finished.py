"""A model straight from the folder of its run, for those that are not meant for the zoo."""

from pathlib import Path
from typing import Any

import torch

from minidiff import zoo
from minidiff.training.checkpoint import load
from minidiff.training.loop import MODEL
from minidiff.training.recipes import recipe


def finished(name: str, runs: str | Path = "runs", device: torch.device | str = "cpu") -> Any:
    """What `minidiff train NAME` left in RUNS/NAME, its weights in full precision: what `zoo.load` gives for the zoo's.

    Raises UnknownModel when there is no finished run of that name, ValueError for a damaged one, or one that was trained on
    another autoencoder than the zoo's.
    """
    path = Path(runs) / name / MODEL
    if not path.is_file():
        raise zoo.UnknownModel(f"name: no finished run in {path.parent}; `minidiff train {name}` makes one")
    tensors, facts = load(path)
    fields = facts["recipe"]
    if fields.get("autoencoder"):
        zoo.check_partner(name, fields, "autoencoder", None)
    network = zoo.network_of(fields["kind"], fields["config"])
    network.load_state_dict({key.removeprefix("net."): value for key, value in tensors.items()})
    network.eval().requires_grad_(False).to(device)
    entry = fields | {"image_shape": recipe(name).held_out().shape}
    return zoo.generator(entry, network, device, None) if fields["kind"] in zoo.GENERATORS else network
