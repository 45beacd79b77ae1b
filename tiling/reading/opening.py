"""Opening one asset safely: one driver alone, nothing but the asset itself in reach, and only the bytes that were pinned.

A scene is hostile until proven otherwise; a failed read is explained by its likely cause. Knows nothing of what is read.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from earthloom.tiling.errors import EarthloomError, EngineError, SceneError, StorageError
from earthloom.tiling.reading import identity
from earthloom.tiling.reading.gdal_faults import Heard, fault_in, listening
from earthloom.tiling.reading.not_tiff import HEAD_BYTES, lesson_of
from earthloom.tiling.scene import Asset, Driver
from earthloom.tiling.storage import egress
from earthloom.tiling.storage.gdal_drivers import start_gdal
from earthloom.tiling.storage.objects import ObjectRef
from earthloom.tiling.storage.store import open_store

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

_SOURCES: dict[Driver, dict[str, str]] = {"GTiff": {}, "JP2OpenJPEG": {"GEOREF_SOURCES": "INTERNAL"}, "polygons": {}}
"""Options at open: where a file lies is read from the file alone."""

_CODEC = re.compile(r"missing codec ((?:of code )?[\w-]+)")
_CODECS = {
    "JXL": "JPEG XL (JXL)", "50002": "JPEG XL (JXL)", "52546": "JPEG XL (JXL)", "34887": "LERC", "50000": "ZSTD",
    "50001": "WebP", "34925": "LZMA", "JP2000": "JPEG 2000", "34712": "JPEG 2000", "33003": "JPEG 2000 (Aperio)",
    "33004": "JPEG 2000 (Aperio)", "33005": "JPEG 2000 (Aperio)", "34933": "PNG", "34661": "JBIG",
}  # fmt: skip
"""By GDAL's word, or by the number in the TIFF."""
_DECODING = re.compile(r"(?i)TIFF(Read|Fetch|Fill|Scanline|SetDir)|IReadBlock|read failed|cannot read|cut|truncat|corrupt|decod"
                       r"|file size|not enough data|beyond|directory|LZW|zlib|JPEG")  # fmt: skip
"""What GDAL says where the bytes themselves are at fault."""


@contextmanager
def open_asset(asset: Asset, *, checked: bool = False) -> Iterator[DatasetReader]:
    """Open an asset for reading full-resolution windows, in any thread.

    GDAL may touch this one file only, and web and S3 requests carry the pinned ETag, so bytes that changed since are
    an error and never a mixture. The options hold until the block ends, for this thread. `checked`: the header was read
    before, so if it cannot be read now, the wire is at fault, whatever GDAL heard.

    Raises:
        SceneError: if the file is gone, changed, damaged or in another format, now or in a read inside the block.
        StorageError: if the storage failed; transient where a read of a remote file may succeed the next time.
    """
    import rasterio
    from rasterio._err import CPLE_BaseError
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.session import DummySession

    start_gdal()
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)  # `inspect` refuses with a better message
    if asset.ref.scheme == "file":
        identity.verify_local(asset)
    is_open = checked
    with (
        listening() as heard,
        rasterio.Env(session=DummySession(), **_options(asset)),
    ):  # GDAL finds credentials itself, in the environment
        try:
            with rasterio.open(asset.ref.gdal_path, driver=asset.driver, **_SOURCES[asset.driver]) as dataset:
                is_open = True
                _check_tags(asset, heard)
                yield dataset
            if asset.ref.scheme == "file":
                identity.verify_local(asset)  # nobody wrote into it while it was read
        except (RasterioError, CPLE_BaseError) as error:
            raise _explained(asset, error, is_open, heard.faults) from error


def _check_tags(asset: Asset, heard: Heard) -> None:
    """GDAL goes on without tags that it cannot reach, though nodata, scale, offset or the names of bands stood there."""
    if not heard.lost_tags:
        return
    tags = ", ".join(dict.fromkeys(heard.lost_tags))
    if heard.faults:
        raise StorageError(
            f"cannot read {asset.ref.url}: the storage answered {heard.faults[-1]} ({tags})", transient=True
        )
    raise SceneError(
        f"{asset.ref.name} is cut short: what its tags {tags} say lies beyond its end (nodata, scale, place or names of bands "
        "may stand there); fetch it again"
    )


