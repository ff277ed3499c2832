"""Data sets from a folder of pictures.

Each subfolder with pictures is a class; each sixth picture, in the order of the paths, is for testing. Pictures are
cropped at the centre and resized. Every file's header is read when the folder is opened; the pixels of a small folder
are decoded then too, those of a large one whenever they are needed.
"""

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader

from minidiff.data.images import TEST_EVERY, Images, check_size, fingerprint, split_indices, to_8_bit, to_unit_range

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
SIZE, CHANNELS = 32, 3  # unless others are asked for
IN_MEMORY = 128 * 2**20  # bytes of decoded pictures up to which a folder is kept in memory
SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} if os.name == "posix" else set()
ENDS = 32 * 2**10  # bytes at either end of a file that enter the fingerprint


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """Pictures that stay on disk: the same interface as `Images`, and `batches`, which decodes in other processes.

    `files` are paths inside `root`; `shape` (C, H, W) is that of each picture once decoded.
    """

    name: str
    root: Path = field(repr=False)
    files: tuple[str, ...] = field(repr=False)
    y: Tensor = field(repr=False)
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    captions: tuple[str, ...] = field(default=(), init=False, repr=False)
    scenes: tuple = field(default=(), init=False, repr=False)

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the classes, the size, the labels, and the files' names and contents.

        Of each file its length and both ends are read.
        """
        return fingerprint(self, (_summary(self.root, file) for file in self.files))

    def __getitem__(self, index) -> tuple[Tensor, Tensor]:
        """Return (x0, y) at `index`: pictures as `tensor` gives them and labels int64 (B,)."""
        return self.tensor(index), self.y[index]

    def tensor(self, index=slice(None)) -> Tensor:
        """Read pictures at `index`, a slice or int64 (B,), all by default: float32 (B, C, H, W) in [-1, 1]."""
        positions = torch.arange(len(self))[index]
        x = self.read(positions.flatten().tolist())
        return to_unit_range(x.reshape(*positions.shape, *self.shape))

    def read(self, positions: Sequence[int]) -> Tensor:
        """Decode the pictures at some positions: uint8 (B, C, H, W). ValueError that names a broken file."""
        x = torch.empty(len(positions), *self.shape, dtype=torch.uint8)
        for k, position in enumerate(positions):
            x[k] = read_picture(self.root / self.files[position], self.shape)
        return x

    def batches(self, indices: Iterable[Tensor], num_workers: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (x0, y), as `self[index]`, for each int64 index (B,), in that order; processes read some ahead.

        By default one process for two cores; 0 reads in this one. They end with the iterator.
        """
        workers = min(8, _cores() // 2) if num_workers is None else num_workers
        loader: DataLoader = DataLoader(
            range(len(self)),  # type: ignore[arg-type]  # any sequence will do
            batch_sampler=(index.tolist() for index in indices),  # type: ignore[arg-type]
            collate_fn=self._load,
            num_workers=workers,
            worker_init_fn=_leave_signals_to_main,
            generator=torch.Generator(),  # else the loader draws from the global one
        )
        with _blocked_signals():  # until each worker has said what they mean to it
            iterator = iter(loader)
        try:
            for batch in iterator:
                if isinstance(batch, ValueError):
                    raise batch
                x, y = map(torch.from_numpy, batch)
                yield to_unit_range(x), y
        except RuntimeError as error:  # a process was ended from outside
            raise ValueError(f"the processes that read {self.name} failed: {' '.join(str(error).split())}") from error
        finally:
            # Dropping the iterator would do, were it not for tracebacks, which keep it and its processes alive.
            getattr(iterator, "_shutdown_workers", lambda: None)()

    def _load(self, positions: Sequence[int]) -> tuple[np.ndarray, np.ndarray] | ValueError:
        # As arrays, batches come through a pipe: tensors would need shared memory, and their worker to be alive.
        try:
            return self.read(positions).numpy(), self.y[positions].numpy()
        except ValueError as error:  # raised in a worker, it would come with a page of traceback
            return error


def load_folder(
    folder: str | Path, split: str = "train", size: int | Sequence[int] | None = None, channels: int | None = None
) -> Images | ImageFolder:
    """Return all pictures under a folder as RGB (channels=3) or greyscale (1) of size by size or (H, W), 3 and 32.

    `name` is the folder as it was given. ValueError if there are too few or a file is no picture.
    """
    height, width = check_size(SIZE if size is None else size)
    channels = CHANNELS if channels is None else channels
    if channels not in (1, 3):
        raise ValueError(f"expected 1 or 3 channels, got {channels}")
    root = Path(folder).resolve()
    files = _picture_files(root, folder)
    labels = [file.rpartition("/")[0] or "." for file in files]
    classes = {name: k for k, name in enumerate(sorted(set(labels)))}
    chosen = split_indices(len(files), split).tolist()
    if not chosen:
        raise ValueError(
            f"expected pictures ({' '.join(sorted(SUFFIXES))}) under {folder}, at least {TEST_EVERY} "
            f"for a test split; got {len(files)} for split {split!r}"
        )
    untrained = classes.keys() - {labels[k] for k in split_indices(len(files), "train").tolist()}
    if untrained:
        raise ValueError(
            f"expected a training picture of each class under {folder}; each sixth picture is for testing, which "
            f"leaves none of {', '.join(sorted(untrained))}: add pictures, or remove the class"
        )
    for file in files:  # of both splits: to remove a broken file later would change what is held out
        check_header(root / file)
    y = torch.tensor([classes[labels[k]] for k in chosen])
    data = ImageFolder(str(folder), root, tuple(files[k] for k in chosen), y, tuple(classes), (channels, height, width))
    return data if len(data) * channels * height * width > IN_MEMORY else _decoded(data)


def _picture_files(root: Path, folder: str | Path) -> list[str]:
    """The picture files under a folder, sorted, but for hidden ones and what is no regular file."""

    def refuse(error: OSError) -> None:
        raise ValueError(f"cannot list the folder {folder}: {error.strerror} ({error.filename})") from error

    found = []
    for place, folders, names in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(place, name) for name in names if not name.startswith(".")]
        found += [path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file()]
    return [path.relative_to(root).as_posix() for path in sorted(found)]


