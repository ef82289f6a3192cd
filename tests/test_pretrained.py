"""Pretrained weights by name: the registry, the download, its digests, and the command."""

import gc
import hashlib
import http.server
import json
import re
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
from PIL import Image
from typer.testing import CliRunner

from pymobilenet import MobileNetConfig, backend, pretrained
from pymobilenet.cli import app
from pymobilenet.cli.results import DEFAULT_MODEL
from pymobilenet.errors import ConfigError, DataError
from pymobilenet.evaluation.names import OFFICIAL, known_names
from pymobilenet.formats import load_any, save_as
from pymobilenet.hub import (
    download,
    fetch,
    imagenet_classes,
    pretrained_models,
    registry,
    resolve,
    resolve_model_file,
)
from pymobilenet.hub.resolve import find_pretrained

CONTENT = b"not weights, but bytes with a digest"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
KERAS = "v1-0.25-224.keras"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PYMOBILENET_DATA", str(tmp_path / "cache"))
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache" / "pretrained"


@pytest.fixture
def server():
    """A server on the loopback address; yields its URL and the paths that were requested."""
    requested = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requested.append(self.path)
            if "missing" in self.path:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *_arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", requested
        listening.shutdown()
        thread.join()


@pytest.fixture
def model(server):
    url, _ = server
    return replace(
        pretrained_models()[KERAS], name="served", url=f"{url}/weights.h5", sha256=DIGEST
    )


def test_names_state_family_width_resolution_and_publisher():
    pattern = re.compile(r"(v1|v2)-(\d\.\d+)-(\d+)\.[a-z0-9-]+")
    for name, model in pretrained_models().items():
        match = pattern.fullmatch(name)
        assert match, name
        assert int(match[3]) == model.resolution
        assert model.url.startswith("https://")


def test_urls_are_those_of_the_publishers():
    models = pretrained_models()
    assert models["v1-0.75-160.keras"].url.endswith("/mobilenet/mobilenet_7_5_160_tf.h5")
    assert models["v2-1.4-224.keras"].url.endswith("tf_dim_ordering_tf_kernels_1.4_224.h5")
    assert models["v2-0.5-32.cifar100"].url.endswith("cifar100_mobilenetv2_x0_5-9f915757.pt")
    assert models["v2-0.5-32.cifar100"].settings == {"stem_stride": 1}


def test_the_digits_in_a_published_file_name_are_required():
    for model in pretrained_models().values():
        digits = re.search(r"-([0-9a-f]{8})\.pth?$", model.url)
        assert model.sha256_prefix == (digits[1] if digits else "")


def test_imagenet_has_a_thousand_different_names():
    names = imagenet_classes()
    assert len(names) == len(set(names)) == 1000
    assert (names[0], names[285], names[999]) == ("tench", "Egyptian cat", "toilet tissue")


def test_a_file_is_downloaded_once_and_checked(cache, server, model):
    _, requested = server
    notes = []
    path = fetch(model, notes.append)
    assert path == cache / "served.h5"
    assert path.read_bytes() == CONTENT
    assert fetch(model) == path
    assert requested == ["/weights.h5"]
    assert notes == [f"Downloading served from {model.url}"]


@pytest.mark.parametrize("known", ["sha256", "sha256_prefix"])
@pytest.mark.usefixtures("cache")
def test_a_file_with_another_digest_is_refused(model, known):
    other = replace(model, sha256="", sha256_prefix="")
    other = replace(other, **{known: "0" * (64 if known == "sha256" else 8)})
    with pytest.raises(DataError, match=rf"served must be 0+.*Received: {DIGEST}"):
        fetch(other)


def test_without_a_published_digest_the_first_file_is_trusted_and_later_ones_must_match(
    cache, model
):
    notes = []
    unknown = replace(model, sha256="")
    path = fetch(unknown, notes.append)
    assert DIGEST in notes[-1]
    assert (cache / "served.h5.sha256").read_text() == f"{DIGEST}\n"
    path.write_bytes(b"other bytes")
    with pytest.raises(DataError, match=f"must be {DIGEST}"):
        fetch(unknown)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_download_that_fails_states_the_url_and_where_to_put_the_file(cache, model):
    missing = replace(model, url=model.url.replace("weights", "missing"))
    with pytest.raises(DataError, match="cannot be downloaded") as raised:
        fetch(missing)
    assert missing.url in str(raised.value)
    assert str(cache / "served.h5") in str(raised.value)
    assert not list(cache.glob("*.h5"))
    del raised
    gc.collect()  # pooch leaves the connection of a refused request to the collector


def test_a_file_that_the_user_placed_in_the_cache_is_used_offline(cache, model):
    cache.mkdir(parents=True)
    (cache / "served.h5").write_bytes(CONTENT)
    assert fetch(replace(model, url="http://127.0.0.1:9/weights.h5")).read_bytes() == CONTENT


@pytest.mark.usefixtures("cache")
def test_an_existing_file_takes_precedence_over_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(KERAS).write_bytes(b"a file of the user's")
    assert resolve_model_file(KERAS) == (Path(KERAS), None)


