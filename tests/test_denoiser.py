"""Denoisers: the right answer for every prediction and schedule, scaled inputs, one graph, no waiting for a value."""

import contextlib
import copy
import io
import warnings

import onnxruntime
import pytest
import torch
from torch import nn

from minidiff.denoiser import Denoiser
from minidiff.losses import denoising_loss, sample_times, weight
from minidiff.nets.mlp import MLP, MLPConfig
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.oracle import Mixture
from minidiff.process import add_noise, target
from minidiff.samplers import dpmpp_2m, final, times
from minidiff.schedule import Cosine, Flow, FromBetas, LinearBeta, Schedule, VarianceExploding, linear_betas


class Constant(nn.Module):
    """Gives a fixed answer and remembers what it was asked."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x, t, cond):
        self.asked = (x, t, cond)
        return self.answer


class Small(nn.Module):
    """A stranger's network: no config, no embedding, a time as one more coordinate."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x, t, cond=None):
        return self.layer(torch.cat([x, t[:, None].to(x.dtype)], 1))


def shaken(net: nn.Module) -> nn.Module:
    """The network with every parameter moved: a new one answers zero."""
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=g))
    return net.eval()


def test_the_true_target_gives_the_true_image(schedule, prediction):
    x0, eps = torch.randn(2, 3, 1, 4, 4, dtype=torch.float64)
    for t in (0.4, torch.tensor(0.4, dtype=torch.float64), torch.tensor([0.4, 0.1, 0.9], dtype=torch.float64)):
        net = Constant(target(prediction, x0, eps, t, schedule))
        x_t = add_noise(x0, eps, t, schedule)
        torch.testing.assert_close(Denoiser(net, schedule, prediction)(x_t, t), x0, rtol=1e-7, atol=1e-7)


def test_the_network_gets_a_time_per_sample_and_the_condition():
    net = Constant(torch.zeros(3, 1, 4, 4))
    labels = torch.tensor([1, 2, 3])
    Denoiser(net, Cosine())(torch.zeros(3, 1, 4, 4), torch.tensor(0.25, dtype=torch.float64), labels)
    _, t, cond = net.asked
    assert torch.equal(t, torch.full((3,), 0.25)) and torch.equal(cond, labels)
    words = {"tokens": torch.zeros(3, 5), "size": torch.ones(3)}
    Denoiser(net, Cosine())(torch.zeros(3, 1, 4, 4), torch.tensor([0.1, 0.2, 0.3]), words)
    assert torch.equal(net.asked[1], torch.tensor([0.1, 0.2, 0.3])) and net.asked[2] is words


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_times_are_not_rounded_to_half_precision(dtype):
    t = torch.tensor([0.123456789, 0.5004, 0.999])
    net = Constant(torch.zeros(3, 2, dtype=dtype))
    x0 = Denoiser(net, Cosine())(torch.zeros(3, 2, dtype=dtype), t)
    assert net.asked[0].dtype == x0.dtype == dtype and torch.equal(net.asked[1], t)


