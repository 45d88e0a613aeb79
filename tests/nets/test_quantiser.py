"""The quantiser against cases worked out on paper."""

import math
import subprocess
import sys
import textwrap

import pytest
import torch
from safetensors.torch import load_file

from minidiff.nets import quantiser as module
from minidiff.nets.quantiser import COMMITMENT, DECAY, Upkeep, VectorQuantiser, entropy, perplexity, use

SEED = torch.tensor([5])


def of_rows(rows):
    """A quantiser with this codebook."""
    made = VectorQuantiser(len(rows), len(rows[0]))
    made.codebook.copy_(torch.tensor(rows))
    return made


def line(*values):
    """Vectors of one channel in a row: (1, 1, 1, W)."""
    return torch.tensor(values, dtype=torch.float32)[None, None, None]


@pytest.fixture
def pair():
    return of_rows([[0.0, 0.0], [4.0, 2.0]])


def test_every_vector_goes_to_its_nearest_code(pair):
    raw = torch.tensor([[[[1.0, 3.0, 2.0]], [[1.0, 0.5, 1.0]]]])  # (1, 2, 1, 3): (1, 1), (3, 0.5), (2, 1) halfway
    assert pair.nearest(raw).tolist() == [[[0, 1, 0]]]
    assert pair(raw).tolist() == [[[[0.0, 4.0, 0.0]], [[0.0, 2.0, 0.0]]]]


