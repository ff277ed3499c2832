"""The command line as people use it: a run from nothing, stopped, resumed, sampled, measured; one-line errors."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from minidiff.app.checkpoint import load, save, save_denoiser
from minidiff.app.generate import cycle_labels, generate
from minidiff.app.models import load_trained
from minidiff.cli import command_to_resume, main, parser, write_sheet
from minidiff.course.doctor import data
from minidiff.data import load as load_data
from minidiff.data import shipped
from minidiff.guidance import cfg
from minidiff.samplers import dpmpp_2m, final, times
from minidiff.training import best_device


def train(out, *more, data="digits"):
    return main(["train", "--data", data, "--out", str(out), *more])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert train(folder, "--steps", "6") == 0
    return folder


def test_a_run_leaves_a_checkpoint_a_log_and_a_picture(run):
    assert {p.name for p in run.iterdir()} >= {"checkpoint.safetensors", "log.json", "samples.png"}
    log = json.loads((run / "log.json").read_text())
    assert log["data"] == "digits" and log["history"][-1]["step"] == 6
    assert Image.open(run / "samples.png").size[0] > 64


def test_ten_and_ten_steps_equal_twenty(tmp_path):
    assert train(tmp_path / "whole", "--steps", "20") == 0
    assert train(tmp_path / "parts", "--steps", "10") == 0
    assert train(tmp_path / "parts", "--steps", "20", "--resume") == 0
    (whole, meta), (parts, meta_parts) = (
        load(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "parts")
    )
    assert meta["step"] == meta_parts["step"] == 20
    assert whole.keys() == parts.keys() and all(torch.equal(whole[k], parts[k]) for k in whole)


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    command = [
        sys.executable,
        "-m",
        "minidiff",
        "train",
        "--data",
        "digits",
        "--seconds",
        "300",
        "--out",
        str(tmp_path / "run"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while not (tmp_path / "run" / "log.json").exists() and process.poll() is None:
        time.sleep(0.1)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    step = load(tmp_path / "run" / "checkpoint.safetensors")[1]["step"]
    assert step > 0 and f"stopped and saved at step {step}" in errors and "Traceback" not in errors
    advice = errors.strip().splitlines()[-1]
    assert advice == f"python -m minidiff train --data digits --seconds 300 --out {tmp_path / 'run'} --resume"
    assert train(tmp_path / "run", "--steps", str(step + 2), "--resume") == 0


def test_the_advice_after_ctrl_c_can_be_pasted():
    """Blanks are quoted, no digit of a budget is lost, and what chooses the data is there."""
    given = ["train", "--data", "my pictures", "--out", "runs/two words", "--seconds", "0.1234567891", "--latent"]
    given += ["--size", "48x64", "--channels", "1", "--steps", "7", "--plugin", "mine", "--device", "cpu"]
    words = shlex.split(command_to_resume(parser().parse_args(given)))
    assert words[:3] == ["python", "-m", "minidiff"] and "--resume" in words
    again, before = vars(parser().parse_args(words[3:])), vars(parser().parse_args(given))
    assert {key for key in again if again[key] != before[key]} == {"resume"}


@pytest.mark.parametrize(
    "flag, value, where, kept",
    [
        ("--seed", "7", "config", {"seed": 7}),
        ("--lr", "0.01", "config", {"lr": 0.01}),
        ("--precision", "bf16", "config", {"precision": "bf16"}),
        ("--batch-size", "5", "config", {"batch_size": 5}),
        ("--cooldown", "0.25", "config", {"cooldown": 0.25, "shift_warmup": 0.0}),
        ("--shift-warmup", "0.75", "config", {"shift_warmup": 0.75, "cooldown": 0.0}),
        ("--prediction", "edm", "config", {"weighting": "edm"}),
        ("--prediction", "x0", "denoiser", {"prediction": "x0"}),
        ("--schedule", "Flow", "denoiser", {"schedule": "Flow"}),
    ],
)
def test_flags_of_train_act(tmp_path, flag, value, where, kept):
    assert train(tmp_path / "run", "--steps", "1", flag, value) == 0
    found = load(tmp_path / "run/checkpoint.safetensors")[1][where]
    assert {key: found[key] for key in kept} == kept
    assert train(tmp_path / "run", "--steps", "2", "--resume") == 0  # a flag that is not given is the run's own
    again = load(tmp_path / "run/checkpoint.safetensors")[1][where]
    assert again == found


def test_a_prediction_that_determines_nothing_at_pure_noise(tmp_path, capsys):
    assert train(tmp_path / "run", "--steps", "1", "--prediction", "eps") == 1
    assert "does not determine x0 and eps at t = 1 with Cosine()" in capsys.readouterr().err
    assert train(tmp_path / "run", "--steps", "1", "--prediction", "eps", "--schedule", "LinearBeta") == 0


def test_size_and_channels_of_a_folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    for i in range(7):
        Image.new("RGB", (40, 50), (30 * i, 0, 90)).save(tmp_path / f"pictures/{i}.png")
    more = ["--size", "16x24", "--channels", "1"]
    assert train(tmp_path / "run", "--steps", "1", *more, data=str(tmp_path / "pictures")) == 0
    assert load(tmp_path / "run/checkpoint.safetensors")[1]["size"] == [1, 16, 24]
    assert main(["evaluate", str(tmp_path / "run"), "--n", "20", "--steps", "1"]) == 1  # one real picture is too few


def test_changed_flags_at_resume_are_refused(run, capsys):
    for flag, value, both in ("--lr", "0.5", "0.003.*0.5"), ("--seed", "9", "0.*9"), ("--batch-size", "8", "64.*8"):
        assert train(run, "--steps", "8", "--resume", flag, value) == 1
        error = capsys.readouterr().err
        assert re.search(f"expected {flag} {both}", error) and error.count("\n") == 1


@pytest.mark.parametrize(
    "flags, budget",
    [
        ([], (None, 180.0)),
        (["--seconds", "7"], (None, 7.0)),
        (["--steps", "9"], (9, None)),
        (["--steps", "9", "--seconds", "7"], (9, 7.0)),
    ],
)
def test_a_training_ends_where_it_was_told_to(tmp_path, monkeypatch, flags, budget):
    budgets = []

    def stop_at_once(run, images, *given):
        budgets.append(given)
        raise KeyboardInterrupt

    monkeypatch.setattr("minidiff.cli.Run.train", stop_at_once)
    main(["train", "--data", "digits", "--batch-size", "2", "--device", "cpu", "--out", str(tmp_path / "run"), *flags])
    assert budgets == [budget]


def draw(run, out, *more):
    assert main(["sample", str(run), "--n", "6", "--out", str(out), *more]) == 0
    return np.load(out)["x"]


@pytest.mark.parametrize(
    "flags",
    [
        ["--sampler", "ddpm"],
        ["--steps", "4"],
        ["--guidance", "0.3"],
        ["--guidance", "0"],
        ["--shift", "3"],
        ["--seed", "5"],
    ],
    ids="=".join,
)
def test_flags_of_sample_act(run, tmp_path, flags):
    usual, other = draw(run, tmp_path / "a.npz"), draw(run, tmp_path / "b.npz", *flags)
    assert np.abs(usual - other).mean() > 1e-6
    assert np.array_equal(other, draw(run, tmp_path / "c.npz", *flags, "--device", "cpu"))


def test_sample_says_how_it_sampled(run, tmp_path, capsys):
    draw(run, tmp_path / "a.npz")
    assert "dpmpp_2m, 25 steps, guidance 2, shift 1" in capsys.readouterr().out
    draw(run, tmp_path / "a.npz", "--sampler", "heun", "--steps", "3", "--shift", "2")
    assert "heun, 3 steps, guidance 2, shift 2" in capsys.readouterr().out


def test_the_sampling_of_a_checkpoint_is_used(run, tmp_path, capsys):
    tensors, metadata = load(run / "checkpoint.safetensors")
    how = {"sampler": "euler", "steps": 3, "guidance": 1.25, "shift": 2.0}
    save(tmp_path / "own.safetensors", tensors, {**metadata, "sampling": how})
    mine = draw(tmp_path / "own.safetensors", tmp_path / "a.npz")
    assert "euler, 3 steps, guidance 1.25, shift 2" in capsys.readouterr().out
    flags = ["--sampler", "euler", "--steps", "3", "--guidance", "1.25", "--shift", "2"]
    assert np.array_equal(mine, draw(run, tmp_path / "b.npz", *flags))


@pytest.mark.parametrize("guidance", ["nan", "inf", "-inf", "1e30"])
def test_a_guidance_that_is_no_guidance(run, tmp_path, capsys, guidance):
    assert main(["sample", str(run), f"--guidance={guidance}", "--out", str(tmp_path / "a.png")]) == 1
    assert "expected a finite guidance, got" in capsys.readouterr().err and not (tmp_path / "a.png").exists()


def test_a_device_that_is_not_there(run, tmp_path, capsys):
    for name in "cuda:99", "tpu", "meta":
        assert main(["sample", str(run), "--device", name, "--out", str(tmp_path / "a.png")]) == 1
        error = capsys.readouterr().err
        assert f"got {name!r}" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "r", "--n", "1000000000"],
        ["sample", "r", "--n", "100000000000000000000000"],
        ["sample", "r", "--steps", "1000000000000"],
        ["sample", "r", "--seed", "99999999999999999999999"],
        ["train", "--data", "digits", "--out", "x", "--size", "0.5"],
        ["train", "--data", "digits", "--out", "x", "--cooldown", "nan"],
        ["train", "--data", "digits", "--out", "x", "--seconds", "inf"],
    ],
)
def test_numbers_beyond_reason_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_a_seed_beyond_64_bits(tmp_path, capsys):
    assert train(tmp_path / "run", "--steps", "1", "--seed", str(2**70)) == 1
    assert "expected seed as a whole number" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_evaluate_never_writes_beside_a_shipped_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = sorted(shipped("emoji.safetensors").parent.rglob("*"))
    assert main(["evaluate", str(shipped("emoji.safetensors")), "--n", "20", "--steps", "2", "--seed", "3"]) == 0
    scores = json.loads((tmp_path / "emoji-evaluation.json").read_text())
    assert (scores["steps"], scores["seed"], scores["sampler"]) == (2, 3, "dpmpp_2m")
    assert sorted(shipped("emoji.safetensors").parent.rglob("*")) == before
    assert (
        main(["evaluate", str(shipped("emoji.safetensors")), "--n", "20", "--steps", "2", "--out", "deep/e.json"]) == 0
    )
    other = json.loads((tmp_path / "deep/e.json").read_text())
    assert other["seed"] == 0 and other["generated"]["frechet"] != scores["generated"]["frechet"]  # the seed acts


@pytest.mark.parametrize("name", ["a.png", "a.npz"])
def test_a_picture_is_replaced_whole_or_not_at_all(run, tmp_path, monkeypatch, capsys, name):
    target = tmp_path / "elsewhere"
    target.write_bytes(b"older")
    (tmp_path / name).symlink_to(target)  # replaced, not written through

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main(["sample", str(run), "--n", "2", "--steps", "1", "--out", str(tmp_path / name)]) == 1
    assert str(tmp_path / name) in capsys.readouterr().err and (tmp_path / name).read_bytes() == b"older"
    monkeypatch.undo()
    assert main(["sample", str(run), "--n", "2", "--steps", "1", "--out", str(tmp_path / name)]) == 0
    assert not (tmp_path / name).is_symlink() and target.read_bytes() == b"older"
    assert {path.name for path in tmp_path.iterdir()} == {name, "elsewhere"}


def test_files_are_named_for_what_they_are(run, tmp_path, capsys):
    save_file({"unet.conv_in.weight": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    save_denoiser(tmp_path / "mine.safetensors", load_trained(run)[0].denoiser, {})
    for path, complaint in (
        (shipped("classifier-fashion.safetensors"), "a classifier, expected a run or a denoiser to sample from"),
        (shipped("encoder-fashion.safetensors"), "an encoder, expected a run or a denoiser to sample from"),
        (tmp_path / "foreign.safetensors", "not of minidiff (tensors such as unet.conv_in.weight)"),
        (tmp_path / "mine.safetensors", "a denoiser without classes, size"),
    ):
        assert main(["sample", str(path), "--out", str(tmp_path / "a.png")]) == 1
        error = capsys.readouterr().err
        assert complaint in error and error.count("\n") == 1, error


def test_samples_as_numbers(run, tmp_path):
    assert main(["sample", str(run), "--n", "12", "--steps", "3", "--out", str(tmp_path / "a.npz")]) == 0
    numbers = np.load(tmp_path / "a.npz")
    assert numbers["x"].dtype == np.float32 and numbers["x"].shape == (12, 1, 8, 8) and np.abs(numbers["x"]).max() <= 1
    assert numbers["y"].dtype == np.int64 and numbers["y"].tolist() == [*range(10), 0, 1]


def test_samples_depend_on_the_seed_alone(run, tmp_path):
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        main(["sample", str(run), "--n", "4", "--steps", "3", "--seed", seed, "--out", str(tmp_path / f"{name}.npz")])
    a, b, c = (np.load(tmp_path / f"{name}.npz")["x"] for name in "abc")
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_one_label_for_all(run, tmp_path):
    assert main(["sample", str(run), "--n", "5", "--steps", "2", "--label", "3", "--out", str(tmp_path / "a.npz")]) == 0
    assert np.load(tmp_path / "a.npz")["y"].tolist() == [3] * 5


def test_samples_as_a_picture(run, tmp_path):
    assert main(["sample", str(run), "--n", "9", "--steps", "2", "--out", str(tmp_path / "deep" / "a.png")]) == 0
    width, height = Image.open(tmp_path / "deep" / "a.png").size
    assert width == height == 8 * (3 * 10 + 2)  # three in a row, 8 pixels and a border each, enlarged eight times


def test_the_batches_of_generate_leave_no_trace(run):
    """105 pictures are drawn in two batches; the first five of the second are what they would be alone."""
    denoiser, labels = load_trained(run)[0].denoiser, cycle_labels(105, 10)
    together = generate(denoiser, labels, (1, 8, 8), ts=times(2), guidance=1.5)
    noise = torch.randn((105, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    alone = final(dpmpp_2m(cfg(denoiser, labels[100:], 10, 1.5), noise[100:], times(2), denoiser.schedule)).clamp(-1, 1)
    torch.testing.assert_close(together[100:], alone, rtol=1e-4, atol=1e-4)


def test_evaluate_prints_a_table_and_writes_json(run, capsys):
    assert main(["evaluate", str(run), "--n", "50", "--steps", "2"]) == 0
    shown = capsys.readouterr().out
    scores = json.loads((run / "evaluation.json").read_text())
    assert "frechet" in shown and "real, held out" in shown
    assert scores["generated"]["frechet"] > 3 * scores["real_held_out"]["frechet"]  # six steps learn nothing
    assert {"kid", "precision", "recall", "nearest_training_distance"} <= scores["generated"].keys()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["train", "--data", "nope", "--out", "x"], "expected one of digits, fashion, emoji, scenes"),
        (["sample", "no/such/run"], "no/such/run: no such checkpoint"),
        (["evaluate", "no/such/run"], "no/such/run: no such checkpoint"),
    ],
)
def test_one_line_for_what_is_not_there(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1 and errors.startswith(f"minidiff {arguments[0]}: ")


def test_a_run_is_not_overwritten(run, capsys):
    before = (run / "checkpoint.safetensors").read_bytes()
    assert train(run, "--steps", "2") == 1
    assert "holds a run already: go on with it by --resume" in capsys.readouterr().err
    assert (run / "checkpoint.safetensors").read_bytes() == before


def test_resume_wants_the_same_data(run, capsys):
    assert train(run, "--steps", "8", "--resume", data="fashion") == 1
    assert "expected --data digits, which the run began with, got fashion" in capsys.readouterr().err


def test_a_damaged_run_is_one_line(run, tmp_path, capsys):
    (tmp_path / "checkpoint.safetensors").write_bytes((run / "checkpoint.safetensors").read_bytes()[:1000])
    assert main(["sample", str(tmp_path)]) == 1
    assert "cut off or not a safetensors file" in capsys.readouterr().err


def test_labels_and_endings_that_do_not_exist(run, capsys):
    assert main(["sample", str(run), "--label", "10"]) == 1
    assert "expected a --label among 0 0, 1 1," in capsys.readouterr().err
    assert main(["sample", str(run), "--out", "a.gif"]) == 1
    assert "expected --out to end in .png or .npz, got a.gif" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "r", "--n", "0"],
        ["train", "--data", "digits", "--out", "x", "--seconds", "-3"],
        ["train", "--data", "digits", "--out", "x", "--steps=--"],
        ["sample", "r", "--plugin=--"],
        [],
        ["sing"],
    ],
)
def test_argparse_refuses(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_a_folder_of_pictures_can_be_learned(tmp_path, capsys):
    for kind, shade in (("dark", 40), ("light", 220)):
        (tmp_path / "pictures" / kind).mkdir(parents=True)
        for i in range(6):
            Image.new("RGB", (40, 50), (shade, shade, shade + i)).save(tmp_path / "pictures" / kind / f"{i}.png")
    assert train(tmp_path / "run", "--steps", "2", data=str(tmp_path / "pictures")) == 0
    assert train(tmp_path / "run", "--steps", "3", "--resume", data=str(tmp_path / "pictures")) == 0
    assert json.loads((tmp_path / "run" / "log.json").read_text())["classes"] == ["dark", "light"]


def test_doctor(capsys):
    code = main(["doctor"])
    *others, training = capsys.readouterr().out.splitlines()
    assert len(others) == 15 and all(line.startswith(("ok  ", "warn")) for line in others)
    # a machine busy with other work may be too slow for the last check, and is told so
    assert (code, training[:6]) == (0, "ok    ") or "steps in 5 seconds, expected about 25" in training


def test_doctor_names_what_is_broken(capsys, monkeypatch):
    def broken(filename):
        raise ValueError(f"{filename} was altered; run: git checkout -- data")

    monkeypatch.setattr("minidiff.data.shipped", broken)
    monkeypatch.setattr("minidiff.course.doctor.CHECKS", (data,))
    assert main(["doctor"]) == 1
    failure = capsys.readouterr().out
    assert failure.startswith("FAIL  data: ") and "git checkout -- data" in failure and failure.count("\n") == 1


def test_as_a_module():
    shown = subprocess.run(
        [sys.executable, "-m", "minidiff", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(command in shown for command in ("doctor", "train", "sample", "evaluate"))


def test_device(monkeypatch):
    assert best_device().type in ("cpu", "cuda", "mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert best_device().type == "cuda"


def test_a_full_disk_is_one_line_and_keeps_the_run(run, monkeypatch, capsys):
    before = (run / "checkpoint.safetensors").read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert train(run, "--steps", "7", "--resume") == 1
    errors = capsys.readouterr().err.strip().splitlines()[-1]
    assert "No space left on device" in errors and "untouched" in errors
    assert (run / "checkpoint.safetensors").read_bytes() == before


@pytest.fixture(scope="module")
def worded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "emoji"
    assert train(folder, "--latent", "--text", "--steps", "10", data="emoji") == 0
    return folder


def test_a_prompt_is_drawn(worded, tmp_path):
    out = tmp_path / "a.npz"
    command = ["sample", str(worded), "--n", "3", "--steps", "2", "--out", str(out)]
    assert main([*command, "--prompt", "Grinning face"]) == 0
    numbers = np.load(out)
    vocabulary = load_trained(worded)[0].vocabulary
    assert numbers["x"].shape == (3, 3, 32, 32) and vocabulary.decode(torch.tensor(numbers["y"]))[0] == "grinning face"
    assert main(command) == 0  # without a prompt: captions of the test set whose words are known
    assert len(set(vocabulary.decode(torch.tensor(np.load(out)["y"])))) == 3


@pytest.mark.parametrize(
    "wish, complaint",
    [
        (["--prompt", "grinning cot"], "expected words among the 1333 of the training captions, close to it: coat"),
        (["--prompt", "face " * 12], "expected at most 11 words, got 12"),
        (["--label", "3"], "expected a --prompt, got --label 3"),
    ],
)
def test_prompts_that_cannot_be_drawn(worded, tmp_path, capsys, wish, complaint):
    assert main(["sample", str(worded), *wish, "--out", str(tmp_path / "a.png")]) == 1
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1 and not (tmp_path / "a.png").exists()


def test_a_prompt_for_a_model_without_words_lists_its_labels(run, capsys):
    assert main(["sample", str(run), "--prompt", "a red circle"]) == 1
    assert "was trained without text (--text): expected a label among 0 0, 1 1" in capsys.readouterr().err


def test_words_need_captions(tmp_path, capsys):
    assert train(tmp_path / "run", "--text", "--steps", "2") == 1
    assert "expected --text with data that have captions, emoji or scenes; digits has none" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_resume_wants_the_same_task(worded, capsys):
    assert train(worded, "--latent", "--steps", "12", "--resume", data="emoji") == 1
    assert "expected --latent --text, as the run began, got --latent" in capsys.readouterr().err
    assert train(worded, "--latent", "--text", "--steps", "12", "--resume", data="emoji") == 0
    assert load(worded / "checkpoint.safetensors")[1]["step"] == 10  # two steps of the twelve went to the autoencoder


def test_evaluate_a_model_of_words(worded, capsys):
    assert main(["evaluate", str(worded), "--n", "40", "--steps", "2"]) == 0
    assert "frechet" in capsys.readouterr().out
    scores = json.loads((worded / "evaluation.json").read_text())
    assert "label_accuracy" not in scores["generated"] and "bits_per_dim" not in scores


def test_evaluate_counts_bits_on_pixels(run, capsys):
    assert main(["evaluate", str(run), "--n", "50", "--steps", "2"]) == 0
    assert "bits per dimension" in capsys.readouterr().out
    assert 1 < json.loads((run / "evaluation.json").read_text())["bits_per_dim"] < 20


@pytest.mark.parametrize("flags, given", [
    ([], ("dpmpp_2m", 25, 2.0, 1.0, 0)),
    ("--sampler heun --steps 3 --guidance 0.5 --shift 2 --seed 7".split(), ("heun", 3, 0.5, 2.0, 7)),
])  # fmt: skip
def test_flags_of_evaluate_act(run, tmp_path, monkeypatch, flags, given):
    seen = []

    def evaluate(model, name, n, sampling=None, seed=0):
        seen.append((name, n, sampling.sampler, sampling.steps, sampling.guidance, sampling.shift, seed))
        return {"pictures": n, "features": "none", "generated": {}, "real_held_out": {}}

    monkeypatch.setattr("minidiff.cli.evaluate", evaluate)
    assert main(["evaluate", str(run), "--n", "33", "--out", str(tmp_path / "e.json"), *flags]) == 0
    assert seen == [("digits", 33, *given)]
    scores = json.loads((tmp_path / "e.json").read_text())
    assert tuple(scores[key] for key in ("sampler", "steps", "guidance", "shift", "seed")) == given


def test_a_share_of_nothing_is_a_dash_and_null(run, tmp_path, monkeypatch, capsys):
    scores = {"pictures": 1, "features": "none", "generated": {}, "real_held_out": {}}
    shares = {"seen": {"relation": 0.5}, "held_out": {"relation": None}}
    monkeypatch.setattr("minidiff.cli.evaluate", lambda *_: scores | {"attributes": shares})
    assert main(["evaluate", str(run), "--out", str(tmp_path / "e.json")]) == 0
    assert "relation                           50.0%               -" in capsys.readouterr().out
    assert json.loads((tmp_path / "e.json").read_text())["attributes"] == shares


def test_a_folder_that_has_moved_is_named_by_data(tmp_path, capsys):
    pictures, moved = tmp_path / "pictures", tmp_path / "moved"
    pictures.mkdir()
    for i in range(130):
        Image.new("RGB", (8, 8), (i, 10, 200)).save(pictures / f"{i}.png")
    assert train(tmp_path / "run", "--steps", "2", "--size", "8", data=str(pictures)) == 0
    pictures.rename(moved)
    arguments = ["evaluate", str(tmp_path / "run"), "--n", "20", "--steps", "1"]
    assert main(arguments) == 1 and str(pictures) in capsys.readouterr().err
    assert main([*arguments, "--data", str(moved)]) == 0


def test_evaluate_refuses_data_other_than_it_was_trained_on(tmp_path, capsys):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(130):
        Image.new("RGB", (8, 8), (i, 10, 200)).save(pictures / f"{i}.png")
    assert train(tmp_path / "run", "--steps", "2", "--size", "8", data=str(pictures)) == 0
    Image.new("RGB", (8, 8), "red").save(pictures / "00.png")  # what was held out moves by one
    assert main(["evaluate", str(tmp_path / "run"), "--n", "20", "--steps", "1"]) == 1
    assert "that the model was trained on (fingerprint " in capsys.readouterr().err


def test_more_samples_than_held_out_pictures_are_not_drawn(run, tmp_path):
    assert main(["evaluate", str(run), "--n", "100000", "--steps", "1", "--out", str(tmp_path / "e.json")]) == 0
    assert json.loads((tmp_path / "e.json").read_text())["pictures"] == len(load_data("digits", "test"))


def test_a_schedule_without_defaults(tmp_path, capsys):
    assert train(tmp_path / "run", "--steps", "1", "--schedule", "FromBetas") == 1
    assert "expected a schedule whose values have defaults, got FromBetas" in capsys.readouterr().err


def test_every_command_looks_for_its_device(run, tmp_path, capsys):
    train = ["train", "--data", "digits", "--out", str(tmp_path)]
    for arguments in ["sample", str(run)], ["evaluate", str(run)], train:
        assert main([*arguments, "--device", "cuda:77"]) == 1
        assert "expected a device of this machine" in capsys.readouterr().err


def test_the_advice_keeps_what_is_asked_by():
    for flags in ["--text"], ["--latent"], ["--latent", "--text"]:
        words = shlex.split(command_to_resume(parser().parse_args(["train", "--data", "emoji", "--out", "a", *flags])))
        assert [word for word in words if word in ("--latent", "--text")] == flags


def test_a_sheet_keeps_the_grey_of_its_pictures(tmp_path):
    write_sheet(tmp_path / "a.png", torch.tensor([-0.5, 0.0, 0.0, 0.5])[:, None, None, None].expand(4, 1, 64, 64))
    sheet = np.array(Image.open(tmp_path / "a.png"))[..., 0].astype(int)
    h, w = (n // 2 for n in sheet.shape)
    quarters = sheet[h // 2, w // 2], sheet[h // 2, -w // 2], sheet[-h // 2, w // 2], sheet[-h // 2, -w // 2]
    assert np.abs(np.array(quarters) - [64, 128, 128, 191]).max() <= 1
