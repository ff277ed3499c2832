"""What is compared: minidiff and three libraries, each a class-conditional U-Net of about 0.64 million parameters.

A contender trains one step at a time and draws pictures; how is its own affair: network, noise schedule, target and
sampler are the library's, and so is the shape of the network, made as narrow as it must be for 0.64 million.
What a library leaves to its user is the same for all three: AdamW at PEER_LR (smalldiffusion's default, ten times the
rate of the others' examples, which are meant for hours), batches of 64, and minidiff's average of the weights.
"""

from collections.abc import Callable
from contextlib import nullcontext, redirect_stderr
from io import StringIO

import torch
from torch import Tensor, nn

from minidiff.app.generate import generate
from minidiff.data import Images
from minidiff.denoiser import Denoiser
from minidiff.nets.unet import UNet, UNetConfig
from minidiff.samplers import times
from minidiff.schedule import Cosine
from minidiff.training import Ema, TrainConfig, TrainState, train_step
from minidiff.training.loop import batches

PEER_LR = 1e-3
SIZE, CLASSES, BATCH = 32, 10, 64


class Contender:
    """A network with its training step and its sampler; `net` is what learns, `average` what draws."""

    net: nn.Module
    average: nn.Module

    def step(self) -> float:
        """One training step on a batch; returns the loss."""
        raise NotImplementedError

    def call(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """One call of the network: pictures (B, 1, 32, 32), times (B,), labels (B,)."""
        raise NotImplementedError

    def sample(self, y: Tensor, steps: int) -> Tensor:
        """A picture for each label (B,), without guidance: (B, 1, 32, 32) in [-1, 1]."""
        raise NotImplementedError


class Minidiff(Contender):
    def __init__(self, images: Images, precision: str, device: torch.device):
        denoiser = Denoiser(UNet(UNetConfig(channels=1, num_classes=CLASSES)), Cosine(), null=CLASSES)
        self.training = TrainState(denoiser.to(device), TrainConfig(batch_size=BATCH, precision=precision))
        self.batches = batches(images, self.training.config, 0)
        self.net, self.average = denoiser.net, self.training.ema.module.net

    def step(self) -> float:
        loss, _ = train_step(self.training, next(self.batches))
        self.training.step += 1
        return loss

    def call(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.net(x, t.float(), y)

    def sample(self, y: Tensor, steps: int) -> Tensor:
        return generate(self.training.ema.module, y, (1, SIZE, SIZE), ts=times(steps), guidance=1.0)


class Peer(Contender):
    """A library's network `net` under AdamW; what is left to say is its loss and its sampler."""

    def __init__(self, net: nn.Module, images: Images, precision: str, device: torch.device):
        self.device, self.net = device, net.to(device)
        self.ema = Ema(net, TrainConfig.ema_gamma)
        self.average = self.ema.module
        self.optimizer = torch.optim.AdamW(net.parameters(), PEER_LR, fused=True)
        self.bf16 = precision == "bf16"
        self.x, self.y = images.tensor(), images.y
        self.steps = 0

    def loss(self, x0: Tensor, y: Tensor) -> Tensor:
        """The library's own training loss for pictures (B, 1, 32, 32) and labels (B,)."""
        raise NotImplementedError

    def step(self) -> float:
        index = torch.randint(len(self.x), (BATCH,))
        x0, y = self.x[index].to(self.device), self.y[index].to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext():
            loss = self.loss(x0, y)
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.steps += 1
        self.ema.update(self.net, self.steps)
        return loss.item()


class Diffusers(Peer):
    """UNet2DModel, noise prediction on the linear schedule, drawn by DDIMScheduler, as in the library's tutorials."""

    def __init__(self, images: Images, precision: str, device: torch.device):
        from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel

        net = UNet2DModel(
            sample_size=SIZE,
            in_channels=1,
            out_channels=1,
            layers_per_block=1,
            block_out_channels=(20, 40, 56),
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
            num_class_embeds=CLASSES,
        )
        super().__init__(net, images, precision, device)
        self.noising, self.walk = DDPMScheduler(1000), DDIMScheduler(1000, timestep_spacing="trailing")

    def loss(self, x0: Tensor, y: Tensor) -> Tensor:
        eps = torch.randn_like(x0)
        t = torch.randint(1000, (len(x0),), device=x0.device)
        return (self.call(self.noising.add_noise(x0, eps, t), t, y) - eps).square().mean()

    def call(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.net(x, t, y).sample

    @torch.no_grad()
    def sample(self, y: Tensor, steps: int) -> Tensor:
        x, y = torch.randn(len(y), 1, SIZE, SIZE, device=self.device), y.to(self.device)
        self.walk.set_timesteps(steps)
        for t in self.walk.timesteps:
            x = self.walk.step(self.average(x, t, y).sample, t, x).prev_sample
        return x.clamp(-1, 1).cpu()


class DenoisingDiffusionPytorch(Peer):
    """The library's class-conditional U-Net and GaussianDiffusion: v-prediction, cosine schedule, DDIM."""

    def __init__(self, images: Images, precision: str, device: torch.device):
        from denoising_diffusion_pytorch.classifier_free_guidance import GaussianDiffusion, Unet

        class Plain(Unet):
            """With cond_scale = 1 the library's method returns one value where its caller unpacks two."""

            def forward_with_cond_scale(self, x, t, classes, **_):
                return self.forward(x, t, classes, cond_drop_prob=0.0), None

        net = Plain(dim=16, dim_mults=(1, 2, 3), num_classes=CLASSES, channels=1, cond_drop_prob=0.1)
        self.wrap = lambda unet, steps: GaussianDiffusion(
            unet, image_size=SIZE, timesteps=1000, objective="pred_v", sampling_timesteps=steps, ddim_sampling_eta=0.0
        ).to(device)
        super().__init__(net, images, precision, device)
        self.diffusion = self.wrap(self.net, 50)

    def loss(self, x0: Tensor, y: Tensor) -> Tensor:
        return self.diffusion((x0 + 1) / 2, classes=y)  # it wants pictures in [0, 1]

    def call(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.net(x, t, y)

    def sample(self, y: Tensor, steps: int) -> Tensor:
        with redirect_stderr(StringIO()):  # its progress bar
            x = self.wrap(self.average, steps).sample(y.to(self.device), cond_scale=1.0)
        return x.mul(2).sub(1).clamp(-1, 1).cpu()


class SmallDiffusion(Peer):
    """The library's U-Net with the schedule and the accelerated sampler of its Fashion-MNIST example."""

    def __init__(self, images: Images, precision: str, device: torch.device):
        from accelerate import Accelerator
        from smalldiffusion import ScheduleLogLinear, Unet
        from smalldiffusion.model import CondEmbedderLabel

        width = 32
        labels = CondEmbedderLabel(4 * width, CLASSES, 0.1)
        net = Unet(SIZE, 1, 1, ch=width, ch_mult=(1, 1, 1), attn_resolutions=(8,), cond_embed=labels)
        super().__init__(net, images, precision, device)
        self.schedule = ScheduleLogLinear(800, sigma_min=0.01, sigma_max=20)
        self.accelerator = Accelerator(cpu=device.type == "cpu")

    def loss(self, x0: Tensor, y: Tensor) -> Tensor:
        sigma = self.schedule.sample_batch(x0.cpu()).to(x0.device).reshape(-1, 1, 1, 1)
        return self.net.get_loss(x0, sigma, torch.randn_like(x0), cond=y)

    def call(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.net(x, t.reshape(-1, 1, 1, 1).float() + 1, cond=y)

    def sample(self, y: Tensor, steps: int) -> Tensor:
        from smalldiffusion import samples

        sigmas, accelerator = self.schedule.sample_sigmas(steps), self.accelerator
        *_, x = samples(self.average, sigmas, gam=1.6, batchsize=len(y), cond=y, accelerator=accelerator)
        return x.clamp(-1, 1).cpu()


CONTENDERS: dict[str, Callable[[Images, str, torch.device], Contender]] = {
    "minidiff": Minidiff,
    "diffusers": Diffusers,
    "denoising-diffusion-pytorch": DenoisingDiffusionPytorch,
    "smalldiffusion": SmallDiffusion,
}
