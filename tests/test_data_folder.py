"""Folders of pictures: what is found in them, how it is scaled, and that large ones stay on disk."""

import os
import pickle
import signal
import struct
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from minidiff import data
from minidiff.data import folder as folders
from minidiff.data.folder import ImageFolder, load_folder, read_picture
from minidiff.data.images import Images, to_8_bit


@pytest.fixture
def lazy(monkeypatch):
    """Every folder is too large to be kept in memory."""
    monkeypatch.setattr(folders, "IN_MEMORY", 0)


@pytest.fixture
def photos(tmp_path):
    """23 pictures of one grey value each, their number, in two classes."""
    for k in range(23):
        place = tmp_path / "photos" / "ab"[k // 12]
        place.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 9), k).save(place / f"{k:02}.png")
    return tmp_path / "photos"


def values(x):
    """The byte that each picture (B, C, H, W) in [-1, 1] consists of."""
    return ((x[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def children():
    """The processes that this one started."""
    with open(f"/proc/{os.getpid()}/task/{os.getpid()}/children") as stream:
        return [int(pid) for pid in stream.read().split()]


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
    assert isinstance(train, Images)
    assert train.classes == test.classes == ("clear", "green")
    assert train.y.tolist() == [0, 0, 1, 1, 1, 1, 1] and test.y.tolist() == [1]
    assert train.shape == (3, 32, 32)
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


def test_size_and_channels_are_those_asked_for(tmp_path):
    tall = np.zeros((90, 30), np.uint8)
    tall[30:60, :15], tall[30:60, 15:] = 60, 200  # what a square shows: dark left, light right
    colour = np.stack([tall, tall // 2, tall * 0], -1)
    Image.fromarray(colour).save(tmp_path / "a.png")
    assert load_folder(tmp_path).shape == (3, 32, 32)
    found = data.load(tmp_path, size=48)
    assert found.shape == (3, 48, 48) and found.x[0, :, 24, [4, 43]].tolist() == [[60, 200], [30, 100], [0, 0]]
    grey = data.load(tmp_path, size=(16, 8), channels=1)
    assert grey.shape == (1, 16, 8)
    luma = [round(0.299 * v + 0.587 * (v // 2)) for v in (60, 200)]
    assert (grey.x[0, 0, 8, [1, 6]] - torch.tensor(luma)).abs().max() <= 1
    assert (grey.x[0, 0, 0] < 128).all() and grey.x[0, 0, 5].any()  # 30 x 60 were cropped, half of it black
    assert data.load(tmp_path, size=[8, 16]).shape == (3, 8, 16)
    for size, channels, message in [
        (0, 3, "size from 1 to 4096"),
        (5000, 3, "got 5000"),
        ((8, 8, 8), 3, "two"),
        (2.5, 3, "got 2.5"),
        (8, 2, "expected 1 or 3 channels, got 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            data.load(tmp_path, "train", size, channels)


def test_a_photograph_stands_upright(tmp_path):
    image = Image.new("RGB", (40, 40), "black")
    image.paste("white", (0, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was upside down
    image.save(tmp_path / "a.jpg", exif=exif)
    x = data.load(tmp_path).x[0]
    assert x[:, :12].max() < 20 and x[:, 20:].min() > 235


def test_a_large_photograph_keeps_its_details(tmp_path):
    """JPEGs are decoded at a fraction of their size where that does: the result must be that of the whole."""
    u, v = np.mgrid[:600, :800] / 100
    photo = np.stack([np.sin(u * 3) * np.cos(v * 2), np.sin(u + v), np.cos(u * v / 4)], -1)
    Image.fromarray(((photo + 1) * 127.5).astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        image.load()
        left = (800 - 600) / 2
        whole = np.array(image.resize((32, 32), Image.Resampling.BICUBIC, (left, 0, left + 600, 600)))
    x = data.load(tmp_path).x[0].permute(1, 2, 0).int()
    assert (x - torch.from_numpy(whole).int()).abs().float().mean() < 1.5


RAMP = np.linspace(0, 1, 64)[None].repeat(64, 0)
SIXTEEN = np.rint(RAMP * 65535).astype(np.uint16)
EIGHT = np.rint(RAMP * 255).astype(np.uint8)


def save(path, mode):
    """A ramp from black to white in a mode of Pillow's, as a file."""
    if mode == "I;16B":
        Image.frombytes("I;16B", (64, 64), SIXTEEN.astype(">u2").tobytes()).save(path)
    elif mode == "I":
        Image.fromarray(SIXTEEN.astype(np.int32)).save(path)
    elif mode == "F":
        Image.fromarray(RAMP.astype(np.float32)).save(path)
    elif mode == "I;16":
        Image.fromarray(SIXTEEN).save(path)
    elif mode == "P":
        Image.fromarray(EIGHT).convert("P").save(path)
    else:
        Image.fromarray(EIGHT).convert(mode).save(path, quality=100)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "mode, suffix",
    [
        *(("I;16", "png"), ("I;16", "tif"), ("I;16B", "tif"), ("I", "tif"), ("F", "tif"), ("L", "png"), ("P", "png")),
        *(("LA", "png"), ("RGBA", "png"), ("CMYK", "tif"), ("CMYK", "jpg"), ("RGB", "bmp"), ("P", "gif")),
    ],
)
def test_a_ramp_reads_as_a_ramp_in_every_mode(tmp_path, mode, suffix, channels):
    path = tmp_path / f"a.{suffix}"
    save(path, mode)
    with Image.open(path) as image:
        assert image.mode == mode or (suffix == "gif" and image.mode in ("L", "P")), image.mode
    x = read_picture(path, (channels, 64, 64)).int()
    assert (x - torch.from_numpy(EIGHT).int()).abs().max() <= (2 if suffix == "jpg" else 1)
    assert x.float().mean(1)[:, :2].max() < 6 and x.float().mean(1)[:, -2:].min() > 249


def test_sixteen_bits_are_divided_by_257():
    exact = Image.fromarray(np.array([[0, 128, 257, 65535, 32896]], np.uint16))
    assert np.asarray(to_8_bit(exact, 1)).tolist() == [[0, 0, 1, 255, 128]]
    assert np.asarray(to_8_bit(exact))[0, 3].tolist() == [255, 255, 255]
    floats = Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32))
    assert np.asarray(to_8_bit(floats, 1)).tolist() == [[0, 128, 255]]


@pytest.mark.parametrize(
    "pixels, message",
    [
        (np.array([[0, 255.0]], np.float32), "float pixels from 0 to 1, got 0 to 255"),
        (np.array([[-1, 1.0]], np.float32), "got -1 to 1"),
        (np.array([[0, np.nan]], np.float32), "got nan to nan"),
        (np.array([[0, np.inf]], np.float32), "got 0 to inf"),
        (np.array([[0, 65536]], np.int32), "integer pixels from 0 to 65535, got 0 to 65536"),
        (np.array([[-5, 6]], np.int32), "got -5 to 6"),
    ],
)
def test_other_ranges_are_refused(tmp_path, pixels, message):
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=rf"cannot read .*a\.tif as a picture \(expected.*{message}\)"):
            data.load(tmp_path)


def test_one_bit_and_transparency(tmp_path):
    bits = Image.fromarray(EIGHT).point(lambda v: 255 * (v > 127)).convert("1")
    assert bits.mode == "1" and np.asarray(to_8_bit(bits, 1)).tolist() == np.asarray(bits.convert("L")).tolist()
    rgba = Image.new("RGBA", (3, 1), (255, 0, 0, 255))
    rgba.putpixel((1, 0), (0, 0, 0, 0))
    rgba.putpixel((2, 0), (0, 0, 0, 51))
    assert np.asarray(to_8_bit(rgba)).tolist() == [[[255, 0, 0], [255, 255, 255], [204, 204, 204]]]
    assert np.asarray(to_8_bit(rgba, 1)).tolist() == [[76, 255, 204]]
    la = Image.new("LA", (2, 1), (40, 255))
    la.putpixel((1, 0), (40, 0))
    assert np.asarray(to_8_bit(la, 1)).tolist() == [[40, 255]]
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "a.png", transparency=1)
    with Image.open(tmp_path / "a.png") as read:
        assert read.mode == "P" and np.asarray(to_8_bit(read)).tolist() == [[[10, 20, 30], [255, 255, 255]]]
    Image.new("RGB", (1, 1), (9, 9, 9)).save(tmp_path / "b.png", transparency=(9, 9, 9))
    with Image.open(tmp_path / "b.png") as read:
        assert np.asarray(to_8_bit(read)).tolist() == [[[255, 255, 255]]]


def png(width, height):
    """A PNG of that size, as far as its header says."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


@pytest.mark.parametrize("keep", [0, 10**9], ids=["lazy", "in memory"])
@pytest.mark.parametrize(
    "name, content",
    [
        ("empty.png", b""),
        ("words.jpg", b"not a picture"),
        ("cut.png", b"\x89PNG\r\n\x1a\n and no more"),
        ("short.gif", b"GIF89a"),
        ("short.tif", b"II*\0\x08\0\0\0"),
        ("none.png", png(0, 8)),
        ("bomb.png", png(10**6, 10**6)),
        ("huge.webp", b"RIFF\xff\xff\xff\xffWEBPVP8 "),
    ],
)
def test_headers_are_read_when_a_folder_is_opened(photos, monkeypatch, keep, name, content):
    monkeypatch.setattr(folders, "IN_MEMORY", keep)
    (photos / "b" / name).write_bytes(content)
    for split in "train", "test":
        with pytest.raises(ValueError, match=r"cannot read .*; repair or remove it$") as error:
            data.load(photos, split)
        assert str(photos / "b" / name) in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_breaks_off_is_named_when_it_is_read(photos, lazy):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    broken = photos / "a" / "00.png"
    Image.fromarray(noise).save(broken)
    broken.write_bytes(broken.read_bytes()[:5000])
    found = data.load(photos)
    assert values(found.tensor(torch.tensor([1, 2]))) == [1, 2]
    for read in (
        lambda: found[torch.tensor([3, 0])],
        lambda: list(found.batches([torch.tensor([3, 0])], 0)),
        lambda: list(found.batches([torch.tensor([3, 0])], 1)),
    ):
        with pytest.raises(ValueError, match=r"cannot read .*00\.png as a picture \(.*repair or remove it$") as error:
            read()
        assert "\n" not in str(error.value)


def test_only_regular_files_count(photos):
    (photos / "a" / "d.png").mkdir()
    os.mkfifo(photos / "a" / "z.png")
    (photos / "a" / "gone.png").symlink_to(photos / "nowhere.png")
    (photos / "a" / "pipe.png").symlink_to(photos / "a" / "z.png")
    assert len(data.load(photos)) + len(data.load(photos, "test")) == 23
    Image.new("L", (9, 9)).save(photos / "a" / "d.png" / "x.png")
    assert data.load(photos).classes == ("a", "a/d.png", "b")


def test_a_folder_that_cannot_be_listed_says_so(photos, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match=r"cannot list the folder .*photos: Permission denied \(.*b\)"):
        data.load(photos)


def test_folders_with_too_few_pictures(tmp_path):
    with pytest.raises(ValueError, match="expected pictures.*got 0 for split 'train'"):
        data.load(tmp_path)
    for k in range(5):
        Image.new("L", (9, 9), k).save(tmp_path / f"{k}.png")
    assert values(data.load(tmp_path).tensor()) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="at least 6 for a test split; got 5 for split 'test'"):
        data.load(tmp_path, "test")
    Image.new("L", (9, 9), 5).save(tmp_path / "5.png")
    assert values(data.load(tmp_path).tensor()) == [0, 1, 2, 3, 4] and values(data.load(tmp_path, "test").tensor()) == [
        5
    ]


def test_a_class_without_training_pictures_is_refused(photos):
    (photos / "aa").mkdir()
    for k in range(23):  # after 12 of class a and 5 more, the next is for testing
        if k in (12, 13, 14, 15, 16):
            (photos / "b" / f"{k}.png").rename(photos / "a" / f"{k}.png")
    (photos / "b" / "17.png").rename(photos / "aa" / "17.png")
    for split in "train", "test":
        with pytest.raises(ValueError, match="training picture of each class.*leaves none of aa: add"):
            data.load(photos, split)


def test_the_name_is_the_folder_as_it_was_given(photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    photos.rename("digits")  # like a shipped set
    for given, name in ("./digits", "./digits"), (photos.parent / "digits", str(photos.parent / "digits")):
        found = data.load(given)
        assert found.name == name and data.load(found.name).fingerprint == found.fingerprint
    found = data.load(Path("digits"))
    assert found.name == "./digits" and data.load(found.name).fingerprint == found.fingerprint
    assert data.load("digits").classes == tuple("0123456789")


def test_on_disk_and_in_memory_are_alike(photos, monkeypatch):
    kept = {split: data.load(photos, split, 8, 1) for split in ("train", "test")}
    monkeypatch.setattr(folders, "IN_MEMORY", 0)
    for split, images in kept.items():
        found = data.load(photos, split, 8, 1)
        assert isinstance(images, Images) and isinstance(found, ImageFolder) and len(found) == len(images)
        for field in "name", "classes", "shape", "captions", "scenes":
            assert getattr(found, field) == getattr(images, field)
        assert torch.equal(found.y, images.y) and found.y.dtype == torch.int64
        assert torch.equal(found.tensor(), images.tensor()) and found.tensor().dtype == torch.float32
        for index in torch.tensor([2, 0, 2]), slice(1, 3), 2, torch.tensor(1), torch.zeros(0, dtype=torch.int64):
            (x0, y), (expected, labels) = found[index], images[index]
            assert torch.equal(x0, expected) and torch.equal(y, labels)
        with pytest.raises(IndexError):
            found[torch.tensor([len(found)])]
    assert len(repr(found)) < 300


def test_the_limit_of_memory_is_that_of_decoded_bytes(photos, monkeypatch):
    monkeypatch.setattr(folders, "IN_MEMORY", 20 * 3 * 8 * 8)
    assert isinstance(data.load(photos, size=8), Images)
    monkeypatch.setattr(folders, "IN_MEMORY", 20 * 3 * 8 * 8 - 1)
    assert isinstance(data.load(photos, size=8), ImageFolder) and isinstance(data.load(photos, "test", 8), Images)


@pytest.mark.parametrize("workers", [0, 1, 2, None])
def test_batches_come_in_the_order_asked_for(photos, lazy, workers):
    found = data.load(photos)
    generator = torch.Generator().manual_seed(0)
    indices = [torch.randint(len(found), (n,), generator=generator) for n in (5, 5, 1, 7, 20, 2, 5, 5)]
    batches = list(found.batches(iter(indices), workers))
    assert len(batches) == len(indices)
    for (x0, y), index in zip(batches, indices, strict=True):
        expected, labels = found[index]
        assert torch.equal(x0, expected) and torch.equal(y, labels) and x0.dtype == torch.float32
    assert children() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_an_endless_order_end_with_the_iterator(photos, lazy, workers):
    found, drawn = data.load(photos), []

    def endless():
        while True:
            drawn.append(torch.tensor([len(drawn) % len(found)]))
            yield drawn[-1]

    batches = found.batches(endless(), workers)
    assert children() == []  # nothing starts before the first batch is asked for
    for k in range(4):
        assert torch.equal(next(batches)[0], found.tensor([k]))
    assert len(children()) == workers and len(drawn) <= 4 + 2 * workers
    batches.close()
    assert children() == []


def test_workers_end_though_a_traceback_lives_on(photos, lazy):
    """A notebook keeps the last traceback, and with it all that its frames hold."""
    found = data.load(photos)
    (photos / "a" / "00.png").unlink()
    with pytest.raises(ValueError, match="00.png") as kept:
        list(found.batches([torch.tensor([0])] * 9, 2))
    assert kept.tb and children() == []


def test_batches_leave_the_global_generator_alone(photos, lazy):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for workers in 0, 1:
        list(data.load(photos).batches([torch.tensor([0])], workers))
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_leave_signals_to_the_main_process(photos, lazy):
    found = data.load(photos)
    for _ in range(6):  # at the first batch the second worker may still be about to start
        batches = found.batches((torch.tensor([k % 19]) for k in range(40)), 2)
        next(batches)
        workers = children()
        assert len(workers) == 2
        for pid in workers:
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGHUP)
        for k in range(1, 30):
            assert torch.equal(next(batches)[0], found.tensor([k % 19]))
        assert children() == workers
        batches.close()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


INTERRUPTED = """
import os, sys, torch
from minidiff.data import folder as folders
folders.IN_MEMORY = 0
found = folders.load_folder(sys.argv[1])
batches = found.batches((torch.tensor([k % 19] * 4) for k in range(10**9)), 2)
try:
    for x0, _ in batches:
        print("ready", flush=True)
except KeyboardInterrupt:
    batches.close()
    with open(f"/proc/{os.getpid()}/task/{os.getpid()}/children") as stream:
        print("stopped", stream.read(), flush=True)
"""


def test_ctrl_c_is_answered_by_the_main_process_alone(photos):
    """A terminal sends SIGINT to the whole group."""
    code = [sys.executable, "-c", INTERRUPTED, photos]
    with subprocess.Popen(
        code, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (out.splitlines()[-1].strip(), err, process.returncode) == ("stopped", "", 0)


def test_a_terminated_worker_does_not_break_a_step(photos, lazy):
    """SIGTERM to a whole group reaches workers too. A worker that failed would raise anywhere in the main process."""
    batches = data.load(photos).batches((torch.tensor([k % 19]) for k in range(40)), 1)
    next(batches)
    (worker,) = children()
    os.kill(worker, signal.SIGTERM)
    deadline = time.monotonic() + 20
    while open(f"/proc/{worker}/stat").read().split()[2] != "Z" and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)  # here the main process would be in its step
    with pytest.raises(ValueError, match="processes that read .*photos failed: .*exited unexpectedly"):
        list(batches)


def test_the_fingerprint_of_a_folder(photos, lazy):
    first = data.load(photos).fingerprint
    assert first == data.load(photos).fingerprint == data.load(str(photos) + "/.").fingerprint
    prints = {first, data.load(photos, "test").fingerprint, data.load(photos, size=8).fingerprint}
    prints |= {data.load(photos, channels=1).fingerprint}
    path = photos / "a" / "00.png"
    old = path.read_bytes()

    def after(content):
        path.write_bytes(content)
        return data.load(photos).fingerprint

    big = old + bytes(100_000)
    assert after(old) == first
    for content in old + b"\0", big, big + b"\0", big[:-1] + b"\1", big[:80] + b"\1" + big[81:]:
        prints.add(after(content))
    path.write_bytes(old)
    path.rename(photos / "a" / "000.png")
    prints.add(data.load(photos).fingerprint)
    (photos / "a").rename(photos / "A")
    prints.add(data.load(photos).fingerprint)
    assert len(prints) == 4 + 5 + 2


BOUNDED = """
import resource, sys, torch
from minidiff.data import folder as folders
folders.IN_MEMORY = 0
found = folders.load_folder(sys.argv[1], size=256)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # MB
for _ in found.batches(torch.arange(64).split(8), 0): pass
before = peak()
for _ in found.batches(torch.arange(len(found)).split(8), 0): pass
assert len(found) * 3 * 256 * 256 > 130e6
print(peak() - before)
"""


def test_no_pixels_are_kept(tmp_path, lazy):
    """All pictures decoded are 131 MB, as floats 524 MB; a run through them must not add half of that."""
    Image.new("RGB", (16, 16), "red").save(tmp_path / "0000.png")
    for k in range(1, 800):
        os.link(tmp_path / "0000.png", tmp_path / f"{k:04}.png")
    done = subprocess.run([sys.executable, "-c", BOUNDED, tmp_path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50
    found = data.load(tmp_path)
    found.tensor(slice(0, 100))
    assert len(pickle.dumps(found)) < 100 * len(found)


@pytest.mark.parametrize("width, height", [(200, 260), (130, 90), (64, 64)])
def test_a_photograph_is_never_decoded_smaller_than_it_is_shown(tmp_path, width, height):
    """A JPEG can be decoded at an eighth of its size: too little, where that has fewer pixels than the picture."""
    u, v = np.mgrid[:height, :width] / min(width, height) * 32
    photo = np.where((u // 4 + v // 4) % 2 == 0, 235, 20).astype(np.uint8)  # a board with fields of four pixels
    Image.fromarray(photo).convert("RGB").save(tmp_path / "a.jpg", quality=95)
    x = data.load(tmp_path).x[0, 0].double()
    assert 80 < x.std() and ((x < 60) | (x > 195)).double().mean() > 0.6
