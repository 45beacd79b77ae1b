"""One function that derives every library's storage settings from the standard AWS_* names.

Rasterio (GDAL), obstore and s3fs each want the endpoint spelled differently, and each knows other names and files; the
user should say it once. The reader settings of GDAL live here too, because they must be in the environment before the
first file is opened, in the driver and in each worker.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.gdal_drivers import hush_absent, skipped
from earthloom.tiling.storage.profiles import read_profile

_OTHERS_DATA = ("PROJ_LIB", "PROJ_DATA", "GDAL_DATA")
"""Where QGIS, PostGIS or conda say that *their* PROJ and GDAL keep their tables; of another release they break ours."""
_NO = ("", "0", "no", "false", "off", "n", "f")

_READER = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no sidecars: fewer requests, and a .ovr could be another file
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_CACHEMAX": "128",  # MiB per process; the default of 5 % of RAM would break the memory plan
    "GDAL_HTTP_MAX_RETRY": "5",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_DRIVER_PATH": "disable",  # no plugins: a driver from outside would not be on the list of those to skip
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "GDAL_VRT_ENABLE_RAWRASTERBAND": "NO",
    "PROJ_NETWORK": "OFF",  # a CRS may name a grid file to be fetched
    "VSI_CACHE": "FALSE",
    "CPL_VSIL_CURL_CACHE_SIZE": str(64 * 1024 * 1024),
}


def derive(env: Mapping[str, str], *, threads: int | None = None) -> dict[str, str]:
    """Settings to add to `env`; what the user has set stays, except that GDAL's drivers are skipped in any case.

    Args:
        env: the user's environment: the AWS_* names, and those by which AWS's files are found. What a profile holds is
            taken over where the environment is silent, because not every library under us reads those files.
        threads: decoder threads per reader (GDAL_NUM_THREADS), default: all cores that this process may use.

    Raises:
        ConfigError: if AWS_ENDPOINT_URL is not an http(s) URL with a host.
    """
    derived = dict(_READER)
    derived["GDAL_NUM_THREADS"] = str(threads or len(os.sched_getaffinity(0)))
    derived |= {name: value for name, value in _of_profile(env).items() if not env.get(name)}
    known = derived | {name: value for name, value in env.items() if value}
    if unsigned(env):
        derived |= {"AWS_NO_SIGN_REQUEST": "YES", "AWS_SKIP_SIGNATURE": "true"}  # GDAL's word, and obstore's
    region = known.get("AWS_REGION") or known.get("AWS_DEFAULT_REGION")
    endpoint = known.get("AWS_ENDPOINT_URL_S3") or known.get("AWS_ENDPOINT_URL") or _endpoint_of_gdal(known)
    if endpoint:
        try:
            url = urlsplit(endpoint)
        except ValueError as error:
            raise ConfigError(f"AWS_ENDPOINT_URL must look like https://host[:port]: {error}") from None
        if url.scheme not in ("http", "https") or not url.netloc or "@" in url.netloc:
            raise ConfigError(
                f"AWS_ENDPOINT_URL must look like https://host[:port] without credentials, got {url.scheme}://{url.hostname}"
            )
        derived |= {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_S3_ENDPOINT": url.netloc,  # GDAL wants host:port; with a scheme it looks up a host called "http"
            "AWS_HTTPS": "NO" if url.scheme == "http" else "YES",
            "AWS_VIRTUAL_HOSTING": "FALSE",
        }
        if url.scheme == "http":
            derived["AWS_ALLOW_HTTP"] = "true"
        region = region or "us-east-1"  # S3 servers other than AWS ignore it, but signing needs one
    if region:
        derived |= {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    return {name: value for name, value in derived.items() if not env.get(name)} | {
        "GDAL_SKIP": skipped(env.get("GDAL_SKIP", ""))
    }


def unsigned(env: Mapping[str, str]) -> bool:
    """Whether requests to S3 go without a signature: AWS_NO_SIGN_REQUEST, as GDAL and the AWS tools call it."""
    return any(env.get(name, "").lower() not in _NO for name in ("AWS_NO_SIGN_REQUEST", "AWS_SKIP_SIGNATURE"))


def signs_itself(env: Mapping[str, str]) -> bool:
    """Whether the environment holds keys, or a token for a role, which come before any profile."""
    return bool(env.get("AWS_ACCESS_KEY_ID") or env.get("AWS_WEB_IDENTITY_TOKEN_FILE"))


def _of_profile(env: Mapping[str, str]) -> dict[str, str]:
    """What the profile adds: its keys only where the environment names no other way to sign."""
    settings = dict(read_profile(env).settings)
    if unsigned(env) or signs_itself(env):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            settings.pop(name, None)
    if env.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() not in _NO:
        settings.pop("AWS_ENDPOINT_URL", None)
    return settings


def _endpoint_of_gdal(env: Mapping[str, str]) -> str:
    """A server that is named for GDAL only, by AWS_S3_ENDPOINT=host:port."""
    host = env.get("AWS_S3_ENDPOINT", "")
    scheme = "http" if env.get("AWS_HTTPS", "").lower() in _NO[1:] else "https"
    return host if not host or "://" in host else f"{scheme}://{host}"


def forget_others_data(env: MutableMapping[str, str]) -> None:
    """Take PROJ_LIB, PROJ_DATA and GDAL_DATA out of `env` where rasterio's wheel has tables of its own, which alone fit it.

    PROJ_DATA then names those: GDAL's reader of GeoTIFF tags asks PROJ for units other than metres without the path that
    rasterio has given to all else, and would say on stderr that it cannot find proj.db. The wheel of pyproj has its own tables
    and does not look there.
    """
    package = find_spec("rasterio")
    own = Path(package.origin).parent if package and package.origin else None
    if own is None or not (own / "proj_data" / "proj.db").is_file():
        return
    found = [env.pop(name) for name in _OTHERS_DATA if name in env]
    env["PROJ_DATA"] = str(own / "proj_data")
    if found and (loaded := sys.modules.get("rasterio.env")):  # it believed them when it was imported
        loaded.set_proj_data_search_path(str(own / "proj_data"))
        loaded.set_gdal_config("GDAL_DATA", str(own / "gdal_data"))


def apply(env: MutableMapping[str, str] = os.environ, *, threads: int | None = None) -> None:
    """Put the derived settings into this process's environment. Call before the first raster is opened."""
    env.update(derive(env, threads=threads))
    forget_others_data(env)
    hush_absent()
