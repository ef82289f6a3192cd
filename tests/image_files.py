"""Small image folders and archives of them, for the tests."""

import io
import tarfile
import zipfile

import numpy as np
from PIL import Image


def pixels_of(seed, height=6, width=6):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def png(pixels, **options):
    return encoded(Image.fromarray(pixels), "PNG", **options)


def encoded(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def split_files(height=6, width=6):
    """Names -> contents of two classes, 3 and 2 training images, 1 and 2 test images."""
    names = ["train/dog/a.png", "train/dog/b.PNG", "train/dog/c.png"]
    names += ["train/cat/x.png", "train/cat/y.png"]
    names += ["test/dog/a.png", "test/cat/p.png", "test/cat/q.png"]
    return {name: png(pixels_of(i, height, width)) for i, name in enumerate(names)}


def flat_files(counts):
    """Names -> contents of `counts` images of each class: {"cat": 3, ...}."""
    return {
        f"{name}/{i:03d}.png": png(pixels_of(1000 * k + i, 2, 2))
        for k, (name, count) in enumerate(counts.items())
        for i in range(count)
    }


def write_folder(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def write_tar(path, files, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


FORMS = {
    "folder": write_folder,
    "tar": write_tar,
    "tar.gz": lambda path, files: write_tar(path, files, "w:gz"),
    "tar.xz": lambda path, files: write_tar(path, files, "w:xz"),
    "zip": write_zip,
}
