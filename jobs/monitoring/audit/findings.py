"""The findings of a check of one monitored product: objects that are missing, or other than they should be."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from earthloom.jobs.records.blocks import StoredObject
from earthloom.jobs.records.canonical import digest_of_parts
from earthloom.jobs.upkeep.verify import Problem, Verification
from earthloom.tiling.errors import MissingObjectError
from earthloom.tiling.storage.store import Store

_AT_ONCE = 8


class Findings:
    """Checks objects below one prefix and writes what is wrong into a report.

    Args:
        store: on OUT.
        base: `monitors/<aoi>/<product>/<key>`.
    """

    def __init__(self, store: Store, base: str, report: Verification) -> None:
        self.store, self.base, self._report = store, base, report
        self.n_problems = 0

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Sizes of all below the base, by key; listed when first asked for, after the commit they are held against."""
        return {head.key: head.size for head in self.store.list(self.base)}

    def wrong(self, place: str, message: str) -> None:
        """Something is not as it should be."""
        self.n_problems += 1
        self._report.problems.append(Problem(place, message))

    def note(self, text: str) -> None:
        """Something that a reader of the report should know, and that is no damage."""
        self._report.notes.append(text)

    def check(self, objects: Mapping[str, StoredObject], remedy: str) -> None:
        """Hash these objects, by key, and say what is missing or has other bytes.

        Args:
            remedy: what to do about any of them.
        """
        sound = {}
        for key, stored in objects.items():
            size = self.sizes.get(key)
            if size != stored.size and (head := self.store.head(key)):  # written since it was listed
                size = head.size
            if size is None:
                self.wrong(key, f"is missing; it should have {stored.size} bytes. {remedy}")
            elif size != stored.size:
                self.wrong(key, f"has {size} bytes and should have {stored.size}. {remedy}")
            else:
                sound[key] = stored
        with ThreadPoolExecutor(_AT_ONCE, "hash") as pool:
            for (key, stored), digest in zip(sound.items(), pool.map(self._sha256, sound), strict=True):
                self._report.objects += 1
                self._report.checked_bytes += stored.size
                if digest != stored.sha256:
                    said = (
                        f"has sha256 {digest[:16]}… and should have {stored.sha256[:16]}…" if digest else "was removed"
                    )
                    self.wrong(key, f"{said}: its bytes were changed. {remedy}")

    def _sha256(self, key: str) -> str:
        """Empty where it was removed since it was listed."""
        try:
            return digest_of_parts(self.store.parts(key))
        except MissingObjectError:
            return ""
