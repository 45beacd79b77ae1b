"""Counts how many workers there may be and where: asked for, held by the living nodes, or waited for.

Imports Ray by way of `cluster.nodes`. Knows no actor.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from earthloom.cluster.nodes import Node, autoscales, living
from earthloom.cluster.resources import WorkerResources, choose_workers, fitting, nothing_fits, shown
from earthloom.tiling.errors import EarthloomError, EngineError
from earthloom.tiling.rounding import ceil_div

_log = logging.getLogger(__name__)
_LOOK_S = 2.0
_PATIENT_S = 5.0
"""Workers that are placed within this are not worth a line."""
_MOST_EXCLUDED = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How a crew of workers may grow and shrink."""

    elastic: bool = False
    """Whether nodes may come and go. If so, workers are asked for before there is room for them, which is what an
    autoscaler sees, and idle ones are given back; else only what fits on the nodes that there are now is asked for."""
    most: int = 32
    """Workers that are asked for at most where their number is left to the tasks."""
    wait_s: float = 600.0
    """How long to wait while no worker is ready."""
    release_s: float = 15.0
    """How long there are more workers than tasks before the idle ones are given back."""


class Places:
    """The room for workers, looked at again every few seconds."""

    def __init__(self, asked: int | None, need: WorkerResources, size: Size, excluded: Mapping[str, str]) -> None:
        """
        Raises:
            EngineError: if not one worker fits and no node will come that holds one.
        """
        self._asked, self._need, self.size = asked, need, size
        self._excluded = dict(excluded)
        self._fault: EarthloomError | None = None
        self._looked = -math.inf
        self._logged: tuple[int, int] | None = None
        self._waiting_since: float | None = None
        self.fit = 0
        """Workers that the living nodes hold."""
        nodes = self._look()
        if not size.elastic:
            self._most = choose_workers(asked, need, [node.resources for node in nodes])
        elif not self.fit:
            self._refuse_in_vain(nodes)

    @property
    def most(self) -> int:
        """Workers that there may be now, those included for which there is no room yet."""
        if not self.size.elastic:
            return self._most
        if self._asked is not None:
            return self._asked
        if self._grows:
            return self.size.most
        return max(1, min(self.size.most, self.fit))

    def useful(self, n_tasks: int, lanes: int) -> int:
        """How many workers so many tasks are worth: one each where there is room, else as many as their lanes take."""
        if self.size.elastic and time.monotonic() - self._looked > _LOOK_S:
            self._look()
        return min(self.most, max(min(n_tasks, self.fit), ceil_div(n_tasks, lanes)))

    def enough(self, lanes: int) -> int:
        """How many tasks are worth all workers that there may be."""
        most = self.most
        return most if most <= self.fit else most * lanes

    def options(self) -> dict[str, Any]:
        """Keyword arguments for Ray's `.options()` of one worker."""
        options = self._need.actor_options()
        if self._excluded:
            options["label_selector"] = {"ray.io/node-id": f"!in({','.join(sorted(self._excluded))})"}
        return options

    def exclude(self, node_id: str, node: str, error: EarthloomError) -> None:
        """Let no further worker lie on a node.

        Raises:
            EarthloomError: the reason, if no other node is left and none will come.
        """
        if node_id in self._excluded:
            return
        self._excluded[node_id] = str(error)
        self._fault = error
        self._look()
        hopeless = len(self._excluded) >= _MOST_EXCLUDED
        if hopeless or not self.size.elastic or not (self.fit or self._grows):
            raise error
        _log.warning("node %s is left out: %s", node, error)

    def log_waiting(self, placed: int, asked: int, now: float) -> None:
        """Say in one line what is waited for, when it has changed and lasts."""
        if placed >= asked:
            if self._logged:
                _log.warning("all of %d workers placed", asked)
            self._waiting_since = self._logged = None
            return
        if self._waiting_since is None:
            self._waiting_since = now
        if now - self._waiting_since >= _PATIENT_S and self._logged != (placed, asked):
            self._logged = placed, asked
            _log.warning(self.waiting(placed, asked))

    def waiting(self, placed: int, asked: int) -> str:
        """`2 of 8 workers placed; 6 wait for {CPU: 8, GPU: 1}`."""
        verb = "waits" if asked - placed == 1 else "wait"
        return f"{placed} of {asked} workers placed; {asked - placed} {verb} for {shown(self._need)}"

    def in_vain(self, placed: int, asked: int) -> EngineError:
        """What to say when the wait is over."""
        why = f"; nodes left out: {self._fault}" if self._fault else ""
        return EngineError(
            f"no worker started within {self.size.wait_s:.0f} s: {self.waiting(placed, asked)}{why}. The cluster's cores, "
            "GPUs or memory are taken by other work, no node that large comes, or the worker takes longer to load: see "
            "`ray status`, free them, ask for less, or wait longer (`wait_for_workers`)"
        )

    def due_s(self, placed: int, asked: int, now: float) -> float | None:
        """Seconds until nodes are looked at again or a line is due; None where nothing is waited for."""
        if not self.size.elastic:
            return None
        dues = []
        if placed < asked and self._waiting_since is not None and self._logged != (placed, asked):
            dues.append(max(0.1, self._waiting_since + _PATIENT_S - now))
        if self.fit < (self._asked or self.size.most):
            dues.append(_LOOK_S)
        return min(dues, default=None)

    @cached_property
    def _grows(self) -> bool:
        return self.size.elastic and autoscales()

    def _look(self) -> list[Node]:
        self._looked = time.monotonic()
        nodes = [node for node in living() if node.id not in self._excluded]
        self.fit = fitting(self._need, [node.resources for node in nodes])
        return nodes

    def _refuse_in_vain(self, nodes: list[Node]) -> None:
        """A head without cores may wait for its nodes. Who is too small stays so, and GPUs do not come by themselves."""
        computing = [node for node in nodes if node.resources.get("CPU")]
        if (computing or self._need.gpus) and not self._grows:
            raise EngineError(nothing_fits(self._need, [node.resources for node in nodes]))
