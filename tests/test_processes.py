"""Two processes do what one does: training, resuming on another number of them, evaluation, and one of them writes."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from minidiff.evaluation import results
from minidiff.processes import from_first, here, joined, share, shared, summed
from minidiff.training import train
from minidiff.training.checkpoint import load
from minidiff.training.loop import CHECKPOINT, METRICS, MODEL
from minidiff.training.metrics import rows

SCRIPT = Path(__file__).with_name("in_two.py")
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
LAUNCH += ["--mixed_precision=no", "--dynamo_backend=no", "--num_cpu_threads_per_process=1", "--main_process_port=0"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What one process made, and what two made; each also went on from where the other had stopped."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    AcceleratorState._reset_state(reset_partial_state=True)
    script = runpy.run_path(str(SCRIPT))
    script["work"](one)
    shutil.copytree(one / "half", two / "begun", dirs_exist_ok=True)
    root = str(SCRIPT.parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}
    done = subprocess.run(
        [*LAUNCH, str(SCRIPT), str(two)], env=environment, capture_output=True, text=True, timeout=3000
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shutil.rmtree(one / "begun")
    shutil.copytree(two / "half", one / "begun")
    list(train(script["RECIPE"], one / "begun", cpu=True))
    return one, two


def test_alone_every_process_has_it_all():
    assert here() == (0, 1) and share(3) == range(0, 3)
    assert torch.equal(joined(torch.arange(3), 3), torch.arange(3))
    assert torch.equal(shared(lambda index: index + 1, 5, batch=2), torch.arange(1, 6))
    assert summed(2.5) == 2.5 and from_first(lambda: "made") == "made"
    with pytest.raises(ValueError, match="part: expected a row for each of this process's 4 items, got 3"):
        joined(torch.arange(3), 4)


def test_each_item_is_done_once_and_all_get_all(folders):
    one, two = folders
    alone = load_file(one / "parts-0.safetensors")
    for rank in range(2):
        found = load_file(two / f"parts-{rank}.safetensors")
        assert found.keys() == alone.keys()
        assert all(torch.equal(found[name], alone[name]) for name in alone)
    assert alone["joined 7"][:, 1].tolist() == [0, 1, 4, 9, 16, 25, 36] and alone["summed"] == 7
    assert alone["bank"].shape == (47, 3, 16, 16)


@pytest.mark.parametrize("run", ["whole", "begun"])
def test_training_ends_the_same_on_one_process_on_two_and_on_both_in_turn(folders, run):
    """Up to rounding; where a gradient is next to nothing, Adam makes a part of a step of lr = 1e-3 out of that."""
    wanted, _ = load(folders[0] / "whole" / CHECKPOINT)
    for folder in folders:
        found, where = load(folder / run / CHECKPOINT)
        assert where["step"] == 6 and found.keys() == wanted.keys()
        for name in wanted:
            torch.testing.assert_close(found[name], wanted[name], rtol=1e-3, atol=2e-4, msg=name)
        losses = [row["loss"] for row in rows(folder / run / METRICS)]
        assert losses == pytest.approx([row["loss"] for row in rows(folders[0] / "whole" / METRICS)], rel=1e-6)
    assert load(folders[1] / "whole" / MODEL)[1]["machine"]["processes"] == 2


def test_the_checkpoint_of_the_other_number_was_gone_on_from(folders):
    """Not begun anew: the rows of the metrics before it are the other's own, to the last digit."""
    for begun, other in (folders, folders[::-1]):
        assert load(other / "half" / CHECKPOINT)[1]["step"] == 3
        first = next(rows(begun / "begun" / METRICS))
        assert first == next(rows(other / "half" / METRICS)) and first["step"] == 2


def test_an_evaluation_finds_the_same_on_two_processes_and_one_of_them_writes(folders):
    alone, together = (results.read("translation", folder / "results") for folder in folders)
    assert together.machine["processes"] == 2 and "processes" not in alone.machine
    assert [row.name for row in together.rows] == [row.name for row in alone.rows]
    for mine, theirs in zip(together.rows, alone.rows):
        if mine.quantity != "seconds":
            same = mine.value is theirs.value is None or mine.value == pytest.approx(theirs.value, rel=1e-3, abs=1e-4)
            assert same, (mine, theirs)
            assert mine.n == theirs.n
    ours, theirs = ({path.name for path in (folder / "results").iterdir()} for folder in folders)
    assert ours == theirs and len(ours) == 5
