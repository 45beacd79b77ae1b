"""From one reference that the user typed to the files of scenes: paths, globs, prefixes, STAC. Opens no raster.

Every name goes through ObjectRef, the user's and those found below a prefix alike.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path, PurePosixPath

from earthloom.jobs.intake.acquisitions.find import acquisitions_in, describes, is_metadata
from earthloom.jobs.intake.acquisitions.loose import ARCHIVE, archive_problem, loose_bands
from earthloom.jobs.intake.recognise import recognise
from earthloom.jobs.intake.search import is_search, search
from earthloom.jobs.intake.stac import StacItem, read_items
from earthloom.jobs.intake.stac_assets import StacBand
from earthloom.tiling.errors import ConfigError, EarthloomError, NoSceneError, StorageError
from earthloom.tiling.scene import SCENE_ID, Driver
from earthloom.tiling.storage.objects import ObjectRef, printable
from earthloom.tiling.storage.store import open_store

_TIFF = re.compile(r"\.tiff?$", re.IGNORECASE)
_JSON = re.compile(r"\.(geo)?json$", re.IGNORECASE)
_GLOB = re.compile(r"[*?[]")
_HIDDEN = re.compile(r"(^|/)\.")
_RESULT = re.compile(r"(^|/)scenes/[^/]+/[0-9a-f]{64}/[^/]+$")
"""Key of what a run publishes below its OUT, which may lie in the folder of its scenes."""
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
    """Other addresses at which its STAC item says that it lies."""
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
    covers: str = ""
    """How the URLs of all files begin that belong to an acquisition as delivered; empty for anything else."""


def find(text: str, alternate: str | None = None) -> list[SceneRequest]:
    """All scenes that one reference names, in order (`jobs.intake.scenes.expand` says which forms there are).

    Args:
        alternate: name of the alternate address to take of the assets of STAC items.

    Raises:
        ConfigError: if it is malformed, or, as NoSceneError, names nothing.
        StorageError: if a prefix cannot be listed or a STAC file cannot be read.
    """
    if is_search(text):
        return [_of_item(item) for item in search(text, alternate)]
    if is_metadata(text.rpartition("/")[2]):
        return _from_metadata(_parse(text))
    if (_is_file(text) and not ARCHIVE.search(text)) or _is_object(text):
        return _from_json(_parse(text), alternate) if _JSON.search(text) else [_request((Part(ref=_parse(text)),))]
    if "," in text or _named(text):
        return [_request(tuple(_part(piece.strip(), text) for piece in text.split(",")))]
    if _is_glob(text):
        return _from_glob(text)
    ref = _parse(text)
    is_product = ref.scheme == "s3" and "." not in ref.name and bool(recognise([ref.name]))  # no file has such a name
    if text.endswith(("/", ".SAFE")) or is_product or (ref.scheme == "file" and ref.path.is_dir()):
        return _from_folder(ref, f"{text.rstrip('/')}/")
    if ARCHIVE.search(ref.name):
        return [_archive(ref, text)]
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
    return [_acquired(base, *found) for found in acquisitions_in(base, keys, only=name)]


def _acquired(base: ObjectRef, prefix: str, item: StacItem) -> SceneRequest:
    covers = f"{base.url}/{prefix}"
    return replace(_of_item(item), reference=covers, covers=covers)


def settle(requests: list[SceneRequest]) -> list[SceneRequest]:
    """Bring together what a shell's wildcard took apart: files of an acquisition whose metadata were named too, and bands
    whose names, by their provider's rule, say that they are of one acquisition."""
    covers = tuple(request.covers for request in requests if request.covers)
    kept = [request for request in requests if request.covers or not (covers and _single(request).startswith(covers))]
    urls = [url for request in kept if (url := _single(request)) and recognise([PurePosixPath(url).name])]
    refused = _refused(urls, "")
    return [
        refused.get(url) or request
        for request in kept
        if (url := _single(request)) not in refused or refused[url]
    ]  # fmt: skip


def _refused(keys: Sequence[str], shown: str) -> dict[str, SceneRequest | None]:
    """For each file that is a band of an acquisition by its name: the refusal of them all, at the first of them.

    Args:
        keys: files as the user would write them, without `shown` before each.
    """
    found: dict[str, SceneRequest | None] = {}
    for group in loose_bands(keys):
        first = shown + group.keys[0]
        problem = group.problem(shown, _metadata_of(first))
        found |= dict.fromkeys(group.keys)
        found[group.keys[0]] = SceneRequest(reference=first, id=_sanitised(group.name), problem=problem)
    return found


