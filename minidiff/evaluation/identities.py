"""How well a network tells individuals apart that it never met: verification, two pictures and the question "the same?".

One threshold on the cosine decides; its two kinds of error trade off (Deng et al., "ArcFace", CVPR 2019, section 3).
"""

import torch
from torch import Tensor

from minidiff.nets.identity import IdentityNet
from minidiff.nets.probe import augment
from minidiff.processes import joined, share


def identity_report(network: IdentityNet, pictures, batch: int = 250) -> dict[str, float]:
    """`verification` of all pairs of some pictures of known individuals, and of the same pictures blurred and noisy."""
    individuals = pictures.factors(slice(0, len(pictures))).individual
    figures = verification(*pairs(vectors(network, pictures, batch), individuals))
    rough = verification(*pairs(vectors(network, pictures, batch, rough=True), individuals))
    return figures | {
        "equal_error_rate_of_rough_pictures": rough["equal_error_rate"],
        "median_cosine_of_one_individual_in_rough_pictures": rough["median_cosine_of_one_individual"],
        "individuals": len(individuals.unique()),
        "pictures": len(pictures),
    }


@torch.no_grad()
def vectors(network: IdentityNet, pictures, batch: int = 250, rough: bool = False) -> Tensor:
    """The unit vectors of all pictures (B, D), on the CPU; rough: of each as `minidiff.nets.probe.augment` leaves it.

    Several processes share the pictures out; all must ask.
    """
    weight, parts = network.project.weight, []
    for indices in torch.tensor(share(len(pictures)), dtype=torch.long).split(batch):
        images = augment(pictures[indices], indices) if rough else pictures[indices]
        parts.append(network(images.clamp(-1, 1).to(weight)).cpu())
    return joined(torch.cat(parts), len(pictures))


def pairs(vectors: Tensor, individuals: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines of all pairs of unit vectors (B, D): those of one individual, and those of two; individuals (B,)."""
    first, second = torch.triu_indices(len(vectors), len(vectors), offset=1)
    cosines, one = (vectors @ vectors.T)[first, second], individuals[first] == individuals[second]
    return cosines[one], cosines[~one]


def verification(same: Tensor, different: Tensor) -> dict[str, float]:
    """Cosines of true pairs (S,) and of false ones (D,) -> medians, equal error rate, rates of true pairs accepted.

    Raises ValueError where there is no pair of one kind.
    """
    if not (len(same) and len(different)):
        raise ValueError(
            f"pairs: expected some of one individual and some of two, got {len(same)} and {len(different)}"
        )
    return {
        "equal_error_rate": equal_error_rate(same, different),
        "true_rate_at_false_rate_0.01": true_rate(same, different, 0.01),
        "true_rate_at_false_rate_0.001": true_rate(same, different, 0.001),
        "median_cosine_of_one_individual": same.median().item(),
        "median_cosine_of_two_individuals": different.median().item(),
    }


def equal_error_rate(same: Tensor, different: Tensor) -> float:
    """The least e for which some threshold errs in no more than e of the true pairs and of the false ones."""
    same, different = same.sort().values, different.sort().values
    thresholds = torch.cat([same, different, torch.tensor([torch.inf])])  # accepted from there on
    missed = torch.searchsorted(same, thresholds) / len(same)
    mistaken = 1 - torch.searchsorted(different, thresholds) / len(different)
    return torch.maximum(missed, mistaken).min().item()


def true_rate(same: Tensor, different: Tensor, false_rate: float) -> float:
    """How many of the true pairs are accepted by the lowest threshold that accepts no more of the false ones than that.

    Raises ValueError for a rate outside [0, 1).
    """
    if not 0 <= false_rate < 1:
        raise ValueError(f"false_rate: expected a number in [0, 1), got {false_rate}")
    first_refused = different.sort(descending=True).values[int(false_rate * len(different))]
    return (same > first_refused).double().mean().item()
