from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from earthloom.models.inference.transfer import DevicePixels, _Sent, download, tensor_of
from tests.models.nets import stack_of

VALUES = np.arange(2 * 30 * 7, dtype=np.uint16).reshape(2, 30, 7)
VALID = (np.arange(30 * 7) % 3 > 0).reshape(30, 7)


def test_on_a_cpu_parts_are_views_of_the_arrays() -> None:
    values = VALUES.copy()
    part, known = DevicePixels(stack_of(values, VALID.copy()), "cpu").cut(slice(3, 9), slice(1, 5))
    assert np.array_equal(part.numpy(), values[:, 3:9, 1:5])
    assert np.array_equal(known.numpy(), VALID[3:9, 1:5])
    assert np.shares_memory(part.numpy(), values)


def test_values_that_are_a_tensor_stay_where_they_are() -> None:
    values = torch.from_numpy(VALUES.copy())
    part, _ = DevicePixels(replace(stack_of(VALUES, VALID), values=values), "cpu").cut(slice(0, 30), slice(0, 7))
    assert part.data_ptr() == values.data_ptr()


@pytest.mark.parametrize("turn", [lambda a: a[:, ::-1], lambda a: a[..., ::-1]], ids=["rows", "columns"])
@pytest.mark.parametrize("writeable", [True, False])
def test_arrays_that_torch_cannot_share_are_copied(turn: object, writeable: bool) -> None:
    array = turn(VALUES.copy())  # type: ignore[operator]
    array.flags.writeable = writeable
    assert np.array_equal(tensor_of(array).numpy(), array)


def test_each_row_is_sent_once_and_those_that_no_chip_wants_never(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    send = _Sent._send

    def noted(self: _Sent, rows: slice) -> None:
        sent.append((rows.start, rows.stop))
        send(self, rows)

    monkeypatch.setattr(_Sent, "_send", noted)
    source = _Sent(VALUES, "cpu")
    for start, stop in ((0, 8), (0, 8), (6, 14), (20, 26), (20, 26), (24, 30)):
        for cols in (slice(0, 4), slice(2, 7)):
            assert np.array_equal(source.cut(slice(start, stop), cols).numpy(), VALUES[:, start:stop, cols])
    assert sent == [(0, 8), (8, 14), (20, 26), (26, 30)]


def test_a_map_on_the_cpu_is_not_copied_on_its_way_back() -> None:
    made = torch.zeros(2, 3, 4, dtype=torch.uint8)
    assert np.shares_memory(download(made), made.numpy())
