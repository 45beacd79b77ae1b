"""One function that derives every library's storage settings from the standard AWS_* names.

Rasterio (GDAL), obstore and s3fs each want the endpoint spelled differently; the user should say it once. The reader
settings of GDAL live here too, because they must be in the environment before the first file is opened, in the driver
and in each worker.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from urllib.parse import urlsplit

from earthloom.tiling.errors import ConfigError
from earthloom.tiling.storage.gdal_drivers import hush_absent, skipped

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
        env: the user's environment; `AWS_ENDPOINT_URL`, `AWS_REGION` and credentials are read, never copied elsewhere.
        threads: decoder threads per reader (GDAL_NUM_THREADS), default: all cores that this process may use.

    Raises:
        ConfigError: if AWS_ENDPOINT_URL is not an http(s) URL with a host.
    """
    derived = dict(_READER)
    derived["GDAL_NUM_THREADS"] = str(threads or len(os.sched_getaffinity(0)))
    region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")
    if endpoint := env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL"):
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
    return {name: value for name, value in derived.items() if name not in env} | {
        "GDAL_SKIP": skipped(env.get("GDAL_SKIP", ""))
    }


def apply(env: MutableMapping[str, str] = os.environ, *, threads: int | None = None) -> None:
    """Put the derived settings into this process's environment. Call before the first raster is opened."""
    env.update(derive(env, threads=threads))
    hush_absent()
