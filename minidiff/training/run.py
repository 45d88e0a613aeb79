"""One training under way: the network, its average and the optimizer, on one process or several.

Accelerate moves the data and shares out the work (https://huggingface.co/docs/accelerate); nothing here asks how many
processes there are, except to give each its own part of the batch.
"""

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from minidiff.fast.learning import quick_layers
from minidiff.training.bank import Bank, Watch, batch_seeds, draw, unwatched
from minidiff.training.checkpoint import flatten_optimizer, restore_optimizer
from minidiff.training.ema import EMA
from minidiff.training.recipe import Recipe


class Objective(nn.Module):
    """The loss as a module: several processes synchronise gradients in `forward`, so the whole loss must be inside."""

    def __init__(self, recipe: Recipe, network: nn.Module):
        super().__init__()
        self.recipe, self.network = recipe, network

    def forward(self, rows: Bank, seeds: Tensor, part: float) -> Tensor:
        return self.recipe.loss(self.network, rows, seeds, part).mean()


class Run:
    """Data in memory, a network with its random start (from the recipe's seed), and everything a step changes.

    Raises ValueError when the batch cannot be shared equally between the processes.
    """

    def __init__(self, recipe: Recipe, accelerator: Accelerator, watch: Watch = unwatched):
        if recipe.batch % accelerator.num_processes:
            raise ValueError(f"batch: expected a multiple of {accelerator.num_processes} processes, got {recipe.batch}")
        self.recipe, self.accelerator = recipe, accelerator
        self.bank = {name: values.to(accelerator.device) for name, values in recipe.bank(watch).items()}
        torch.manual_seed(recipe.seed)
        self.network = recipe.network().to(accelerator.device)
        recipe.prepare(self.network, self.bank)
        self.ema = EMA(self.network, recipe.decay)
        settings = {"betas": recipe.betas, "weight_decay": recipe.weight_decay, "fused": True}
        adam = torch.optim.AdamW(recipe.groups(self.network), recipe.lr, **settings)
        self.objective, self.optimizer = accelerator.prepare(Objective(recipe, self.network), adam)

    def step(self, number: int, lr: float) -> float:
        """One step of AdamW on batch `number`; returns the loss before it, averaged over all processes."""
        if number in self.recipe.restarts:
            self.ema.copy_to(self.network)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["pace"]
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        seeds = batch_seeds(self.recipe.seed, number, self.recipe.batch, rank, ranks).to(self.accelerator.device)

        with quick_layers(self.network):
            loss = self.objective(draw(self.bank, seeds), seeds, number / self.recipe.steps)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.objective.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update(self.network, number)
        return self.accelerator.reduce(loss.detach(), "mean").item()

    def finish(self) -> dict[str, Tensor]:
        """The tensors of what is kept: averaged weights, and what is measured with them on the data."""
        self.ema.copy_to(self.network)
        self.recipe.finish(self.network, self.bank)
        return self.recipe.kept(self.network).state_dict()

    def tensors(self) -> dict[str, Tensor]:
        """Everything a later process needs to go on."""
        return self.weights() | prefixed("optimizer/", flatten_optimizer(self.optimizer))

    def weights(self) -> dict[str, Tensor]:
        """What has been learned so far, as it is and averaged."""
        return prefixed("network/", self.network.state_dict()) | prefixed("average/", self.ema.average)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Undo `tensors`."""
        self.network.load_state_dict(part(tensors, "network/"))
        self.ema.load(part(tensors, "average/"))
        restore_optimizer(self.optimizer, part(tensors, "optimizer/"))


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undone by `part`."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
