"""`Denoiser` and `Guided` around a quick network: told once what to draw, then asked at one noise level after the other."""

from typing import Any, Protocol

import torch
from torch import Tensor

from minidiff.classifier_free import Guided, guide
from minidiff.conditioning import Condition, join
from minidiff.denoiser import Denoiser, Prediction, to_prediction
from minidiff.pair import Pair, Sides


class Quick(Protocol):
    """A network made quick: x (n, C, H, W) at level t -> its output for the R = n or 2 n rows that it was told about."""

    def tell(self, x: Tensor, condition: Condition) -> Any: ...

    def __call__(self, x: Tensor, t: float, told: Any) -> Tensor: ...


class QuickDenoiser(Denoiser):
    """A denoiser that asks `quick` in place of its network, wherever all items have one noise level."""

    def __init__(self, plain: Denoiser, quick: Quick) -> None:
        super().__init__(plain.net, plain.schedule, plain.predicts)
        self.quick = quick
        self.untold: dict[tuple[int, ...], Any] = {}  # what the network knows about pictures of a shape, told nothing

    def forward(self, x_t: Tensor, t: float | Tensor, **cond: Tensor) -> Prediction:
        if torch.is_tensor(t):
            return super().forward(x_t, t, **cond)
        if cond:
            told = self.quick.tell(x_t, Condition(**cond))
        elif (told := self.untold.get(x_t.shape)) is None:
            told = self.untold[x_t.shape] = self.quick.tell(x_t, Condition())
        return self.predict(x_t, t, self.quick(x_t, t, told))

    def predict(self, x_t: Tensor, t: float, output: Tensor) -> Prediction:
        return to_prediction(self.predicts, x_t, output, *self.schedule.levels(t, x_t))


class QuickPair(Pair):
    """`Pair` of two `QuickGuided` around one `QuickDenoiser`."""

    def __init__(self, source: "QuickGuided", target: "QuickGuided") -> None:
        super().__init__(source, target)
        self.told: dict[tuple[int, Sides], Any] = {}

    def ask(self, rows: Tensor, t: float, guided: Sides) -> Prediction:
        key, denoiser = (len(rows), guided), self.target.denoiser
        if key not in self.told:
            self.told[key] = denoiser.quick.tell(rows, self.condition(*key))
        return denoiser.predict(rows, t, denoiser.quick(rows, t, self.told[key]))

    def rows(self, index: slice | Tensor) -> "QuickPair":
        return QuickPair(self.source.rows(index), self.target.rows(index))


class QuickGuided(Guided):
    """Guidance of the network's output, from which the prediction follows linearly: once, not of x0 and of eps."""

    def __init__(self, plain: Guided, denoiser: QuickDenoiser) -> None:
        super().__init__(denoiser, plain.given, plain.null, plain.scale, plain.interval)
        self.scale = self.scale if self.scale.ndim else self.scale.cpu()
        self.told: dict[tuple[int, bool], Any] = {}

    def forward(self, x_t: Tensor, t: float | Tensor) -> Prediction:
        if torch.is_tensor(t):
            return super().forward(x_t, t)
        low, high = self.interval
        both = self.guides and bool(low <= torch.tensor(t) / (self.schedule.T - 1) <= high)
        output = self.denoiser.quick(x_t, t, self.tell(x_t, both))
        if both:
            scale = self.scale.to(x_t).view(-1, 1, 1, 1) if self.scale.ndim else self.scale.item()
            output = guide(*output.chunk(2), scale)
        return self.denoiser.predict(x_t, t, output)

    def tell(self, x_t: Tensor, both: bool) -> Any:
        """What the network is to know about these items, or about each of them twice: given, and null."""
        if (len(x_t), both) not in self.told:
            given = self.given.repeat(len(x_t))
            condition = join(given, self.null.repeat(len(x_t))) if both else given
            self.told[len(x_t), both] = self.denoiser.quick.tell(x_t, condition)
        return self.told[len(x_t), both]

    def rows(self, index: slice | Tensor) -> "QuickGuided":
        part = super().rows(index)
        part.told = {}
        return part
