"""Files of pretrained weights: in the package, or downloaded into the cache; checked by SHA-256.

pooch does the transfer.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from pymobilenet.data import cache_dir
from pymobilenet.errors import DataError
from pymobilenet.files import atomic_write
from pymobilenet.hub.registry import PretrainedModel

PACKAGED = Path(__file__).with_name("models")
"""The folder of the files that are part of the package."""

TIMEOUT = 30
"""Seconds without an answer from the server after which a download is given up."""


def cached_file(model: PretrainedModel) -> Path:
    """Return the path of a model's file: in the package, or in the cache, where it may be missing.

    Args:
        model: A model of the registry.
    """
    suffix = PurePosixPath(urlsplit(model.url).path).suffix
    packaged = PACKAGED / f"{model.name}{suffix}"
    return packaged if packaged.is_file() else cache_dir() / "pretrained" / packaged.name


def is_cached(model: PretrainedModel) -> bool:
    """Return whether the model's file is in the package or in the cache."""
    return cached_file(model).is_file()


def fetch(model: PretrainedModel, notify: Callable[[str], object] = lambda _message: None) -> Path:
    """Return the model's file, downloaded first if it is neither in the package nor in the cache.

    Where the registry has no digest, the digest of the first file is recorded beside it, and every
    later use requires that digest.

    Args:
        model: A model of the registry.
        notify: Called with a sentence when a download starts and when a digest is recorded.

    Returns:
        The path of the checked file.

    Raises:
        DataError: The file cannot be downloaded, or its digest is not the expected one. The message
            states the URL and the path at which a file that was downloaded by hand is found.
    """
    path = cached_file(model)
    if not path.is_file():
        notify(f"Downloading {model.name} from {model.url}")
        _download(model, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    record = path.with_name(f"{path.name}.sha256")
    recorded = record.read_text(encoding="ascii").strip() if record.is_file() else ""
    expected = model.sha256 or recorded or model.sha256_prefix
    if not digest.startswith(expected):
        raise DataError(
            f"{path}: the SHA-256 digest of {model.name} must be {expected}"
            f"{'...' if len(expected) < len(digest) else ''}. Received: {digest}. Remove the file "
            f"to download it again from {model.url}"
        )
    if not recorded and not model.sha256:
        with atomic_write(record) as file:
            file.write(f"{digest}\n".encode())
        if not model.sha256_prefix:
            notify(
                f"No digest of {model.name} is published. This file's SHA-256, {digest}, is "
                "recorded and required from now on"
            )
    return path


def _download(model: PretrainedModel, path: Path) -> None:
    """Download to a temporary name and rename; proxies are those of the environment."""
    import pooch
    import requests

    pooch.get_logger().setLevel(logging.ERROR)
    path.parent.mkdir(parents=True, exist_ok=True)
    show_bar = bool(sys.stderr.isatty())
    downloader = pooch.HTTPDownloader(progressbar=show_bar, timeout=TIMEOUT)
    try:
        pooch.retrieve(model.url, None, path.name, path.parent, downloader=downloader)
    except (OSError, ValueError, requests.RequestException) as error:
        raise DataError(
            f"{model.name} is not in the cache and cannot be downloaded from {model.url}: {error}. "
            f"Download it elsewhere and put it at {path}"
        ) from None
