"""Fashion-MNIST: the right pictures under the right names, and nothing taken for them that is not."""

import functools
import gzip
import http.server
import struct
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from minidiff.data import fashion, fashion_files
from minidiff.data.fashion import CLASSES, FashionMNIST, read_subset, write_subset
from minidiff.data.pictures import Pictures, as_indices

needs_files = pytest.mark.skipif(
    fashion_files.find("test") is None,
    reason="the files of Fashion-MNIST are not here (apt install dataset-fashion-mnist)",
)


def write_idx(path, array, magic=None):
    header = struct.pack(">I", 0x800 + array.ndim if magic is None else magic) + struct.pack(
        f">{array.ndim}I", *array.shape
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder with twenty test pictures whose every pixel is the number of the picture, and their true checksums."""
    images = np.tile(np.arange(20, dtype=np.uint8)[:, None, None], (1, 28, 28))
    labels = (np.arange(20) % 10).astype(np.uint8)
    checksums = dict(fashion_files.SHA256)
    for name, array in zip(fashion_files.names("test"), (images, labels)):
        path = tmp_path / "small" / f"{name}.gz"
        write_idx(path, array)
        checksums[name] = fashion_files.hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
    monkeypatch.setattr(fashion_files, "SHA256", checksums)
    return tmp_path / "small"


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A machine without the files, and a server that is not there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MINIDIFF_DATA", raising=False)
    monkeypatch.setattr(fashion_files, "DEBIAN", tmp_path / "debian")
    monkeypatch.setattr(fashion_files, "SOURCE", "http://127.0.0.1:9/")
    return tmp_path / "cache" / "minidiff" / "fashion-mnist"


def test_subset_is_pictures():
    subset = FashionMNIST("subset")
    assert isinstance(subset, Pictures) and len(subset) == 256 and subset.shape == (1, 32, 32)
    assert subset[:].shape == (256, 1, 32, 32) and subset[0].shape == (1, 32, 32) and subset[[]].shape == (0, 1, 32, 32)
    assert subset[:].dtype == torch.float32 and subset[:].min() == -1 and subset[:].max() == 1
    assert subset.classes == ("sneaker", "ankle-boot", "pullover", "coat")
    assert [subset.labels.eq(CLASSES.index(name)).sum().item() for name in subset.classes] == [64] * 4


def test_subset_classes_look_like_themselves():
    """Sneakers are low (nothing in the top quarter), boots are taller, coats and pullovers fill top and bottom."""
    drawn = {
        name: (FashionMNIST("subset", [name])[:] > -0.8).float().mean((0, 1, 3)) for name in fashion.SUBSET_CLASSES
    }
    top, bottom = {k: v[4:8].mean() for k, v in drawn.items()}, {k: v[26:29].mean() for k, v in drawn.items()}
    assert top["sneaker"] < 0.1 < top["ankle-boot"] and min(top["pullover"], top["coat"]) > 0.2
    assert bottom["sneaker"] < 0.3 and min(bottom["pullover"], bottom["coat"]) > 0.4


def test_padding_and_scale():
    raw = torch.from_numpy(read_subset()[0][:3].copy())
    images = FashionMNIST("subset")[:3]
    torch.testing.assert_close((images[:, 0, 2:30, 2:30] + 1) * 127.5, raw.float(), rtol=0, atol=1e-4)
    images[:, :, 2:30, 2:30] = -1
    assert (images == -1).all()
    assert torch.equal(FashionMNIST("subset", size=28)[:3], FashionMNIST("subset", size=40)[:3][:, :, 6:34, 6:34])


def test_classes_by_name():
    boots = FashionMNIST("subset", classes="Ankle boot")
    assert len(boots) == 64 and set(boots.labels.tolist()) == {9} and boots.classes == ("ankle-boot",)
    assert torch.equal(boots[:], FashionMNIST("subset")[64:128])


@needs_files
def test_shipped_subset_is_what_the_files_hold(tmp_path):
    write_subset(tmp_path / "again.png")
    with Image.open(tmp_path / "again.png") as again, Image.open(fashion.SUBSET) as shipped:
        assert np.array_equal(np.asarray(again), np.asarray(shipped))
    assert fashion.SUBSET.stat().st_size < 300_000


@needs_files
def test_whole_test_split():
    whole = FashionMNIST("test")
    assert len(whole) == 10_000 and torch.bincount(whole.labels).tolist() == [1000] * 10
    assert whole.labels[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]  # as the authors publish them
    sneakers = FashionMNIST("test", classes=["sneaker"])
    assert torch.equal(sneakers[:64], FashionMNIST("subset", classes=["sneaker"])[:])


def test_files_are_found_in_the_order_promised(small, nowhere, monkeypatch, tmp_path):
    assert fashion_files.find("test") is None
    monkeypatch.setattr(fashion_files, "DEBIAN", small)
    assert fashion_files.find("test") == small
    assert fashion_files.find("train") is None  # a folder counts only with both files of the split
    monkeypatch.setenv("MINIDIFF_DATA", str(tmp_path / "own"))
    small.rename(tmp_path / "own")
    assert fashion_files.find("test") == tmp_path / "own"
    assert len(FashionMNIST("test")) == 20


def test_root_is_the_only_place_when_given(small, tmp_path):
    bags = FashionMNIST("test", root=small, classes=["bag"])
    torch.testing.assert_close(bags[:][:, 0, 16, 16], torch.tensor([8, 18]) / 127.5 - 1)
    with pytest.raises(FileNotFoundError, match=r"root: no t10k-images.*elsewhere"):
        FashionMNIST("test", root=tmp_path / "elsewhere")


def test_download_through_a_real_server(small, nowhere, monkeypatch, capfd):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=small)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(fashion_files, "SOURCE", f"http://127.0.0.1:{server.server_port}/")
        assert len(FashionMNIST("test")) == 20
        assert "t10k-images-idx3-ubyte.gz" in capfd.readouterr().err  # the progress bar
        server.shutdown()
    assert sorted(path.name for path in nowhere.iterdir()) == [f"{name}.gz" for name in fashion_files.names("test")]
    assert len(FashionMNIST("test")) == 20  # the second time without a server


def test_a_wrong_download_leaves_nothing(small, nowhere, monkeypatch):
    name = fashion_files.names("test")[0]
    monkeypatch.setitem(fashion_files.SHA256, name, "0" * 64)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=small)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(ValueError, match=r"as downloaded is not the Fashion-MNIST file.*000000"):
            fashion_files.fetch("test", source=f"http://127.0.0.1:{server.server_port}/")
        server.shutdown()
    assert not nowhere.exists()


def test_without_network_the_message_says_what_to_do(nowhere):
    with pytest.raises(FileNotFoundError, match=r"dataset-fashion-mnist.*MINIDIFF_DATA.*subset"):
        FashionMNIST("test")
    assert not nowhere.exists()


def test_truncated_file(small):
    path = small / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte.gz is truncated or damaged"):
        FashionMNIST("test", root=small)


def test_other_contents(small):
    path = small / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(b"not gzip at all")
    with pytest.raises(ValueError, match=r"t10k-labels.*damaged"):
        FashionMNIST("test", root=small)
    write_idx(path, np.zeros(20, np.uint8))  # a labels file, but not this one
    with pytest.raises(ValueError, match=r"t10k-labels.*not the Fashion-MNIST file of that name"):
        FashionMNIST("test", root=small)
    write_idx(path, np.zeros(20, np.uint8), magic=0xD01)  # floats
    with pytest.raises(ValueError, match=r"no idx file of bytes: it begins 00000d01"):
        FashionMNIST("test", root=small)
    path.write_bytes(gzip.compress(struct.pack(">II", 0x801, 21) + bytes(20)))
    with pytest.raises(ValueError, match=r"has 20 bytes of pixels.*21"):
        FashionMNIST("test", root=small)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "valid"}, r"split: expected .*'valid'"),
        ({"classes": ["boot"]}, r"no class boot here; there are sneaker, ankle-boot"),
        ({"classes": ["bag"]}, r"no class bag"),  # exists, but not in the subset
        ({"classes": []}, r"classes: expected at least one"),
        ({"size": 20}, r"size: expected an even number of at least 28.*20"),
        ({"size": 33}, r"size: expected an even"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        FashionMNIST(**({"split": "subset"} | settings))


def test_indices():
    assert as_indices(slice(-3, None), 10).tolist() == [7, 8, 9]
    assert as_indices(-1, 10).tolist() == [9] and as_indices(range(0, 9, 4), 10).tolist() == [0, 4, 8]
    assert as_indices([3, -10], 10).tolist() == [3, 0] and as_indices([], 10).dtype == torch.long
    assert as_indices(torch.tensor([True, False, True]), 3).tolist() == [0, 2]
    assert as_indices(np.array([1, 2]), 3).tolist() == [1, 2]
    with pytest.raises(IndexError, match="10 pictures.*no picture 10"):
        as_indices([0, 10], 10)
    with pytest.raises(IndexError):
        as_indices(-11, 10)
    for bad in (0.5, [0.0, 1.0], torch.tensor([True, False]), torch.zeros(2, 2, dtype=torch.long)):
        with pytest.raises(ValueError, match="indices: expected an int"):
            as_indices(bad, 10)
