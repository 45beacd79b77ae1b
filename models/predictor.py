"""One network on one device: chips in, logits out, in batches that shrink when memory runs out.

Knows nothing of scenes, windows or what a class means; `models.sliding` cuts the chips and weaves the answers.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models import architectures, weights
from models.card import ModelCard
from models.device import Device
from models.steady import softmax, steady
from models.survey import Survey
from tiling.errors import CardError, EngineError

T = TypeVar("T")

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_BATCH = {"cpu": 1, "cuda": 8}  # a chip of 1216 px fills a CPU's cores; a GPU wants several


class Predictor:
    """A loaded model, ready for inference.

    Args:
        card: what the model is.
        weights_path: safetensors file whose sha256 the card names; None for a model without weights.
        device: where and how precisely it computes. Weights are cast; a model without weights computes in fp32.
        batch: chips per forward pass at most; halved, and kept so, when memory runs out.
        threads: CPU threads of this process; left alone when None.
        flips: answer with the mean over the chip and its three mirror images (test-time augmentation).

    Neither batch nor threads change a bit of the result on a CPU.

    Raises:
        CardError: if the network cannot be built or its weights are not the card's.
    """

    def __init__(
        self,
        card: ModelCard,
        weights_path: Path | None,
        device: Device,
        batch: int | None = None,
        *,
        threads: int | None = None,
        flips: bool = False,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.card, self.device = card, device
        self.batch = batch or _BATCH[device.kind]
        module: Any = architectures.build(card)  # Any: torch's stubs do not know memory_format in Module.to
        if (card.weights is None) != (weights_path is None):
            raise CardError(
                f"{card.label}: the card names {'no weights' if card.weights is None else 'weights ' + card.weights} "
                f"but the file given is {weights_path}"
            )
        if weights_path is not None and card.weights is not None:
            weights.load_network(module, weights_path, card.weights)
        has_weights = any(True for _ in module.parameters())
        if has_weights and card.weights is None:
            raise CardError(f"{card.label}: {card.architecture} needs weights but the card names none")
        self._dtype = _DTYPES[device.precision] if has_weights else torch.float32
        module.eval().requires_grad_(False)
        self.module: nn.Module = module.to(device.kind, self._dtype, memory_format=torch.channels_last)
        self._flips = flips
        self._mean, self._std = self._per_channel(np.asarray(card.mean)), self._per_channel(np.asarray(card.std))

    def run(
        self,
        items: Sequence[T],
        fill: Callable[[T, Tensor], None],
        shape: tuple[int, int],
        context: Tensor | None = None,
    ) -> Iterator[tuple[T, Tensor]]:
        """Yield each item with its logits (K, h, w), or its image (K, scale * h, scale * w), in order.

        Args:
            items: what the chips are made from.
            fill: writes one item's normalised chip into a (C, h, w) tensor on the device.
            shape: (h, w) of every chip.
            context: what `context_of` gave for the scene, where the card needs a survey.

        Raises:
            EngineError: if memory does not suffice for a single chip.
            CardError: if the network's output is not what the card says.
        """
        done = 0
        while done < len(items):
            part = items[done : done + self.batch]
            logits = self._try_forward(part, fill, shape, context)
            if logits is None:
                self._halve(len(part), shape)
                continue
            yield from zip(part, logits, strict=True)
            del logits  # before the next ones are made
            done += len(part)

    def context_of(self, told: Survey) -> Tensor:
        """What the network keeps of a scene's survey, on the device."""
        module: Any = self.module
        context: Tensor = module.context(told)
        return context.to(self.device.kind, torch.float32)

    def normalise(
        self, raw: NDArray[np.generic] | Tensor, valid: NDArray[np.bool_], gain: Tensor, bias: Tensor
    ) -> Tensor:
        """((raw * gain + bias) - mean) / std, 0 where not valid: a rule for each pixel by itself.

        Args:
            raw: (C, h, w) stored values; moved to the device as they are.
            valid: (h, w).
            gain, bias: (C, 1, 1) fp32 on the device.

        Returns:
            (C, h, w) fp32 on the device.
        """
        # copies: the reader's may be read-only
        stored = raw if isinstance(raw, Tensor) else torch.from_numpy(np.array(raw, order="C"))
        known = torch.from_numpy(np.array(valid, order="C")).to(self.device.kind)
        x = (
            stored.to(self.device.kind)
            .to(torch.float32, copy=True)
            .mul_(gain)
            .add_(bias)
            .sub_(self._mean)
            .div_(self._std)
        )
        return x.masked_fill_(~known, 0.0)

    def probabilities(self, logits: Tensor) -> Tensor:
        """(K, h, w) fp32 from logits (K, h, w), of any part of a chip: a rule for each pixel by itself."""
        logits = logits.float()
        if self.card.activation == "none":
            return logits
        return softmax(torch.cat([torch.zeros_like(logits), logits]) if logits.shape[0] == 1 else logits)

    def physical(self, image: Tensor) -> Tensor:
        """(K, h, w) fp32 physical values of the card's outputs, from the network's answer."""
        if self.card.output_dtype:
            return image.float()
        channels = [self.card.bands.index(name) for name in self.card.outputs]
        return image.float().mul_(self._std[channels]).add_(self._mean[channels])

    def per_channel(self, values: NDArray[np.generic]) -> Tensor:
        """(C,) as (C, 1, 1) fp32 on the device.

        Raises:
            CardError: if there is not one value for each band.
        """
        if values.shape != (len(self.card.bands),):
            raise CardError(f"{self.card.label}: {len(self.card.bands)} bands but values of shape {values.shape}")
        return self._per_channel(values)

    def _per_channel(self, values: NDArray[np.generic]) -> Tensor:
        return torch.tensor(np.asarray(values, np.float32)).reshape(-1, 1, 1).to(self.device.kind)

    @torch.inference_mode()
    def _try_forward(
        self, part: Sequence[T], fill: Callable[[T, Tensor], None], shape: tuple[int, int], context: Tensor | None
    ) -> Tensor | None:
        """(N, K, h, w), or None when memory ran out; what was allocated is gone by then."""
        size = (len(part), len(self.card.bands), *shape)
        try:
            chips = torch.empty(size, dtype=self._dtype, device=self.device.kind, memory_format=torch.channels_last)
            for item, chip in zip(part, chips, strict=True):
                fill(item, chip)
            with steady(self.device.kind):
                logits = self._forward(chips, context)
        except (torch.OutOfMemoryError, MemoryError):
            return None
        except RuntimeError as error:
            if not any(sign in str(error) for sign in ("can't allocate memory", "not enough memory", "bad_alloc")):
                raise
            return None
        self._check(logits, size)
        assert isinstance(logits, Tensor)
        return logits

    def _forward(self, chips: Tensor, context: Tensor | None) -> Tensor:
        arguments = () if context is None else (context,)
        answer: Tensor = self.module(chips, *arguments)
        if self._flips and isinstance(answer, Tensor):
            for axes in ((3,), (2,), (2, 3)):
                mirrored = chips.flip(axes).contiguous(memory_format=torch.channels_last)
                answer = answer + self.module(mirrored, *arguments).flip(axes)
            answer = answer / 4
        return answer

    def _check(self, logits: object, size: tuple[int, ...]) -> None:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if self.card.outputs:
            image = (size[0], len(self.card.outputs), self.card.scale * size[2], self.card.scale * size[3])
            if got != image:
                raise CardError(
                    f"{self.card.label}: chips {size} give {got}, but its {len(self.card.outputs)} bands at scale "
                    f"{self.card.scale} are {image}; correct the card's outputs and scale"
                )
            return
        n_classes = len(self.card.classes)
        channels = (n_classes, 1) if n_classes == 2 and self.card.activation == "softmax" else (n_classes,)
        wanted = [(size[0], count, *size[2:]) for count in channels]
        if got not in wanted:
            raise CardError(
                f"{self.card.label}: chips {size} give {got}, but {n_classes} classes need {wanted[0]}; "
                "correct the card's classes, or choose a network that keeps the size of its input"
            )

    def _halve(self, tried: int, shape: tuple[int, int]) -> None:
        if tried == 1:
            raise EngineError(
                f"{self.card.label}: no memory for one chip of {shape[1]} x {shape[0]} px on {self.device.kind} in "
                f"{self.device.precision}; use a smaller --core, --precision bf16, or fewer workers on this machine"
            )
        self.batch = tried // 2
        gc.collect()
        if self.device.kind == "cuda":
            torch.cuda.empty_cache()
