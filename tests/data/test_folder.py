"""Folders of images: every kind of file that Pillow can write here is read back and its pixels are compared."""

import numpy as np
import pytest
import torch
from PIL import Image

from minidiff.data.folder import ImageFolder, read_image
from minidiff.data.pictures import Pictures


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def scaled(pixels):
    """What the bytes (H, W) or (H, W, C) should be read as: (C, H, W) in [-1, 1]."""
    array = np.atleast_3d(pixels).astype(np.float32)
    return torch.from_numpy(array).permute(2, 0, 1) / 127.5 - 1


def save(folder, name, pixels, **options):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / name, **options)
    return folder / name


@pytest.mark.parametrize(("suffix", "options"), [("png", {}), ("webp", {"lossless": True})])
def test_colour_is_read_exactly(tmp_path, suffix, options):
    pixels = noise(64, 64, 3)
    image = read_image(save(tmp_path, f"a.{suffix}", pixels, **options))
    torch.testing.assert_close(image, scaled(pixels), rtol=0, atol=1e-6)
    assert image.dtype == torch.float32


def test_jpeg_is_close(tmp_path):
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    pixels = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.full((64, 64), 90, np.uint8)], -1)
    image = read_image(save(tmp_path, "a.JPG", pixels, quality=95))
    torch.testing.assert_close(image, scaled(pixels), rtol=0, atol=8 / 127.5)


def test_grey_becomes_three_equal_channels_or_stays_one(tmp_path):
    path = save(tmp_path, "a.png", noise(64, 64))
    torch.testing.assert_close(read_image(path), scaled(noise(64, 64)).expand(3, -1, -1), rtol=0, atol=1e-6)
    torch.testing.assert_close(read_image(path, channels=1), scaled(noise(64, 64)), rtol=0, atol=1e-6)


def test_colour_becomes_luma_when_grey_is_asked_for(tmp_path):
    image = read_image(save(tmp_path, "a.png", np.full((8, 8, 3), (255, 0, 0), np.uint8)), size=8, channels=1)
    torch.testing.assert_close(image, torch.full((1, 8, 8), 76 / 127.5 - 1), rtol=0, atol=1e-6)  # 0.299 * 255 (BT.601)


def test_transparency_is_laid_on_white(tmp_path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4] = (200, 0, 0, 255)  # opaque
    pixels[:, 4:6] = (200, 0, 0, 0)  # nothing to see
    pixels[:, 6:] = (0, 0, 0, 51)  # a fifth of black
    image = read_image(save(tmp_path, "a.png", pixels), size=8)
    seen = np.zeros((8, 8, 3), np.uint8)
    seen[:, :4], seen[:, 4:6], seen[:, 6:] = (200, 0, 0), 255, 204
    torch.testing.assert_close(image, scaled(seen), rtol=0, atol=1e-6)


def test_palette_with_and_without_transparency(tmp_path):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 200, 30] + [0] * 762)
    image.paste(0, (0, 0, 4, 8))
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "clear.png", transparency=0)
    assert read_image(tmp_path / "opaque.png", 8)[:, 0, 0].tolist() == [-1, -1, -1]
    assert read_image(tmp_path / "clear.png", 8)[:, 0, 0].tolist() == [1, 1, 1]
    torch.testing.assert_close(read_image(tmp_path / "clear.png", 8)[:, 0, 7], torch.tensor([10, 200, 30]) / 127.5 - 1)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    levels = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    image = read_image(save(tmp_path, "a.png", levels), size=8, channels=1)
    torch.testing.assert_close(image, scaled((levels / 257).round()), rtol=0, atol=1e-6)
    assert image[0, 0, 0] == -1 and image[0, -1, -1] == 1


@pytest.mark.parametrize(
    ("orientation", "upright"), [(1, lambda x: x), (3, lambda x: x[::-1, ::-1]), (6, lambda x: np.rot90(x, -1))]
)
def test_exif_rotation_is_undone(tmp_path, orientation, upright):
    pixels, exif = noise(64, 64, 3), Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path, "a.png", pixels, exif=exif)
    torch.testing.assert_close(read_image(path), scaled(upright(pixels).copy()), rtol=0, atol=1e-6)