def _decoded(data: ImageFolder) -> Images:
    """The same pictures in memory. Pillow decodes outside Python's lock, so threads help."""
    x = torch.empty(len(data), *data.shape, dtype=torch.uint8)
    with ThreadPoolExecutor(_cores()) as pool:
        for k, picture in enumerate(pool.map(lambda file: read_picture(data.root / file, data.shape), data.files)):
            x[k] = picture
    return Images(data.name, x, data.y, data.classes)


def check_header(path: Path) -> None:
    """Raise a ValueError that names the file unless it begins like a picture."""
    try:
        Image.open(path).close()  # which also refuses pictures without pixels
    except Exception as error:  # Pillow's decoders raise many kinds
        raise _unreadable(path, error) from error


def read_picture(path: Path, shape: tuple[int, int, int]) -> Tensor:
    """Decode a file as uint8 (C, H, W), upright, cropped at the centre. ValueError that names a broken file."""
    channels, height, width = shape
    try:
        with Image.open(path) as image:
            image.draft(None, (2 * max(height, width),) * 2)  # a large JPEG is decoded at a half, quarter or eighth
            upright = to_8_bit(ImageOps.exif_transpose(image), channels)
            pixels = np.array(ImageOps.fit(upright, (width, height)))  # (H, W[, 3])
    except Exception as error:  # Pillow's decoders raise many kinds
        raise _unreadable(path, error) from error
    return torch.from_numpy(pixels.reshape(height, width, channels)).permute(2, 0, 1)


def _unreadable(path: Path, error: Exception) -> ValueError:
    why = "of no known kind" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
    return ValueError(f"cannot read {path} as a picture ({why}); repair or remove it")


def _summary(root: Path, file: str) -> bytes:
    """A file's name, length, and both ends."""
    with (root / file).open("rb") as stream:
        length = os.fstat(stream.fileno()).st_size
        head = stream.read(ENDS)
        stream.seek(max(ENDS, length - ENDS))
        return os.fsencode(file) + f"\0{length}\0".encode() + head + stream.read(ENDS)


def _cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    """Hold back signals to this process, and to those that it starts meanwhile."""
    if not SIGNALS:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_signals_to_main(_: int) -> None:
    """Let a worker outlive Ctrl-C and a closed terminal, which the main process answers, and end quietly on SIGTERM."""
    if not SIGNALS:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # a failure here would raise in the main process's step
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
