"""Enters published scenes into the catalogues when a run ends: all of them at once, and one by one to find who is at fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from earthloom.jobs.planning.plan import ScenePlan
from earthloom.jobs.publish.catalog import link, tabulate
from earthloom.jobs.publish.correction import Correction, finish
from earthloom.tiling.errors import EarthloomError
from earthloom.tiling.storage.store import Store

Note = tuple[str, str]
"""Id of a scene, and what is to be said of it."""

_TOGETHER = 2
"""Times that all scenes are entered together before they are taken one by one: a fault of the storage may have passed."""
_IN_A_ROW = 3
"""Scenes that fail one after another for what may pass or in the same words, which do not name them, after which it is taken
for the storage's fault. A storage that is away keeps each request waiting for minutes, and a run may have thousands."""


def enter(
    store: Store, plans: Mapping[str, ScenePlan], corrected: Mapping[str, Correction]
) -> tuple[list[Note], dict[str, EarthloomError]]:
    """Link scenes, put them into tables, and end their corrections. Twice changes nothing.

    Args:
        plans: committed scenes, by id.
        corrected: corrections of some of them, which the catalogues do not know.

    Returns:
        Notes, and the error of each scene that could not be entered.
    """
    for _ in range(_TOGETHER):
        try:
            return _enter(store, list(plans.values()), corrected), {}
        except EarthloomError as error:
            if not error.transient:
                break
    notes: list[Note] = []
    errors: dict[str, EarthloomError] = {}
    in_a_row, words = 0, ""
    left = dict(plans)
    while left and in_a_row < _IN_A_ROW:
        scene_id = next(iter(left))
        try:
            notes += _enter(store, [left.pop(scene_id)], corrected)
            in_a_row = 0
        except EarthloomError as error:
            is_no_scenes_fault = error.transient or str(error) == words
            in_a_row, words = in_a_row + 1 if is_no_scenes_fault else 0, str(error)
            errors[scene_id] = error
    if left:
        try:
            notes += _enter(store, list(left.values()), corrected)
        except EarthloomError as error:
            errors |= dict.fromkeys(left, error)
    return notes, errors


def _enter(store: Store, plans: Sequence[ScenePlan], corrected: Mapping[str, Correction]) -> list[Note]:
    link(store, plans, corrected)
    notes = tabulate(store, plans, corrected)
    for plan in plans:
        if made := corrected.get(plan.scene.id):
            finish(store, plan, made)
    return notes