def _metadata_of(text: str) -> str | None:
    """The metadata file that describes a file, as far as its folder can be listed."""
    head, slash, _ = text.rpartition("/")
    try:
        ref = _parse(text)
        folder = replace(ref, key=ref.key.rpartition("/")[0])
        keys = [head.key for head in open_store(folder).list()] if ref.scheme in ("file", "s3") else []
    except (StorageError, ConfigError):
        return None
    return next((head + slash + key for key in sorted(keys) if is_metadata(key) and describes(key, ref.name)), None)


def _single(request: SceneRequest) -> str:
    """URL of the one file that a request is for, without a name and without metadata; else empty."""
    alone = len(request.parts) == 1 and request.item is None and not request.parts[0].name
    return request.parts[0].ref.url if alone else ""


def _folder_name(item_id: str) -> str:
    """A STAC id that may be a folder name as it is; any other in safe letters, with 8 hex digits that tell it from those
    that look like it without them (`a/b` and `a:b`)."""
    return item_id if SCENE_ID.match(item_id) else f"{_in_safe_letters(item_id)[:119]}-{_digest(item_id)}"


def _from_glob(text: str) -> list[SceneRequest]:
    first = _GLOB.search(text)
    folder, slash, _ = text[: first.start() if first else None].rpartition("/")
    pattern = text[len(folder) + len(slash) :]
    base = _parse(f"{folder}/" if slash else ".")
    if base.scheme == "file":
        try:
            paths = [path for path in base.path.glob(pattern) if path.is_file()]
        except ValueError as error:
            raise ConfigError(f"{text[:120]!r} is not a glob: {error}") from None
        matches = sorted(path.relative_to(base.path).as_posix() for path in paths)
    else:
        wanted = _glob_regex(pattern)
        matches = sorted(head.key for head in open_store(base).list() if wanted.fullmatch(head.key))
    pieces = pattern.split("/")
    hidden_too = any(piece.startswith(".") for piece in pieces)
    matches, note = _meant(base, matches, hidden_too=hidden_too, results_too="scenes" in pieces)
    keys = [key for key in matches if _TIFF.search(key)]
    if metadata := [key for key in matches if is_metadata(PurePosixPath(key).name)]:
        acquired = [one for key in metadata for one in _from_metadata(base / key)]
        covers = tuple(one.covers for one in acquired)
        others = [key for key in keys if not f"{base.url}/{key}".startswith(covers)]
        return _noted([*acquired, *_scenes(base, others, f"{folder}{slash}")], note)
    if not keys:
        of_another_kind = f"{len(matches)} file{'' if len(matches) == 1 else 's'}, none of them *.tif or *.tiff"
        found = of_another_kind if matches else "no file"
        raise NoSceneError(f"{text} matches {found}; check the pattern")
    return _noted(_scenes(base, keys, f"{folder}{slash}"), note)


def _from_folder(ref: ObjectRef, shown: str) -> list[SceneRequest]:
    """Acquisitions as delivered, and every other TIFF. `shown`: the folder as the user wrote it, ending in /."""
    if ref.scheme in ("http", "https"):
        raise ConfigError(f"{ref.url}: a web server cannot be listed; name its files, or a STAC catalogue")
    folder = replace(ref, key=ref.key.rstrip("/"))
    every, note = _meant(folder, sorted(head.key for head in open_store(folder).list()))
    found = acquisitions_in(folder, every)
    others = [key for key in every if not key.startswith(tuple(prefix for prefix, _ in found))]
    archives = [key for key in others if ARCHIVE.search(key) and recognise([PurePosixPath(key).name])]
    requests = [*(_acquired(folder, *one) for one in found), *(_archive(folder / key, shown + key) for key in archives)]
    if keys := [key for key in others if _TIFF.search(key)]:
        return _noted([*requests, *_scenes(folder, keys, shown)], note)
    if not requests:
        what = "it is no product of Sentinel-2 as ESA delivers it, with its MTD_MSIL1C.xml or MTD_MSIL2A.xml"
        raise NoSceneError(
            f"{folder.url}/ holds no file that ends in .tif or .tiff, at any depth; "
            f"{what if folder.name.endswith('.SAFE') else 'check the spelling'}"
        )
    return _noted(requests, note)


