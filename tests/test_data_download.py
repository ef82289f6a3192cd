"""Downloads are verified and fail quickly, and synthetic data are always reported."""

import contextlib
import http.server
import importlib
import socket
import sys
import threading
import time
import urllib.parse
from types import SimpleNamespace

import pytest
from cifar_files import write_archive, write_binary_layout

from pymobilenet.data import (
    cache_dir,
    download,
    download_cifar,
    loading,
    open_cifar100,
    synthetic,
)
from pymobilenet.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("PYMOBILENET_DATA", str(folder))
    return folder


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """An archive on a "mirror" (file:), and what to expect of it."""
    path = write_archive(tmp_path / "cifar-100-binary.tar.gz", "binary")
    content = path.read_bytes()
    md5 = download._md5(content).hexdigest()

    def offer(*urls):
        archive = download.Archive(path.name, urls or (path.as_uri(),), len(content), md5)
        monkeypatch.setitem(download.ARCHIVES, "cifar-100-binary", archive)
        return path

    return offer


def test_a_download_is_verified_and_kept(mirror, cache):
    source = mirror()
    target = download_cifar()
    assert target == cache / source.name
    assert target.read_bytes() == source.read_bytes()
    source.unlink()
    assert download_cifar() == target


def test_a_bad_mirror_is_passed_over_for_the_next(mirror, tmp_path):
    source, bad = mirror(), tmp_path / "bad"
    content = bytearray(source.read_bytes())
    content[50] ^= 1
    bad.write_bytes(content)
    short = tmp_path / "short"
    short.write_bytes(content[:-1])
    missing = (tmp_path / "missing").as_uri()
    mirror(missing, short.as_uri(), bad.as_uri(), source.as_uri())
    assert download_cifar(dest=tmp_path / "dest").read_bytes() == source.read_bytes()
    mirror(missing, short.as_uri(), bad.as_uri())
    with pytest.raises(DataError) as raised:
        download_cifar(dest=tmp_path / "other")
    for words in (
        "missing",
        f"returned {len(content) - 1} bytes of {len(content)}",
        "file with md5",
        f"put cifar-100-binary.tar.gz in {tmp_path / 'other'} or pass --data DIR",
    ):
        assert words in str(raised.value)
    assert list((tmp_path / "other").iterdir()) == []


def test_mirrors_without_an_answer_are_abandoned_at_the_deadline(mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "DEADLINE", 0.3)
    monkeypatch.setattr(download, "TIMEOUT", 0.6)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        mirror(url + "a", url + "b", url + "c")
        start = time.monotonic()
        with pytest.raises(DataError, match=r"/c: no answer"):
            download_cifar(dest=tmp_path / "dest")
        assert time.monotonic() - start < 1.2  # requests one after the other it would be 1.8
        time.sleep(0.5)  # let the threads see their time-outs before the server goes
    assert not (tmp_path / "dest").exists()


def test_each_layout_has_more_than_one_mirror_and_an_unknown_one_is_refused():
    assert all(len(archive.mirrors) > 1 for archive in download.ARCHIVES.values())
    assert all(url.startswith("https://") for a in download.ARCHIVES.values() for url in a.mirrors)
    assert download.DEADLINE + download.TIMEOUT < 10
    with pytest.raises(ConfigError, match="Received: 'cifar-100', 'matlab'"):
        download_cifar(layout="matlab")
    with pytest.raises(ConfigError, match="Received: 'mnist', 'binary'"):
        download_cifar("mnist")


def test_each_official_archive_is_known_by_its_name():
    names = {f"cifar-{n}-{layout}" for n in (10, 100) for layout in ("binary", "python")}
    assert set(download.ARCHIVES) == names
    for name, archive in download.ARCHIVES.items():
        assert archive.name == f"{name}.tar.gz"
        assert all(url.endswith(f"/{archive.name}") for url in archive.mirrors)
    assert len({archive.md5 for archive in download.ARCHIVES.values()}) == 4


def test_opening_takes_the_path_then_the_cache_then_a_download(mirror, tmp_path):
    messages = []
    write_binary_layout(tmp_path / "data")
    assert not open_cifar100(tmp_path / "data", "test", report=messages.append).synthetic
    mirror()
    assert not open_cifar100(None, "test", report=messages.append).synthetic
    mirror("file:///nowhere")
    assert not open_cifar100(None, "train", report=messages.append).synthetic
    assert messages == []


