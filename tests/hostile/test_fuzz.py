from __future__ import annotations

from tests.hostile.fuzz import fuzz


def test_mutated_files_end_as_scenes_or_as_clean_errors() -> None:
    """The short form; `tests.hostile.fuzz.fuzz(1000, seed)` is the long one."""
    counts = fuzz(120, seed=20)
    assert counts.mutants == 120
    assert counts.read + counts.refused == 120
    assert counts.unclean == []
    assert 20 < counts.refused < 118, "mutations too gentle or too coarse to test anything"
