"""Would the tests notice? Plants typical errors of the field, one at a time, and runs the tests on each.

    python tools/mutate.py [--jobs 2] [--only SUBSTRING]
Each error goes into its own copy of the package in a temporary folder; the working tree is never touched. The quick
tests of its module run first, all tests of the core only if those pass. Exit code 1 if an error survives, if the tests
fail without any, or if an entry of the table no longer fits the code.
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
# module: what is wrong; the text as it stands, exactly once, in the module; the text with the error
ERRORS = [
    ("schedule: alpha-bar without its root", "dtype=torch.float64)) / 2  #", "dtype=torch.float64))  #"),
    ("schedule: table one step late", "new_zeros(1), steps.cumsum(0)", "new_zeros(2), steps[:-1].cumsum(0)"),
    ("schedule: t (T - 1) for t T", "position = t * len(self.betas)", "position = t * (len(self.betas) - 1)"),
    ("schedule: variance for sigma", "(-torch.expm1(2 * log_alpha)).sqrt()", "-torch.expm1(2 * log_alpha)"),
    ("schedule: sign of sigma's rate", "-slope * alpha**2 / sigma", "slope * alpha**2 / sigma"),
    ("schedule: cosine table without its square", "math.pi / 2) ** 2", "math.pi / 2)"),
    ("process: sign of v", "(-schedule(t)[1], schedule(t)[0])", "(schedule(t)[1], -schedule(t)[0])"),
    ("process: velocity towards the data", "schedule.rates(t),", "tuple(-r for r in schedule.rates(t)),"),
    ("process: sign of the score", "-1 / schedule(t)[1]", "1 / schedule(t)[1]"),
    ("process: sign in the 2x2 solve", "alpha * b - sigma * a", "alpha * b + sigma * a"),
    ("process: variance of the transition for its std", "log_snr(s))).sqrt()", "log_snr(s)))"),
    ("process: posterior weights swapped", "_t + match_dims(from_clean, x_t) * x0", "0 + match_dims(from_clean, x_t) * x_t"),
    ("process: beta for beta-tilde", "match_dims(sigma_ts * sigma_s / sigma_t, x_t)", "match_dims(sigma_ts, x_t)"),
    ("process: one step's alpha in mu-tilde", "alpha_s * sigma_ts**2", "alpha_ts * sigma_ts**2"),
    ("process: KL with stds swapped", "self.std / other.std).to", "other.std / self.std).to"),
    ("process: times along the last axis", "c.reshape(c.shape + (1,) * (x.ndim - c.ndim))", "c"),
    ("process: one noise for the whole batch", "torch.randn(x.shape, ", "torch.randn(x[:1].shape, "),
    ("oracle: component variance without alpha", "variance = alpha**2 * self", "variance = self"),
    ("oracle: log-sum without the weights", "self.weights.to(x).log() + log_density", "log_density"),
    ("oracle: sum outside log space", "[0].logsumexp(1)", "[0].exp().sum(1).log()"),
    ("oracle: sign of the score", "return -(log_joint", "return (log_joint"),
    ("oracle: reverse kernel as wide as x_s", "variance * (1 - gain * alpha_ts)", "variance"),
    ("denoiser: eps handed out as x0", "self.schedule)[0]", "self.schedule)[1]"),
    ("denoiser: condition lost", "self.net(x_t, times, cond)", "self.net(x_t, times, None)"),
    ("losses: times not stratified", "(torch.arange(n) + u) / n", "u"),
    ("losses: max for min in min-SNR", "clamp(max=5.0)", "clamp(min=5.0)"),
    ("losses: sign in a prediction's weight", "(a - b * alpha / sigma)", "(a + b * alpha / sigma)"),
    ("losses: bins a little too narrow", "half = 1 / (bins - 1)", "half = 1 / bins"),
    (
        "losses: KL arguments swapped in the bound",
        "posterior(x_t, x0, s, t, schedule).kl(model)",
        "model.kl(posterior(x_t, x0, s, t, schedule))",
    ),
    ("losses: bound without its prior", "yield Gaussian(alpha * x0, sigma)", "yield 0 * Gaussian(alpha * x0, sigma)"),
    ("losses: sign of the decoder's term", "yield -(model", "yield (model"),
    ("losses: nats called bits", "nats / (dims * math.log(2))", "nats / dims"),
    ("samplers: ddpm, noise at the end", ".sample(generator)", ".sample(generator) + 0.01 * noise_like(x)"),
    ("samplers: ddim, eta squared", "std = eta * posterior", "std = eta**2 * posterior"),
    ("samplers: ddim, towards all of sigma", "match_dims(sigma_s, x) ** 2 - std**2", "match_dims(sigma_s, x) ** 2"),
    ("samplers: heun, without its average", "(slope + slope_there) / 2", "slope_there"),
    ("samplers: dpmpp_2m, h without 1/2", "schedule.log_snr(t)) / 2", "schedule.log_snr(t))"),
    ("samplers: dpmpp_2m, ratio upside down", "float(h / h_before)", "float(h_before / h)"),
    ("samplers: langevin, score without alpha", "(alpha * denoise(x, t) - x)", "(denoise(x, t) - x)"),
    ("samplers: langevin, drift of a whole step", "step / 2 * score", "step * score"),
    ("guidance: away from the condition", "without + w * (given", "without - w * (given"),
    ("guidance: w + 1 for w", "without + w * (given", "given + w * (given"),
    ("guidance: labels dropped for the whole batch", "torch.rand(len(cond), ", "torch.rand(1, "),
    ("guidance: classifier's gradient without 1 / alpha", "w * sigma**2 / alpha", "w * sigma**2"),
    ("guidance: gradient of the batch's mean", "log_prob(x, t).sum()", "log_prob(x, t).mean()"),
    ("muon: no look ahead", "torch._foreach_lerp(gradients, momenta, MOMENTUM)", "momenta"),
    ("muon: the shorter side", "0.2 * max(step.", "0.2 * min(step."),
    ("train: EMA factors swapped", "(module.parameters()), 1 - beta)", "(module.parameters()), beta)"),
    ("train: EMA a step ahead", "update(denoiser, training.step + 1)", "update(denoiser, training.step + 2)"),
    ("train: warm-up off by one", "(training.step + 1) / config.warmup", "training.step / config.warmup"),
    ("train: learning rate shown, not used", 'group["lr"] = lr', 'group["lr"] = config.lr'),
    ("train: no clipping", "parameters(), config.clip)", "parameters(), float('inf'))"),
    ("train: gradients of earlier steps kept", "optimizer.zero_grad()", "pass"),
    ("train: loss without its weight", "weight(config.weighting, t, denoiser.schedule) * losses", "losses"),
    ("train: one time for the batch", "sample_times(len(x0), generator)", "sample_times(1, generator)[0]"),
    ("train: labels never dropped", "config.label_dropout, generator", "0.0, generator"),
    ("train: the same noise at every step", "(config.seed * 1_000_003 + training.step)", "(config.seed)"),
    ("train: the same order in every epoch", "(seed * 1_000_003 + epoch)", "(seed * 1_000_003)"),
    ("train: resume forgets the optimiser", '"state": moments}', '"state": {}}'),
    ("train: resume forgets the average", 'self.ema.module.load_state_dict(part("ema."))', "pass"),
    ("checkpoint: digest without the weights", "digest.update(tensor.reshape", "(tensor.reshape"),
    ("checkpoint: written in place, not renamed", "os.replace(part, path)", "path.write_bytes(content)"),
]
CORE = ["schedule", "process", "oracle", "denoiser", "losses", "samplers", "guidance", "muon", "train", "checkpoint"]
SLOW = "an_mlp or mixture_back or bound_of_a or precision or budget"  # seconds each: only if the quick ones pass
# A verdict must come from the copy, and not hang on the luck of a test that draws without a generator.
LAUNCH = """import pathlib, sys, pytest, torch, minidiff
if not pathlib.Path(minidiff.__file__).resolve().is_relative_to(pathlib.Path.cwd().resolve()):
    sys.exit(f"expected the copy of the package, got {minidiff.__file__}")
