"""Loading of data sets by name or path; the type of a path is detected by its content."""

import tracemalloc

import numpy as np
import pytest
from cifar10_files import write_archive as write_archive_10
from cifar10_files import write_binary_layout as write_binary_10
from cifar_files import write_archive, write_binary_layout
from image_files import FORMS, pixels_of, png, split_files, write_folder, write_tar
from known_model import Known

from pymobilenet.config import RunConfig
from pymobilenet.data import (
    Dataset,
    decoding,
    download,
    loading,
    open_data,
    synthetic,
    write_binary,
)
from pymobilenet.errors import ConfigError, DataError
from pymobilenet.evaluation import evaluate
from pymobilenet.training import setup


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("PYMOBILENET_DATA", str(folder))
    return folder


def kind(path, **arguments):
    return open_data(path, **arguments).source.split(",")[0].split(" (")[0]


def test_folders_are_detected_by_their_content(tmp_path):
    write_binary_layout(tmp_path / "a" / "cifar-100-binary")
    write_binary_10(tmp_path / "b")
    write_folder(tmp_path / "c", split_files())
    kinds = [kind(tmp_path / name) for name in ("a", "a/cifar-100-binary", "b", "c")]
    assert kinds == ["CIFAR-100", "CIFAR-100", "CIFAR-10", "image folder c"]


@pytest.mark.parametrize("layout", ["binary", "python"])
def test_archives_are_detected_by_their_content_and_not_by_their_names(tmp_path, layout):
    hundred = write_archive(tmp_path / "x.tar.gz", layout)
    ten = write_archive_10(tmp_path / "y.tar.xz", layout)
    assert kind(hundred.rename(tmp_path / "cats")) == "CIFAR-100"
    assert kind(str(ten.rename(tmp_path / "dogs"))) == "CIFAR-10"


@pytest.mark.parametrize("form", FORMS)
def test_archives_of_images_are_detected(tmp_path, form):
    path = FORMS[form](tmp_path / "pets", {"readme.txt": b"x", **split_files()})
    assert kind(path, report=str) == "image folder pets"


def test_the_options_of_an_image_folder_reach_it(tmp_path):
    files = {f"cat/{i}.png": png(pixels_of(i, 6, 6)) for i in range(9)}
    path = write_folder(tmp_path / "pets", {**files, "cat/bad.png": b"x"})
    messages, statistics = [], ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    options = {"test_fraction": 0.5, "seed": 3, "on_corrupt": "skip", "statistics": statistics}
    data = open_data(path, "test", 4, report=messages.append, **options)
    assert data.images.shape[1:] == (3, 4, 4)
    assert data.statistics == statistics
    other = open_data(path, "test", 4, report=messages.append, **{**options, "seed": 4})
    assert data.digest() != other.digest()
    train = open_data(path, "train", 4, report=messages.append, **options)
    assert len(data) + len(train) == 9
    assert "skipped as corrupt: cat/bad.png" in messages[0] + messages[-1]


def test_a_folder_of_both_is_refused(tmp_path):
    write_archive(tmp_path / "cifar-100-binary.tar", "binary")
    write_archive_10(tmp_path / "cifar-10-binary.tar", "binary")
    with pytest.raises(
        DataError, match="contains cifar-100 and cifar-10; pass the folder or archive"
    ):
        open_data(tmp_path)
    assert kind(tmp_path / "cifar-10-binary.tar") == "CIFAR-10"


@pytest.mark.parametrize("name", ["cifar-10", "cifar-100"])
def test_a_name_is_looked_for_in_the_cache_then_downloaded(tmp_path, cache, monkeypatch, name):
    with pytest.raises(DataError, match=rf"no download was asked .*put {name}-binary.tar.gz there"):
        open_data(name, download=False)
    requests = []
    monkeypatch.setattr(download, "_request_all", lambda urls: requests.append(urls) or {})
    for split in ("train", "test"):
        with pytest.raises(DataError, match=f"{name}-binary.tar.gz could not be downloaded"):
            open_data(name, split)
    assert len(requests) == 2
    writer = write_archive_10 if name == "cifar-10" else write_archive
    source = writer(tmp_path / f"{name}-binary.tar.gz", "binary")
    content = source.read_bytes()
    md5 = download._md5(content).hexdigest()
    archive = download.Archive(source.name, (source.as_uri(),), len(content), md5)
    monkeypatch.undo()
    monkeypatch.setenv("PYMOBILENET_DATA", str(cache))
    monkeypatch.setitem(download.ARCHIVES, f"{name}-binary", archive)
    assert kind(name) == name.upper()
    source.unlink()
    assert kind(name, split="test", download=False) == name.upper()


