import os

import pytest
import torch

from minidiff.training.checkpoint import flatten_optimizer, load, restore_optimizer, save

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3), "empty": torch.empty(0, 4)}


def test_what_is_saved_is_loaded(tmp_path):
    save(tmp_path / "new" / "x.safetensors", TENSORS, {"step": 3, "window": [0.1, 1 / 3]})
    tensors, state = load(tmp_path / "new" / "x.safetensors")
    assert state == {"step": 3, "window": [0.1, 1 / 3]}
    assert tensors.keys() == TENSORS.keys() and all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_a_failure_while_saving_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    save(path, TENSORS, {"step": 1})
    before = path.read_bytes()

    def full_disk(handle):
        raise OSError("No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space"):
            save(path, {"a": torch.zeros(2, 3)}, {"step": 2})
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["x.safetensors"]
    with pytest.raises(TypeError):
        save(path, TENSORS, {"step": object()})
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["x.safetensors"]


def test_any_flipped_byte_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    save(path, TENSORS, {"step": 1})
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        try:
            tensors, state = load(path)
        except ValueError as error:
            assert "damaged" in str(error)
        else:  # a blank that pads the header: nothing that was saved has changed
            assert whole[place : place + 1] == b" " and state == {"step": 1}
            assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_truncated_missing_or_foreign_files_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load(path)
    save(path, TENSORS, {})
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="damaged"):
        load(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="damaged"):
        load(path)


def test_the_optimizer_goes_on_as_if_it_had_not_stopped():
    def start():
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        return layer, torch.optim.AdamW(layer.parameters(), 0.1, (0.9, 0.99))

    def advance(layer, optimizer):
        layer(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    (layer, optimizer), (other, fresh) = start(), start()
    advance(layer, optimizer)
    other.load_state_dict(layer.state_dict())
    restore_optimizer(fresh, {name: value.clone() for name, value in flatten_optimizer(optimizer).items()})
    for pair in ((layer, optimizer), (other, fresh)):
        advance(*pair)
    assert torch.equal(layer.weight, other.weight)