torch.manual_seed(0)
sys.exit(pytest.main(["-xq", "-p", "no:cacheprovider", *sys.argv[1:]]))"""


def run_tests(folder: Path, modules: list[str], *options: str) -> tuple[str, str]:
    """("passed", ""), ("failed", the first test) or ("no verdict", why) for the copy in folder."""
    command = [sys.executable, "-c", LAUNCH, *(f"tests/test_{module}.py" for module in modules), *options]
    env = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=1800)
    except subprocess.TimeoutExpired:
        return "no verdict", "half an hour was not enough"
    failed = re.search(r"^(?:FAILED|ERROR) tests/(.+?)(?: - |$)", done.stdout, re.MULTILINE)
    if done.returncode == 1 and failed:
        return "failed", failed[1]
    return ("no verdict", (done.stdout + done.stderr)[-500:]) if done.returncode else ("passed", "")


def judge(folder: Path, module: str, old: str, new: str) -> tuple[str, str]:
    """The tests' verdict on a copy of the clean folder beside it that has `new` in place of `old`."""
    shutil.copytree(folder.with_name("clean"), folder)
    path = folder / f"minidiff/{module}.py"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    verdict = run_tests(folder, [module], "-k", f"not ({SLOW})")
    return verdict if verdict[0] != "passed" else run_tests(folder, CORE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="of the name, as in 'train: EMA'")
    options = parser.parse_args()
    chosen = [(name, name.split(":")[0], old, new) for name, old, new in ERRORS if options.only in name]
    began, missed = time.perf_counter(), 0
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(options.jobs) as pool:
        clean = Path(temporary) / "clean"
        for part in ("minidiff", "tests"):
            shutil.copytree(ROOT / part, clean / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", clean)
        sources = {path.stem: path.read_text(encoding="utf-8") for path in (clean / "minidiff").glob("*.py")}
        stale = [name for name, module, old, _ in chosen if sources[module].count(old) != 1]
        if stale or not chosen:
            print("expected each old text exactly once in its module, not so for:", *stale, sep="\n  ")
            return 1
        unplanted = pool.submit(run_tests, clean, [m for m in CORE if m in {module for _, module, *_ in chosen}])
        jobs = {pool.submit(judge, clean.with_name(str(i)), *change): name for i, (name, *change) in enumerate(chosen)}
        for count, job in enumerate(as_completed(jobs), 1):
            verdict, detail = job.result()
            missed += verdict != "failed"
            shown = {"failed": "caught", "passed": "SURVIVED"}.get(verdict, "NO VERDICT")
            print(f"{count:2d}/{len(jobs)}  {shown:10s}  {jobs[job]:50s}  {detail}", flush=True)
        verdict, detail = unplanted.result()
    print(f"none planted: {verdict} {detail}".rstrip())
    print(f"{len(chosen)} planted, {len(chosen) - missed} caught, in {time.perf_counter() - began:.0f} s")
    return 1 if missed or verdict != "passed" else 0


if __name__ == "__main__":
    sys.exit(main())
