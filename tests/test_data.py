"""Sets of pictures: what they hold, that they are whole, and that the errors help."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minidiff import data
from minidiff.data import files, vision
from minidiff.data.images import SHEETS, Images, held_out, on_white, pack, unpack

REPOSITORY = Path(__file__).parents[1]

COUNTS = {  # name: (training, test, picture, classes)
    "digits": (1498, 299, (1, 8, 8), 10),
    "fashion": (10_000, 2_000, (1, 32, 32), 10),
    "emoji": (1360, 271, (3, 32, 32), 8),
}


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A checkout's copy of the digits, free to be damaged."""
    shutil.copytree(REPOSITORY / "data" / "digits", tmp_path / "data" / "digits")
    sums = {name: value for name, value in data.registry().items() if name.startswith("digits/")}
    (tmp_path / "data" / files.REGISTRY).write_text(json.dumps(sums))
    monkeypatch.setattr(files, "__file__", str(tmp_path / "minidiff" / "data" / "files.py"))
    return tmp_path / "data"


@pytest.mark.parametrize("name", SHEETS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_counts_shapes_and_ranges(name, split):
    found = data.load(name, split)
    n = COUNTS[name][split == "test"]
    assert (len(found), found.shape, len(found.classes)) == (n, *COUNTS[name][2:])
    assert found.x.dtype == torch.uint8 and found.y.dtype == torch.int64 and found.y.shape == (n,)
    assert set(found.y.tolist()) == set(range(len(found.classes)))
    x = found.tensor()
    assert x.dtype == torch.float32 and (x.min(), x.max()) == (-1, 1)


def test_fashion_is_balanced_and_padded():
    for split, each in ("train", 1000), ("test", 200):
        found = data.load("fashion", split)
        assert torch.bincount(found.y).tolist() == [each] * 10
        frame = torch.ones(32, 32, dtype=torch.bool)
        frame[2:-2, 2:-2] = False
        assert (found.x[..., frame] == 0).all()
        assert (found.x[..., 2, :] > 0).any() and (found.x[..., -3, :] > 0).any()


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    for split in "train", "test":
        found, index = data.load("digits", split), held_out(1797, split).numpy()
        np.testing.assert_array_equal(np.rint(found.x[:, 0].float().numpy() * 16 / 255), bunch.images[index])
        np.testing.assert_array_equal(found.y.numpy(), bunch.target[index])


def test_fashion_is_that_of_debian():
    folder = Path("/usr/share/datasets/fashion-mnist")
    if not folder.is_dir():
        pytest.skip("the original files come with Debian's dataset-fashion-mnist, which other systems lack")
    idx = script().idx
    for split, prefix, each in ("train", "train", 1000), ("test", "t10k", 200):
        found = data.load("fashion", split)
        x, y = (idx(folder / f"{prefix}-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1"))
        for k in range(10):
            first = x[y == k][:each]
            np.testing.assert_array_equal(found.x[found.y == k, 0, 2:-2, 2:-2].numpy(), first)


def test_emoji_have_names_and_look_like_them():
    found = data.load("emoji")
    assert len(found.captions) == len(found) and len(set(found.captions)) > 0.99 * len(found)
    for name, category, brightest in ("tomato", "Food & Drink", 0), ("frog face", "Animals & Nature", 1):
        k = found.captions.index(name)
        _, _, blue = colour = found.x[k].float().mean((1, 2))
        assert colour.argmax() == brightest and colour[brightest] > blue + 10
        assert found.classes[found.y[k]] == category
    assert (found.x[:, :, 0, 0] == 255).all(1).float().mean() > 0.7  # the corner of most is white, not black


def test_training_and_test_pictures_are_apart():
    everything = torch.cat([held_out(100, "train"), held_out(100, "test")])
    assert sorted(everything.tolist()) == list(range(100))
    assert held_out(100, "test").tolist() == list(range(5, 100, 6))
    for name in SHEETS:
        train, test = ([x.numpy().tobytes() for x in data.load(name, split).x] for split in ("train", "test"))
        assert len(set(train + test)) == len(train) + len(test)  # and none twice


def test_tensor_maps_bytes_to_the_interval_and_indexing_gives_a_batch():
    x = torch.tensor([0, 51, 204, 255], dtype=torch.uint8).reshape(4, 1, 1, 1)
    found = Images("bytes", x, torch.arange(4), tuple("abcd"))
    assert torch.allclose(found.tensor().flatten(), torch.tensor([-1, -0.6, 0.6, 1]))
    x0, y = found[torch.tensor([3, 0])]
    assert x0.flatten().tolist() == [1, -1] and y.tolist() == [3, 0]
    assert "bytes" in repr(found) and len(repr(found)) < 100


@pytest.mark.parametrize(
    "change, message",
    [
        ({"x": torch.zeros(2, 1, 4, 4)}, "uint8"),
        ({"x": torch.zeros(2, 4, 4, dtype=torch.uint8)}, r"\(N, C, H, W\)"),
        ({"y": torch.zeros(3, dtype=torch.int64)}, r"int64 \(2,\)"),
        ({"y": torch.zeros(2)}, "int64"),
        ({"y": torch.tensor([0, 2])}, r"0\.\.1, got 0\.\.2"),
        ({"y": torch.tensor([-1, 1])}, r"0\.\.1, got -1\.\.1"),
        ({"captions": ("one",)}, "0 or 2 captions"),
    ],
)
def test_images_refuse_what_does_not_fit(change, message):
    x, y = torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])
    good = {"name": "two", "x": x, "y": y, "classes": ("a", "b")}
    Images(**good)
    with pytest.raises(ValueError, match=message):
        Images(**good | change)


