"""How much longer than `import torch` does `import minidiff` take?

Interleaved runs in fresh interpreters, medians: python benchmarks/import_time.py [runs]
"""

import statistics
import subprocess
import sys
import time

MODULES = ("torch", "minidiff")


def seconds(module: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - start


def main(runs: int = 11) -> None:
    for module in MODULES:
        seconds(module)  # fills the disk's cache
    pairs = [[seconds(module) for module in MODULES] for _ in range(runs)]
    torch, minidiff = map(statistics.median, zip(*pairs, strict=True))
    print(f"import torch {torch:.2f} s, import minidiff {minidiff:.2f} s: {minidiff / torch - 1:+.1%}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
