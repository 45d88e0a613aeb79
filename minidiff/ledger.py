"""What a network's memory and traffic will be, from shapes alone: every tensor is written down when it is born and crossed
out when it dies. On the device "meta", where nothing is computed, this speaks of networks that no machine here could hold.
"""

import weakref
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Ledger(TorchDispatchMode):
    """`with Ledger() as ledger:` network(x). Then `peak` is the most bytes of tensors made inside that lived at one time,
    and `moved` the bytes that operations took and made; views cost nothing, nor does what a kernel reads twice."""

    def __init__(self) -> None:
        super().__init__()
        self.alive, self.moved, self.peak = {}, 0, 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        given = tensors((args, kwargs))
        old = {id(t.untyped_storage()) for t in given} | self.alive.keys()
        result = operation(*args, **(kwargs or {}))
        if made := [t for t in tensors(result) if id(t.untyped_storage()) not in old]:
            self.moved += sum(t.nbytes for t in given + made)
        for key, storage in {id(t.untyped_storage()): t.untyped_storage() for t in made}.items():
            self.alive[key] = storage.nbytes()
            weakref.finalize(storage, self.alive.pop, key)
        self.peak = max(self.peak, sum(self.alive.values()))
        return result


def tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
