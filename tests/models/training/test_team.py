"""Two processes that train one network, against one that does the same by itself."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from earthloom.models.training.fit import Fit
from earthloom.models.training.loss import Loss
from earthloom.models.training.team import Team
from earthloom.tiling.errors import ConfigError
from tests.models.training.test_fit import SCHEDULE, crops, meadows, tiny

ROOT = Path(__file__).resolve().parents[3]
STEPS, SIZE = 3, 8
PART = """
import sys
import torch
from dataclasses import replace
from tests.models.training.test_team import member
torch.set_num_threads(1)
number, folder = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=number, world_size=2)
torch.save(member(number), f"{folder}/{number}.pt")
"""


def member(number: int) -> dict[str, torch.Tensor]:
    """What a process of a team of two ends with; its batches are its halves of those of the whole."""
    source = crops(meadows())

    def half(step: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        values, labels = source.batch(step, 2 * size)
        return values[number * size :][:size], labels[number * size :][:size]

    going = Fit(tiny(), Loss(dice=0), replace(SCHEDULE, steps=STEPS, batch=SIZE), team=Team())
    for _ in range(STEPS):
        going.advance(half)
    return dict(going.average.state_dict())


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_from_the_whole_batch(tmp_path: Path) -> None:
    parts = [
        subprocess.Popen([sys.executable, "-c", PART, str(number), str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE)
        for number in range(2)
    ]
    for part in parts:
        _, errors = part.communicate(timeout=600)
        assert part.returncode == 0, errors.decode()[-2000:]
    first, second = (torch.load(tmp_path / f"{number}.pt") for number in range(2))
    alone = Fit(tiny(), Loss(dice=0), replace(SCHEDULE, steps=STEPS, batch=SIZE))
    for _ in range(STEPS):
        alone.advance(crops(meadows()).batch)
    for name, value in alone.average.state_dict().items():
        assert torch.equal(first[name], second[name]), "both hold the same network"
        torch.testing.assert_close(first[name], value, rtol=1e-3, atol=1e-5)


def test_a_process_without_a_group_is_alone() -> None:
    team = Team()
    values = torch.arange(3.0)
    team.average([values])
    assert (team.number, team.size, team.is_first) == (0, 1, True)
    assert values.tolist() == [0, 1, 2]
    assert team.total(values) is values


def test_a_batch_that_has_no_equal_shares_is_refused() -> None:
    class Three(Team):
        size = 3

        def __init__(self) -> None:
            self.number = 0

    with pytest.raises(ConfigError, match="`batch=4` cannot be shared evenly by 3 workers"):
        Fit(tiny(), Loss(), SCHEDULE, team=Three())
