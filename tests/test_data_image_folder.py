"""Image folders: classes, splits and errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import (
    FORMS,
    encoded,
    flat_files,
    pixels_of,
    png,
    split_files,
    write_folder,
    write_tar,
)
from PIL import Image

from pymobilenet.data import image_folder, load_image_folder, scaling
from pymobilenet.data.folder_layout import divide
from pymobilenet.errors import ConfigError, DataError
from pymobilenet.evaluation import read_image


def no_report(message):
    raise AssertionError(message)


@pytest.mark.parametrize("outer", ["", "animals/raw/"])
@pytest.mark.parametrize("form", FORMS)
def test_folders_and_archives_give_the_same_sorted_images(tmp_path, form, outer):
    files = {f"{outer}{name}": content for name, content in split_files().items()}
    shuffled = {name: files[name] for name in sorted(files, key=lambda name: name[::-1])}
    path = FORMS[form](tmp_path / "pets", shuffled)
    train = load_image_folder(path, "train", report=no_report)
    expected = [pixels_of(i).transpose(2, 0, 1) for i in (3, 4, 0, 1, 2)]
    assert (train.images == np.stack(expected)).all()
    assert train.images.flags.c_contiguous
    assert train.labels.tolist() == [0, 0, 1, 1, 1]
    assert train.class_names == ("cat", "dog")
    assert train.source == "image folder pets, train, 5 images"
    test = load_image_folder(path, "test", report=no_report)
    assert (test.images == np.stack([pixels_of(i).transpose(2, 0, 1) for i in (6, 7, 5)])).all()
    assert test.labels.tolist() == [0, 0, 1]
    assert (train.coarse, train.coarse_names, train.synthetic) == (None, (), False)


def test_both_splits_carry_the_statistics_of_the_training_images(tmp_path):
    path = write_folder(tmp_path, split_files())
    train, test = (load_image_folder(path, split) for split in ("train", "test"))
    scaled = train.images / 255
    np.testing.assert_allclose(train.statistics[0], scaled.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(train.statistics[1], scaled.std(axis=(0, 2, 3)), rtol=1e-12)
    assert scaling("standard", test) == train.statistics
    given_ones = ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
    (tmp_path / "train" / "dog" / "a.png").write_bytes(b"no image, and not read")
    assert load_image_folder(path, "test", statistics=given_ones).statistics == given_ones


@pytest.mark.parametrize("form", FORMS)
def test_training_images_are_read_only_for_their_statistics(tmp_path, monkeypatch, form):
    path = FORMS[form](tmp_path / "pets", split_files())
    expected = load_image_folder(path, "train").statistics
    decoded = []
    decode = image_folder._decode_or_error
    monkeypatch.setattr(
        image_folder,
        "_decode_or_error",
        lambda content, resolution: decoded.append(1) or decode(content, resolution),
    )
    test = load_image_folder(path, "test").subset([0, 2])
    assert len(decoded) == 3
    assert [scaling(name, test) for name in ("keras", "unit")]
    assert len(decoded) == 3
    monkeypatch.chdir("/")
    assert [scaling("standard", test) for _ in range(2)] == [expected] * 2
    assert len(decoded) == 3 + 5


def test_one_split_is_enough(tmp_path):
    for split, count in (("train", 5), ("test", 3)):
        files = {n: c for n, c in split_files().items() if n.startswith(split)}
        path = write_folder(tmp_path / split, files)
        data = load_image_folder(path, split)
        assert (len(data), data.class_names) == (count, ("cat", "dog"))
    assert scaling("keras", data)
    message = "none of its 3 images are for the split 'train'.*standard.*mean and std"
    with pytest.raises(DataError, match=message):
        scaling("standard", data)


def test_images_are_turned_upright_as_in_predict(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {name: png(pixels_of(i, 6, 9), exif=exif) for i, name in enumerate(split_files())}
    path = write_folder(tmp_path, files)
    data = load_image_folder(path, "train", resolution=4)
    names = sorted(name for name in files if name.startswith("train"))
    expected = [read_image(path / name, 4).transpose(2, 0, 1) for name in names]
    assert (data.images == np.stack(expected)).all()
    pixels = np.rot90(pixels_of(0, 6, 9), -1).transpose(2, 0, 1)
    assert (load_image_folder(path, "train").images[2] == pixels).all()


def test_a_flat_folder_is_split_by_the_seed(tmp_path):
    path = write_folder(tmp_path, flat_files({"b": 10, "a": 5}))
    train, test = (load_image_folder(path, split, seed=1) for split in ("train", "test"))
    assert np.bincount(train.labels).tolist() == [4, 8]
    assert np.bincount(test.labels).tolist() == [1, 2]
    together = {image.tobytes() for data in (train, test) for image in data.images}
    assert len(together) == 15
    other = load_image_folder(path, "test", seed=2)
    assert other.digest() != test.digest()
    assert load_image_folder(path, "test", test_fraction=0.5).labels.tolist() == [0] * 3 + [1] * 5


def test_the_recorded_split():
    classes = {f"{name}/{i}": name for name in "ab" for i in range(10)}
    test = divide(classes, 0.3, 7)["test"]
    assert list(test) == ["a/1", "a/2", "a/8", "b/1", "b/2", "b/6"]


@settings(deadline=None, database=None)
@given(
    counts=st.dictionaries(st.sampled_from("abcde"), st.integers(1, 30), min_size=1),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**64 - 1),
)
def test_a_split_is_a_partition_of_the_images(counts, fraction, seed):
    classes = {f"{name}/{i:02d}": name for name in sorted(counts) for i in range(counts[name])}
    splits = divide(classes, fraction, seed)
    assert {**splits["train"], **splits["test"]} == classes
    assert len(splits["train"]) + len(splits["test"]) == len(classes)
    assert all(list(paths) == sorted(paths) for paths in splits.values())
    for name, count in counts.items():
        test_count = list(splits["test"].values()).count(name)
        assert abs(test_count - fraction * count) <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("names", "rule"),
    [
        ([], "Received: no image"),
        (["a.png"], r"Received: a\.png"),
        (["train/a.png", "test/b.png"], r"must lie in train/CLASS/. Received: train/a\.png"),
        (["train/cat/a.png", "test/b.png"], r"Received: test/b\.png"),
        (["train/cat/old/a.png", "train/cat/b.png"], r"Received: train/cat/old/a\.png"),
        (["cat/images/old/a.png", "cat/b.png"], r"Received: cat/images/old/a\.png"),
        (["cat/a.png", "cat/old/b.png"], r"Received: cat/old/b\.png"),
        (["train/cat/a.png", "cat/b.png"], "must lie in train/CLASS/"),
        (["test/cat/a.png"], "none of its 1 images are for the split 'train'"),
        (["train/cat/a.png", "test/cow/a.png"], "classes that the training images have not: cow"),
    ],
)
def test_images_that_lie_elsewhere_are_named(tmp_path, names, rule):
    path = write_folder(tmp_path, dict.fromkeys(["readme.txt", *names], png(pixels_of(0))))
    with pytest.raises(DataError, match=rule):
        load_image_folder(path, report=str)


@pytest.mark.parametrize("name", ["train/cat/a.png", "cat/a.png"])
def test_a_split_without_images_is_refused(tmp_path, name):
    path = write_folder(tmp_path, {name: png(pixels_of(0))})
    with pytest.raises(DataError, match="none of its 1 images are for the split 'test'"):
        load_image_folder(path, "test")


def renamed(names):
    """The files of `split_files` with other names of the folders `train` and `test`."""
    return {
        "/".join([names[name.split("/")[0]], *name.split("/")[1:]]): content
        for name, content in split_files().items()
    }


@pytest.mark.parametrize(
    ("train", "test"),
    [("train", "val"), ("training", "testing"), ("Train", "Validation"), ("train", "valid")],
)
def test_splits_have_the_names_that_people_give_them(tmp_path, train, test):
    path = write_folder(tmp_path / "pets", renamed({"train": train, "test": test}))
    for split in ("train", "test"):
        expected = load_image_folder(
            write_folder(tmp_path / "plain" / "pets", split_files()), split
        )
        data = load_image_folder(path, split, report=no_report)
        assert data.digest() == expected.digest()
        assert data.class_names == expected.class_names


def test_of_a_test_and_a_validation_folder_the_first_is_used_and_the_other_reported(tmp_path):
    files = split_files() | {"val/cat/z.png": png(pixels_of(9))}
    path, notes = write_folder(tmp_path / "pets", files), []
    assert len(load_image_folder(path, "test", report=notes.append)) == 3
    assert notes == [f"{path}: val/ is not used: the split 'test' has images already"]


def test_a_folder_of_images_in_each_class_is_ignored(tmp_path):
    files = {name.replace("dog/", "dog/images/"): c for name, c in split_files().items()}
    data = load_image_folder(write_folder(tmp_path, files), "train", report=no_report)
    assert data.class_names == ("cat", "dog")
    one = {"cat/images/a.png": png(pixels_of(0)), "cat/images/b.png": png(pixels_of(1))}
    only = load_image_folder(write_folder(tmp_path / "one", one), report=no_report, seed=1)
    assert only.class_names == ("cat",)


TINY_IMAGENET = {
    **{f"tiny/train/n0/images/n0_{i}.JPEG": png(pixels_of(i)) for i in range(2)},
    **{f"tiny/train/n1/images/n1_{i}.JPEG": png(pixels_of(2 + i)) for i in range(2)},
    "tiny/train/n0/n0_boxes.txt": b"n0_0.JPEG\t0\t0\t5\t5\n",
    "tiny/val/images/val_0.JPEG": png(pixels_of(4)),
    "tiny/val/images/val_1.JPEG": png(pixels_of(5)),
    "tiny/val/val_annotations.txt": b"val_0.JPEG\tn1\t0\t0\t5\t5\nval_1.JPEG\tn0\t0\t0\t5\t5\n",
    "tiny/test/images/test_0.JPEG": png(pixels_of(6)),
}
"""The layout of http://cs231n.stanford.edu/tiny-imagenet-200.zip; PNG content is recognized."""


