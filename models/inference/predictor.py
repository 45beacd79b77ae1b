"""One network on one device: chips in, answers out, in batches that shrink when memory runs out.

Knows nothing of scenes, windows or what a class means; `models.inference.sliding` cuts the chips and weaves the answers.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from earthloom.models.cards import weights
from earthloom.models.cards.card import ModelCard
from earthloom.models.device.batch_size import best_batch
from earthloom.models.device.batchnorm_folding import fold
from earthloom.models.device.compiled import compile_network
from earthloom.models.device.cuda_graph import Recorder
from earthloom.models.device.deterministic import steady
from earthloom.models.device.resolve import Device, strips, use_large_pages
from earthloom.models.inference.answers import answer_of
from earthloom.models.inference.passes import Threads
from earthloom.models.inference.stack import Stack
from earthloom.models.inference.transfer import tensor_of
from earthloom.models.networks import registry
from earthloom.models.networks.survey import Look, Surveying
from earthloom.tiling.errors import CardError, EngineError
from earthloom.tiling.heap import settle
from earthloom.tiling.rounding import round_up

T = TypeVar("T")

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_WARM_UPS = 3  # passes before one is timed: kernels are chosen and recorded there
_LACK_OF_MEMORY = (
    "can't allocate memory", "not enough memory", "bad_alloc",  # of torch's allocator on a CPU, of oneDNN, of C++
    "CUDA error: out of memory", "STATUS_ALLOC_FAILED",  # of CUDA itself, as for pinned memory; of cuBLAS and cuDNN
    "unable to find an engine to execute",  # of cuDNN, when no kernel gets its workspace (ATen/native/cudnn/Conv_v8.cpp)
)  # fmt: skip
_SHOWN_PX = (64, 256)  # sides of a chip that shows which norms can be folded; some networks take no small one


class Predictor:
    """A loaded model, ready for inference.

    Args:
        card: what the model is.
        weights_path: safetensors file whose sha256 the card names; None for a model without weights.
        device: where and how precisely it computes. Weights are cast; a model without weights computes in fp32.
        batch: chips per forward pass at most; less, and kept so, when memory runs out. None: 1 on a CPU; on a GPU the
            fastest of a few sizes, measured once per machine (`models.device.batch_size`). On a GPU a batch is used only if it
            leaves each chip's bits as they are alone.
        threads: in which a CPU computes, a chip in each. None: one chip at a time, with as many threads as torch has;
            the last bits of some networks depend on those.
        flips: answer with the mean over the chip and its three mirror images (test-time augmentation).
        compiled: run the network as one compiled program. It takes a minute to make, and rounds otherwise.

    Neither the batch nor the number of passes side by side changes a bit of the result.

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
        threads: Threads | None = None,
        flips: bool = False,
        compiled: bool = False,
    ) -> None:
        if device.kind == "cpu":
            use_large_pages()
        self._threads = threads if device.kind == "cpu" else None
        self.card, self.device, self.answer = card, device, answer_of(card)
        self.batch = batch or 1
        module: Any = registry.build(card)  # Any: torch's stubs do not know memory_format in Module.to
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
        is_ours = has_weights and not isinstance(module, weights.LoadsItself)
        self.n_folded = _fold(module, card) if is_ours else 0
        self.module: nn.Module = module.to(device.kind, self._dtype, memory_format=torch.channels_last)
        self._program = compile_network(module, card.label) if compiled and is_ours else None
        if is_ours and device.kind == "cpu" and self._program is None:
            _settle_after_layers(module)
        self._recorder = Recorder(self._forward) if device.kind == "cuda" and is_ours else None
        self._is_calibrated = self._recorder is None or card.needs_survey
        self._is_placed = isinstance(module, Surveying) and module.is_placed
        self._wanted_batch = batch
        self._sizes: Sequence[int] = (self.batch,)
        self._flips = flips
        self._mean, self._std = self._per_channel(np.asarray(card.mean)), self._per_channel(np.asarray(card.std))

    def run(
        self,
        items: Sequence[T],
        fill: Callable[[T, Tensor], None],
        shape: tuple[int, int],
        context: Tensor | None = None,
        corner: Callable[[T], tuple[int, int]] | None = None,
    ) -> Generator[tuple[T, Tensor], None, None]:
        """Yield each item with what the network says of it, (K, scale * h, scale * w), in order.

        Args:
            items: what the chips are made from.
            fill: writes one item's normalised chip into a (C, h, w) tensor on the device.
            shape: (h, w) of every chip.
            context: what `context_of` gave for the scene, where the card needs a survey.
            corner: (row, col) of an item's chip in the scene, for networks that want to know; default: (0, 0).

        Raises:
            EngineError: if memory does not suffice for a single chip.
            CardError: if the network's output is not what the card says (`models.inference.answers`).
        """
        if not self._is_calibrated and len(items) > 1:
            self._calibrate(shape)
        done = 0
        while done < len(items):
            parts, allowed = self._parts(items[done:]), self._threads.allowed if self._threads else 1

            def forward(part: Sequence[T]) -> Tensor | None:
                corners = [corner(item) for item in part] if corner and self._is_placed else None
                return self._try_forward(part, fill, shape, context, corners)

            with closing(self._each(forward, parts)) as answers:
                for logits in answers:  # without zip, which would keep an answer until the next one is made
                    part = parts.popleft()
                    if logits is None:
                        break
                    yield from zip(part, logits, strict=True)
                    del logits
                    done += len(part)
            if done < len(items):
                self._lessen(len(part), shape, allowed)

    def _parts(self, items: Sequence[T]) -> deque[Sequence[T]]:
        """Full batches, and a rest; on a GPU in passes of the sizes alone that are known to leave a chip's bits."""
        parts, start = deque[Sequence[T]](), 0
        while start < len(items):
            size = self.batch
            if self.device.kind == "cuda":
                most = min(self.batch, len(items) - start)
                size = next((known for known in self._sizes if known <= most), 1)
            parts.append(items[start : start + size])
            start += size
        return parts

    def _each(
        self, forward: Callable[[Sequence[T]], Tensor | None], parts: Collection[Sequence[T]]
    ) -> Generator[Tensor | None, None, None]:
        if self._threads is None:
            return (forward(part) for part in tuple(parts))
        return self._threads.map(forward, tuple(parts))

    @property
    def network(self) -> Callable[..., Any]:
        """The bare network, from chips (N, C, h, w) in its dtype to its answer: for use within `steady`."""
        return self._program or self.module

    @property
    def surveying(self) -> Surveying:
        """The network, as one that wants to know of a whole scene."""
        assert isinstance(self.module, Surveying), "the card needs a survey"
        return self.module

    def context_of(self, look: Look) -> Tensor:
        """What the network keeps of a scene, on the device."""
        return look.context.to(self.device.kind, torch.float32)

    def normalise(self, stack: Stack) -> Tensor:
        """(C, h, w) fp32 on the device; see `write_normalised`."""
        stored = stack.values if isinstance(stack.values, Tensor) else tensor_of(stack.values)
        gain, bias = self.per_channel(stack.gain), self.per_channel(stack.bias)
        out = torch.empty(stored.shape, device=self.device.kind)
        valid = tensor_of(stack.valid).to(self.device.kind)
        self.write_normalised(stored.to(self.device.kind), valid, gain, bias, out)
        return out

    def write_normalised(self, raw: Tensor, valid: Tensor, gain: Tensor, bias: Tensor, out: Tensor) -> None:
        """((raw * gain + bias) - mean) / std, 0 where not valid: a rule for each pixel by itself, in fp32.

        Args:
            raw: (C, h, w) stored values on the device.
            valid: (h, w) there.
            gain, bias: (C, 1, 1) fp32 there.
            out: (C, h, w) there, of any float dtype and layout; written to.
        """
        n_bands, height, width = raw.shape
        all_valid = self.device.kind == "cpu" and valid.numpy().all()  # a GPU would have to be waited for
        for rows in strips(height, n_bands * width, self.device.kind):
            x = torch.empty((n_bands, rows.stop - rows.start, width), device=self.device.kind).copy_(raw[:, rows])
            x.mul_(gain).add_(bias).sub_(self._mean).div_(self._std)
            if not all_valid:
                x.masked_fill_(~valid[rows], 0.0)
            out[:, rows] = x.to(out.dtype)  # first the dtype, then the layout: both at once take twice the time

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
        self, part: Sequence[T], fill: Callable[[T, Tensor], None], shape: tuple[int, int], context: Tensor | None,
        corners: list[tuple[int, int]] | None = None,
    ) -> Tensor | None:  # fmt: skip
        """(N, K, h, w), or None when memory ran out; what was allocated is gone by then."""
        size = (len(part), len(self.card.bands), *shape)
        try:
            chips = torch.empty(size, dtype=self._dtype, device=self.device.kind, memory_format=torch.channels_last)
            for item, chip in zip(part, chips, strict=True):
                fill(item, chip)
            with steady(self.device.kind, is_compiled=self._program is not None):
                if self._recorder is not None and context is None:
                    logits = self._recorder(chips)
                else:
                    logits = self._forward(chips, context, corners)
        except (torch.OutOfMemoryError, MemoryError):
            return None
        except RuntimeError as error:
            if not any(sign in str(error) for sign in _LACK_OF_MEMORY):
                raise
            return None
        settle()
        self.answer.check(logits, size)
        assert isinstance(logits, Tensor)
        return logits

    def _forward(
        self, chips: Tensor, context: Tensor | None = None, corners: list[tuple[int, int]] | None = None
    ) -> Tensor:
        arguments: tuple[Any, ...] = () if context is None else (context,)
        if self._is_placed:  # a mirror image at its own place would give the same
            placed: Tensor = self.network(chips, *arguments, corners)
            return placed
        answer: Tensor = self.network(chips, *arguments)
        if self._flips and isinstance(answer, Tensor):
            for axes in ((3,), (2,), (2, 3)):
                mirrored = chips.flip(axes).contiguous(memory_format=torch.channels_last)
                back: Tensor = self.network(mirrored, *arguments).flip(axes)
                for axis in self.answer.odd.keys() & set(axes):
                    back[:, self.answer.odd[axis]].neg_()
                answer = answer + back
            answer = answer / 4
        return answer

    def _lessen(self, tried: int, shape: tuple[int, int], allowed: int) -> None:
        """Need less memory next time: fewer passes side by side, then fewer chips in a pass."""
        if self._threads is not None and self._threads.halve(allowed):
            pass
        elif tried > 1:
            smaller = (size for size in self._sizes if size < tried)
            self.batch = tried // 2 if self.device.kind == "cpu" else next(smaller, 1)
        else:
            raise EngineError(
                f"{self.card.label}: no memory for one chip of {shape[1]} x {shape[0]} px on {self.device.kind} in "
                f"{self.device.precision}; use a smaller `core`, `precision=bf16`, or fewer workers on this machine"
            )
        self._free()

    def _calibrate(self, shape: tuple[int, int]) -> None:
        """Choose the batch; only on a GPU is there a choice."""
        self._is_calibrated = True
        if self._wanted_batch is not None:
            self.batch = self._wanted_batch if self._is_same_alone(self._wanted_batch, shape) else 1
            self._sizes = (self.batch,)
            self._free()
            return
        free_bytes, _ = torch.cuda.mem_get_info()
        self.batch = best_batch(
            self.card,
            self.device,
            shape[0],
            free_bytes,
            lambda n_chips: self._seconds_of(n_chips, shape),
            compiled=self._program is not None,
            flips=self._flips,
        )
        # each was tried on the way to the largest, now or when this machine was first asked
        self._sizes = [1 << power for power in reversed(range(self.batch.bit_length()))]

    def _is_same_alone(self, n_chips: int, shape: tuple[int, int]) -> bool:
        """Whether chips of noise get the same bits in one pass as one by one: cuDNN chooses its kernels by shape.

        False also where memory does not suffice.
        """
        size, kind = (len(self.card.bands), *shape), self.device.kind

        def fill(number: int, out: Tensor) -> None:
            drawn = torch.Generator(kind).manual_seed(number)
            out.copy_(torch.randn(size, generator=drawn, device=kind))

        together = self._try_forward(range(n_chips), fill, shape, None)
        if together is None:
            return False
        together = together.clone()  # a recording's answer is overwritten by its next replay
        for number, answer in enumerate(together):
            alone = self._try_forward([number], fill, shape, None)
            if alone is None or not torch.equal(alone[0], answer):
                return False
        return True

    def _seconds_of(self, n_chips: int, shape: tuple[int, int]) -> float | None:
        """Time of a forward pass that has run before; None where memory does not suffice or a chip's bits would change."""

        def fill(_: int, out: Tensor) -> None:
            out.zero_()

        seconds = None
        if n_chips == 1 or self._is_same_alone(n_chips, shape):
            for _ in range(_WARM_UPS + 1):
                started = time.perf_counter()
                if self._try_forward(range(n_chips), fill, shape, None) is None:
                    seconds = None
                    break
                if self.device.kind == "cuda":
                    torch.cuda.synchronize()
                seconds = time.perf_counter() - started
        self._free()  # recordings of sizes that may not be chosen
        return seconds

    def _free(self) -> None:
        if self._recorder is not None:
            self._recorder.forget()
        gc.collect()
        if self.device.kind == "cuda":
            torch.cuda.empty_cache()


def _fold(module: nn.Module, card: ModelCard) -> int:
    """By the smallest chip that the network takes, for its pass is a good part of a worker's start."""
    small, large = (_example(card, side_px) for side_px in _SHOWN_PX)
    try:
        return fold(module, small)
    except (RuntimeError, ValueError):  # nothing was changed yet
        return fold(module, large)


def _settle_after_layers(module: nn.Module) -> None:
    """Bound what is kept within a pass too: a whole one of `sr-x2` can take 0.5 GiB of pages that no other has freed."""
    for layer in module.modules():
        if next(layer.children(), None) is None:
            layer.register_forward_hook(_after_layer)


def _after_layer(*_: object) -> None:
    settle()


def _example(card: ModelCard, side_px: int) -> Tensor:
    side = min(round_up(side_px, card.stride_px), card.core_px + 2 * (card.halo_px or 0))
    return torch.zeros(1, len(card.bands), side, side)
