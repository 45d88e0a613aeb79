"""Pictures from Hugging Face `datasets`, by every way that needs no network: each gives what the same folder of files gives."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from minidiff.data.folder import ImageFolder
from minidiff.data.hub import HubPictures, HubStream
from minidiff.data.pictures import Pictures, PictureStream
from minidiff.training.bank import picture_bank, to_bytes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of three pictures, larger than they are read and no squares; one of them lies on its side."""
    root, noise, exif = tmp_path_factory.mktemp("hub") / "animals", np.random.default_rng(0), Image.Exif()
    exif[0x0112] = 6
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(3):
            image = Image.fromarray(noise.integers(0, 256, (20, 30, 3), dtype=np.uint8))
            image.save(root / name / f"{number}.png", **({"exif": exif} if number == 2 else {}))
    return root


@pytest.fixture(scope="module")
def table(folder):
    """The same pictures as a dataset of the hub, bytes and all."""
    paths = sorted(folder.rglob("*.png"))
    columns = {
        "image": [{"path": path.name, "bytes": path.read_bytes()} for path in paths],
        "label": [("cat", "dog").index(path.parent.name) for path in paths],
    }
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    return datasets.Dataset.from_dict(columns, datasets.Features(features))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(params=["opened", "parquet", "folder of parquet", "saved", "saved splits", "folder of images"])
def source(request, folder, table, tmp_path):
    if request.param == "opened":
        return table
    if "parquet" in request.param:
        table.to_parquet(tmp_path / "own" / "train.parquet")
        return tmp_path / "own" / "train.parquet" if request.param == "parquet" else str(tmp_path / "own")
    if "saved" in request.param:
        both = datasets.DatasetDict({"train": table, "test": table.select([0])})
        (table if request.param == "saved" else both).save_to_disk(tmp_path / "own")
        return tmp_path / "own"
    return folder


def test_every_source_gives_the_pictures_of_the_folder(source, folder):
    wanted, pictures = ImageFolder(folder, size=16), HubPictures(source, size=16)
    assert isinstance(pictures, Pictures) and not isinstance(pictures, PictureStream)
    assert pictures.shape == (3, 16, 16) and len(pictures) == 6
    assert torch.equal(pictures[:], wanted[:])
    assert pictures.classes == ("cat", "dog") and torch.equal(pictures.labels, wanted.labels)


def test_every_source_can_be_streamed(source, folder):
    wanted, stream = ImageFolder(folder, size=16), HubStream(source, 5, size=16)
    assert isinstance(stream, PictureStream) and not isinstance(stream, Pictures)
    assert torch.equal(torch.stack(list(stream)), wanted[:5])
    assert torch.equal(torch.stack(list(stream.part(1, 2))), wanted[[1, 3]])  # and it starts again each time
    assert torch.equal(picture_bank(stream), to_bytes(wanted[:5]))


def test_indices_are_those_of_every_set(table):
    pictures = HubPictures(table, size=16)
    assert torch.equal(pictures[4], pictures[:][4]) and torch.equal(pictures[[-1, 0]], pictures[:][[5, 0]])
    assert pictures[[]].shape == (0, 3, 16, 16) and len(list(pictures)) == 6
    with pytest.raises(IndexError, match="there is no picture 6"):
        pictures[6]


def test_some_classes_only_and_in_grey(table, folder):
    wanted, grey = ImageFolder(folder, size=16, classes="dog"), ImageFolder(folder, size=16, channels=1)
    dogs = HubPictures(table, size=16, classes="dog")
    assert torch.equal(dogs[:], wanted[:]) and dogs.classes == ("dog",) and dogs.labels.tolist() == [0, 0, 0]
    assert torch.equal(torch.stack(list(HubStream(table, 3, size=16, classes=["dog"]))), wanted[:])
    assert torch.equal(HubPictures(table, size=16, channels=1)[:], grey[:])
    assert HubPictures(table, size=16, classes=("dog", "cat")).labels.tolist() == [1, 1, 1, 0, 0, 0]


def test_a_buffer_mixes_a_stream_the_same_way_each_time(table):
    plain, mixed, other = (
        torch.stack(list(HubStream(table, 6, size=8, shuffle=shuffle, seed=seed)))
        for shuffle, seed in ((0, 0), (6, 0), (6, 1))
    )
    again = torch.stack(list(HubStream(table, 6, size=8, shuffle=6, seed=0)))
    assert torch.equal(mixed, again) and not torch.equal(mixed, plain) and not torch.equal(mixed, other)
    assert torch.equal(mixed.sum((1, 2, 3)).sort().values, plain.sum((1, 2, 3)).sort().values)  # each of them once


def test_a_set_without_labels_has_no_classes(table):
    pictures = HubPictures(table.remove_columns("label"), size=8)
    assert pictures.classes == () and len(pictures) == 6
    with pytest.raises(ValueError, match="classes: no class cat; there are none"):
        HubPictures(table.remove_columns("label"), classes="cat")


def test_bad_input_is_named(table, tmp_path):
    with pytest.raises(ValueError, match="column: no column 'picture' in dataset; there is image, label"):
        HubPictures(table, column="picture")
    with pytest.raises(ValueError, match="classes: no class fox; there are cat, dog"):
        HubStream(table, 3, classes="fox")
    with pytest.raises(ValueError, match="size: expected a side of at least 1"):
        HubPictures(table, size=0)
    with pytest.raises(ValueError, match="length: expected at least 1"):
        HubStream(table, 0)
    with pytest.raises(ValueError, match="length: dataset, train has 6 such pictures, expected 7"):
        list(HubStream(table, 7, size=8).part(0, 4))
    with pytest.raises(ValueError, match="read it by HubStream"):
        HubPictures(table.to_iterable_dataset())
    datasets.DatasetDict({"test": table}).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match="split: no 'train' in .*; there is test"):
        HubPictures(tmp_path / "saved")


def test_a_damaged_picture_is_named_by_its_row(table):
    cells = table.cast_column("image", datasets.Image(decode=False))["image"][:]
    cells[1] = cells[1] | {"bytes": cells[1]["bytes"][:200]}
    cells[2] = None
    broken = datasets.Dataset.from_dict({"image": cells}, datasets.Features({"image": datasets.Image()}))
    pictures = HubPictures(broken, size=8)
    assert pictures[0].shape == (3, 8, 8)
    with pytest.raises(ValueError, match="dataset, train, row 1 is truncated or damaged"):
        pictures[[0, 1]]
    with pytest.raises(ValueError, match="row 2 holds no picture"):
        pictures[2]
