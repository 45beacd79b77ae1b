"""Earthloom turns satellite scenes into maps. This is its public face for Python; `earthloom --help` is the other one.

In a checkout, and in the working directory of a Ray job, the packages `jobs`, `models`, `tiling` and `cluster` lie beside
this folder; in an installation they lie inside it. Both are imported as `earthloom.jobs` and so on, so nothing of ours
owns a common name.
"""

from __future__ import annotations

from pathlib import Path

_BESIDE = Path(__file__).resolve().parent.parent
if all((_BESIDE / name / "__init__.py").is_file() for name in ("jobs", "models", "tiling", "cluster")):
    __path__.append(str(_BESIDE))
