"""A network in diffusion's units.

A denoiser is a function (x_t, t) -> E[x0 | x_t]: all that samplers, guidance and likelihoods know.
A network gives some target y = a x0 + b eps; one 2x2 solve turns it into x0 (eq. 5.10). Its input is scaled to unit
variance, c_in = 1 / sqrt(alpha^2 + sigma^2) for data of variance 1 (Karras et al. 2022, table 1).
"""

import torch
from torch import Tensor, nn

from minidiff.process import PREDICTIONS, check_same_shape, match_dims, target_coefficients
from minidiff.schedule import Schedule, as_float, as_time

Condition = Tensor | dict[str, Tensor]  # batch first
Null = int | Tensor | dict[str, int | Tensor]  # of one condition


class Denoiser(nn.Module):
    """A network net(x, t, cond) as a denoiser: (x_t (B, ...), t () or (B,), cond) -> x0 (B, ...).

    The network gets times (B,) in float32 at least. `null` is the null condition (unconditional): a number, a tensor
    of one condition's shape, or a dict of them; `net.null` by default, None without conditions. With
    scale_input=False the network sees x_t itself.
    """

    def __init__(
        self,
        net: nn.Module,
        schedule: Schedule,
        prediction: str = "v",
        null: Null | None = None,
        scale_input: bool = True,
    ):
        super().__init__()
        if not isinstance(schedule, Schedule):
            raise ValueError(f"expected a Schedule, got {schedule!r}")
        target_coefficients(prediction, 0.5, schedule)  # refuses an unknown prediction before any training
        self.net, self.schedule, self.prediction = net, schedule, prediction
        own = getattr(net, "null", None)
        if isinstance(null, bool | float | str) or (
            isinstance(null, int) and isinstance(own, int) and not 0 <= null <= own
        ):
            raise ValueError(f"expected a null condition that the network has, such as {own}, got {null!r:.40}")
        self.null = own if null is None else null
        self.scale_input = scale_input

    def forward(self, x_t: Tensor, t: float | Tensor, cond: Condition | None = None) -> Tensor:
        """Return E[x0 | x_t] as the network sees it, of the shape and dtype of x_t (eq. 5.10).

        No tensor is read for a check: make times in [0, 1]. The result is not finite where the prediction
        determines no x0 (eps at pure noise).
        """
        t = as_float(t) if isinstance(t, Tensor) else as_time(t)
        dtype = torch.promote_types(x_t.dtype, torch.float32)  # half precision would round the times and the solve
        alpha, sigma = self.schedule.at(t)
        a, b = PREDICTIONS[self.prediction](alpha, sigma, lambda: self.schedule.rates_at(t))
        zeros = x_t.new_zeros(x_t.shape[0], dtype=dtype)
        times = zeros + match_dims(t, zeros)  # (B,), for a number on the CPU without making a GPU wait
        scaled = self.scale_input and not self.schedule.variance_preserving
        x = match_dims((alpha**2 + sigma**2).rsqrt(), x_t) * x_t if scaled else x_t
        y = self.net(x, times, cond)
        check_same_shape(y, x_t, "the prediction and x_t")
        x_t, y, det = x_t.to(dtype), y.to(dtype), alpha * b - sigma * a
        at_data = sigma == 0  # there x_t is x0, whatever the network says
        from_x, from_y = torch.where(at_data, 1 / alpha, b / det), torch.where(at_data, 0.0, -sigma / det)
        return (match_dims(from_x, x_t) * x_t + match_dims(from_y, y) * y).to(x.dtype)
