"""From one reference that the user typed to the files of scenes: paths, globs, prefixes, STAC. Opens no raster.

Every name goes through ObjectRef, the user's and those found below a prefix alike.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path, PurePosixPath

from earthloom.jobs.intake.acquisitions.find import acquisitions_in, is_metadata
from earthloom.jobs.intake.stac import StacItem, read_items
from earthloom.jobs.intake.stac_assets import StacBand
from earthloom.tiling.errors import ConfigError
from earthloom.tiling.scene import SCENE_ID, Driver
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store

_TIFF = re.compile(r"\.tiff?$", re.IGNORECASE)
_JSON = re.compile(r"\.(geo)?json$", re.IGNORECASE)
_GLOB = re.compile(r"[*?[]")
_NAMED = re.compile(r"^([A-Za-z][A-Za-z0-9_]*)=(?!=)(.*)$", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file of a scene that was asked for."""

    ref: ObjectRef
    name: str = ""
    """Band name that the user wrote before `=`."""
    key: str = ""
    """Name of the asset in its STAC item."""
    stac_bands: tuple[StacBand, ...] = ()
    """What its STAC item says of its bands, in order; empty when it says nothing."""
    alternates: tuple[str, ...] = ()
    """Where else its STAC item says that it lies."""
    driver: Driver = "GTiff"
    """The one that opens it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneRequest:
    """A scene that was asked for and is not opened yet."""

    reference: str
    """Canonical form of what was asked, for messages and for telling scenes apart."""
    id: str
    parts: tuple[Part, ...] = ()
    item: StacItem | None = None
    problem: str = ""
    """Why it cannot be opened, when that is already known."""
    notes: tuple[str, ...] = ()


def find(text: str, alternate: str | None = None) -> list[SceneRequest]:
    """All scenes that one reference names, in order (`jobs.intake.scenes.expand` says which forms there are).

    Args:
        alternate: name of the alternate address to take of the assets of STAC items.

    Raises:
        ConfigError: if it is malformed or names nothing.
        StorageError: if a prefix cannot be listed or a STAC file cannot be read.
    """
    if is_metadata(text.rpartition("/")[2]):
        return _from_metadata(_parse(text))
    if _is_file(text):
        return _from_json(_parse(text), alternate) if _JSON.search(text) else [_request((Part(ref=_parse(text)),))]
    if "," in text or _named(text):
        return [_request(tuple(_part(piece.strip(), text) for piece in text.split(",")))]
    if _is_glob(text):
        return _from_glob(text)
    ref = _parse(text)
    if text.endswith("/") or (ref.scheme == "file" and ref.path.is_dir()):
        return _from_folder(ref)
    if _JSON.search(ref.name):
        return _from_json(ref, alternate)
    return [_request((Part(ref=ref),))]


def _part(piece: str, whole: str) -> Part:
    named = _named(piece)
    name, target = (named[1], named[2]) if named else ("", piece)
    if not target or (_is_glob(target) and not _is_file(target)):
        raise ConfigError(
            f"{whole[:120]!r}: each part must name one file, as in blue=B02.tif,green=B03.tif; got {piece!r}"
        )
    return Part(ref=_parse(target), name=name)


def _from_json(ref: ObjectRef, alternate: str | None) -> list[SceneRequest]:
    return [_of_item(item) for item in read_items(ref, alternate)]


def _of_item(item: StacItem) -> SceneRequest:
    parts = tuple(
        Part(ref=one.ref, key=one.key, stac_bands=one.bands, alternates=one.alternates, driver=one.driver)
        for one in item.assets
    )
    return SceneRequest(
        reference=f"{item.url}#{item.id}", id=_folder_name(item.id), parts=parts, item=item, problem=item.problem,
        notes=item.notes,
    )  # fmt: skip


def _from_metadata(ref: ObjectRef) -> list[SceneRequest]:
    """The acquisition that a metadata file describes; a web server cannot say what lies beside it."""
    folder, _, name = ref.key.rpartition("/")
    base = replace(ref, key=folder)
    keys = [head.key for head in open_store(base).list()] if ref.scheme in ("file", "s3") else None
    items, _ = acquisitions_in(base, keys, only=name)
    return [_of_item(item) for item in items]


def _folder_name(item_id: str) -> str:
    """A STAC id that may be a folder name as it is; any other in safe letters, with 8 hex digits that tell it from those
    that look like it without them (`a/b` and `a:b`)."""
    if SCENE_ID.match(item_id):
        return item_id
    digest = hashlib.sha256(item_id.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{_sanitised(item_id)[:119]}-{digest}"


def _from_glob(text: str) -> list[SceneRequest]:
    first = _GLOB.search(text)
    folder, slash, _ = text[: first.start() if first else None].rpartition("/")
    pattern = text[len(folder) + len(slash) :]
    base = _parse(f"{folder}/" if slash else ".")
    if base.scheme == "s3":
        wanted = _glob_regex(pattern)
        matches = sorted(head.key for head in open_store(base).list() if wanted.fullmatch(head.key))
    else:
        try:
            paths = [path for path in base.path.glob(pattern) if path.is_file()]
        except ValueError as error:
            raise ConfigError(f"{text[:120]!r} is not a glob: {error}") from None
        matches = sorted(path.relative_to(base.path).as_posix() for path in paths)
    keys = [key for key in matches if _TIFF.search(key)]
    if not keys:
        raise ConfigError(f"{text} matches {len(matches)} files, none of them *.tif or *.tiff; check the pattern")
    return [_request((Part(ref=base / key),)) for key in keys]


def _from_folder(ref: ObjectRef) -> list[SceneRequest]:
    if ref.scheme not in ("file", "s3"):
        raise ConfigError(f"{ref.url}: a web server cannot be listed; name its files, or a STAC catalogue")
    folder = replace(ref, key=ref.key.rstrip("/"))
    every = sorted(head.key for head in open_store(folder).list())
    items, prefixes = acquisitions_in(folder, every)
    keys = [key for key in every if _TIFF.search(key) and not key.startswith(prefixes)]
    if items and not keys:
        return [_of_item(item) for item in items]
    if not keys:
        raise ConfigError(f"{folder.url}/ holds no file that ends in .tif or .tiff, at any depth; check the spelling")
    return [*map(_of_item, items), *(_request((Part(ref=folder / key),)) for key in keys)]


def _request(parts: tuple[Part, ...]) -> SceneRequest:
    reference = ",".join(f"{part.name}={part.ref.url}" if part.name else part.ref.url for part in parts)
    words = [re.findall(r"[^_\-. ]+[_\-. ]*", part.ref.stem) for part in parts]  # each with its separators
    shared = takewhile(lambda column: len({word.rstrip("_-. ") for word in column}) == 1, zip(*words, strict=False))
    name = "".join(column[0] for column in shared).rstrip("_-. ")
    name = name or PurePosixPath(parts[0].ref.key).parent.name or parts[0].ref.stem
    return SceneRequest(reference=reference, id=_sanitised(name), parts=parts)


def _sanitised(stem: str) -> str:
    """A scene id like the file's name, in the letters that folders and STAC allow."""
    text = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem)
    return re.sub(r"\.{2,}", ".", text).strip("._-")[:128] or "scene"


