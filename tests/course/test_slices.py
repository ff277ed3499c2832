"""The part of a notebook that one cell needs."""

import pytest
from slices import names_read, names_written, needed_for, without


@pytest.mark.parametrize(
    "source, read, written",
    [
        ("y = f(x)", {"f", "x"}, {"y"}),
        ("x = 1\ny = x", set(), {"x", "y"}),
        ("y = x\nx = 1", {"x"}, {"x", "y"}),
        ("def f(a):\n    b = a + c\n    return b", {"c"}, {"f"}),
        ("z = [k * scale for k in range(3)]", {"scale", "range"}, {"z"}),
        ("total += step", {"total", "step"}, {"total"}),
        ("table[0] = value", {"table", "value"}, {"table"}),
        ("net.eval()", {"net"}, {"net"}),
        ("from minidiff import cfg\n%pip list\ncfg.x", set(), {"cfg"}),
        ("for k in names:\n    seen.append(k)", {"names", "seen"}, {"k", "seen"}),
        ("for k in range(9):\n    a, b = k, c\n    c = a + d", {"range", "c", "d"}, {"k", "a", "b", "c"}),
    ],
)
def test_what_a_cell_reads_and_writes(source, read, written):
    assert names_read(source) == read
    assert names_written(source) == written


def test_only_what_is_needed_is_taken():
    cells = ["a = 1", "b = slow()", "c = a + 1", "a = 5", "c.sort()", "print(c)"]
    assert needed_for(cells, 5) == [0, 2, 4]
    assert needed_for(cells, 3) == []
    assert needed_for(["import torch", "torch.manual_seed(0)", "x = torch.ones(3)"], 2) == [0]


TRAINING = [
    "import torch",
    "net = make()",
    "model = Model(net)",
    "data = load()",
    "def learn():\n    for loss in train(net, data):\n        losses.append(loss)",
    "losses = []",
    "import time\nlearn()",
    "time.time(), data, torch",
    "model.draw()",
    "losses[-1]",
    "net = make()",
    "net(data)",
]


def test_what_needs_a_dropped_cell_goes_with_it():
    """Training changes the network, the model made of it and the list of losses; imports and data stay."""
    left = without(TRAINING, [6])
    assert [k for k, cell in enumerate(left) if cell == TRAINING[k]] == [0, 1, 2, 3, 4, 5, 7, 10, 11]
    assert left[6] == "import time" and left[8] == left[9] == ""


def test_nothing_is_dropped_for_nothing():
    assert without(TRAINING, []) == TRAINING