def test_opening_without_images_gives_synthetic_data_and_reports_it(mirror, cache, monkeypatch):
    mirror("file:///nowhere")
    monkeypatch.setattr(loading, "synthetic", lambda split: synthetic(8, split))
    messages = []
    data = open_cifar100(None, "test", report=messages.append)
    assert data.synthetic
    assert len(messages) == 1
    assert messages[0].startswith("SYNTHETIC: these are generated images, not CIFAR-100")
    assert f"put cifar-100-binary.tar.gz in {cache} or pass --data DIR" in messages[0]
    with pytest.raises(DataError, match="pass --data DIR"):
        open_cifar100(None, "test", allow_synthetic=False)


def test_a_failed_download_is_tried_again_in_the_same_process(mirror, monkeypatch):
    monkeypatch.setattr(loading, "synthetic", lambda split: synthetic(8, split))
    mirror("file:///nowhere")
    assert open_cifar100(None, "test", report=str).synthetic
    mirror()
    assert not open_cifar100(None, "test", report=str).synthetic


@pytest.fixture
def proxy(monkeypatch):
    """A proxy that answers for any host with `content`, and the hosts it was asked for."""
    hosts = []

    class Handler(http.server.BaseHTTPRequestHandler):
        content = b""

        def do_GET(self):
            hosts.append(urllib.parse.urlsplit(self.path).hostname)
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(self.content)

        do_HEAD = do_GET

        def log_message(self, *_arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        for name in ("no_proxy", "NO_PROXY", "http_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.server_port}")
        yield SimpleNamespace(handler=Handler, hosts=hosts)
        server.shutdown()
        thread.join()


def test_a_download_uses_the_proxy_of_the_environment(mirror, proxy, monkeypatch):
    source = mirror("http://mirror.invalid/cifar-100-binary.tar.gz")
    proxy.handler.content = source.read_bytes()
    assert download_cifar().read_bytes() == source.read_bytes()
    assert proxy.hosts == ["mirror.invalid"]
    download_cifar().unlink()
    monkeypatch.setenv("NO_PROXY", "mirror.invalid")
    with pytest.raises(DataError, match=r"mirror\.invalid"):
        download_cifar()
    assert proxy.hosts == ["mirror.invalid"]


def test_the_check_for_a_download_of_julia_uses_the_proxy(proxy, monkeypatch):
    executable = importlib.import_module("pymobilenet.backends.julia.executable")
    monkeypatch.setattr(executable, "DOWNLOAD_URL", "http://julia.invalid")
    monkeypatch.setattr(executable, "find_julia", lambda: None)
    monkeypatch.delitem(sys.modules, "juliacall", raising=False)
    monkeypatch.delenv("PYTHON_JULIAPKG_OFFLINE", raising=False)
    assert executable.unavailable() is None
    assert proxy.hosts == ["julia.invalid"]
    monkeypatch.setenv("NO_PROXY", "julia.invalid")
    assert "http://julia.invalid cannot be reached" in executable.unavailable()


def test_open_uses_the_network_each_time_unless_download_is_false(monkeypatch):
    requests = []
    monkeypatch.setattr(loading, "synthetic", lambda split: synthetic(8, split))
    monkeypatch.setattr(download, "_request_all", lambda urls: requests.append(urls) or {})
    open_cifar100(None, "train", download=False, report=str)
    assert requests == []
    open_cifar100(None, "train", report=str)
    open_cifar100(None, "test", report=str)
    assert len(requests) == 2


def test_opening_never_covers_up_a_bad_path_or_a_bad_cache(tmp_path, cache):
    with pytest.raises(DataError, match="no CIFAR-100 at"):
        open_cifar100(tmp_path / "nowhere")
    write_binary_layout(cache)
    (cache / "train.bin").write_bytes(b"x")
    with pytest.raises(DataError, match="multiple of 3074"):
        open_cifar100(None)


def test_the_warning_about_synthetic_data_is_printed_to_stderr(mirror, monkeypatch, capsys):
    mirror("file:///nowhere")
    monkeypatch.setattr(loading, "synthetic", lambda split: synthetic(8, split))
    open_cifar100(None)
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("SYNTHETIC")
    assert error.count("\n") == 1


def test_the_cache_folder_is_that_of_the_environment(monkeypatch, tmp_path):
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("PYMOBILENET_DATA")
    assert cache_dir().name == "pymobilenet"