def _parse(text: str) -> ObjectRef:
    """A reference that the user typed: `..` in a local path is theirs to use."""
    if "://" not in text and ".." in Path(text).parts:
        path = Path(text).expanduser()
        text = str(path.resolve() if path.name == ".." else path.parent.resolve() / path.name)
    return ObjectRef.parse(text)


def _is_glob(text: str) -> bool:
    """A `?` in a web address is a query, which ObjectRef refuses without showing it."""
    return _GLOB.search(text) is not None and not text.lower().startswith(("https:", "http:"))


def _named(text: str) -> re.Match[str] | None:
    """`blue=B02.tif`, unless that is a file or a folder called `blue=…`, as tables partitioned by column have."""
    return None if _is_file(text) or Path(text.partition("/")[0]).is_dir() else _NAMED.match(text)


def _is_file(text: str) -> bool:
    try:
        return "://" not in text and Path(text).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):
        return False


def _glob_regex(pattern: str) -> re.Pattern[str]:
    """Shell wildcards over keys: `*` and `?` stay within one folder, `**/` spans any number of them."""
    out, rest = "", pattern
    while rest:
        if rest.startswith("**/"):
            out, rest = out + "(?:[^/]+/)*", rest[3:]
        elif rest.startswith("**"):
            out, rest = out + ".*", rest[2:]
        elif rest[0] in "*?":
            out, rest = out + ("[^/]*" if rest[0] == "*" else "[^/]"), rest[1:]
        elif choice := re.match(r"\[(!?)([^\]/]+)\]", rest):
            inside = re.sub(r"([\\^\[])", r"\\\1", choice[2])
            out, rest = out + f"[{'^' if choice[1] else ''}{inside}]", rest[choice.end() :]
        else:
            out, rest = out + re.escape(rest[0]), rest[1:]
    return re.compile(out)