def test_a_bfloat16_model_is_as_exact_as_autocast():
    """Rounded times once cost 2.5 times autocast's error; rounded weights cost a little."""
    net, g = shaken(MLP(MLPConfig(width=64))), torch.Generator().manual_seed(0)
    exact = Denoiser(net, Cosine())
    half = copy.deepcopy(exact).bfloat16()
    x, t = torch.randn(2000, 2, generator=g), torch.rand(2000, generator=g)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        by_autocast = exact(x, t)
    with torch.no_grad():
        errors = [
            (found.float() - exact(x, t)).square().mean().sqrt() for found in (half(x.bfloat16(), t), by_autocast)
        ]
    assert errors[0] < 1.6 * errors[1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_solve_is_rounded_once(dtype, schedule):
    x, y, t = torch.randn(400, 3).to(dtype), torch.randn(400, 3).to(dtype), torch.linspace(0.05, 0.95, 400)
    low, high = (Denoiser(Constant(to(y)), schedule, "edm")(to(x), t) for to in (torch.clone, torch.Tensor.float))
    assert low.dtype == dtype and torch.equal(low, high.to(dtype))


def test_half_precision_answers_come_back_in_the_datas_dtype():
    net = Constant(torch.zeros(3, 2, dtype=torch.bfloat16))
    assert Denoiser(net, Cosine())(torch.zeros(3, 2), 0.5).dtype == torch.float32


def test_inputs_have_unit_variance_where_the_schedule_does_not_see_to_it(schedule):
    """c_in = 1 / sqrt(alpha^2 + sigma^2) for data of variance 1 (Karras et al. 2022, table 1)."""
    g = torch.Generator().manual_seed(0)
    x0, eps, t = (
        torch.randn(20_000, 2, generator=g),
        torch.randn(20_000, 2, generator=g),
        torch.rand(20_000, generator=g),
    )
    x_t, net = add_noise(x0, eps, t, schedule), Constant(x0)
    Denoiser(net, schedule)(x_t, t)
    assert net.asked[0].std().item() == pytest.approx(1, abs=0.02)
    alpha, sigma = schedule(t)
    torch.testing.assert_close(net.asked[0], x_t / (alpha**2 + sigma**2).sqrt()[:, None], rtol=1e-5, atol=1e-6)
    if schedule.variance_preserving:
        assert torch.equal(net.asked[0], x_t)  # to the bit
    Denoiser(net, schedule, scale_input=False)(x_t, t)
    assert torch.equal(net.asked[0], x_t)


def test_at_the_data_the_image_is_the_data(schedule, prediction):
    """Where sigma is 0, x_t is x0, whatever the network says; 0 / 0 must not come out."""
    x = torch.randn(4, 3)
    x0 = Denoiser(Constant(torch.randn(4, 3)), schedule, prediction)(x, torch.tensor([0.0, 0.5, 0.0, 1e-3]))
    assert torch.equal(x0[[0, 2]], x[[0, 2]]) and x0.isfinite().all()


@pytest.mark.parametrize("prediction, schedule", [
    ("x0", Cosine()), ("v", Cosine()), ("edm", Cosine()), ("velocity", Cosine()), ("velocity", Flow()), ("x0", Flow()),
    ("edm", Flow()), ("edm", VarianceExploding()), ("x0", VarianceExploding()),
], ids=str)  # fmt: skip
def test_at_pure_noise_the_image_is_finite(prediction, schedule):
    x0, eps, t = torch.randn(4, 3), torch.randn(4, 3), torch.ones(4)
    found = Denoiser(Constant(target(prediction, x0, eps, t, schedule)), schedule, prediction)(
        add_noise(x0, eps, t, schedule), t
    )
    torch.testing.assert_close(found, x0, rtol=1e-3, atol=1e-3)


class Counted(Schedule):
    """The straight line, counting how often it is asked."""

    def __init__(self):
        self.calls = self.rate_calls = 0

    def __call__(self, t):
        self.calls += 1
        return Flow()(t)

    def rates(self, t):
        self.rate_calls += 1
        return Flow().rates(t)


def test_the_schedule_is_asked_once_a_call(prediction):
    schedule = Counted()
    denoiser = Denoiser(Small(), schedule, prediction)
    schedule.calls = schedule.rate_calls = 0
    denoiser(torch.randn(5, 3), torch.rand(5))
    assert schedule.calls == 1 and schedule.rate_calls == (prediction == "velocity")


def test_no_value_is_read_in_a_forward(schedule, prediction, monkeypatch):
    """Neither by Python nor, on the meta device, by anything below it."""
    denoiser = Denoiser(Small(), schedule, prediction)
    away = Denoiser(Small().to("meta"), schedule, prediction)

    def refuse(*_):
        raise AssertionError("a tensor was read")

    with monkeypatch.context() as patch:
        for name in ("__bool__", "item", "__float__", "__int__", "__index__", "tolist", "numpy", "__format__"):
            patch.setattr(torch.Tensor, name, refuse)
        for t in (torch.rand(5), torch.tensor(0.5, dtype=torch.float64)):
            denoiser(torch.randn(5, 3), t)
        for t in (torch.empty(5, device="meta"), torch.empty((), device="meta")):
            away(torch.empty(5, 3, device="meta"), t)


def test_times_of_another_batch_and_numbers_outside_0_1_are_refused():
    denoiser = Denoiser(Small(), Cosine())
    for t in (torch.rand(4), torch.rand(5, 1), torch.rand(1)):
        with pytest.raises(ValueError, match=r"expected times \(\) or \(5,\)"):
            denoiser(torch.randn(5, 3), t)
    for t in (500.0, 500, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"expected times in \[0, 1\]"):
            denoiser(torch.randn(5, 3), t)
    with pytest.raises(ValueError, match="expected the prediction and x_t of one shape"):
        Denoiser(Constant(torch.zeros(5, 1)), Cosine())(torch.zeros(5, 3), 0.5)
    torch.testing.assert_close(denoiser(x := torch.randn(5, 3), 1), denoiser(x, torch.tensor(1)))  # whole numbers


def test_unknown_predictions_and_schedules_are_refused_at_once():
    with pytest.raises(ValueError, match="expected a prediction among"):
        Denoiser(nn.Identity(), Cosine(), "noise")
    with pytest.raises(ValueError, match="expected a Schedule, got"):
        Denoiser(nn.Identity(), Cosine, "v")


def test_the_null_condition_belongs_to_the_denoiser():
    """It is no weight: a checkpoint does not hold it, a copy does."""
    assert Denoiser(Small(), Cosine()).null is None and Denoiser(Small(), Cosine(), null=3).null == 3
    assert Denoiser(MLP(MLPConfig(num_classes=4)), Cosine()).null == 4  # the network's, unless another is given
    assert Denoiser(MLP(MLPConfig(num_classes=4)), Cosine(), null=0).null == 0
    denoiser = Denoiser(Small(), Cosine(), null={"tokens": torch.zeros(5), "label": 7})
    assert set(denoiser.state_dict()) == {"net.layer.weight", "net.layer.bias"}
    assert copy.deepcopy(denoiser).null["label"] == 7


NETS = {
    "stranger": (Small, torch.randn(3, 3), None),
    "mlp": (lambda: MLP(MLPConfig(num_classes=3, width=16)), torch.randn(3, 2), torch.tensor([0, 1, 3])),
    "unet": (
        lambda: UNet(UNetConfig(width=8, channel_mult=(1, 2))),
        torch.randn(3, 1, 8, 12),
        torch.tensor([0, 1, 10]),
    ),
}
TABLE = FromBetas(linear_betas(1000))


def make(name: str, schedule: Schedule, prediction: str):
    """A denoiser and its input."""
    build, x, cond = NETS[name]
    torch.manual_seed(0)
    torch._dynamo.reset()
    inputs = x, torch.tensor([0.1, 0.5, 0.9]), cond
    return Denoiser(shaken(build()), schedule, prediction), inputs[: 2 + (cond is not None)]


def check_one_graph(denoiser, x, t, *cond):
    compiled = torch.compile(denoiser, fullgraph=True, backend="eager")
    for time in (t, torch.tensor(0.3, dtype=torch.float64), 0.3):
        torch.testing.assert_close(compiled(x, time, *cond), denoiser(x, time, *cond), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETS)
def test_a_denoiser_compiles_as_one_graph(name):
    denoiser, inputs = make(name, Cosine(), "v")
    check_one_graph(denoiser, *inputs)


@pytest.mark.parametrize("prediction", ["velocity", "edm"])
def test_every_schedule_compiles(schedule, prediction):
    denoiser, inputs = make("stranger", schedule, prediction)
    check_one_graph(denoiser, *inputs)


@pytest.mark.parametrize("dynamo", [True, False], ids=["newer", "older"])
@pytest.mark.parametrize("name, schedule, prediction", [
    ("stranger", LinearBeta(), "velocity"), ("stranger", TABLE, "eps"), ("stranger", VarianceExploding(), "edm"),
    ("mlp", Cosine(), "v"), ("unet", Flow(), "velocity"),
], ids=str)  # fmt: skip
def test_a_denoiser_goes_through_both_exporters(name, schedule, prediction, dynamo, tmp_path):
    denoiser, inputs = make(name, schedule, prediction)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(denoiser, inputs, tmp_path / "net.onnx", dynamo=dynamo)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    feed = dict(zip((i.name for i in session.get_inputs()), (value.numpy() for value in inputs), strict=True))
    found = torch.from_numpy(session.run(None, feed)[0])
    torch.testing.assert_close(found, denoiser(*inputs).detach(), rtol=1e-3, atol=1e-3)


def train_exploding(net, prediction, scale_input, data):
    """A denoiser for the schedule that explodes, after 300 steps of training without tricks."""
    schedule, g = VarianceExploding(), torch.Generator().manual_seed(0)
    denoiser = Denoiser(net, schedule, prediction, scale_input=scale_input)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(300):
        x0, eps, t = data.sample(256, g), torch.randn(256, 2, generator=g), sample_times(256, g)
        loss = (weight(prediction, t, schedule) * denoising_loss(denoiser, x0, eps, t, schedule)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return denoiser


@pytest.fixture
def humps():
    return Mixture(torch.tensor([0.5, 0.5]), torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), torch.tensor([0.2, 0.2]))


def test_variance_exploding_trains_with_the_edm_target(humps):
    """Samples have the data's spread, (1.02, 0.2). From a network for eps they keep a part of their noise of std 50."""

    def spread(prediction, scale_input):
        torch.manual_seed(0)
        net = MLP(MLPConfig(width=32, num_blocks=2))
        denoiser = train_exploding(net, prediction, scale_input, humps)
        noise = denoiser.schedule(1.0)[1] * torch.randn(2000, 2, generator=torch.Generator().manual_seed(1))
        return final(dpmpp_2m(denoiser, noise, times(60), denoiser.schedule)).std(0)

    good, bad = spread("edm", True), spread("eps", False)
    print(f"edm, scaled input: {good.tolist()}; eps, raw input: {bad.tolist()}")
    assert good[0].item() == pytest.approx(1.02, abs=0.15) and good[1].item() == pytest.approx(0.2, abs=0.08)
    assert bad[1] > 3 * good[1]


def test_a_network_without_normalization_needs_scaled_input(humps):
    """The error above the least possible one in the noisy half of the times, where x has a std of 0.7 to 50."""

    def excess(scale_input):
        torch.manual_seed(0)
        denoiser = train_exploding(Plain(), "edm", scale_input, humps)
        g = torch.Generator().manual_seed(1)
        x0, eps, t = humps.sample(4000, g), torch.randn(4000, 2, generator=g), sample_times(4000, g, start=0.5)
        x_t = add_noise(x0, eps, t, denoiser.schedule)
        error = (denoiser(x_t, t) - humps.denoise(x_t, t, denoiser.schedule)).square().mean(1)
        return (weight("edm", t, denoiser.schedule) * error).mean().item()

    scaled, raw = excess(True), excess(False)
    print(f"{scaled:.4f} with c_in, {raw:.4f} without")
    assert raw > 1.7 * scaled


class Plain(nn.Module):
    """Three layers for points in the plane."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def forward(self, x, t, cond=None):
        return self.layers(torch.cat([x, t[:, None]], 1))
