"""From a finished run to the zoo: weights in 16 or 8 bits, figures measured on them, an entry in the manifest."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from minidiff import zoo
from minidiff.eight_bits import pack, unpack
from minidiff.files import write_whole
from minidiff.training.checkpoint import load
from minidiff.training.loop import MODEL
from minidiff.training.recipe import Recipe
from minidiff.training.recipes import recipe


def export(run_dir: str | Path, folder: str | Path | None = None, chosen: Recipe | None = None) -> Path:
    """Write NAME.safetensors and the model's entry in the manifest; returns the path of the weights.

    `folder` None is the zoo itself; `chosen` the recipe that measures the figures (default: the one of this name).

    Raises FileNotFoundError when the run in `run_dir` is not finished.
    """
    folder = Path(folder or zoo.WEIGHTS)
    if not (Path(run_dir) / MODEL).exists():
        raise FileNotFoundError(f"run_dir: no {MODEL} in {run_dir}: the run is not finished, train on before exporting")
    tensors, facts = load(Path(run_dir) / MODEL)
    fields = facts["recipe"]
    name, kind = fields["name"], fields["kind"]
    chosen = chosen or recipe(name)
    network = zoo.network_of(kind, fields["config"])
    weights = halved(network, {key.removeprefix("net."): value for key, value in tensors.items()})
    if fields.get("bits", 16) == 8:
        weights |= pack({key: weights[key] for key, _ in network.named_parameters()})
    network.load_state_dict(unpack(weights))
    network.eval().requires_grad_(False)

    entry = {
        "file": f"{name}.safetensors",
        "kind": kind,
        "licence": fields["licence"],
        "image_shape": list(chosen.held_out().shape),
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "figures": {key: round(value, 5) for key, value in chosen.figures(chosen.wrap(network)).items()},
        "command": facts["command"],
        "seed": fields["seed"],
        "steps": facts["steps"],
        "seconds": facts["seconds"],
        "machine": facts["machine"],
        "config": fields["config"],
        "recipe": {
            key: value for key, value in fields.items() if key not in ("config", "kind", "licence", "seed", "steps")
        },
    }
    if kind in zoo.GENERATORS:
        partners = ("autoencoder", "autoencoder_sha256", "text", "text_sha256")
        entry |= {key: fields[key] for key in (*partners, "schedule", "predicts") if key in fields}
    content = to_bytes(weights, {key: json.dumps(value) for key, value in entry.items()})
    write_whole(folder / entry["file"], content)
    add(
        folder,
        name,
        {"file": entry["file"], "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} | entry,
    )
    return folder / entry["file"]


def halved(network: torch.nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights as float16; measured buffers (a few numbers) stay exact. Raises ValueError if a weight would overflow."""
    parameters = dict(network.named_parameters())
    small = {key: value.half() if key in parameters else value for key, value in tensors.items()}
    for key, value in small.items():
        if not value.isfinite().all():
            raise ValueError(
                f"weights: {key} does not fit into half precision (largest {tensors[key].abs().max():.3g})"
            )
    return {key: value.contiguous() for key, value in small.items()}


def add(folder: Path, name: str, entry: dict) -> None:
    """Put one entry into the manifest, sorted by name."""
    models = dict(sorted((zoo.manifest(folder) | {name: entry}).items()))
    write_whole(folder / zoo.MANIFEST, (json.dumps({"models": models}, indent=2) + "\n").encode())
