"""Where a notebook runs, and what its first line says there."""

import sys
import types

import torch

from minidiff.course import hosts


def test_hosts_are_told_apart(monkeypatch):
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    assert hosts.host() is None
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    assert hosts.host() == "Kaggle"
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    assert hosts.host() == "Colab"


def test_the_menu_of_gpus_is_named_where_there_is_one(monkeypatch, capsys):
    monkeypatch.setattr(hosts, "host", lambda: "Kaggle")
    for device, named in ("cpu", True), ("cuda", False):
        monkeypatch.setattr(hosts, "best_device", lambda device=device: torch.device(device))
        hosts.hello()
        said = capsys.readouterr().out
        assert said.startswith("minidiff ") and f", {device}, " in said
        assert ("GPU T4" in said) == named
