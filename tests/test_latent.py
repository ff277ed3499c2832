"""Diffusion on codes: the scale, the data, drawing, and runs of two stages that stop and go on."""

from types import SimpleNamespace

import pytest
import torch

from minidiff.app import checkpoint
from minidiff.app.checkpoint import CheckpointError
from minidiff.app.generate import Model, Sampling, generate
from minidiff.app.models import Task, load_trained, new_autoencoder, new_denoiser
from minidiff.app.runs import Run
from minidiff.cli import main
from minidiff.data import load
from minidiff.denoiser import Denoiser
from minidiff.latent import LatentCodec, LatentDataset, fit_scale
from minidiff.nets.autoencoder import Autoencoder, AutoencoderConfig
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.schedule import Cosine
from minidiff.training import TrainConfig, TrainState, train

CPU, RECIPE, LATENT = torch.device("cpu"), TrainConfig(precision="fp32", batch_size=16), Task(latent=True)
X = torch.rand(300, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def tiny(**config) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(AutoencoderConfig(latent_channels=2, width=8, **config)).eval()


def shaken(net: torch.nn.Module) -> torch.nn.Module:
    """The network with every parameter moved: a new one answers zero."""
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=g))
    return net.eval()


def test_the_scale_multiplies_codes_and_divides_before_the_decoder():
    ae = tiny()
    plain, scaled = LatentCodec(ae), LatentCodec(ae, 5.0)
    z = ae.encode(X).z.detach()
    torch.testing.assert_close(plain.encode(X), z)
    torch.testing.assert_close(scaled.encode(X), 5 * z)  # the mean, without noise, in parts of 250
    torch.testing.assert_close(scaled.decode(5 * z), ae.decode(z).detach())
    torch.testing.assert_close(scaled.decode(scaled.encode(X)), plain.decode(plain.encode(X)))
    assert not scaled.encode(X).requires_grad


@pytest.mark.parametrize("config, size, shape", [
    ({}, (1, 32, 32), (2, 8, 8)),
    ({"num_downsamples": 3, "channels": 3}, (3, 64, 32), (2, 8, 4)),
    ({"num_downsamples": 1, "codebook_size": 4}, (1, 8, 8), (2, 4, 4)),
])  # fmt: skip
def test_shape_is_that_of_a_code(config, size, shape):
    latent = LatentCodec(tiny(**config))
    assert latent.shape(size) == shape == latent.encode(torch.zeros(1, *size)).shape[1:]


def test_fit_scale_gives_unit_variance_about_the_mean():
    ae = tiny()
    with torch.no_grad():
        ae.encoder[-1].bias += 3  # codes far from zero: variance is about the mean
    z = LatentCodec(ae, fit_scale(ae, X)).encode(X)
    assert z.std().item() == pytest.approx(1, abs=1e-4) and z.mean().abs() > 1


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_codes_that_do_not_vary_are_refused(value):
    ae = tiny()
    with torch.no_grad():
        ae.encoder[-1].weight.zero_()
        ae.encoder[-1].bias.fill_(value)
    with pytest.raises(ValueError, match="expected codes that vary, got the standard deviation"):
        fit_scale(ae, X)


def test_coding_keeps_no_gradients():
    """Neither of the frozen weights nor of what goes in."""
    codec = LatentCodec(tiny(), 2.0)
    z = codec.encode(X[:2].clone().requires_grad_())
    assert not z.requires_grad and not codec.decode(z.clone().requires_grad_()).requires_grad


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), "1", None])
def test_a_scale_that_is_no_positive_number_is_refused(scale):
    with pytest.raises(ValueError, match="expected a finite scale > 0 of the codes, got"):
        LatentCodec(tiny(), scale)


def test_any_autoencoder_makes_codes():
    """A stranger's: every other row and column, for pictures that are not square."""

    class Halving:
        config = SimpleNamespace(latent_channels=3, factor=2)

        def encode(self, x):
            return SimpleNamespace(z=x[:, :, ::2, ::2])

        def decode(self, z):
            return z.repeat_interleave(2, 2).repeat_interleave(2, 3)

    codec, x = LatentCodec(Halving(), 4.0), torch.randn(1, 3, 6, 10)
    assert codec.shape((3, 6, 10)) == codec.encode(x).shape[1:] == (3, 3, 5)
    torch.testing.assert_close(codec.decode(codec.encode(x))[:, :, ::2, ::2], x[:, :, ::2, ::2])
    assert fit_scale(Halving(), x) == pytest.approx(1 / x[:, :, ::2, ::2].std().item())