def _options(asset: Asset) -> dict[str, str]:
    options = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO"}  # no sidecars, whatever is set
    if asset.ref.scheme != "file":
        options["CPL_VSIL_CURL_ALLOWED_FILENAME"] = asset.ref.gdal_path
        options["CPL_VSIL_CURL_NON_CACHED"] = asset.ref.gdal_path  # GDAL's cache knows URLs, not versions
    if asset.ref.scheme in ("http", "https") and (gate := egress.proxy_for(asset.ref.scheme, asset.ref.bucket)):
        options["GDAL_HTTP_PROXY"] = gate
    if tag := identity.etag(asset):
        escaped = tag.replace("\\", "\\\\")
        options["GDAL_HTTP_HEADERS"] = f'"If-Match: \\"{escaped}\\""'
    return options


def _explained(asset: Asset, error: BaseException, is_open: bool, faults: Sequence[str]) -> Exception:
    """The likely cause of a failed open or read: GDAL's own message often lost it."""
    text = str(error.__cause__ or error)
    return (
        _gone_or_changed(asset)
        or _storage_fault(asset.ref, text, is_open=is_open, faults=faults)
        or _file_fault(asset, text)
    )


def _gone_or_changed(asset: Asset) -> SceneError | None:
    """The error if a file is no longer the one that was checked, or its server leads elsewhere; else None."""
    ref: ObjectRef = asset.ref
    gone = SceneError(f"{ref.url} is gone; it was there when the scene was checked")
    if ref.scheme == "file":
        return None if ref.path.exists() else gone
    if ref.scheme != "s3" and (why := egress.refusal(ref.scheme, ref.bucket)):
        return SceneError(f"cannot read {ref.url}: {why}; name the file's own address, if you trust it")
    head = open_store(ref).head()
    if head is None:
        return gone
    if f"etag:{(head.etag or '').strip(chr(34))}:{head.size}" != asset.identity:
        return SceneError(
            f"{ref.url} changed since it was checked: it was {asset.identity} and is now etag {head.etag}, "
            f"{head.size} bytes; run again to take the new one"
        )
    return None


def _storage_fault(ref: ObjectRef, text: str, *, is_open: bool, faults: Sequence[str]) -> StorageError | None:
    """The error if remote storage failed, in a read too: a 503 there looks like a damaged tile."""
    cause = _first_line(text)
    heard = fault_in(cause) or (faults[-1] if faults else None)
    if ref.scheme == "file" or not (is_open or heard):
        return None
    answer = f"the storage answered {heard}" if heard else "the storage faltered, or the file is damaged there"
    return StorageError(f"cannot read {ref.url}: {answer} ({cause})", transient=True)


def _file_fault(asset: Asset, text: str) -> Exception:
    """The error of a file that is there and that GDAL cannot read: its format, its codec, its bytes, or PROJ's tables."""
    ref, cause = asset.ref, _first_line(text)
    of_another = "not recognized as being in a supported file format" in text
    if of_another and asset.driver == "JP2OpenJPEG":
        return SceneError(
            f"{ref.url} is not a JPEG 2000 file, though its product's metadata name it as one: fetch it again"
        )
    if missing := _CODEC.search(cause):
        return SceneError(
            f"{ref.url} is compressed by {_codec(missing[1])}, which the GDAL of this installation cannot read; rewrite it "
            "with a GDAL that can, such as QGIS's or conda's: gdal_translate -co COMPRESS=DEFLATE -co TILED=YES in.tif out.tif"
        )
    if "proj.db" in cause or "PROJ_LIB" in cause or "PROJ_DATA" in cause:
        return EngineError(
            f"PROJ cannot use its tables ({cause}): they belong to another installation; unset PROJ_LIB and PROJ_DATA, or "
            "point them at the tables that came with this rasterio"
        )
    if of_another:
        return SceneError(f"{ref.url} {lesson_of(_first_bytes(ref))}")
    if _DECODING.search(cause) or asset.driver != "GTiff":
        return SceneError(f"cannot decode {ref.url}: {cause}; the file is damaged or cut short: fetch it again")
    return SceneError(
        f"cannot read {ref.url}: {cause}; if another program reads it, rewrite it there: gdal_translate -of COG. earthloom "
        "doctor tells whether this installation is at fault"
    )


def _first_line(text: str) -> str:
    return text.partition("\n")[0][:200]


def _codec(name: str) -> str:
    """What a compression is called, of which GDAL knows the name or only the number in the TIFF."""
    number = name.removeprefix("of code ")
    return _CODECS.get(number, f"the codec {name}") if number != name else _CODECS.get(name, name)


def _first_bytes(ref: ObjectRef) -> bytes:
    with suppress(EarthloomError):
        return open_store(ref).get_range("", 0, HEAD_BYTES)
    return b"?"  # nothing is known