def test_synthetic_data_is_used_only_by_name_and_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "synthetic", lambda split: synthetic(8, split))
    assert open_data("synthetic", "test").source.startswith("SYNTHETIC")
    write_binary(synthetic(100), tmp_path / "new")
    messages = []
    assert open_data(tmp_path / "new", report=messages.append).synthetic
    assert messages[0].startswith("SYNTHETIC: these are generated images, not CIFAR-100:")


def test_cifar_and_synthetic_data_are_resized_on_request(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "synthetic", lambda split: synthetic(8, split))
    write_binary_10(tmp_path / "ten")
    assert open_data(tmp_path / "ten").images.shape[2:] == (32, 32)
    for source in (tmp_path / "ten", "synthetic"):
        assert open_data(source, resolution=48).images.shape[2:] == (48, 48)
        with pytest.raises(ConfigError, match="Received: -1"):
            open_data(source, resolution=-1)


def test_only_the_images_of_a_run_are_resized(monkeypatch):
    """A run with a limit took 7.5 GB and a minute at 224 pixels."""
    count = []
    resize = decoding.resize
    monkeypatch.setattr(decoding, "resize", lambda *args: count.append(1) or resize(*args))
    run = RunConfig(data="synthetic", validation=3, limit=5, train_eval_images=2)
    images = setup.open_images(run, 40, 7)
    assert len(count) == 8
    data = open_data("synthetic")
    parts = (images.validation, images.train, images.train_eval)
    for part, positions in zip(parts, setup.split_images(run, len(data), 7), strict=True):
        expected = decoding.resized(data.subset(positions), 40)
        assert np.array_equal(part.images, expected.images)
        assert np.array_equal(part.labels, expected.labels)


def test_the_error_for_a_missing_path_lists_the_names_of_data_sets(tmp_path):
    with pytest.raises(DataError, match=r"no data at .*nowhere: .* cifar-100, cifar-10, synthetic"):
        open_data(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("hello")
    with pytest.raises(DataError, match=r"empty: images must lie in .* Received: no image"):
        open_data(tmp_path / "empty")
    with pytest.raises(DataError, match="text: neither a folder nor a tar or zip archive"):
        open_data(tmp_path / "text")
    path = write_tar(tmp_path / "other.tar", {"a.txt": b"x"})
    with pytest.raises(DataError, match="Received: no image"):
        open_data(path, report=str)


def test_a_range_of_images_shares_their_memory():
    data = synthetic(20, num_classes=4)
    for indices in (range(20), range(3, 9), [5]):
        assert np.shares_memory(data.subset(indices).images, data.images)
    reordered = data.subset([3, 2])
    assert np.array_equal(np.asarray(reordered.images), data.images[[3, 2]])


class Zeros(Known):
    def predict(self, images):
        return self.logits[: len(images)]


def test_the_splits_of_a_run_and_their_evaluation_copy_no_more_than_a_batch(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (12_000, 3, 32, 32), np.uint8)
    labels, names = np.arange(12_000) % 2, ("a", "b")
    data = Dataset(pixels, labels, None, names, (), "images", False)
    monkeypatch.setattr(setup, "open_data", lambda *_, select, **__: data.subset(select(len(data))))
    run = RunConfig(data="images", validation=2000, train_eval_images=10_000)
    tracemalloc.start()
    images = setup.open_images(run, 32, seed=0)
    assert [len(each) for each in (images.train, images.validation)] == [10_000, 2000]
    for part in (images.train_eval, images.validation):
        assert len(evaluate(Zeros(np.zeros((256, 2))), part).predicted) == len(part)
    images.digests()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < pixels.nbytes / 2
