"""Learning from another network's probabilities: knowledge distillation. Knows nothing of files.

Teacher and student see the same crop, changed in the same way (Beyer et al. 2022, Knowledge distillation: a good teacher is
patient and consistent, CVPR), so nothing but weights has to be stored.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from earthloom.models.cards.card import ModelCard
from earthloom.models.networks.over_base import two_logits
from earthloom.models.training.augment import IGNORE
from earthloom.tiling.errors import ConfigError


class Teacher:
    """A loss beside that of the labels: temperature^2 * KL(teacher || student), both softened by the temperature.

    Hinton et al. (2015), Distilling the knowledge in a neural network, arXiv:1503.02531. It is averaged over the pixels
    whose label is known, so that what is hidden from the student stays hidden.

    Args:
        network: network of the teacher, which gives logits or probabilities; it is put into eval mode and not changed.
        card: card of the teacher.
        student: card of the student, by which its crops are normalised.
        temperature: above 1, unlikely classes count for more.
        weight: weight of the term beside the loss of the labels.

    Raises:
        ConfigError: if the two do not tell the same classes apart, or the student does not see the teacher's bands.
    """

    def __init__(
        self, network: nn.Module, card: ModelCard, student: ModelCard, *, temperature: float = 2.0, weight: float = 1.0
    ) -> None:
        if card.gives != student.gives or not card.classes:
            raise ConfigError(
                f"the teacher {card.label} knows {', '.join(card.gives)} and the student {', '.join(student.gives)}: a student "
                "learns the classes of its teacher, in their order"
            )
        if missing := [band for band in card.bands if band not in student.bands]:
            raise ConfigError(
                f"the teacher {card.label} sees {', '.join(card.bands)}; let the student see {', '.join(missing)} too"
            )
        if student.quantities[0] not in card.quantities:
            raise ConfigError(
                f"the teacher {card.label} wants {' or '.join(card.quantities)}, and the scenes have {student.quantities[0]}"
            )
        self._network = network.eval().requires_grad_(False)
        self._gives_probabilities = card.activation == "none"
        self._channels = [student.bands.index(band) for band in card.bands]
        ours = [(student.mean[n], student.std[n]) for n in self._channels]
        theirs = list(zip(card.mean, card.std, strict=True))
        self._scales = None if ours == theirs else (ours, theirs)
        self._temperature, self._weight = temperature, weight

    def __call__(self, crops: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """The term of a batch, a number.

        Args:
            crops: (N, C, h, w) as the student sees them.
            logits: (N, K, h, w) fp32 of the student.
            labels: (N, h, w), IGNORE where nothing is to be learned.
        """
        with torch.no_grad():
            answer = two_logits(self._network(self._seen(crops)).float())
            if self._gives_probabilities:
                answer = torch.log(answer.clamp_min(torch.finfo(answer.dtype).tiny))
            soft = torch.log_softmax(answer / self._temperature, dim=1)
        ours = torch.log_softmax(two_logits(logits) / self._temperature, dim=1)
        known = labels != IGNORE
        each = (soft.exp() * (soft - ours)).sum(dim=1) * known
        return self._weight * self._temperature**2 * each.sum() / known.sum().clamp_min(1)

    def _seen(self, crops: Tensor) -> Tensor:
        """The teacher's bands, normalised as it wants them; what has no data stays 0."""
        chosen = crops[:, self._channels] if self._channels != list(range(crops.shape[1])) else crops
        if self._scales is None:
            return chosen.contiguous(memory_format=torch.channels_last)
        (mean, std), (other_mean, other_std) = (_columns(pairs, crops) for pairs in self._scales)
        nothing = (crops == 0).all(dim=1, keepdim=True)
        there = ((chosen * std + mean) - other_mean) / other_std
        return there.masked_fill(nothing, 0.0).contiguous(memory_format=torch.channels_last)


def _columns(pairs: Sequence[tuple[float, float]], like: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = (like.new_tensor([pair[part] for pair in pairs]).reshape(1, -1, 1, 1) for part in (0, 1))
    return mean, std
