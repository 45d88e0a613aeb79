"""What the training loop wants to know: a recipe is one frozen dataclass instance, and it decides a trained model.

The loop knows nothing about kinds of models: it asks a recipe for a network, a bank of data and a loss per item.
"""

import dataclasses
import itertools
from abc import ABC, abstractmethod
from dataclasses import MISSING, dataclass
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from minidiff.data.pictures import Pictures, PictureStream
from minidiff.processes import joined, share
from minidiff.training.bank import Bank, Watch, picture_bank, unwatched


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """Everything that decides a trained model. `pictures` and `held_out` are functions that open sets of pictures."""

    name: str
    config: Any
    pictures: partial
    held_out: partial
    seed: int
    steps: int
    batch: int
    lr: float  # the highest; reached after `warmup` steps, then a cosine down to 1 % of it
    warmup: int = 200
    restarts: tuple[int, ...] = ()  # at these steps the average takes the network's place and the lr rises again ...
    restart_lr: float = 0.0  # ... to this
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    decay: float = 0.999  # of the average of the weights
    clip: float = 1.0  # longest gradient
    log_every: int = 50
    checkpoint_every: int = 250
    stages: tuple[int, ...] = ()  # after these steps the weights of then are kept, too
    bits: int = 16  # of a weight in the zoo: 16, or 8 for matrices and kernels
    licence: str = "CC BY 4.0"
    kind: ClassVar[str]

    def __post_init__(self):
        for field in ("steps", "batch", "log_every", "checkpoint_every"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field}: expected at least 1, got {getattr(self, field)}")
        if self.bits not in (8, 16):
            raise ValueError(f"bits: expected 8 or 16, got {self.bits}")
        legs = (0, *self.restarts, self.steps)
        if not all(first < last for first, last in itertools.pairwise(legs)):
            raise ValueError(f"restarts: expected rising steps from 1 to {self.steps - 1}, got {self.restarts}")
        if not all(1 <= stage <= self.steps for stage in self.stages):
            raise ValueError(f"stages: expected steps from 1 to {self.steps}, got {self.stages}")

    @abstractmethod
    def network(self) -> nn.Module:
        """A new network. Its random start is the caller's business."""

    @abstractmethod
    def loss(self, network: nn.Module, rows: Bank, seeds: Tensor, part: float = 0.0) -> Tensor:
        """Loss per item (B,) when `part` in [0, 1) of the training is over; all its randomness is from `seeds` (B,)."""

    @abstractmethod
    def figures(self, network: nn.Module) -> dict[str, float]:
        """What the finished network is worth on held-out pictures, for the manifest."""

    def rows(self, pictures: Pictures | PictureStream, indices: range, watch: Watch = unwatched) -> Bank:
        """What the loss needs of the pictures at `indices`, one row each: by default the pictures alone."""
        return {"images": picture_bank(pictures, indices, watch)}

    def bank(self, watch: Watch = unwatched) -> Bank:
        """The training data, one row per picture. Several processes make it together, and each gets all of it."""
        pictures = self.pictures()
        part = self.rows(pictures, share(len(pictures)), watch)
        return {name: joined(values, len(pictures)) for name, values in part.items()}

    def wrap(self, network: nn.Module) -> nn.Module:
        """What the loss needs around the network that the zoo keeps."""
        return network

    def groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """The weights in groups for the optimizer; a group learns at `pace` times the lr."""
        return [{"params": list(network.parameters()), "pace": 1.0}]

    def kept(self, network: nn.Module) -> nn.Module:
        """The part of a training network that is written when the training is over."""
        return network

    def sources(self) -> dict[str, str]:
        """Hashes of the zoo's models that this one is trained on. Raises ValueError when they are not there yet."""
        return {}

    def prepare(self, network: nn.Module, bank: Bank) -> None:  # noqa: B027  most have nothing to measure
        """What the network must measure on the data before training."""

    def finish(self, network: nn.Module, bank: Bank) -> None:  # noqa: B027
        """What the network must measure on the data after training."""

    def fields(self) -> dict[str, Any]:
        """The recipe as JSON-able data: a function becomes its name and arguments."""
        return {"kind": self.kind} | {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    def completed(self, recorded: dict[str, Any]) -> dict[str, Any]:
        """The `fields` of a recipe as some version wrote them down; a field that came later has its default.

        So the default of a new field is whatever leaves older recipes as they were.
        """
        return defaults(self) | recorded | {"config": defaults(self.config) | recorded["config"]}


def defaults(instance: Any) -> dict[str, Any]:
    """The default of each field of a dataclass that has one, as JSON-able data."""
    made = {f.name: f.default_factory() for f in dataclasses.fields(instance) if f.default_factory is not MISSING}
    given = {f.name: f.default for f in dataclasses.fields(instance) if f.default is not MISSING}
    return plain(made | given)


def plain(value: Any) -> Any:
    """Data that JSON can hold, readable by people."""
    if isinstance(value, partial):
        positional = {"arguments": plain(value.args)} if value.args else {}
        return {"function": value.func.__name__} | positional | plain(value.keywords)
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, range):
        return str(value)
    return value.__name__ if callable(value) else value