def test_codes_are_pairs_and_may_leave_the_range_of_pictures():
    codes = LatentDataset(torch.randn(40, 2, 4, 4) * 3, torch.arange(40) % 10)
    z, cond = codes[torch.tensor([3, 17])]
    assert len(codes) == 40 and torch.equal(z, codes.z[[3, 17]]) and cond.tolist() == [3, 7]
    denoiser = Denoiser(UNet(UNetConfig(channels=2, width=8, channel_mult=(1, 2), patch_size=1)), Cosine())
    assert len(list(train(TrainState(denoiser, RECIPE), codes, steps=2))) == 2


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_drawing_is_decoding_what_generate_makes_of_codes(scale):
    ae = shaken(tiny(num_downsamples=1))
    denoiser = Denoiser(shaken(UNet(UNetConfig(channels=2, width=8, channel_mult=(1, 2), patch_size=1))), Cosine())
    model, labels = Model(denoiser, tuple("0123456789"), (1, 8, 8), LatentCodec(ae, scale)), torch.arange(105) % 10
    drawn = model.sample(labels, Sampling(steps=3, guidance=1.5), seed=4)
    noise = torch.randn(105, 2, 4, 4, generator=torch.Generator().manual_seed(4))  # two parts of 100 and 5
    from minidiff.guidance import cfg
    from minidiff.samplers import dpmpp_2m, final, times

    z = final(dpmpp_2m(cfg(denoiser, labels, 10, 1.5), noise, times(3), Cosine()))
    torch.testing.assert_close(drawn, ae.decode(z / scale).detach().clamp(-1, 1), rtol=1e-3, atol=1e-3)
    assert drawn.shape == (105, 1, 8, 8) and z.abs().max() > 1  # codes beyond 1 are not cut off
    assert not torch.allclose(
        ae.decode(generate(denoiser, labels, (2, 4, 4), ts=times(3), guidance=1.5, seed=4) / scale), drawn, atol=1e-2
    )


def test_moving_a_model_keeps_its_codes():
    denoiser = Denoiser(UNet(UNetConfig(channels=2, width=8, patch_size=1)), Cosine())
    model = Model(denoiser, (), (1, 8, 8), LatentCodec(tiny(), 3))
    assert model.to(CPU).latent.scale == 3


@pytest.mark.parametrize("name, code", [("digits", (2, 4, 4)), ("fashion", (4, 8, 8)), ("emoji", (4, 8, 8))])
def test_the_networks_of_a_run_fit_its_pictures(name, code):
    images = load(name, "test")
    latent = LatentCodec(new_autoencoder(images).eval())
    about = {"size": list(images.shape), "classes": list(images.classes), "vocabulary": None}
    denoiser = new_denoiser(about, latent)
    z = latent.encode(images.tensor(slice(0, 2)))
    assert latent.shape(images.shape) == code == z.shape[1:]
    assert denoiser.net.config.num_classes == len(images.classes) and denoiser.net.config.patch_size == 1
    assert denoiser(z, torch.tensor(0.5), images.y[:2]).shape == z.shape


# --- runs: 12 steps are 2 of the autoencoder and 10 of the denoiser


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, digits):
    run = Run.start(tmp_path_factory.mktemp("latent") / "whole", digits, RECIPE, CPU, LATENT)
    return run, [(p.step, p.loss, p.fraction) for p in run.train(digits, steps=12)]


def test_a_run_has_two_stages_and_one_count(whole):
    run, seen = whole
    steps, losses, fractions = zip(*seen, strict=True)
    assert steps == tuple(range(1, 13)) and run.step == 12 and run.first_stage["steps"] == 2
    assert fractions[1] == pytest.approx(0.2) and fractions[-1] == 1 and list(fractions) == sorted(fractions)
    assert losses[2] == pytest.approx(1.0, abs=0.35)  # codes of unit variance: a new denoiser's loss is about 1