@pytest.mark.parametrize("at_once", [1, 64, 2**24])
def test_nearest_by_brute_force_whatever_is_held_in_memory(at_once, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    torch.manual_seed(0)
    quantiser, raw = VectorQuantiser(16, 3), torch.randn(2, 3, 3, 5)  # not square
    index = quantiser.nearest(raw)
    for b, y, x in ((0, 0, 0), (0, 2, 4), (1, 1, 3)):
        distances = [(raw[b, :, y, x] - code).square().sum().item() for code in quantiser.codebook]
        assert index[b, y, x] == distances.index(min(distances))
        assert torch.equal(quantiser.look_up(index)[b, :, y, x], quantiser.codebook[index[b, y, x]])


def test_the_gradient_passes_straight_through():
    torch.manual_seed(0)
    pair, raw = of_rows([[0.1, -0.3], [0.7, 0.9]]), torch.randn(2, 2, 3, 5, requires_grad=True)
    code = pair.look_up(pair.nearest(raw)).requires_grad_()
    weight = torch.randn(2, 2, 3, 5)
    (weight * pair(raw).sin()).sum().backward()
    (weight * code.sin()).sum().backward()
    assert torch.equal(raw.grad, code.grad) and raw.grad.abs().min() > 0
    assert torch.equal(pair(raw), code)  # to the last bit


def test_the_loss_and_its_gradient_on_paper(pair):
    raw = torch.tensor([[[[1.0]], [[1.0]]], [[[3.0]], [[0.5]]]], requires_grad=True)  # (2, 2, 1, 1)
    loss = pair.loss(raw, pair.nearest(raw))
    squares = torch.tensor([(1.0 + 1.0) / 2, (1.0 + 2.25) / 2])  # to (0, 0) and to (4, 2), mean over channels
    assert torch.allclose(loss, COMMITMENT * squares) and COMMITMENT == 0.25
    loss.sum().backward()
    assert torch.allclose(raw.grad.flatten(), COMMITMENT * torch.tensor([1.0, 1.0, -1.0, -1.5]))


def test_no_gradient_reaches_the_codebook(pair):
    raw = torch.randn(1, 2, 2, 2, requires_grad=True)
    (pair(raw).sum() + pair.loss(raw, pair.nearest(raw)).sum()).backward()
    assert pair.codebook.grad is None and not pair.codebook.requires_grad


def test_codes_move_to_the_running_mean_of_their_vectors():
    quantiser = of_rows([[0.0], [10.0]])
    upkeep, new = Upkeep(2, 1, patience=9), 1 - DECAY
    for raw in (line(1.0, 2.0, 12.0), line(2.0, 11.0, 11.0)):
        upkeep(quantiser, raw, quantiser.nearest(raw), SEED)
    counts = [DECAY * 2 + 1, DECAY * 1 + 2]  # times `new`
    totals = [DECAY * 3 + 2, DECAY * 12 + 22]
    assert upkeep.count.tolist() == pytest.approx([new * count for count in counts])
    assert quantiser.codebook.flatten().tolist() == pytest.approx([t / c for t, c in zip(totals, counts)])


def test_the_mean_of_equal_vectors_is_the_fixed_point_of_equation_3():
    """Where the gradient of its middle term, sum over the code's vectors of (code - vector), is 0."""
    quantiser, raw = of_rows([[0.0], [100.0]]), line(1.0, 2.0, 6.0)
    upkeep = Upkeep(2, 1, patience=9)
    for _ in range(3):
        upkeep(quantiser, raw, quantiser.nearest(raw), SEED, revive=False)
    code = quantiser.codebook[0].clone().requires_grad_()
    (code - raw).square().sum().backward()
    assert code.grad.item() == pytest.approx(0, abs=1e-5)


def test_only_codes_unused_for_long_enough_are_revived_and_where_the_seed_says():
    start = [[0.0], [10.0], [500.0], [700.0]]
    raw = line(0.0, 1.0, 9.0, 10.0)

    def revived(seed, patience=3):
        quantiser, upkeep, moved = of_rows(start), Upkeep(4, 1, patience), []
        upkeep.idle.zero_()
        for step in range(patience):
            moved.append(upkeep(quantiser, raw, quantiser.nearest(raw), torch.tensor([seed + step])).tolist())
        return quantiser.codebook.flatten().tolist(), moved, upkeep.idle.tolist()

    codebook, moved, idle = revived(7)
    assert moved == [[False] * 4, [False] * 4, [False, False, True, True]]
    assert codebook[:2] == pytest.approx([0.5, 9.5]) and set(codebook[2:]) <= set(raw.flatten().tolist())
    assert idle == [0, 0, 0, 0]
    assert revived(7) == (codebook, moved, idle)
    torch.manual_seed(1)
    assert revived(7) == (codebook, moved, idle)  # nothing is drawn from torch's own generator
    assert len({tuple(revived(seed)[0]) for seed in range(20)}) > 8  # of 16 equally likely pairs


def test_use_makes_a_code_young_again():
    quantiser, upkeep = of_rows([[0.0], [10.0]]), Upkeep(2, 1, patience=2)
    upkeep.idle.zero_()
    for raw in (line(0.0), line(10.0), line(0.0), line(10.0)):  # never unused twice in a row
        assert not upkeep(quantiser, raw, quantiser.nearest(raw), SEED).any()
    assert quantiser.codebook.flatten().tolist() == pytest.approx([0.0, 10.0])
    assert upkeep(quantiser, line(10.0), torch.ones(1, 1, 1, dtype=torch.long), SEED).tolist() == [True, False]


def test_at_first_all_codes_are_placed_and_late_ones_stay():
    raw = torch.randn(8, 3, 4, 4)
    quantiser, upkeep = of_rows([[50.0 + k] * 3 for k in range(6)]), Upkeep(6, 3, patience=100)
    assert not upkeep(quantiser, raw, quantiser.nearest(raw), SEED, revive=False)[1:].any()
    assert quantiser.codebook[1:].min() >= 51
    assert upkeep(quantiser, raw, quantiser.nearest(raw), SEED).sum() == 5  # all but the one in use
    assert quantiser.codebook.abs().max() <= raw.abs().max()


def test_a_code_without_vectors_keeps_its_place_for_ever():
    """The running count of such a code becomes 0 in float32: nothing may be divided by it."""
    quantiser, upkeep = of_rows([[0.0], [10.0]]), Upkeep(2, 1, patience=9)
    for raw in [line(0.0, 11.0)] + 3_000 * [line(0.0)]:
        upkeep(quantiser, raw, quantiser.nearest(raw), SEED, revive=False)
    assert quantiser.codebook.flatten().tolist() == pytest.approx([0.0, 11.0])


def test_use_entropy_and_perplexity_by_hand():
    index = torch.tensor([[0, 0], [1, 2]])
    counts = use(index, 5)
    assert counts.tolist() == [2, 1, 1, 0, 0]
    assert entropy(counts).item() == pytest.approx(0.5 * 1 + 0.25 * 2 + 0.25 * 2)
    assert perplexity(counts).item() == pytest.approx(2**1.5)
    assert perplexity(torch.tensor([7, 0, 0])).item() == 1
    assert perplexity(torch.tensor([3] * 6)).item() == pytest.approx(6)
    assert entropy(torch.tensor([3] * 6)).item() == pytest.approx(math.log2(6))


def test_processes_count_together_and_agree(tmp_path):
    script = """
        import sys, torch
        import torch.distributed as processes
        from safetensors.torch import save_file
        from minidiff.nets.quantiser import Upkeep, VectorQuantiser
        rank, folder = int(sys.argv[1]), sys.argv[2]
        processes.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
        quantiser, upkeep = VectorQuantiser(4, 1), Upkeep(4, 1, patience=1)
        quantiser.codebook.copy_(torch.tensor([[0.0], [10.0], [20.0], [90.0]]))
        raw = torch.tensor([[1.0, 9.0], [5.0, 21.0]][rank])[None, None, None]
        moved = upkeep(quantiser, raw, quantiser.nearest(raw), torch.tensor([3 + rank]))
        save_file({"codebook": quantiser.codebook.data, "moved": moved} | upkeep.state_dict(), f"{folder}/{rank}.safetensors")
        processes.destroy_process_group()
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    both = [subprocess.Popen([*command, str(rank), tmp_path]) for rank in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["moved"].tolist() == [False, False, False, True]  # 20 is used by the second process
    codebook = first["codebook"].flatten()
    assert codebook[:3].tolist() == pytest.approx([3.0, 9.0, 21.0])  # 5 is as near to 0: the first of equals
    assert codebook[3].item() in (1.0, 9.0)  # a vector of the first process


def test_bad_input():
    with pytest.raises(ValueError, match="codes: expected at least 2, got 1"):
        VectorQuantiser(1, 3)
    with pytest.raises(ValueError, match="patience: expected at least 1 step, got 0"):
        Upkeep(4, 3, patience=0)
