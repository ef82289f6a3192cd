"""Small files of CIFAR-10 in every official form, for the tests."""

import tarfile

import numpy as np
from cifar_files import SUFFIXES, python2_pickle

COUNTS = {
    "data_batch_1": 3,
    "data_batch_2": 2,
    "data_batch_3": 1,
    "data_batch_4": 4,
    "data_batch_5": 2,
    "test_batch": 5,
}
FILES = {"train": list(COUNTS)[:5], "test": ["test_batch"]}
FOLDERS = {"binary": "cifar-10-batches-bin", "python": "cifar-10-batches-py"}
NAMES = [f"class_{i}" for i in range(10)]


def content_of(name):
    n = COUNTS[name]
    seed = list(COUNTS).index(name)
    images = np.random.default_rng(seed).integers(0, 256, (n, 3, 32, 32), np.uint8)
    return images, (np.arange(n) * 7 + seed) % 10


def content_of_split(split):
    images, labels = zip(*map(content_of, FILES[split]), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def write_binary_layout(folder):
    folder.mkdir(parents=True)
    for name in COUNTS:
        images, labels = content_of(name)
        records = np.column_stack([labels, images.reshape(len(images), -1)])
        (folder / f"{name}.bin").write_bytes(records.astype(np.uint8).tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    (folder / "readme.html").write_text("<html></html>")


def batch_dict(name):
    images, labels = content_of(name)
    return {
        "batch_label": f"training batch {name[-1]} of 5",
        "labels": labels.tolist(),
        "data": images.reshape(len(images), -1),
        "filenames": [f"{i}.png" for i in range(len(images))],
    }


def write_python_layout(folder):
    folder.mkdir(parents=True)
    meta = {"num_cases_per_batch": 10000, "label_names": NAMES, "num_vis": 3072}
    for name, value in {
        **{name: batch_dict(name) for name in COUNTS},
        "batches.meta": meta,
    }.items():
        (folder / name).write_bytes(b"\x80\x02" + python2_pickle(value) + b".")
    (folder / "readme.html").write_text("<html></html>")


WRITERS = {"binary": write_binary_layout, "python": write_python_layout}


def write_archive(path, layout):
    folder = path.parent / "to_pack_10" / FOLDERS[layout]
    WRITERS[layout](folder)
    suffix = next(s for s in sorted(SUFFIXES, key=len, reverse=True) if path.name.endswith(s))
    with tarfile.open(path, SUFFIXES[suffix]) as tar:
        tar.add(folder, folder.name)
    return path