def test_the_model_of_the_package_requires_no_download_and_no_cache(cache):
    path, model = resolve_model_file(DEFAULT_MODEL)
    assert path.parent == download.PACKAGED
    assert hashlib.sha256(path.read_bytes()).hexdigest() == model.sha256
    assert path.stat().st_size < 1.5e6
    assert not cache.exists()
    assert [file.name for file in download.PACKAGED.iterdir()] == [path.name]
    loaded = load_any(DEFAULT_MODEL)
    assert (loaded.config.num_classes, loaded.config.resolution) == (100, model.resolution)
    assert known_names(loaded.config, loaded.metadata, "") == OFFICIAL[model.classes]


@pytest.mark.usefixtures("cache")
def test_a_name_resolves_to_the_cached_file(monkeypatch, model):
    monkeypatch.setattr(resolve, "pretrained_models", lambda: {"served": model})
    path, entry = resolve_model_file("served")
    assert (path.read_bytes(), entry) == (CONTENT, model)
    assert resolve_model_file("elsewhere.h5") == (Path("elsewhere.h5"), None)


def test_a_name_that_is_not_listed_is_refused_with_similar_ones():
    with pytest.raises(ConfigError, match=r"Similar names: .*v1-0\.25-224\.keras.*'v1-0.25-224'"):
        find_pretrained("v1-0.25-224")


def test_the_command_lists_all_weights_and_marks_cached_ones(cache):
    cache.mkdir(parents=True)
    (cache / f"{KERAS}.h5").write_bytes(CONTENT)
    lines = CliRunner().invoke(app, ["pretrained"], env={"COLUMNS": "80"}).output.splitlines()
    assert max(map(len, lines[:-1])) <= 80
    rows = {line.split()[0]: line for line in lines if line.strip()}
    assert set(pretrained_models()) <= set(rows)
    assert rows[KERAS].rstrip().endswith("yes")
    assert not rows["v1-1.0-224.keras"].rstrip().endswith("yes")


def test_the_command_downloads_by_name(cache, monkeypatch, model):
    monkeypatch.setattr(resolve, "pretrained_models", lambda: {"served": model})
    completed = CliRunner().invoke(app, ["pretrained", "served"])
    assert completed.exit_code == 0
    assert str(cache / "served.h5") in completed.output.replace("\n", "")
    assert CliRunner().invoke(app, ["pretrained", "nothing"]).exit_code == 2


@pytest.fixture
def keras_file(cache):
    """Keras' V1 0.25 with random weights, cached under the name of its pretrained weights."""
    config = replace(MobileNetConfig("v1", width_mult=0.25), padding="keras", norm_eps=1e-3)
    state = backend("numpy").build(config, dtype="float64").get_state()
    cache.mkdir(parents=True)
    path = cache / f"{KERAS}.h5"
    save_as(path, config, {name: t.astype("float32") for name, t in state.items()}, "keras")
    with h5py.File(path, "r+") as file:  # as Keras writes it: without this package's metadata
        for name in [name for name in file.attrs if name.startswith("pymobilenet")]:
            del file.attrs[name]
    return path


def test_pretrained_weights_are_a_model_with_scaling_and_class_names(monkeypatch, keras_file):
    digest = hashlib.sha256(keras_file.read_bytes()).hexdigest()
    models = {KERAS: replace(pretrained_models()[KERAS], sha256=digest)}
    monkeypatch.setattr(resolve, "pretrained_models", lambda: models)
    loaded = pretrained(KERAS)
    assert (loaded.config.resolution, loaded.config.padding) == (224, "keras")
    assert json.loads(loaded.metadata["mean"]) == [0.5, 0.5, 0.5]
    assert known_names(loaded.config, loaded.metadata, KERAS)[285] == "Egyptian cat"
    image = keras_file.with_name("grey.png")
    Image.new("RGB", (224, 224), "grey").save(image)
    completed = CliRunner().invoke(app, ["predict", KERAS, str(image), "--top", "1000"])
    assert completed.exit_code == 0, completed.output
    assert "Egyptian cat" in completed.output


def test_weights_with_another_digest_than_the_published_one_are_not_loaded(keras_file):
    with pytest.raises(DataError, match=f"must be {pretrained_models()[KERAS].sha256}"):
        pretrained(KERAS)
    assert keras_file.exists()


def test_imagenets_names_for_a_thousand_unnamed_classes_are_reported(tmp_path, keras_file):
    loaded = load_any(shutil.copy(keras_file, tmp_path / "model.h5"))
    assert "1000 classes are assumed to be ImageNet's; --classes FILE gives other names" in str(
        loaded.report
    )
    assert known_names(loaded.config, loaded.metadata, "model.h5")[0] == "tench"


def test_a_registry_with_an_unknown_field_is_refused(tmp_path):
    text = registry.FILE.read_text(encoding="utf-8").replace("licence =", "license =", 1)
    (tmp_path / "models.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"models.toml: \[keras-v1\] .*license"):
        pretrained_models(tmp_path / "models.toml")


def test_downloads_time_out():
    assert 0 < download.TIMEOUT <= 60
