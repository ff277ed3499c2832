"""How was each shipped data set made?

    python tools/make_data.py digits                   # from scikit-learn
    python tools/make_data.py fashion FOLDER           # four idx files of Debian's dataset-fashion-mnist
    python tools/make_data.py emoji PACKAGE.tgz        # npm's emoji-datasource-google, version 16

Each writes data/NAME/{train,test}.png and labels.json, reads them back, and enters their sha256 in
data/checksums.json; the LICENSE and SOURCE.md beside them are written by hand. No network is used.
"""

import argparse
import gzip
import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

DATA = Path(__file__).resolve().parents[1] / "data"
sys.path.insert(0, str(DATA.parent))

from minidiff.data.files import CHECKSUMS, sha256  # noqa: E402
from minidiff.data.images import pack_sheet, split_indices, to_8_bit, unpack_sheet  # noqa: E402

FASHION = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot".split(",")
LEFT_OUT = "Flags", "Component"  # the components are bare swatches of skin and hair


def register(path: Path) -> None:
    """Enters or renews the sha256 of a file under data/, which `minidiff.data.shipped` checks."""
    listing = DATA / CHECKSUMS
    sums = json.loads(listing.read_text(encoding="utf-8")) if listing.exists() else {}
    sums[path.resolve().relative_to(DATA).as_posix()] = sha256(path)
    listing.write_text(json.dumps(sums, indent=1, sort_keys=True) + "\n", encoding="utf-8", newline="\n")


def digits() -> None:
    """All 1,797 digits, their counts 0..16 spread over 0..255."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = np.rint(bunch.images * 255 / 16).astype(np.uint8)[..., None]
    write("digits", list("0123456789"), split_evenly(x, bunch.target))


def fashion(folder: Path) -> None:
    """The first 1,000 of each class of the training file and 200 of each of the test file, in file order."""
    parts = {}
    for split, prefix, each in ("train", "train", 1000), ("test", "t10k", 200):
        x = idx(folder / f"{prefix}-images-idx3-ubyte.gz")[..., None]
        y = idx(folder / f"{prefix}-labels-idx1-ubyte.gz")
        keep = np.sort(np.concatenate([np.flatnonzero(y == k)[:each] for k in range(len(FASHION))]))
        parts[split] = x[keep], y[keep], []
    write("fashion", FASHION, parts, pad=2)


def emoji(archive: Path) -> None:
    """All but flags, swatches and repeats, in Unicode's order, on white; a category is a class."""
    with tarfile.open(archive) as package:
        entries = json.load(package.extractfile("package/emoji.json"))
        png = package.extractfile("package/img/google/sheets-clean/32.png").read()
    entries = [e for e in entries if e["has_img_google"] and e["category"] not in LEFT_OUT]
    entries.sort(key=lambda e: e["sort_order"])
    pixels = np.asarray(to_8_bit(Image.open(io.BytesIO(png))))
    corners = [(34 * e["sheet_y"] + 1, 34 * e["sheet_x"] + 1) for e in entries]  # a border of one pixel each
    x = np.stack([pixels[i : i + 32, j : j + 32] for i, j in corners])
    classes = list(dict.fromkeys(e["category"] for e in entries))
    y = np.array([classes.index(e["category"]) for e in entries])
    first = np.sort(np.unique(x, axis=0, return_index=True)[1])  # some families look exactly alike
    write("emoji", classes, split_evenly(x[first], y[first], [entries[k]["name"].lower() for k in first]))


def idx(path: Path) -> np.ndarray:
    """The array of an idx file: two zeros, type (8 is a byte), rank, the big-endian sizes, the bytes."""
    raw = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(raw, ">u4", raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def split_evenly(x, y, captions=()) -> dict:
    """Training and test parts of a set that has no official split."""
    picks = {split: split_indices(len(x), split).numpy() for split in ("train", "test")}
    return {split: (x[i], y[i], [captions[k] for k in i] if captions else []) for split, i in picks.items()}


def write(name: str, classes: list[str], parts: dict, pad: int = 0) -> None:
    """Writes and registers the sheets and labels of a set; parts[split] is (x (N, H, W, C), y, captions)."""
    folder = DATA / name
    folder.mkdir(parents=True, exist_ok=True)
    about = {"classes": classes, "size": int(parts["train"][0].shape[1]), "pad": pad}
    for split, (x, y, captions) in parts.items():
        path = folder / f"{split}.png"
        pack_sheet(x).save(path, optimize=True)
        if not np.array_equal(unpack_sheet(Image.open(path), len(x), about["size"]).permute(0, 2, 3, 1).numpy(), x):
            raise ValueError(f"{path} does not read back as it was written")
        register(path)
        about[split] = {"labels": "".join(map(str, y)), "captions": captions}
        print(f"{path}: {len(x)} pictures, {path.stat().st_size / 1e6:.2f} MB")
    path = folder / "labels.json"
    path.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    register(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Makes a shipped data set from its original files.")
    sets = parser.add_subparsers(dest="name", required=True)
    sets.add_parser("digits", help=digits.__doc__)
    sets.add_parser("fashion", help=fashion.__doc__).add_argument("source", type=Path, metavar="FOLDER")
    sets.add_parser("emoji", help=emoji.__doc__).add_argument("source", type=Path, metavar="PACKAGE.tgz")
    chosen = vars(parser.parse_args())
    {"digits": digits, "fashion": fashion, "emoji": emoji}[chosen.pop("name")](*chosen.values())
