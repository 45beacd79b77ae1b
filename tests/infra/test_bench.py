"""What the benches put in the place of parts of a run fits where it is put."""

from __future__ import annotations

import inspect

from earthloom.models.inference.predictor import Predictor
from tests.bench.host import _prepared


def test_the_network_that_does_nothing_is_called_as_the_real_one_is() -> None:
    inspect.signature(_prepared).bind(*inspect.signature(Predictor._forward).parameters)
