"""Numbers that Ray hands to Prometheus, through the agent of the node where this process runs (`ray.util.metrics`).

Ray puts `ray_` before every name, and labels of its own behind it. Where no Ray is connected, nothing happens; nor does it
where Ray runs without its agent, as an embedded one does. Knows nothing of what is counted.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["counter", "gauge"]


class RayMetrics:
    """Counters and gauges of this process; made when they are first set."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}
        self._totals: dict[tuple[str, tuple[str, ...]], float] = {}

    def set(self, name: str, kind: Kind, text: str, value: float, labels: Mapping[str, str]) -> None:
        """Give a metric its value: of a counter, all that this object has counted so far.

        Args:
            text: what it is, for whoever reads the endpoint; in ASCII, as Ray wants it.
            labels: the same names at every call for one metric.
        """
        ray: Any = sys.modules.get("ray")
        if ray is None or not ray.is_initialized():
            return
        from ray.util import metrics

        tags = {
            key: label.encode("ascii", "backslashreplace").decode() for key, label in labels.items()
        }  # Ray takes no other
        maker: Any = metrics.Counter if kind == "counter" else metrics.Gauge
        if name not in self._made:
            self._made[name] = maker(name, description=text, tag_keys=tuple(labels))
        if kind == "gauge":
            self._made[name].set(value, tags=tags)
            return
        place = (name, tuple(labels.values()))
        more = value - self._totals.get(place, 0.0)
        self._totals[place] = value
        if more > 0:  # Ray refuses to count nothing
            self._made[name].inc(more, tags=tags)
