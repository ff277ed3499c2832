"""Would the tests notice? Plants typical errors of the field one at a time and runs the tests on each.

    python tools/mutate.py [--jobs 2] [--only SUBSTRING]
Each error goes into a fresh copy of the package in a temporary folder; the working tree is never touched. The quick
tests of its module come first, all tests of the core only if those pass. Exit code 1 if an error survives, or if a
line of the table no longer fits the code.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# module, what is wrong, the text as it stands (exactly once in the file), the text with the error
ERRORS = [
    ("schedule", "table without the square root of alpha-bar", "dtype=torch.float64)) / 2  #", "dtype=torch.float64))  #"),
    ("schedule", "table one step late", "[steps.new_zeros(1), steps.cumsum(0)]", "[steps.new_zeros(2), steps[:-1].cumsum(0)]"),
    ("schedule", "table read from its end", "steps.cumsum(0)]", "steps.flip(0).cumsum(0)]"),
    ("schedule", "k = t (T - 1) instead of t T", "position = t * len(self.betas)", "position = t * (len(self.betas) - 1)"),
    ("schedule", "variance in place of sigma", "(-torch.expm1(2 * log_alpha)).sqrt()", "-torch.expm1(2 * log_alpha)"),
    ("schedule", "log of alpha / sigma, not of its square", "2 * (alpha.log() -", "(alpha.log() -"),
    ("schedule", "sign of sigma's rate", "-slope * alpha**2 / sigma", "slope * alpha**2 / sigma"),
    ("schedule", "integral of beta without its 1/2", "growth * t**2 / 2", "growth * t**2"),
    ("schedule", "cosine table without the square", "math.pi / 2) ** 2", "math.pi / 2)"),
    ("process", "v with the opposite sign", "(-schedule(t)[1], schedule(t)[0])", "(schedule(t)[1], -schedule(t)[0])"),
    ("process", "velocity towards the data", "schedule.rates(t),", "tuple(-rate for rate in schedule.rates(t)),"),
    ("process", "sign in the 2x2 solve", "det = alpha * b - sigma * a", "det = alpha * b + sigma * a"),
    ("process", "forward jump with sigma^2", "expand(sigma, x0) * eps", "expand(sigma**2, x0) * eps"),
    ("process", "transition from the data, not from s", "return alpha_t / alpha_s,", "return alpha_t,"),
    ("process", "variance of the transition in place of its std", "log_snr(s))).sqrt()", "log_snr(s)))"),
    ("process", "posterior with its weights swapped", "expand(from_noisy, x_t) * x_t + expand(from_clean, x_t) * x0",
     "expand(from_clean, x_t) * x_t + expand(from_noisy, x_t) * x0"),
    ("process", "beta in place of beta-tilde", "expand(sigma_ts * sigma_s / sigma_t, x_t)", "expand(sigma_ts, x_t)"),
    ("process", "one step's alpha for alpha-bar in mu-tilde", "alpha_s * sigma_ts**2", "alpha_ts * sigma_ts**2"),
    ("process", "KL with its arguments swapped", "self.std / other.std).to(self.mean)\n        distance = (self.mean - other.mean) / "
     "other.std", "other.std / self.std).to(self.mean)\n        distance = (self.mean - other.mean) / self.std"),
    ("process", "times along the last axis", "c.shape + (1,) * (x.ndim - c.ndim)", "(1,) * (x.ndim - c.ndim) + c.shape"),
    ("process", "one noise for the whole batch", "torch.randn(x.shape, ", "torch.randn(x[:1].shape, "),
    ("oracle", "component variance without alpha", "variance = alpha**2 * self", "variance = self"),
    ("oracle", "sum without the weights", "self.weights.to(x).log() + log_density", "log_density"),
    ("oracle", "sum outside log space", "[0].logsumexp(1)", "[0].exp().sum(1).log()"),
    ("oracle", "sign of the score", "return -(log_joint", "return (log_joint"),
    ("oracle", "posterior mean without alpha", "alpha * self._axis_stds().to(x) ** 2 * offset", "self._axis_stds().to(x) ** 2 * offset"),
    ("oracle", "reverse kernel as wide as the marginal", "variance * (1 - gain * alpha_ts)", "variance"),
    ("oracle", "softmax over the data with sigma, not sigma^2", "closeness / sigma**2", "closeness / sigma"),
    ("denoiser", "eps handed out as x0", "self.schedule)[0]", "self.schedule)[1]"),
    ("denoiser", "condition lost on the way", "self.net(x_t, times, cond)", "self.net(x_t, times, None)"),
    ("losses", "times not stratified", "(torch.arange(n) + u) / n", "u"),
    ("losses", "max for min in min-SNR", "clamp(max=5.0)", "clamp(min=5.0)"),
    ("losses", "sign in the weight of a prediction", "(a - b * alpha / sigma)", "(a + b * alpha / sigma)"),
    ("losses", "bins one 256th too narrow", "half = 1 / (bins - 1)", "half = 1 / bins"),
    ("losses", "KL(p || q) in the bound", "posterior(x_t, x0, s, t, schedule).kl(model)",
     "model.kl(posterior(x_t, x0, s, t, schedule))"),
    ("losses", "bound without its decoder's sign", "total - (model", "total + (model"),
    ("losses", "nats called bits", "nats / (dims * math.log(2))", "nats / dims"),
    ("samplers", "noise at ddpm's last step", ".sample(generator)\n", ".sample(generator) + 0.01 * (s == 0) * noise_like(x)\n"),
    ("samplers", "eta squared", "std = eta * posterior", "std = eta**2 * posterior"),
    ("samplers", "ddim towards sigma, whatever the noise", "(expand(sigma_s, x) ** 2 - std**2)", "(expand(sigma_s, x) ** 2)"),
    ("samplers", "Heun with the far slope alone", "(slope + slope_there) / 2", "slope_there"),
    ("samplers", "Heun's second look at the first time", "denoise(guess, s), s, schedule", "denoise(guess, s), t, schedule"),
    ("samplers", "dpmpp step in log-SNR, not half of it", "schedule.log_snr(t)) / 2", "schedule.log_snr(t))"),
    ("samplers", "dpmpp ratio of steps upside down", "float(h / h_before)", "float(h_before / h)"),
    ("samplers", "Langevin score without alpha", "(alpha * denoise(x, t) - x)", "(denoise(x, t) - x)"),
    ("samplers", "Langevin drift of a whole step", "step / 2 * score", "step * score"),
    ("guidance", "away from the condition", "without + w * (given", "without - w * (given"),
    ("guidance", "w counted from the condition", "without + w * (given", "given + w * (given"),
    ("guidance", "labels dropped for the whole batch", "torch.rand(len(cond), generator=generator)",
     "torch.rand(1, generator=generator).expand(len(cond))"),
    ("guidance", "labels kept with probability p", ".to(cond.device) < p", ".to(cond.device) >= p"),
    ("guidance", "classifier's gradient without 1 / alpha", "w * sigma**2 / alpha", "w * sigma**2"),
    ("guidance", "gradient of the batch's mean", "log_prob(x, t).sum()", "log_prob(x, t).mean()"),
    ("train", "EMA factors swapped", "list(module.parameters()), 1 - beta)", "list(module.parameters()), beta)"),
    ("train", "EMA one step ahead", "update(denoiser, training.step + 1)", "update(denoiser, training.step + 2)"),
    ("train", "EMA takes in the weights before the step", "    training.optimizer.step()\n    training.optimizer.zero_grad()\n"
     "    training.ema.update(denoiser, training.step + 1)", "    training.ema.update(denoiser, training.step + 1)\n"
     "    training.optimizer.step()\n    training.optimizer.zero_grad()"),
    ("train", "warm-up off by one", "(training.step + 1) / config.warmup", "training.step / config.warmup"),
    ("train", "learning rate shown but not used", 'group["lr"] = lr', 'group["lr"] = config.lr'),
    ("train", "gradients not clipped", "clip_grad_norm_(denoiser.parameters(), config.clip)",
     "clip_grad_norm_(denoiser.parameters(), float('inf'))"),
    ("train", "gradients of earlier steps kept", "    training.optimizer.zero_grad()\n", ""),
    ("train", "loss without its weight", "weight(config.weighting, t, denoiser.schedule) * losses", "losses"),
    ("train", "one time for the whole batch", "sample_times(len(x0), generator)", "sample_times(1, generator).expand(len(x0))"),
    ("train", "labels never dropped", "config.label_dropout, generator", "0.0, generator"),
    ("train", "the same noise at every step", "manual_seed(config.seed * 1_000_003 + training.step)",
     "manual_seed(config.seed * 1_000_003)"),
    ("train", "the same order in every epoch", "manual_seed(seed * 1_000_003 + epoch)", "manual_seed(seed * 1_000_003)"),
    ("train", "resume forgets the optimiser", '"state": moments}', '"state": {}}'),
    ("train", "resume forgets the average", 'self.ema.module.load_state_dict(part("ema."))', "pass"),
    ("checkpoint", "digest that ignores the weights", "digest.update(tensor.reshape", "(tensor.reshape"),
    ("checkpoint", "digest that ignores the description", "hashlib.sha256(text.encode())", "hashlib.sha256()"),
    ("checkpoint", "write in place, without rename", "os.replace(part, path)", "path.write_bytes(content)"),
    ("checkpoint", "rename before the bytes are on disk", "os.fsync(file.fileno())", "pass"),
]
CORE = ["schedule", "process", "oracle", "denoiser", "losses", "samplers", "guidance", "train", "checkpoint"]
SLOW = "an_mlp or gives_the_mixture_back or bound_of_a or precision or budget"  # seconds each: only for what quick tests miss
LAUNCH = """import pathlib, sys, pytest, torch, minidiff
if pathlib.Path(minidiff.__file__).resolve().parents[1] != pathlib.Path.cwd().resolve():
    sys.exit(f"expected the copy of the package, got {minidiff.__file__}")
