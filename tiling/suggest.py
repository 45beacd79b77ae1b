"""Names that were perhaps meant. Knows nothing of what the names stand for."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_ALIKE = 0.6
"""Share of letters in common from which a name is offered; difflib's own default."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'landwater'?)`, or nothing where no known name is near; letter case does not matter."""
    by_lower = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), by_lower, n=1, cutoff=_ALIKE)
    return f" (did you mean {by_lower[near[0]]!r}?)" if near and by_lower[near[0]] != word else ""