def test_the_saved_scale_is_that_of_the_averaged_autoencoder(whole, digits):
    model, meta = load_trained(whole[0].folder)
    latent = model.latent
    assert latent.scale == meta["first_stage"]["scale"] == fit_scale(latent.autoencoder, digits.tensor())
    assert latent.encode(digits.tensor()).std().item() == pytest.approx(1, abs=1e-3)
    assert model.sample(torch.arange(3), Sampling(steps=2)).shape == (3, 1, 8, 8)


@pytest.mark.parametrize("stop", [1, 2, 7])  # in the first stage, at its very end, in the second
def test_stopped_in_either_stage_it_goes_on_as_if_nothing_had_happened(whole, digits, tmp_path, stop):
    run = Run.start(tmp_path / "halves", digits, RECIPE, CPU, LATENT)
    losses = []
    for p in run.train(digits, steps=12):
        losses.append(p.loss)
        if p.step == stop:
            break  # whatever ends the loop, the run is saved
    again = Run.resume(tmp_path / "halves", digits, CPU, LATENT)
    assert again.step == stop
    losses += [p.loss for p in again.train(digits, steps=12)]
    assert losses == [loss for _, loss, _ in whole[1]]
    one, other = (checkpoint.load(r.folder / "checkpoint.safetensors") for r in (whole[0], again))
    assert one[0].keys() == other[0].keys() and all(torch.equal(one[0][k], other[0][k]) for k in one[0])
    assert one[1]["first_stage"]["scale"] == other[1]["first_stage"]["scale"]


def test_the_learning_rate_is_the_second_stages(digits, tmp_path):
    run = Run.start(tmp_path / "slow", digits, TrainConfig(precision="fp32", batch_size=16, lr=5e-4), CPU, LATENT)
    rates = [p.lr for p in run.train(digits, steps=10)]
    assert rates[:2] == pytest.approx([3e-5, 6e-5]) and rates[2:4] == pytest.approx([5e-6, 1e-5])  # a hundredth a step


def test_ctrl_c_between_the_stages_leaves_the_first_to_be_finished(whole, digits, tmp_path, monkeypatch):
    run = Run.start(tmp_path / "between", digits, RECIPE, CPU, LATENT)

    def pressed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("minidiff.app.runs.new_denoiser", pressed)
        list(run.train(digits, steps=12))
    again = Run.resume(tmp_path / "between", digits, CPU, LATENT)
    assert again.step == 2 and again.latent is None
    assert [p.loss for p in again.train(digits, steps=12)] == [loss for _, loss, _ in whole[1][2:]]


def test_a_run_still_in_its_first_stage_has_nothing_to_draw_with(digits, tmp_path, capsys):
    run = Run.start(tmp_path / "young", digits, RECIPE, CPU, LATENT)
    next(run.train(digits, steps=12))
    with pytest.raises(CheckpointError, match="only the autoencoder is there so far; go on with `train --resume`"):
        load_trained(tmp_path / "young")
    assert main(["sample", str(tmp_path / "young")]) == 1
    assert "only the autoencoder is there so far" in capsys.readouterr().err


@pytest.mark.parametrize("began, flags, message", [
    (LATENT, [], "expected --latent, as the run began, got neither --latent nor --text"),
    (Task(), ["--latent"], "expected neither --latent nor --text, as the run began, got --latent"),
])  # fmt: skip
def test_resume_wants_the_flags_that_the_run_began_with(digits, tmp_path, capsys, began, flags, message):
    Run.start(tmp_path / "run", digits, RECIPE, CPU, began)
    command = ["train", "--data", "digits", "--steps", "2", "--out", str(tmp_path / "run"), "--resume", *flags]
    assert main(command) == 1
    assert message in capsys.readouterr().err


def test_words_need_captions(digits, tmp_path):
    with pytest.raises(ValueError, match="expected --text with data that have captions"):
        Run.start(tmp_path / "run", digits, RECIPE, CPU, Task(latent=True, text=True))