torch.manual_seed(0)  # a verdict must not hang on the luck of a test without a generator
sys.exit(pytest.main(["-xq", "-p", "no:cacheprovider", *sys.argv[1:]]))"""


def run_tests(folder: Path, modules: list[str], *options: str) -> str | None:
    """None if the tests pass in the copy, else the name of the first that fails; RuntimeError if there is no verdict."""
    command = [sys.executable, "-c", LAUNCH, *(f"tests/test_{module}.py" for module in modules), *options]
    env = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=600)
    if done.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", done.stdout, re.MULTILINE)
    if done.returncode != 1 or not failed:
        raise RuntimeError((done.stdout + done.stderr).strip()[-600:])
    return failed[1]


def judge(module: str, old: str, new: str, modules: list[str]) -> str | None:
    """The first test that fails with `new` in place of `old`; None if all pass. Without `old`: the copy as it is."""
    with tempfile.TemporaryDirectory(prefix="mutate-") as name:
        folder = Path(name)
        for part in ("minidiff", "tests"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        if not old:
            return run_tests(folder, modules)
        path = folder / f"minidiff/{module}.py"
        path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
        return run_tests(folder, [module], "-k", f"not ({SLOW})") or run_tests(folder, CORE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="of the module or of the description")
    options = parser.parse_args()
    chosen = [error for error in ERRORS if options.only in f"{error[0]}: {error[1]}"]
    stale = [f"{module}: {what}" for module, what, old, _ in chosen
             if (ROOT / f"minidiff/{module}.py").read_text(encoding="utf-8").count(old) != 1]
    if stale or not chosen:
        print("expected each old text exactly once in its file; not so for", *stale or ["any (nothing chosen)"], sep="\n  ")
        return 1

    began, wrong = time.perf_counter(), []
    concerned = [module for module in CORE if module in {error[0] for error in chosen}]
    with ThreadPoolExecutor(options.jobs) as pool:
        jobs = {pool.submit(judge, "", "", "", concerned): ("", "nothing planted")}
        jobs |= {pool.submit(judge, module, old, new, CORE): (module, what) for module, what, old, new in chosen}
        for count, job in enumerate(as_completed(jobs)):
            module, what = jobs[job]
            try:
                found = job.result()
                verdict = ("passed" if not found else "FAILED") if not module else ("caught" if found else "SURVIVED")
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                found, verdict = str(error), "NO VERDICT"
            wrong += [f"{verdict}: {module} {what}"] if verdict.isupper() else []
            print(f"{count:3d}/{len(chosen)} {verdict:8s} {module:10s} {what:50s} {found or ''}", flush=True)
    planted = sum(" nothing planted" not in line for line in wrong)
    print(*wrong, f"{len(chosen)} planted, {len(chosen) - planted} caught, in {time.perf_counter() - began:.0f} s", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
