"""Runs on disk: whatever stops a training, its last whole step is there, and it goes on bit for bit."""

import errno
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace

import pytest
import torch

from minidiff.app import runs
from minidiff.app.checkpoint import CheckpointError, load, save
from minidiff.app.models import DenoiserConfig, Task, load_trained
from minidiff.app.runs import Run
from minidiff.data import Images
from minidiff.training import Progress, TrainConfig

CPU = torch.device("cpu")
CONFIG = TrainConfig(batch_size=8, precision="fp32", warmup_steps=3)


def pictures(seed=0, name="few", classes=("a", "b", "c"), size=8, n=40):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(256, (n, 1, size, size), generator=generator, dtype=torch.uint8)
    return Images(name, x, torch.arange(n) % len(classes), tuple(classes))


IMAGES = pictures()


def start(folder, **settings):
    return Run.start(folder, IMAGES, CONFIG, CPU, **settings)


def steps(run, until, images=IMAGES):
    return [p.loss for p in run.train(images, steps=until)]


def checkpoint_of(folder):
    return load(folder / "checkpoint.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The losses and tensors of twelve steps that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    losses = steps(start(folder / "run"), 12)
    return losses, checkpoint_of(folder / "run")[0]


def assert_goes_on_as(whole, folder, losses):
    """Resume in a fresh object, finish, and compare with the run that was never stopped."""
    losses = losses + steps(Run.resume(folder, IMAGES, CPU), 12)
    tensors = checkpoint_of(folder)[0]
    assert losses == whole[0]
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in whole[1].items())
    assert not list(folder.glob(".*.part"))


class Pressed:
    """The pictures, and somebody who sends signals while the batch of a step is drawn."""

    def __init__(self, at, *numbers):
        self.at, self.numbers, self.asked = at, numbers, -1  # the first look is at the data set

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        self.asked += 1
        if self.asked == self.at:
            for number in self.numbers:
                signal.raise_signal(number)
        return IMAGES[index]


@pytest.mark.parametrize(
    "numbers, ending",
    [
        ([signal.SIGINT], KeyboardInterrupt),
        ([signal.SIGINT, signal.SIGINT], KeyboardInterrupt),
        ([signal.SIGTERM], SystemExit),
        ([signal.SIGHUP, signal.SIGINT], SystemExit),
    ],
)
def test_a_signal_in_a_step_waits_for_its_end(tmp_path, whole, numbers, ending):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    run, losses = start(tmp_path / "run"), []
    with pytest.raises(ending) as caught:
        for p in run.train(Pressed(5, *numbers), steps=12):
            losses.append(p.loss)
    if ending is SystemExit:
        assert caught.value.code == 128 + numbers[0]
    assert checkpoint_of(tmp_path / "run")[1]["step"] == run.saved_at == 5
    assert {number: signal.getsignal(number) for number in before} == before
    losses.append(whole[0][4])  # the fifth step was taken, but never came back
    assert_goes_on_as(whole, tmp_path / "run", losses)


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_between_two_steps_saves_even_while_its_traceback_lives(tmp_path, whole, presses):
    run, losses, caught = start(tmp_path / "run"), [], None
    progress = run.train(IMAGES, steps=12)
    try:
        for p in progress:
            losses.append(p.loss)
            if p.step == 4:
                for _ in range(presses):
                    signal.raise_signal(signal.SIGINT)  # in the caller's code, as in a bar or a plot
    except KeyboardInterrupt as error:
        caught = error  # with its frames, and in them the generator
    assert caught is not None and progress.gi_frame is not None
    assert checkpoint_of(tmp_path / "run")[1]["step"] == 4
    assert_goes_on_as(whole, tmp_path / "run", losses)  # the folder is free again
    del progress, caught  # the old generator ends, and must not write its older state
    gc.collect()
    assert checkpoint_of(tmp_path / "run")[1]["step"] == 12


