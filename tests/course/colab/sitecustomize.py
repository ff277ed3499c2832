"""Runs when Python starts with this folder on its path: Colab's kernels have google.colab loaded."""

import google.colab  # noqa: F401