def test_the_middle_square_is_cut_out(tmp_path):
    wide, tall = noise(64, 101, 3), noise(70, 64, 3)
    torch.testing.assert_close(read_image(save(tmp_path, "w.png", wide)), scaled(wide[:, 18:82]), rtol=0, atol=1e-6)
    torch.testing.assert_close(read_image(save(tmp_path, "t.png", tall)), scaled(tall[3:67]), rtol=0, atol=1e-6)


def test_shrinking_is_antialiased(tmp_path):
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)  # the finest checkerboard: grey from afar
    image = read_image(save(tmp_path, "a.png", board), size=32, channels=1)
    assert image.abs().max() < 0.02  # picking every eighth pixel would give all black


def test_one_bit_and_cmyk(tmp_path):
    Image.new("1", (8, 8), 1).save(tmp_path / "bit.png")
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=100)
    assert (read_image(tmp_path / "bit.png", 8) == 1).all()
    assert (read_image(tmp_path / "cmyk.jpg", 8)[:, 4, 4] - torch.tensor([1.0, -1.0, -1.0])).abs().max() < 0.05


@pytest.fixture
def afhq(tmp_path):
    """Two classes in two splits, three pictures each, every one a shade of its own."""
    shade = 0
    for split in ("train", "test"):
        for animal in ("cat", "dog"):
            for number in range(3):
                save(tmp_path / split / animal, f"{number}.png", np.full((4, 4, 3), shade, np.uint8))
                shade += 20
    return tmp_path


def shades(pictures):
    return ((pictures[:][:, 0, 0, 0] + 1) * 127.5).round().long().tolist()


def test_afhq_layout(afhq):
    pictures = ImageFolder(afhq, size=4)
    assert pictures.classes == ("cat", "dog") and pictures.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert shades(pictures) == [0, 20, 40, 60, 80, 100]
    assert shades(ImageFolder(afhq / "train", size=4)) == shades(pictures)
    assert shades(ImageFolder(afhq, size=4, split="test", classes=["dog"])) == [180, 200, 220]


def test_it_is_pictures(afhq):
    pictures = ImageFolder(afhq, size=4)
    assert isinstance(pictures, Pictures) and pictures.shape == (3, 4, 4) and len(pictures) == 6
    assert (
        pictures[1].shape == (3, 4, 4) and pictures[[1]].shape == (1, 3, 4, 4) and pictures[0:0].shape == (0, 3, 4, 4)
    )
    assert torch.equal(pictures[[4, -1]], pictures[:][[4, 5]])
    assert torch.equal(pictures[pictures.labels == 1], pictures[3:])
    assert len(list(pictures)) == 6
    with pytest.raises(IndexError, match="6 pictures.* no picture 6"):
        pictures[6]


def test_a_flat_folder_is_one_class_and_hidden_or_other_files_are_left_out(tmp_path):
    save(tmp_path / "mine", "b.PNG", noise(4, 4, 3))
    save(tmp_path / "mine", "a.jpeg", noise(4, 4, 3))
    (tmp_path / "mine" / "._b.png").write_bytes(b"resource fork")
    (tmp_path / "mine" / "notes.txt").write_text("not a picture")
    pictures = ImageFolder(tmp_path / "mine", size=4)
    assert [path.name for path in pictures.paths] == ["a.jpeg", "b.PNG"] and pictures.classes == ("mine",)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_a_truncated_file_is_refused_by_name_when_it_is_read(tmp_path, name):
    path = save(tmp_path / "f", name, noise(64, 64, 3))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    pictures = ImageFolder(tmp_path / "f")
    with pytest.raises(ValueError, match=rf"{name} is (truncated or damaged|no image)"):
        pictures[0]


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(ValueError, match=r"a.png is no image"):
        ImageFolder(tmp_path)[0]
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "missing.png")


def test_bad_settings(tmp_path, afhq):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no picture in .*empty"):
        ImageFolder(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere"):
        ImageFolder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no class fox; there are cat, dog"):
        ImageFolder(afhq, classes=["fox"])
    with pytest.raises(ValueError, match=r"classes: .*cat, dog"):
        ImageFolder(afhq, classes=[])
    with pytest.raises(ValueError, match=r"split: no folder 'val'.*train, test"):
        ImageFolder(afhq, split="val")
    with pytest.raises(ValueError, match="channels: expected 1"):
        ImageFolder(afhq, channels=4)
    with pytest.raises(ValueError, match="size: expected"):
        ImageFolder(afhq, size=0)
