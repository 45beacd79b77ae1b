"""An analyst who follows the catalogue while runs live and die: whatever the catalogue links must be whole."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Reader:
    """Polls a local OUT in a thread until the `with` block ends; `seen` and `violations` tell what it met."""

    def __init__(self, out: Path, pause_s: float = 0.01) -> None:
        self._out, self._pause_s = out, pause_s
        self._end = threading.Event()
        self._checked: set[Path] = set()
        self.looks = 0
        self.seen: set[str] = set()
        """Items that were linked at some time."""
        self.violations: list[str] = []
        self._thread = threading.Thread(target=self._poll, name="reader", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._end.set()
        self._thread.join()
        self.look()

    def _poll(self) -> None:
        while not self._end.wait(self._pause_s) and not self.violations:
            self.look()

    def look(self) -> None:
        """One walk from the root to every file, and one over all commits."""
        self.looks += 1
        try:
            for href in _links(self._out / "catalog.json", "child"):
                collection = (self._out / href).resolve()
                for item_href in _links(collection, "item", must_exist=True):
                    self._check_item((collection.parent / item_href).resolve())
            for result in self._out.glob("scenes/*/*/result.json"):
                self._check_files(result)
        except (AssertionError, ValueError, KeyError, OSError) as error:
            self.violations.append(f"{type(error).__name__}: {error}")

    def _check_item(self, path: Path) -> None:
        item = json.loads(path.read_bytes())
        self.seen.add(item["id"])
        for name, asset in item["assets"].items():
            assert (path.parent / asset["href"]).exists(), f"{item['id']} links {name}, which does not exist"
        result = path.parent / "result.json"
        assert result.exists(), f"{item['id']} is linked and not committed"
        self._check_files(result)

    def _check_files(self, result: Path) -> None:
        if result in self._checked:
            return
        for name, output in json.loads(result.read_bytes())["files"].items():
            data = (result.parent / name).read_bytes()
            assert len(data) == output["size"], (
                f"{result.parent.name[:8]}/{name} has {len(data)} bytes, not {output['size']}"
            )
            assert hashlib.sha256(data).hexdigest() == output["sha256"], f"{name} holds other bytes than were committed"
        self._checked.add(result)


def _links(document: Path, relation: str, *, must_exist: bool = False) -> list[str]:
    try:
        found: dict[str, Any] = json.loads(document.read_bytes())
    except FileNotFoundError:
        assert not must_exist, f"{document} is linked and does not exist"
        return []
    return [link["href"] for link in found["links"] if link["rel"] == relation]