@pytest.mark.parametrize("n, channels", [(1, 1), (7, 3), (12, 1)])
def test_a_sheet_reads_back(n, channels):
    x = np.random.default_rng(0).integers(0, 256, (n, 5, 5, channels), dtype=np.uint8)
    assert np.array_equal(unpack(pack(x), n, 5).permute(0, 2, 3, 1).numpy(), x)


def test_every_shipped_file_is_whole_small_and_free():
    for name in SHEETS:
        assert {f"{name}/{file}" for file in ("train.png", "test.png", "labels.json")} <= set(data.registry())
    for name in data.registry():
        data.shipped(name)
    for name in SHEETS:
        assert (data.root() / name / "LICENSE").stat().st_size > 200
        assert "sha256" in (data.root() / name / "SOURCE.md").read_text() or name == "digits"
    assert sum(path.stat().st_size for path in data.root().rglob("*") if path.is_file()) < 25e6


@pytest.mark.parametrize("name", ["train.png", "labels.json"])
def test_a_flipped_bit_is_found(copy, name):
    path = copy / "digits" / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="altered.*git checkout") as error:
        data.load("digits")
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_missing_and_unknown_files_are_named(copy):
    (copy / "digits" / "test.png").unlink()
    assert len(data.load("digits")) == 1498
    with pytest.raises(FileNotFoundError, match=r"test\.png.*reinstall"):
        data.load("digits", "test")
    with pytest.raises(ValueError, match=r"digits/train\.png.*got 'weights'"):
        data.shipped("weights")


def test_an_installed_package_has_its_own_data(copy):
    installed = copy.parent / "minidiff" / "_data"
    assert data.root() == copy
    shutil.copytree(copy, installed)
    assert data.root() == installed  # a folder called data beside it may be anyone's
    shutil.rmtree(copy)
    assert data.root() == installed and len(data.load("digits", "test")) == 299
    shutil.rmtree(installed)
    with pytest.raises(FileNotFoundError, match="_data.*reinstall"):
        data.load("digits")


def script():
    """tools/make_data.py as a module."""
    sys.path.insert(0, str(REPOSITORY / "tools"))
    try:
        import make_data
    finally:
        sys.path.pop(0)
    return make_data


def test_register_enters_and_renews(copy, monkeypatch):
    monkeypatch.setattr(script(), "DATA", copy)
    path = copy / "weights.bin"
    for content in b"one", b"two":
        path.write_bytes(content)
        script().register(path)
        files._verify.cache_clear()  # as in a new process
        assert data.shipped("weights.bin") == path
    assert len(data.registry()) == 4


@pytest.mark.parametrize("name", ["cifar", "no/such/folder"])
def test_unknown_names_list_what_is_known(name):
    known = "digits, fashion, emoji, scenes, mnist, cifar10, fashion-full"
    with pytest.raises(ValueError, match=f"{known} or a folder.*'{name}'"):
        data.load(name)
    with pytest.raises(ValueError, match="'train' or 'test', got 'valid'"):
        data.load("digits", "valid")


def test_torchvision_is_not_imported_in_advance():
    code = "import sys, minidiff.data; print('torchvision' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, check=True)
    assert done.stdout.strip() == b"False"


class Downloaded:
    """What torchvision's sets have in common."""

    classes = ["a", "b"]
    targets = [0, 1, 1]

    def __init__(self, root, train, download):
        Downloaded.asked = root, train, download
        self.data = self.pictures


