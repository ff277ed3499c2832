"""Data sets: what they hold, that they are whole, and that the errors help."""

import hashlib
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
from minidiff.data import files, scenes, vision
from minidiff.data.images import SHEETS, Images, pack_sheet, split_indices, unpack_sheet

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
    sums = {name: value for name, value in data.checksums().items() if name.startswith("digits/")}
    (tmp_path / "data" / files.CHECKSUMS).write_text(json.dumps(sums))
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
        found, index = data.load("digits", split), split_indices(1797, split).numpy()
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
    everything = torch.cat([split_indices(100, "train"), split_indices(100, "test")])
    assert sorted(everything.tolist()) == list(range(100))
    assert split_indices(100, "test").tolist() == list(range(5, 100, 6))
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
    assert np.array_equal(unpack_sheet(pack_sheet(x), n, 5).permute(0, 2, 3, 1).numpy(), x)


def test_a_sheet_is_filled_row_by_row():
    """By hand: five images of 2 x 2, of one value each, on three places by two, the last of them black."""
    sheet = np.asarray(pack_sheet(np.arange(1, 6, dtype=np.uint8).repeat(4).reshape(5, 2, 2, 1)))
    assert sheet[::2, ::2].tolist() == [[1, 2, 3], [4, 5, 0]] and sheet.shape == (4, 6)
    wide = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6))
    assert unpack_sheet(wide, 4, 2)[:, 0].tolist() == [
        *([[0, 1], [6, 7]], [[2, 3], [8, 9]], [[4, 5], [10, 11]], [[12, 13], [18, 19]]),
    ]


def test_every_shipped_file_is_whole_small_and_free():
    for name in SHEETS:
        assert {f"{name}/{file}" for file in ("train.png", "test.png", "labels.json")} <= set(data.checksums())
    for name in data.checksums():
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


@pytest.mark.parametrize("name", ["train.png", "labels.json", "weights.safetensors"])
def test_every_kind_of_file_is_checked(copy, name):
    path = copy / "digits" / name
    path.write_bytes(b"as it was")
    sums = json.loads((copy / files.CHECKSUMS).read_text()) | {f"digits/{name}": files.sha256(path)}
    (copy / files.CHECKSUMS).write_text(json.dumps(sums))
    assert data.shipped(f"digits/{name}") == path
    files._verify.cache_clear()  # as in a new process
    path.write_bytes(b"as it is now")
    with pytest.raises(ValueError, match="altered"):
        data.shipped(f"digits/{name}")


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
    assert len(data.checksums()) == 4


@pytest.mark.parametrize("name", ["cifar", "no/such/folder"])
def test_unknown_names_list_what_is_known(name):
    known = "digits, fashion, emoji, scenes, mnist, cifar10, fashion-full"
    with pytest.raises(ValueError, match=f"{known} or a folder.*'{name}'"):
        data.load(name)
    with pytest.raises(ValueError, match="'train' or 'test', got 'valid'"):
        data.load("digits", "valid")


@pytest.mark.parametrize("name", ["", "x" * 9999])
def test_no_name_and_a_very_long_one_are_refused(name):
    with pytest.raises(ValueError, match=f"a folder of pictures, got '{name[:100]}'$"):
        data.load(name)


@pytest.fixture
def registered(monkeypatch):
    """Data sets of one's own are forgotten after the test."""
    monkeypatch.setattr(data, "_LOADERS", dict(data._LOADERS))


def two(split, name="mine"):
    x = torch.full((2, 1, 4, 6), 255 if split == "test" else 0, dtype=torch.uint8)
    return Images(name, x, torch.tensor([0, 1]), ("a", "b"))


def test_a_data_set_of_ones_own_is_loaded_by_its_name(registered):
    data.register_data("mine", two)
    assert data.load("mine").tensor().max() == -1 and data.load("mine", "test").tensor().min() == 1
    assert data.load("mine", size=(4, 6), channels=1).shape == (1, 4, 6)
    with pytest.raises(ValueError, match="scenes, mnist, cifar10, fashion-full, mine or a folder.*got 'yours'"):
        data.load("yours")
    data.register_data("mine", two)  # a cell that runs twice
    with pytest.raises(ValueError, match="other than .*mine; got 'mine'"):
        data.register_data("mine", lambda split: two(split))
    data.register_data("yours", two)
    with pytest.raises(ValueError, match="loader of 'yours' to name its data set so, got 'mine'"):
        data.load("yours")


@pytest.mark.parametrize("name", ["digits", "scenes", "mnist", ""])
def test_a_shipped_name_stays_what_it_is(registered, name):
    with pytest.raises(ValueError, match=f"expected a name other than digits, .*got '{name}'"):
        data.register_data(name, two)