def _meant(
    base: ObjectRef, keys: list[str], *, hidden_too: bool = False, results_too: bool = False
) -> tuple[list[str], str]:
    """What a listing found, without what nobody means: hidden files, and results of runs; and a note on the results.

    Raises:
        NoSceneError: if there were TIFFs and none is left.
    """
    results = set() if results_too else {key for key in keys if _RESULT.search(key)}
    left = [key for key in keys if key not in results and (hidden_too or not _HIDDEN.search(key))]
    tiffs = [key for key in keys if _TIFF.search(key)]
    if tiffs and not any(map(_TIFF.search, left)):
        n_results = sum(key in results for key in tiffs)
        raise NoSceneError(
            f"{base.url}/ holds no scene: of its {len(tiffs)} TIFFs {n_results} are results of earlier runs and "
            f"{len(tiffs) - n_results} are hidden, such as the ._ files that macOS writes; name a file itself "
            "to read it all the same"
        )
    n_left_out = sum(key in results for key in tiffs)
    note = f"{n_left_out} TIFFs below {base.url}/ are results of earlier runs and were left out" if n_left_out else ""
    return left, note


def _noted(requests: list[SceneRequest], note: str) -> list[SceneRequest]:
    if note and requests:
        requests[0] = replace(requests[0], notes=(*requests[0].notes, note))
    return requests


def _scenes(base: ObjectRef, keys: list[str], shown: str) -> list[SceneRequest]:
    """A scene for each file, but for those that are bands of one by their names: they are refused together."""
    refused = _refused(keys, shown)
    return [
        refused.get(key) or _one(base, key)
        for key in keys if key not in refused or refused[key]
    ]  # fmt: skip


def _one(base: ObjectRef, key: str) -> SceneRequest:
    """A file that a listing found. One whose name cannot be used is refused by name, so that the others go on."""
    try:
        return _request((Part(ref=base / key),))
    except ConfigError as error:
        name = printable(key)
        scene_id = _sanitised(PurePosixPath(name).stem)
        return SceneRequest(reference=f"{base.url}/{name}", id=scene_id, problem=str(error))


def _archive(ref: ObjectRef, shown: str) -> SceneRequest:
    return SceneRequest(reference=ref.url, id=_sanitised(ref.stem), problem=archive_problem(ref.key, shown))


def _request(parts: tuple[Part, ...]) -> SceneRequest:
    reference = ",".join(f"{part.name}={part.ref.url}" if part.name else part.ref.url for part in parts)
    words = [re.findall(r"[^_\-. ]+[_\-. ]*", part.ref.stem) for part in parts]  # each with its separators
    shared = takewhile(lambda column: len({word.rstrip("_-. ") for word in column}) == 1, zip(*words, strict=False))
    name = "".join(column[0] for column in shared).rstrip("_-. ")
    name = name or PurePosixPath(parts[0].ref.key).parent.name or parts[0].ref.stem
    scene_id = _sanitised(name)
    notes = () if name.isascii() else (f"this is {name}; ids hold ASCII letters alone, and `scene_id` chooses another",)
    return SceneRequest(reference=reference, id=scene_id, parts=parts, notes=notes)


def _sanitised(stem: str) -> str:
    """A scene id like the file's name, in the letters that folders and STAC allow.

    Where letters of another alphabet, or those beyond the 128th, are lost, 8 hex digits of the name tell it from others.
    """
    stem = unicodedata.normalize("NFC", stem)  # macOS writes an umlaut as two letters
    text = _in_safe_letters(stem)
    return text if stem.isascii() and len(text) <= 128 else f"{text[:119]}-{_digest(stem)}"


def _in_safe_letters(name: str) -> str:
    text = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
    return re.sub(r"\.{2,}", ".", text).strip("._-") or "scene"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]


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


def _is_object(text: str) -> bool:
    """Whether commas and brackets are letters of one key in object storage, or in a web address: then they mean themselves."""
    if text.count("://") != 1 or not re.match(r"[a-z0-9]+://", text, re.IGNORECASE) or not re.search(r"[,\[]", text):
        return False
    try:
        return open_store(_parse(text)).head() is not None
    except EarthloomError:
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
