"""An OUT made to look old, and what `gc` finds below it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from earthloom.jobs.upkeep.gc import Sweep, sweep
from earthloom.tiling.storage.objects import ObjectRef

DAY_S = 86400.0


def age(folder: Path, days: float) -> None:
    """Make everything below a folder look that old, records of attempts too."""
    for path in folder.rglob("*"):
        if path.is_file():
            if path.parent.name == "attempts":
                output = json.loads(path.read_bytes()) | {"updated": "2020-01-01T00:00:00Z"}
                path.write_text(json.dumps(output))
            moment = time.time() - days * DAY_S
            os.utime(path, (moment, moment))


def clean(out: Path | str, days: float = 7, **options: Any) -> Sweep:
    return sweep(ObjectRef.parse(str(out)), older_than_s=days * DAY_S, **options)


def kinds(done: Sweep) -> list[str]:
    return sorted(rubbish.kind for rubbish in done.found)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