def test_only_scenes_and_folders_come_in_any_size(monkeypatch):
    monkeypatch.setattr(data, "SCENES", {"train": 3, "test": 2})
    assert data.load("scenes").shape == (3, 64, 64) and len(data.load("scenes", "test")) == 2
    for size in 24, (24, 24), [24, 24]:
        assert data.load("scenes", size=size, channels=3).shape == (3, 24, 24)
    assert data.load("digits", size=8, channels=1).shape == (1, 8, 8)
    for name, size, channels, message in [
        ("scenes", (24, 48), None, "square size of scenes, got 24 x 48"),
        ("scenes", 24, 1, "24 x 24 pixels and 3 channels; got size 24, channels 1"),
        ("digits", 16, None, "digits has images of 8 x 8 pixels and 1 channels; got size 16"),
        ("digits", None, 3, "got size None, channels 3"),
        ("digits", 0, None, r"1 to 4096 pixels, or two: \(height, width\); got 0"),
        ("scenes", (24, 24, 24), None, "1 to 4096 pixels"),
        ("scenes", 10**12, None, "1 to 4096 pixels"),
    ]:
        with pytest.raises(ValueError, match=message):
            data.load(name, "train", size, channels)
    assert scenes.MAX_BYTES == 4e9
    monkeypatch.setattr(scenes, "MAX_BYTES", 3 * 3 * 24 * 24)
    assert len(data.load("scenes", size=24)) == 3
    with pytest.raises(ValueError, match="GB at most, got 3 of 25 x 25"):
        data.load("scenes", size=25)


def test_a_fingerprint_tells_data_sets_apart():
    x, y = torch.arange(32, dtype=torch.uint8).reshape(2, 1, 4, 4), torch.tensor([0, 1])
    first = Images("one", x, y, ("a", "b"))
    assert first.fingerprint == Images("another name", x.clone(), y, ("a", "b")).fingerprint
    assert first.fingerprint == Images("one", x.mT.contiguous().mT, y, ("a", "b")).fingerprint  # another memory layout
    assert len(first.fingerprint) == 16 and int(first.fingerprint, 16)
    altered = x.clone()
    altered[1, 0, 3, 3] += 1
    others = [
        Images("one", altered, y, ("a", "b")),
        Images("one", x.reshape(2, 1, 2, 8), y, ("a", "b")),
        Images("one", x.reshape(2, 4, 2, 2), y, ("a", "b")),
        Images("one", x.flip(0), y, ("a", "b")),
        Images("one", x, y.flip(0), ("a", "b")),
        Images("one", x, y, ("a", "c")),
        Images("one", x, y, ("a", "b", "c")),
        Images("one", x[:1], y[:1], ("a", "b")),
        Images("one", x, y, ("a", "b"), ("some", "words")),
    ]
    prints = [images.fingerprint for images in [first, *others]]
    assert len(set(prints)) == len(prints)
    known = Images("one", torch.zeros(1, 1, 1, 1, dtype=torch.uint8), y[:1], ("a",))
    plain = b'[["a"], [1, 1, 1], []]' + bytes(8 + 1)  # a run that goes on a year later compares with what it stored
    assert known.fingerprint == hashlib.sha256(plain).hexdigest()[:16]


def test_nothing_draws_from_the_global_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    digits = data.load("digits")
    assert digits.fingerprint and digits[torch.arange(3)]
    data.load_scenes(n=3)
    assert torch.equal(torch.get_rng_state(), before)


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
    outline = torch.ones(shape[1:], dtype=torch.bool)
    outline[2:-2, 2:-2] = False  # padded evenly on all four sides, or not at all
    assert set(found.x[0, 0, outline].tolist()) == {0 if shape[0] == 1 else 255}
    assert set(found.x[0, 0, ~outline].tolist()) == {255}


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


RAW = "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
IMAGES = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (2, 28, 28)) + bytes(2 * 28 * 28)
LABELS = b"\0\0\x08\x01" + (2).to_bytes(4, "big") + b"\1\2"
NONE = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (0, 28, 28)), b"\0\0\x08\x01" + bytes(4)


@pytest.mark.parametrize(
    "images, labels",
    [
        *((b"", LABELS), (IMAGES, b""), (b"", b""), (b"garbage" * 9, LABELS), (IMAGES, b"\xff" * 30)),
        *((IMAGES[:400], LABELS), (IMAGES, LABELS[:-1]), (LABELS, IMAGES), NONE),
    ],
)
def test_damaged_downloads_name_their_folder(monkeypatch, tmp_path, images, labels):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    monkeypatch.setenv("MINIDIFF_DATA", str(tmp_path))
    for name, content in zip(RAW, (IMAGES, LABELS) * 2, strict=True):
        (folder / name).write_bytes(content)
    assert data.load("mnist").y.tolist() == [1, 2]
    for name, content in zip(RAW, (images, labels) * 2, strict=True):
        (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match="mnist: the files in .*are damaged .*remove that folder") as error:
        data.load("mnist", "test")
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_downloads_go_to_the_named_folder(monkeypatch):
    monkeypatch.setenv("MINIDIFF_DATA", "~/sets")
    assert vision.cache_dir() == Path.home() / "sets"
    monkeypatch.delenv("MINIDIFF_DATA")
    assert vision.cache_dir() == Path.home() / ".cache" / "minidiff"


def test_colours_rows_and_columns_of_downloads_stay_what_they_are(monkeypatch, tmp_path):
    from torchvision import datasets

    pictures = np.zeros((3, 32, 32, 3), np.uint8)
    pictures[1, 2, 5, 1] = 200  # the second picture: row 2, column 5, green
    monkeypatch.setattr(Downloaded, "pictures", pictures, raising=False)
    monkeypatch.setattr(datasets, vision.DOWNLOADS["cifar10"][0], Downloaded)
    monkeypatch.setenv("MINIDIFF_DATA", str(tmp_path))
    found = data.load("cifar10", "train")
    assert Downloaded.asked == (tmp_path, True, True)
    assert found.x.nonzero().tolist() == [[1, 1, 2, 5]] and found.x[1, 1, 2, 5] == 200
