"""Every network is one graph: it compiles whole and goes through both exporters to ONNX, whatever the batch."""

import copy
import io
import warnings

import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode

from minidiff.nets.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.nets.classifier import Classifier, ClassifierConfig
from minidiff.nets.mlp import MLP, MLPConfig
from minidiff.nets.text import TextConfig
from minidiff.nets.unet import UNet, UNetConfig

TEXT = TextConfig(9, 7, width=16, layers=1)
NETS = {
    "mlp": lambda: MLP(MLPConfig(num_classes=3, width=16)),
    "unet": lambda: UNet(UNetConfig(width=8, channel_mult=(1, 2))),
    "unet-text": lambda: UNet(UNetConfig(2, 0, width=8, channel_mult=(1, 2), patch_size=1, text=TEXT)),
    "classifier": lambda: Classifier(ClassifierConfig(1, 8, width=8, num_classes=3)),
    "gaussian": lambda: Autoencoder(AutoencoderConfig(width=8)),
    "quantizer": lambda: Autoencoder(AutoencoderConfig(width=8, codebook_size=6)),
}


@pytest.fixture(params=NETS)
def net(request) -> nn.Module:
    torch.manual_seed(0)
    net = NETS[request.param]()
    with torch.no_grad():
        for p in net.parameters():  # so that no part is silenced by its zero initialisation
            p.add_(0.1 * torch.randn(p.shape))
    return net.eval()


def inputs(net: nn.Module, b: int) -> tuple[Tensor, ...]:
    """What the network takes, for a batch of b."""
    g, config = torch.Generator().manual_seed(b), net.config
    if isinstance(net, MLP):
        x = torch.randn(b, config.dim, generator=g)
    else:
        x = torch.randn(b, config.channels, 8, 8 if isinstance(net, Classifier) else 12, generator=g)
    if not isinstance(net, MLP | UNet):
        return (x,)
    if getattr(config, "text", None):
        cond = torch.randint(config.text.vocab_size, (b, 5), generator=g)
    else:
        cond = torch.randint(config.num_classes + 1, (b,), generator=g)
    return x, torch.rand(b, generator=g), cond


def outputs(found) -> list[Tensor]:
    return list(found) if isinstance(found, tuple | list) else [found]


def same(found, wanted, tolerance: float) -> None:
    for one, other in zip(outputs(found), outputs(wanted), strict=True):
        torch.testing.assert_close(torch.as_tensor(one), other, rtol=tolerance, atol=tolerance)


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_no_value_is_read(net, training):
    """On tensors that have shapes and no values, a check of a value or a shape that depends on values fails."""
    shape = (3, net.config.num_classes) if isinstance(net, Classifier) else inputs(net, 3)[0].shape
    fake = FakeTensorMode()
    with FakeCopyMode(fake):
        shapes_only = copy.deepcopy(net).train(training)
    example = [fake.from_tensor(value) for value in inputs(net, 3)]
    with fake:
        assert outputs(shapes_only(*example))[0].shape == shape


def test_compiles_as_one_graph(net):
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    for b in (3, 1):
        same(compiled(*inputs(net, b)), net(*inputs(net, b)), 1e-6)


@pytest.mark.parametrize("net", ["mlp", "unet", "unet-text"], indirect=True)
def test_compiles_without_a_condition(net):
    x, t, _ = inputs(net, 3)
    same(torch.compile(net, fullgraph=True, backend="eager")(x, t), net(x, t), 1e-6)


@pytest.mark.parametrize("net", ["unet-text"], indirect=True)
def test_compiles_inside_autocast(net):
    with torch.autocast("cpu", torch.bfloat16):
        wanted, found = net(*inputs(net, 3)), torch.compile(net, fullgraph=True, backend="eager")(*inputs(net, 3))
    assert wanted.dtype == torch.bfloat16 and torch.equal(found, wanted)


@pytest.mark.parametrize("net", ["quantizer"], indirect=True)
def test_a_training_step_with_dead_entries_compiles(net):
    """Entries are counted and replaced without a look at how many are dead."""
    x = inputs(net, 3)[0]
    net.train().bottleneck.usage.zero_()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    wanted, after = net(x), {name: value.clone() for name, value in net.state_dict().items()}
    assert not torch.equal(after["bottleneck.codebook.weight"], before["bottleneck.codebook.weight"])
    net.load_state_dict(before)
    same(torch.compile(net, fullgraph=True, backend="eager")(x), wanted, 1e-6)
    same(list(net.state_dict().values()), list(after.values()), 1e-6)


@pytest.mark.parametrize("dynamo", [True, False], ids=["torch.export", "torchscript"])
def test_exports_to_onnx_for_any_batch(net, dynamo):
    example = inputs(net, 3)
    names = ["x", "t", "cond"][: len(example)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own: names of axes, the older exporter's age
        if dynamo:
            shapes = tuple({0: "batch"} for _ in example)
            program = torch.onnx.export(
                net, example, input_names=names, dynamic_shapes=shapes, dynamo=True, verbose=False
            )
            content = program.model_proto.SerializeToString()
        else:
            file, axes = io.BytesIO(), {name: {0: "batch"} for name in names}
            torch.onnx.export(net, example, file, input_names=names, dynamic_axes=axes, dynamo=False)
            content = file.getvalue()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for b in (1, 3, 5):
        feed = {name: value.numpy() for name, value in zip(names, inputs(net, b), strict=True)}
        with torch.no_grad():
            same(session.run(None, feed), net(*inputs(net, b)), 1e-4)
