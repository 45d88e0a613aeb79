"""Checkpoints that are whole or not there: tensors as safetensors, everything else as JSON in the same file's header.

One file, written beside its place and moved over it, so that a kill at any moment leaves the old one or the new one; a
digest of the contents, so that a damaged file is refused instead of trained on. Nothing is ever unpickled.
"""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from minidiff.files import write_whole

Optimizer = torch.optim.Optimizer


def save(path: Path, tensors: dict[str, Tensor], state: dict) -> None:
    """Write `tensors` and the JSON-able `state` to `path`, atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(state)
    write_whole(path, to_bytes(tensors, {"state": text, "digest": digest(tensors, text)}))


def load(path: Path) -> tuple[dict[str, Tensor], dict]:
    """What `save` wrote. Raises FileNotFoundError, or ValueError when the file is damaged or something else."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint: there is no file {path}")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"checkpoint: {path} is damaged or no safetensors file ({error})") from error
    if header.get("digest") != digest(tensors, header.get("state", "")):
        raise ValueError(
            f"checkpoint: {path} is damaged, its contents do not match its digest; delete it to start anew"
        )
    return tensors, json.loads(header["state"])


def digest(tensors: dict[str, Tensor], text: str) -> str:
    """SHA-256 over names, types, shapes and bytes of the tensors, in order of name, and over `text`."""
    total = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()


def flatten_optimizer(optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimizer's memory as flat tensors: "3.exp_avg" is the first moment of parameter 3."""
    memory = optimizer.state_dict()["state"]
    return {f"{index}.{name}": torch.as_tensor(value) for index, row in memory.items() for name, value in row.items()}


def restore_optimizer(optimizer: Optimizer, flat: dict[str, Tensor]) -> None:
    """Undo `flatten_optimizer`."""
    memory: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        index, name = key.split(".", 1)
        memory.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": memory})