@pytest.mark.parametrize(
    "name, pictures, shape",
    [
        ("mnist", torch.full((3, 28, 28), 255, dtype=torch.uint8), (1, 32, 32)),
        ("fashion-full", torch.full((3, 28, 28), 255, dtype=torch.uint8), (1, 32, 32)),
        ("cifar10", np.full((3, 32, 32, 3), (255, 128, 0), np.uint8), (3, 32, 32)),
    ],
)
def test_downloads_become_images(monkeypatch, tmp_path, name, pictures, shape):
    from torchvision import datasets

    monkeypatch.setattr(Downloaded, "pictures", pictures, raising=False)
    monkeypatch.setattr(datasets, vision.DOWNLOADS[name][0], Downloaded)
    monkeypatch.setenv("MINIDIFF_DATA", str(tmp_path))
    found = data.load(name, "test")
    assert Downloaded.asked == (tmp_path, False, True)
    assert found.shape == shape and found.y.tolist() == [0, 1, 1] and found.classes == ("a", "b")
    assert found.x[0, :, 16, 16].tolist() == ([255] if shape[0] == 1 else [255, 128, 0])
    assert found.x[0, 0, 0, 0] == (0 if shape[0] == 1 else 255)


@pytest.mark.parametrize("fault", [RuntimeError("Error downloading\nTried"), OSError("no route to host")])
def test_a_failed_download_says_what_to_do(monkeypatch, tmp_path, fault):
    from torchvision import datasets

    def fail(*_, **__):
        raise fault

    monkeypatch.setattr(datasets, "MNIST", fail)
    monkeypatch.setenv("MINIDIFF_DATA", str(tmp_path))
    with pytest.raises(ConnectionError, match="mnist could not.*digits, fashion, emoji or scenes") as error:
        data.load("mnist")
    assert str(tmp_path / "MNIST" / "raw") in str(error.value) and "\n" not in str(error.value)


def test_downloads_go_to_the_named_folder(monkeypatch):
    monkeypatch.setenv("MINIDIFF_DATA", "~/sets")
    assert vision.cache() == Path.home() / "sets"
    monkeypatch.delenv("MINIDIFF_DATA")
    assert vision.cache() == Path.home() / ".cache" / "minidiff"


def test_a_folder_becomes_a_set(tmp_path):
    for k in range(6):
        wide = np.zeros((20, 60, 3), np.uint8)
        wide[:, 20:40] = 40 * k, 255, 0  # only the middle third lies in the centred square
        (tmp_path / "green").mkdir(exist_ok=True)
        Image.fromarray(wide).save(tmp_path / "green" / f"{k}.png")
    (tmp_path / "clear").mkdir()
    Image.new("RGBA", (9, 50), (0, 0, 0, 0)).save(tmp_path / "clear" / "a.webp", lossless=True)
    Image.new("L", (40, 40), 100).save(tmp_path / "clear" / "b.JPG")
    (tmp_path / "clear" / "notes.txt").write_text("not a picture")
    (tmp_path / "clear" / "._b.jpg").write_text("not a picture either")
    (tmp_path / ".checkpoints").mkdir()
    (tmp_path / ".checkpoints" / "a.png").write_text("nor this")
    train, test = data.load(tmp_path), data.load(str(tmp_path), "test")
    assert train.classes == test.classes == ("clear", "green")
    assert train.y.tolist() == [0, 0, 1, 1, 1, 1, 1] and test.y.tolist() == [1]
    assert train.shape == (3, 32, 32) and data.load_folder(tmp_path, size=48).shape == (3, 48, 48)
    assert (train.x[0] == 255).all() and (train.x[1].int() - 100).abs().max() <= 1
    assert [x[:, 16, 16].tolist() for x in train.x[2:]] == [[40 * k, 255, 0] for k in (0, 1, 2, 4, 5)]
    assert (train.x[2:, 1, 2:-2, 2:-2] == 255).all()
    assert test.x[0, :, 16, 16].tolist() == [120, 255, 0]


def test_a_flat_folder_has_one_class(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    found = data.load(tmp_path)
    assert found.classes == (".",) and data.load(found.name).y.tolist() == [0]
    with pytest.raises(ValueError, match="at least 6.*got 1 for split 'test'"):
        data.load(tmp_path, "test")


def test_a_photograph_stands_upright(tmp_path):
    image = Image.new("RGB", (40, 40), "black")
    image.paste("white", (0, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was upside down
    image.save(tmp_path / "a.jpg", exif=exif)
    x = data.load(tmp_path).x[0]
    assert x[:, :12].max() < 20 and x[:, 20:].min() > 235


def test_folder_errors_name_the_file(tmp_path):
    with pytest.raises(ValueError, match="expected pictures.*got 0 for"):
        data.load(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(ValueError, match=r"cannot read .*broken\.png"):
        data.load(tmp_path)


def test_transparent_becomes_white():
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    assert np.asarray(on_white(image)).tolist() == [[[255, 0, 0], [255, 255, 255]]]