def test_ctrl_c_while_the_checkpoint_is_written(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(runs, "SAVE_EVERY", 0.0)
    run, real, losses = start(tmp_path / "run"), os.fsync, []

    def pressed(descriptor):
        real(descriptor)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        for p in run.train(IMAGES, steps=12):
            losses.append(p.loss)
            if p.step == 3:
                monkeypatch.setattr(os, "fsync", pressed)
    monkeypatch.setattr(os, "fsync", real)
    assert checkpoint_of(tmp_path / "run")[1]["step"] == 4
    assert_goes_on_as(whole, tmp_path / "run", [*losses, whole[0][3]])


def test_an_infinite_gradient_leaves_the_last_good_step_on_disk(tmp_path, whole):
    run, losses = start(tmp_path / "run"), []
    with pytest.raises(ValueError, match="the weights are those of step 7"):
        for p in run.train(IMAGES, steps=12):
            losses.append(p.loss)
            if p.step == 7:
                run.training.model.net.head[0].bias.register_hook(lambda grad: grad * float("inf"))
    assert checkpoint_of(tmp_path / "run")[1]["step"] == 7
    assert_goes_on_as(whole, tmp_path / "run", losses)


def test_a_step_that_fails_half_way_is_not_saved(tmp_path, whole, monkeypatch):
    """As when memory runs out between the two optimisers: the weights then belong to no step."""
    run, losses = start(tmp_path / "run"), []
    optimizer = run.training.optimizers[-1]

    def fail(closure=None):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        for p in run.train(IMAGES, steps=12):
            losses.append(p.loss)
            if p.step == 2:
                run.save()
            if p.step == 4:
                monkeypatch.setattr(optimizer, "step", fail)
    assert checkpoint_of(tmp_path / "run")[1]["step"] == 2
    assert_goes_on_as(whole, tmp_path / "run", losses[:2])


def test_a_save_that_fails_on_the_way_does_not_end_the_training(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(runs, "SAVE_EVERY", 0.0)
    run, real, losses = start(tmp_path / "run"), os.fsync, []

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.warns(UserWarning, match="No space left on device.*trying again"):
        for p in run.train(IMAGES, steps=8):
            losses.append(p.loss)
            monkeypatch.setattr(os, "fsync", full if p.step == 3 else real)
    assert checkpoint_of(tmp_path / "run")[1]["step"] == 8
    assert_goes_on_as(whole, tmp_path / "run", losses)


def test_a_caller_that_goes_on_after_ctrl_c_gets_no_further_step(tmp_path):
    run = start(tmp_path / "run")
    progress = run.train(IMAGES, steps=12)
    next(progress)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert next(progress, None) is None and checkpoint_of(tmp_path / "run")[1]["step"] == 1


def test_a_signal_in_a_step_that_fails_is_not_forgotten(tmp_path):
    class Failing(Pressed):
        def __getitem__(self, index):
            batch = super().__getitem__(index)
            if self.asked == self.at:
                raise ValueError("a worker died")
            return batch

    run = start(tmp_path / "run")
    with pytest.raises(SystemExit) as caught:
        list(run.train(Failing(3, signal.SIGTERM), steps=12))
    assert caught.value.code == 143 and checkpoint_of(tmp_path / "run")[1]["step"] == 2


@pytest.mark.parametrize("budget", [{"steps": 0}, {"seconds": 0}, {"steps": -3}, {"seconds": float("nan")}])
def test_a_budget_of_nothing_is_refused(tmp_path, budget):
    with pytest.raises(ValueError, match="expected a budget above 0"):
        list(start(tmp_path / "run").train(IMAGES, **budget))


def test_sampling_falls_back_to_the_previous_checkpoint_too(tmp_path):
    run = start(tmp_path / "run")
    steps(run, 2)
    (tmp_path / "run/checkpoint.safetensors").write_bytes(b"cut off")
    with pytest.warns(UserWarning, match="cut off.*going on from the one before it"):
        assert load_trained(tmp_path / "run")[1]["step"] == 0
    assert (tmp_path / "run/checkpoint.safetensors").read_bytes() == b"cut off"  # reading moves nothing
    (tmp_path / "run/checkpoint.safetensors").unlink()
    with pytest.warns(UserWarning, match="gone; going on from the one before it"):
        assert load_trained(tmp_path / "run")[1]["step"] == 0


def test_a_checkpoint_of_a_newer_version_is_not_taken_for_damaged(tmp_path, monkeypatch):
    run = start(tmp_path / "run")
    with monkeypatch.context() as newer:
        newer.setattr("minidiff.app.checkpoint.VERSION", 4)
        steps(run, 2)
    with pytest.raises(CheckpointError, match="expected checkpoint format 3 or older, got 4; update minidiff"):
        Run.resume(tmp_path / "run", IMAGES, CPU)


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    run = start(tmp_path / "run")
    steps(run, 3)
    with torch.no_grad():
        run.training.ema.module.net.head[0].bias[0] = float("nan")
    with pytest.raises(CheckpointError, match="not saved, since ema.net.head.0.bias is not finite"):
        run.save()
    assert checkpoint_of(tmp_path / "run")[1]["step"] == 3


def test_a_full_disk_keeps_the_last_two_good_checkpoints(tmp_path, whole, monkeypatch):
    run = start(tmp_path / "run")
    losses = steps(run, 5)
    run = Run.resume(tmp_path / "run", IMAGES, CPU)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        steps(run, 8)
    monkeypatch.undo()
    assert checkpoint_of(tmp_path / "run")[1]["step"] == 5
    assert load(tmp_path / "run/checkpoint.previous.safetensors")[1]["step"] == 0
    assert_goes_on_as(whole, tmp_path / "run", losses)


def test_saves_go_on_about_once_a_minute_and_two_are_kept(tmp_path, monkeypatch):
    """At the clock's pace of twenty seconds a step there is a save at every third step, not at each after the first."""
    now = [0.0]
    monkeypatch.setattr(runs.time, "monotonic", lambda: now[0])
    run, saved = start(tmp_path / "run"), []
    for _ in run.train(IMAGES, steps=8):
        now[0] += 20.0
        saved.append(run.saved_at)
    assert saved == [0, 0, 0, 4, 4, 4, 7, 7]
    assert load(tmp_path / "run/checkpoint.previous.safetensors")[1]["step"] == 7
    assert checkpoint_of(tmp_path / "run")[1]["step"] == 8


def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(tmp_path, whole):
    losses = steps(start(tmp_path / "run"), 5)
    losses += steps(Run.resume(tmp_path / "run", IMAGES, CPU), 9)
    file = tmp_path / "run/checkpoint.safetensors"
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    with pytest.warns(UserWarning, match="does not match its sha256.*going on from the one before it"):
        run = Run.resume(tmp_path / "run", IMAGES, CPU)
    assert run.step == 5
    assert losses[:5] + steps(run, 12) == whole[0]
    assert load(tmp_path / "run/checkpoint.previous.safetensors")[1]["step"] == 5  # and not the damaged one


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    run = start(tmp_path / "run")
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    node = os.uname().nodename
    (tmp_path / f"run/.checkpoint.safetensors.{node}-{dead.stdout.strip()}.part").write_bytes(b"half")
    alive = tmp_path / f"run/.checkpoint.safetensors.{node}-{os.getppid()}.part"
    elsewhere = tmp_path / "run/.checkpoint.safetensors.another-host-1.part"
    alive.touch()
    elsewhere.touch()
    steps(run, 1)
    assert set((tmp_path / "run").glob(".*.part")) == {alive, elsewhere}


def test_two_trainings_in_one_folder_the_second_is_refused(tmp_path):
    first = start(tmp_path / "run")
    progress = first.train(IMAGES, steps=12)
    next(progress)
    second = Run.resume(tmp_path / "run", IMAGES, CPU)
    with pytest.raises(ValueError, match="another training goes on in .*: wait for its end, or choose another --out"):
        steps(second, 12)
    with pytest.raises(ValueError, match="this run is being trained already"):
        steps(first, 12)
    progress.close()
    assert checkpoint_of(tmp_path / "run")[1]["step"] == 1
    with pytest.raises(ValueError, match="holds a run already: go on with it by --resume"):
        start(tmp_path / "run")


def test_a_run_that_another_process_took_further_is_not_set_back(tmp_path):
    start(tmp_path / "run")
    stale = Run.resume(tmp_path / "run", IMAGES, CPU)
    steps(Run.resume(tmp_path / "run", IMAGES, CPU), 6)
    with pytest.raises(ValueError, match="the checkpoint of .* has changed since this run was loaded"):
        steps(stale, 3)
    assert checkpoint_of(tmp_path / "run")[1]["step"] == 6


@pytest.mark.parametrize("name", ["log.json", "samples.png"])
def test_files_of_ones_own_are_not_replaced(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"holds {name}, which is not of a run"):
        start(tmp_path)
    assert (tmp_path / name).read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_a_file_as_a_folder(tmp_path):
    (tmp_path / "file.txt").touch()
    with pytest.raises(ValueError, match="expected --out to be a folder, got the file"):
        start(tmp_path / "file.txt")


@pytest.mark.parametrize(
    "given, complaint",
    [
        ({"lr": 0.5}, "expected --lr 0.003, as the run began, got 0.5"),
        ({"seed": 9}, "expected --seed 0, as the run began, got 9"),
        ({"precision": "bf16"}, "expected --precision fp32, as the run began, got bf16"),
        ({"batch_size": 16}, "expected --batch-size 8, as the run began, got 16"),
        ({"cooldown": 0.5}, "expected --cooldown 0.0, as the run began, got 0.5"),
        ({"net": "MLP"}, "expected --net UNet, as the run began, got MLP"),
    ],
)
def test_other_settings_at_resume_are_refused(tmp_path, given, complaint):
    start(tmp_path / "run")
    with pytest.raises(CheckpointError, match=complaint):
        Run.resume(tmp_path / "run", IMAGES, CPU, given=given)
    same = {"lr": CONFIG.lr, "seed": 0, "precision": "fp32", "batch_size": 8, "cooldown": 0.0, "net": "UNet"}
    assert Run.resume(tmp_path / "run", IMAGES, CPU, given=same).step == 0


@pytest.mark.parametrize(
    "other, complaint",
    [
        (pictures(name="many", n=41), "expected --data few, which the run began with, got many"),
        (pictures(classes=("a", "b", "bb")), "expected data of classes a, b, c, as the run began, got a, b, bb"),
        (pictures(size=16), "expected data of size 1, 8, 8, as the run began, got 1, 16, 16"),
        (pictures(seed=1), "expected the pictures of few that the run began with .*, got other ones"),
        (pictures(n=39), "expected the pictures of few that the run began with .*, got other ones"),
    ],
)
def test_other_data_at_resume_are_refused(tmp_path, other, complaint):
    start(tmp_path / "run")
    with pytest.raises(CheckpointError, match=complaint):
        Run.resume(tmp_path / "run", other, CPU)


def test_the_same_data_under_another_name_are_the_same(tmp_path):
    start(tmp_path / "run")
    assert Run.resume(tmp_path / "run", pictures(name="./few"), CPU).step == 0


def test_another_task_at_resume_is_refused(tmp_path):
    start(tmp_path / "run")
    with pytest.raises(CheckpointError, match="expected neither --latent nor --text, as the run began, got --latent"):
        Run.resume(tmp_path / "run", IMAGES, CPU, Task(latent=True))


def test_seconds_count_on_at_resume(tmp_path):
    run = start(tmp_path / "run")
    steps(run, 2)
    again = Run.resume(tmp_path / "run", IMAGES, CPU)
    assert again.seconds == run.seconds > 0
    assert (
        not list(again.train(IMAGES, seconds=run.seconds)) and next(again.train(IMAGES, steps=9)).seconds > run.seconds
    )


def test_a_budget_in_seconds_holds_where_steps_are_given_too(tmp_path):
    run = start(tmp_path / "run")
    *_, last = run.train(IMAGES, steps=10**6, seconds=0.2)
    assert 0.2 <= last.seconds < 5 and last.fraction == 1


def test_the_log_tells_of_every_second_and_of_the_last_step(tmp_path):
    run = start(tmp_path / "run")
    steps(run, 4)
    log = json.loads((tmp_path / "run/log.json").read_text())
    assert log["classes"] == ["a", "b", "c"] and log["history"][-1]["step"] == 4
    again = Run.resume(tmp_path / "run", IMAGES, CPU)
    assert again.history == run.history


def test_what_the_log_tells_of_steps_that_were_lost_is_forgotten(tmp_path):
    """The log is newer than the checkpoint where a run ended between writing the two."""
    run = start(tmp_path / "run")
    steps(run, 2)
    kept = list(run.history)
    path = tmp_path / "run/log.json"
    log = json.loads(path.read_text())
    path.write_text(json.dumps(log | {"history": [*log["history"], log["history"][-1] | {"step": 3}]}))
    assert Run.resume(tmp_path / "run", IMAGES, CPU).history == kept


@pytest.mark.parametrize("content", ["{", "{}", '{"history": 3}', '{"history": [{}]}'])
def test_a_broken_log_does_not_stop_a_run(tmp_path, content):
    steps(start(tmp_path / "run"), 2)
    (tmp_path / "run/log.json").write_text(content)
    with pytest.warns(UserWarning, match="log.json: not a log of minidiff"):
        run = Run.resume(tmp_path / "run", IMAGES, CPU)
    steps(run, 3)
    assert json.loads((tmp_path / "run/log.json").read_text())["history"][-1]["step"] == 3


def test_a_run_goes_on_with_its_own_pictures_only(tmp_path):
    run = start(tmp_path / "run")
    with pytest.raises(ValueError, match="expected the pictures of few that the run began with"):
        steps(run, 1, pictures(seed=1))


def test_a_run_has_no_model_while_its_autoencoder_is_trained(tmp_path):
    run = Run.start(tmp_path / "run", IMAGES, CONFIG, CPU, Task(latent=True))
    with pytest.raises(ValueError, match="expected a run with a denoiser, got the autoencoder alone, at step 0"):
        run.model()


def test_a_setting_that_the_command_line_does_not_have_is_no_obstacle_at_resume(tmp_path):
    Run.start(tmp_path / "run", IMAGES, replace(CONFIG, weighting="min_snr"), CPU)
    assert Run.resume(tmp_path / "run", IMAGES, CPU, given={"prediction": "v"}).training.config.weighting == "min_snr"


def test_model_is_a_copy_of_the_average(tmp_path):
    run = start(tmp_path / "run")
    steps(run, 5)
    model = run.model()
    average, raw = run.training.ema.module.state_dict(), run.training.model.state_dict()
    name = "net.stem.1.weight"
    assert torch.equal(model.denoiser.state_dict()[name], average[name]) and not torch.equal(average[name], raw[name])
    assert not model.denoiser.training
    with torch.no_grad():
        model.denoiser.net.stem[1].weight.zero_()
    assert run.training.ema.module.net.stem[1].weight.abs().sum() > 0
    model.to(torch.device("meta"))
    steps(run, 6)


def test_a_start_leaves_the_global_random_state(tmp_path):
    before = torch.get_rng_state()
    run = start(tmp_path / "run", task=Task(latent=True))
    steps(run, 6)
    assert run.first_stage["steps"] == 1 and torch.equal(before, torch.get_rng_state())


def test_weights_come_from_the_seed(tmp_path):
    def weights(name, seed):
        run = Run.start(tmp_path / name, IMAGES, TrainConfig(seed=seed), CPU)
        return run.training.model.net.stem[1].weight

    assert torch.equal(weights("a", 3), weights("b", 3)) and not torch.equal(weights("c", 3), weights("d", 4))


def test_training_off_the_main_thread(tmp_path, whole):
    """A thread receives no signals and may not ask for them."""
    losses = []
    run = start(tmp_path / "run")
    thread = threading.Thread(target=lambda: losses.extend(steps(run, 12)))
    thread.start()
    thread.join()
    assert losses == whole[0]


KILLED = """
import sys, torch
from pathlib import Path
from minidiff.app import runs
from minidiff.data import Images
from minidiff.training import Progress, TrainConfig
runs.SAVE_EVERY = 0.0
folder, cpu = Path(sys.argv[1]), torch.device("cpu")
x = torch.randint(256, (40, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
images = Images("few", x, torch.arange(40) % 3, ("a", "b", "c"))
if (folder / "checkpoint.safetensors").exists():
    run = runs.Run.resume(folder, images, cpu)
else:
    run = runs.Run.start(folder, images, TrainConfig(batch_size=8, precision="fp32", warmup_steps=3), cpu)
print("ready", flush=True)
for _ in run.train(images, steps=12):
    pass
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_killed_at_any_moment_it_goes_on(tmp_path, whole, number):
    """A process that saves at each step is stopped at some moment, several times over, until it is done."""
    folder, generator = tmp_path / "run", torch.Generator().manual_seed(int(number))
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        process.stdout.readline()
        time.sleep(0.15 * torch.rand((), generator=generator).item())
        process.send_signal(number)
        process.wait(timeout=60)
        process.stdout.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = Run.resume(folder, IMAGES, CPU)
    steps(run, 12)
    tensors = checkpoint_of(folder)[0]
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in whole[1].items())
    assert not list(folder.glob(".*.part"))


def test_an_unknown_recipe():
    with pytest.raises(ValueError, match="expected a net among MLP, UNet, got 'Transformer'"):
        DenoiserConfig(net="Transformer")


def test_what_is_loaded_from_a_folder_is_the_average(tmp_path):
    run = start(tmp_path / "run")
    steps(run, 3)
    loaded = load_trained(tmp_path / "run")[0].denoiser.state_dict()
    average, raw = run.training.ema.module.state_dict(), run.training.model.state_dict()
    assert all(torch.equal(loaded[name], average[name]) for name in average)
    assert any(not torch.equal(loaded[name], raw[name]) for name in raw)


def test_the_log_has_one_entry_a_second_and_the_last_step(tmp_path, monkeypatch):
    run = start(tmp_path / "run")
    made = [Progress(k, 1.0, 0.1, 0.4 * k, 10.0, k / 10) for k in range(1, 11)]
    monkeypatch.setattr(runs, "train", lambda *_: iter(made))
    assert len(list(run.train(IMAGES, 10))) == 10
    assert [entry["step"] for entry in run.history] == [3, 6, 9, 10]


def test_light_pictures_can_be_learned(tmp_path):
    """The package's own data sets convert their bytes: pictures without a dark pixel are no mistake."""
    x = torch.randint(128, 256, (40, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    light = Images("light", x, torch.arange(40) % 3, ("a", "b", "c"))
    assert len(steps(Run.start(tmp_path / "run", light, CONFIG, CPU), 2, light)) == 2


@pytest.mark.parametrize("lost", ["optimizer.", "optimizer.AdamW.0.exp_avg_sq"])
def test_a_run_without_what_its_optimisers_remember_is_refused(tmp_path, lost):
    steps(start(tmp_path / "run"), 2)
    tensors, metadata = checkpoint_of(tmp_path / "run")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(lost)}
    assert len(kept) < len(tensors)
    save(tmp_path / "run/checkpoint.safetensors", kept, metadata)
    with pytest.raises(CheckpointError, match="expected the moments"):
        Run.resume(tmp_path / "run", IMAGES, CPU)
