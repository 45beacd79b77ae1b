"""A segmentation that explains itself: images of how sure it is, and of what each band adds to its decision.

The same weights, asked other questions. Knows nothing of which network that is, nor of what classes and bands are called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor, nn

from earthloom.models.networks.over_base import OverBase, two_logits
from earthloom.tiling.errors import CardError

Method: TypeAlias = Literal["entropy", "spread", "occlusion", "gradients"]

_MIRRORS = ((3,), (2,), (2, 3))
"""Axes of the three mirror images that test-time augmentation averages over, too."""


class Explained(OverBase):
    """A network of the registry under one of four questions.

    * `entropy`: of the class probabilities, - sum p ln p / ln K, from 0 (sure) to 1 (all alike). (N, 1, H, W)
    * `spread`: standard deviation of the probabilities over the chip and its three mirror images, of the class where it
      is largest, from 0 to 0.5. (N, 1, H, W)
    * `occlusion`: how much the probability of the class falls if a band is replaced by its mean, everywhere at once
      (Zeiler, Fergus 2014, Visualizing and understanding convolutional networks, ECCV). (N, C, H, W)
    * `gradients`: integrated gradients (Sundararajan, Taly, Yan 2017, Axiomatic attribution for deep networks, ICML) of
      the sum of the class's probabilities over all pixels, from an input of all means: what the value of a band at a
      pixel adds to the probabilities around it. Over a whole chip they sum up to the difference of that sum between
      the chip and the means. Gauss-Legendre quadrature with `steps` points. (N, C, H, W)

    The class is the one that the network chooses at each pixel, or always `target`. The mean of a band is 0 in a chip,
    which is also what pixels without data hold.

    Args:
        base: takes (N, C, H, W) and gives logits (N, K, H, W), one logit for two classes being the second one's, or
            probabilities.
        method: the question.
        classes: K.
        steps: forward and backward passes of `gradients`.
        target: class of `occlusion` and `gradients`.
        gives_probabilities: what the base gives.

    Raises:
        CardError: if the method or the class is unknown.
    """

    def __init__(
        self, base: nn.Module, *, method: Method, classes: int, steps: int = 16, target: int | None = None,
        gives_probabilities: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(base, classes, gives_probabilities=gives_probabilities)
        if method not in get_args(Method):
            raise CardError(f"unknown explanation {method!r}; one of {', '.join(get_args(Method))}")
        if not 1 <= steps <= 1000 or target not in (None, *range(classes)):
            raise CardError(f"steps are 1 to 1000 and the class is 0 to {classes - 1}, got {steps} and {target}")
        self.method, self.classes, self.steps, self.target = method, classes, steps, target

    def forward(self, x: Tensor) -> Tensor:
        answers: dict[str, Callable[[Tensor], Tensor]] = {
            "entropy": self._entropy, "spread": self._spread, "occlusion": self._occlusion, "gradients": self._gradients,
        }  # fmt: skip
        return torch.cat(
            [answers[self.method](one) for one in (x[n : n + 1] for n in range(len(x)))]
        )  # chip by chip: a batch changes no bit

    def _entropy(self, x: Tensor) -> Tensor:
        p = self.probabilities(x)
        total = torch.zeros_like(p[:, :1])
        for part in (p[:, k : k + 1] for k in range(self.classes)):
            total -= torch.where(part > 0, part * torch.log(part.clamp_min(torch.finfo(part.dtype).tiny)), 0.0)
        return total / float(np.log(self.classes))

    def _spread(self, x: Tensor) -> Tensor:
        every = [self.probabilities(x)]
        for axes in _MIRRORS:
            every.append(self.probabilities(x.flip(axes)).flip(axes))
        mean = sum(every[1:], every[0]) / len(every)
        variance = sum(((one - mean) ** 2 for one in every[1:]), (every[0] - mean) ** 2) / len(every)
        return variance.amax(dim=1, keepdim=True).sqrt()

    def _occlusion(self, x: Tensor) -> Tensor:
        p = self.probabilities(x)
        chosen = self._chosen(p)
        whole, falls = p.gather(1, chosen), []
        for channel in range(x.shape[1]):
            without = x.clone()
            without[:, channel] = 0
            falls.append(whole - self.probabilities(without).gather(1, chosen))
        return torch.cat(falls, dim=1)

    def _gradients(self, x: Tensor) -> Tensor:
        nodes, weights = np.polynomial.legendre.leggauss(self.steps)
        chosen = self._chosen(self.probabilities(x))
        with torch.inference_mode(False), torch.enable_grad():
            x, chosen, total = x.clone(), chosen.clone(), torch.zeros(x.shape, device=x.device)
            for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
                point = (x * float(node)).contiguous(memory_format=torch.channels_last).requires_grad_()
                answer = self.base(point).float()
                if not self._gives_probabilities:
                    # not `softmax` of ours, which works in place
                    answer = torch.softmax(two_logits(answer), dim=1)
                (gradient,) = torch.autograd.grad(answer.gather(1, chosen).sum(), point)
                total += float(weight) * gradient.float()
            return (x.float() * total).detach()

    def _chosen(self, p: Tensor) -> Tensor:
        """(N, 1, H, W) int64 class at each pixel."""
        if self.target is not None:
            return torch.full_like(p[:, :1], self.target, dtype=torch.int64)
        return p.argmax(dim=1, keepdim=True)
