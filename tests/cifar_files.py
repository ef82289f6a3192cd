"""Small files of CIFAR-100 in every official form, for the tests."""

import io
import struct
import tarfile

import numpy as np

from pymobilenet.data import load_cifar100

COUNTS = {"train": 12, "test": 5}
FINE_NAMES = [f"fine_{i}" for i in range(100)]
COARSE_NAMES = [f"coarse_{i}" for i in range(20)]
SUFFIXES = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.xz": "w:xz"}


def content_of(split):
    n = COUNTS[split]
    images = np.random.default_rng(n).integers(0, 256, (n, 3, 32, 32), np.uint8)
    fine = (np.arange(n) * 37 + n) % 100
    return images, fine, fine // 5


def python2_pickle(value):
    """Protocol 2 as Python 2 wrote it: byte strings, and numpy.core for arrays."""
    if isinstance(value, str):
        return b"U" + bytes([len(value)]) + value.encode("latin1")
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(python2_pickle, value)) + b"e"
    if isinstance(value, dict):
        items = b"".join(python2_pickle(k) + python2_pickle(v) for k, v in value.items())
        return b"}(" + items + b"u"
    data = value.tobytes()
    shape = b"(" + b"".join(map(python2_pickle, value.shape)) + b"t"
    dtype = b"cnumpy\ndtype\nU\x02" + value.dtype.str[1:].encode() + b"K\x00K\x01\x87R"
    dtype += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return (
        empty + b"(K\x01" + shape + dtype + b"\x89T" + struct.pack("<i", len(data)) + data + b"tb"
    )


def write_binary_layout(folder):
    folder.mkdir(parents=True)
    for split in COUNTS:
        images, fine, coarse = content_of(split)
        records = np.column_stack([coarse, fine, images.reshape(len(images), -1)])
        (folder / f"{split}.bin").write_bytes(records.astype(np.uint8).tobytes())
    (folder / "fine_label_names.txt").write_text("\n".join(FINE_NAMES) + "\n\n")
    (folder / "coarse_label_names.txt").write_text("\n".join(COARSE_NAMES) + "\n")


def split_dict(split):
    images, fine, coarse = content_of(split)
    return {
        "filenames": [f"{i}.png" for i in range(len(images))],
        "batch_label": f"{split} batch 1 of 1",
        "fine_labels": fine.tolist(),
        "coarse_labels": coarse.tolist(),
        "data": images.reshape(len(images), -1),
    }


def write_python_layout(folder, dumps=lambda value: b"\x80\x02" + python2_pickle(value) + b"."):
    folder.mkdir(parents=True)
    for split in COUNTS:
        (folder / split).write_bytes(dumps(split_dict(split)))
    meta = {"fine_label_names": FINE_NAMES, "coarse_label_names": COARSE_NAMES}
    (folder / "meta").write_bytes(dumps(meta))


WRITERS = {"binary": write_binary_layout, "python": write_python_layout}


def write_archive(path, layout, members=()):
    folder = path.parent / "to_pack" / f"cifar-100-{layout}"
    WRITERS[layout](folder)
    suffix = next(s for s in sorted(SUFFIXES, key=len, reverse=True) if path.name.endswith(s))
    with tarfile.open(path, SUFFIXES[suffix]) as tar:
        tar.add(folder, folder.name)
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def check(path, split):
    data = load_cifar100(path, split)
    images, fine, coarse = content_of(split)
    assert (data.images == images).all()
    assert data.images.flags.c_contiguous
    assert data.labels.tolist() == fine.tolist()
    assert data.coarse.tolist() == coarse.tolist()
    assert (data.class_names, data.coarse_names) == (tuple(FINE_NAMES), tuple(COARSE_NAMES))
    assert not data.synthetic
    return data
