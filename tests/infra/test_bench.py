"""What the benches put in the place of parts of a run fits where it is put."""

from __future__ import annotations

import inspect
from pkgutil import resolve_name

import pytest

from earthloom.models.inference.predictor import Predictor
from tests.bench.host import _APART, _BLOCK, _STAGES, _prepared


def test_the_network_that_does_nothing_is_called_as_the_real_one_is() -> None:
    inspect.signature(_prepared).bind(*inspect.signature(Predictor._forward).parameters)


@pytest.mark.parametrize(
    "name", [name for names in (*_STAGES.values(), *_APART.values(), (f"{_BLOCK}.__call__",)) for name in names]
)
def test_a_stage_of_the_host_is_a_function_of_a_run(name: str) -> None:
    assert callable(resolve_name(name))