@pytest.mark.parametrize("form", FORMS)
def test_tiny_imagenet_is_read_with_its_annotations(tmp_path, form):
    path, notes = FORMS[form](tmp_path / "tiny", TINY_IMAGENET), []
    train = load_image_folder(path, "train", report=notes.append)
    assert (train.labels.tolist(), train.class_names) == ([0, 0, 1, 1], ("n0", "n1"))
    test = load_image_folder(path, "test", report=notes.append)
    assert test.labels.tolist() == [1, 0]
    assert (test.images[0] == pixels_of(4).transpose(2, 0, 1)).all()
    assert f"{path}: test/ is not used: its images have no class" in notes


def test_a_validation_image_without_an_annotation_is_named(tmp_path):
    files = TINY_IMAGENET | {"tiny/val/images/val_9.JPEG": png(pixels_of(7))}
    with pytest.raises(DataError, match=r"has no class for tiny/val/images/val_9\.JPEG"):
        load_image_folder(write_folder(tmp_path, files), report=str)


@pytest.mark.parametrize("form", ["WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_other_image_formats_are_read(tmp_path, form):
    pixels = np.full((6, 6, 3), 77, np.uint8)
    options = {"lossless": True} if form == "WEBP" else {}
    content = encoded(Image.fromarray(pixels), form, **options)
    files = {f"train/wasp/a.{form.lower()}": content, "train/ant/b.png": png(pixels)}
    data = load_image_folder(write_folder(tmp_path, files), report=no_report)
    assert data.class_names == ("ant", "wasp")
    assert (data.images == 77).all()


def test_many_names_are_cut_short(tmp_path):
    path = write_folder(tmp_path, dict.fromkeys([f"{i:02d}.png" for i in range(12)], b""))
    with pytest.raises(DataError, match=r"Received: 00.png, .*, 09.png and 2 more$"):
        load_image_folder(path)


@pytest.mark.parametrize("form", FORMS)
def test_corrupt_files_are_all_named_and_refused_or_skipped(tmp_path, form):
    files = split_files()
    files["train/dog/b.PNG"] = files["train/dog/b.PNG"][:60]
    files["train/cat/x.png"] = b""
    path = FORMS[form](tmp_path / "pets", files)
    with pytest.raises(DataError) as raised:
        load_image_folder(path)
    for words in (f"{path}: corrupt: train/cat/x.png (", "), train/dog/b.PNG (", "on_corrupt="):
        assert words in str(raised.value)
    assert "object at 0x" not in str(raised.value)
    messages = []
    data = load_image_folder(path, on_corrupt="skip", report=messages.append)
    assert data.labels.tolist() == [0, 1, 1]
    assert (data.images[0] == pixels_of(4).transpose(2, 0, 1)).all()
    assert data.source == "image folder pets, train, 3 images, 2 corrupt files skipped"
    assert len(messages) == 1
    assert messages[0].startswith(f"{path}: skipped as corrupt: train/cat/x.png (")
    load_image_folder(path, "test", statistics=data.statistics, report=no_report)


def test_a_class_whose_images_are_all_corrupt_keeps_its_number(tmp_path):
    files = {**split_files(), "train/cat/x.png": b"", "train/cat/y.png": b"x"}
    path = write_folder(tmp_path, files)
    data = load_image_folder(path, on_corrupt="skip", report=str)
    assert data.class_names == ("cat", "dog")
    assert data.labels.tolist() == [1, 1, 1]


def test_nothing_but_corrupt_files_is_refused(tmp_path):
    path = write_folder(tmp_path, dict.fromkeys(split_files(), b"GIF89a"))
    with pytest.raises(DataError, match=r"corrupt: train/cat/x\.png"):
        load_image_folder(path, on_corrupt="skip", report=str)


def test_images_of_more_than_one_size_need_a_resolution(tmp_path):
    files = {**split_files(), "train/dog/b.PNG": png(pixels_of(1, 4, 5))}
    path = write_folder(tmp_path, files)
    rule = r"Received: train/cat/x.png of 6 x 6 pixels, train/dog/b.PNG of 5 x 4"
    with pytest.raises(DataError, match=rule):
        load_image_folder(path)
    assert load_image_folder(path, resolution=3).images.shape == (5, 3, 3, 3)


def test_other_files_are_passed_over_aloud_and_hidden_ones_quietly(tmp_path):
    files = {**split_files(), "notes.txt": b"x", "train/dog/Thumbs.db": b"x"}
    hidden = {"train/dog/.DS_Store": b"x", "__MACOSX/train/dog/._a.png": b"x", ".git/a.png": b"x"}
    messages = []
    for number, writer in enumerate(FORMS.values()):
        path = writer(tmp_path / str(number), {**files, **hidden})
        assert len(load_image_folder(path, report=messages.append)) == 5
        assert messages.pop() == (
            f"{path}: notes.txt, train/dog/Thumbs.db ignored: not image files, or links"
        )
        assert messages == []


def test_images_that_would_not_fit_into_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pymobilenet.data.decoding.MAX_BYTES", 5 * 3 * 36 - 1)
    path = write_tar(tmp_path / "pets.tar", split_files())
    with pytest.raises(DataError, match=r"at most 539 bytes.*5 images of 6 x 6 pixels, 540 bytes"):
        load_image_folder(path)
    assert len(load_image_folder(path, resolution=5)) == 5


@pytest.mark.parametrize(
    ("arguments", "error", "rule"),
    [
        ({"split": "valid"}, DataError, "Received: 'valid'"),
        ({"on_corrupt": "ignore"}, ConfigError, "on_corrupt must be .* Received: 'ignore'"),
        ({"test_fraction": 0}, ConfigError, r"test_fraction must be in \(0, 1\). Received: 0"),
        ({"test_fraction": float("nan")}, ConfigError, "Received: nan"),
        ({"resolution": 0}, ConfigError, r"resolution must be .* \[1, 4096\] pixels. Received: 0"),
        ({"resolution": 32.0}, ConfigError, "Received: 32.0"),
        ({"resolution": True}, ConfigError, "Received: True"),
        ({"seed": -1}, ConfigError, "seed must be .* Received: -1"),
    ],
)
def test_arguments_outside_the_rules_are_refused(tmp_path, arguments, error, rule):
    path = write_folder(tmp_path, flat_files({"a": 5}))
    with pytest.raises(error, match=rule):
        load_image_folder(path, **arguments)


def test_a_path_without_images_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    for name in ("a.txt", "nowhere"):
        with pytest.raises(DataError, match=f"{name}: neither a folder nor a tar or zip"):
            load_image_folder(tmp_path / name)
