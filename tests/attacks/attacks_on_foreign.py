"""Files that are not weights, and invalid configs."""

import gzip
import io
import pickle
import tarfile
import zipfile

import numpy as np
from attack import CONFIG, STATE, attacks
from torch_files import programs

NEITHER = (
    "must be safetensors, npz, torch's, HDF5 (Keras), JLD2 or BSON. "
    "Received: a file that begins with b"
)


def zipped(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return file.getvalue()


def tarred():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.npy"))
    return file.getvalue()


def lone_array():
    file = io.BytesIO()
    np.save(file, STATE["classifier.weight"])
    return file.getvalue()


def onnx_graph():
    import onnx

    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    axes = [onnx.helper.make_tensor_value_info(name, 1, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "net", axes[:1], axes[1:])
    return onnx.helper.make_model(graph, producer_name="torch").SerializeToString()


RANDOM = np.random.default_rng(0)
FOREIGN = {
    "nothing": (b"", f"(0 bytes): {NEITHER}''"),
    "one byte": (b"{", NEITHER),
    "zeros": (bytes(4096), NEITHER),
    "random bytes": (b"\x01" + RANDOM.bytes(4095), NEITHER),
    "a page that was not found": (b"<html>404 Not Found</html>" * 10, "a web page, not a model"),
    "a pointer of git": (
        b"version https://git-lfs.github.com/spec/v1\nsize 1\n",
        "a pointer of git-lfs, not the file itself",
    ),
    "a picture": (b"\x89PNG\r\n\x1a\n" + RANDOM.bytes(99), NEITHER),
    "a program": (b"\x7fELF\x02\x01\x01" + RANDOM.bytes(99), NEITHER),
    "gzip": (gzip.compress(bytes(10**6), mtime=0), "compressed: unpack it first"),
    "tar": (tarred(), NEITHER),
    "one array": (lone_array(), NEITHER),
    "an onnx graph": (onnx_graph(), "Relu  must follow a convolution"),
    "a pickle": (
        pickle.dumps(STATE),
        "a pickle that torch.save did not write; pickles are not run",
    ),
    "a pickle with a program": (
        pickle.dumps(programs("MARKER")["os.system"], protocol=4),
        "a pickle that torch.save did not write; pickles are not run",
    ),
    "a zip that ends early": (zipped("x.txt")[:-9], "a truncated or malformed zip: "),
    "a zip of nothing": (zipped(), "a zip that is neither npz (all members .npy) nor torch's"),
    "a zip of text": (zipped("x.txt", "y.npy"), "a zip that is neither npz (all members .npy)"),
    "a keras archive": (
        zipped("config.json", "metadata.json", "model.weights.h5"),
        "is not an HDF5 file",
    ),
}

TOML = CONFIG.to_toml().encode()
CONFIGS = {
    "no toml": (b"[model]\nfamily = ", "not TOML ("),
    "toml that is no UTF-8": (b"[model]\nfamily = '\xff'\n", "not TOML ("),
    "toml that nests": (b"x = " + b"[" * 50_000, "not TOML ("),
    "toml with a key twice": (TOML + b"family = 'v1'\n", "not TOML ("),
    "toml of a recipe": (b"[train]\nrate = 0.1\n", "no table [model]; it has ['train']"),
    "a model that is a number": (b"model = 3\n", "no table [model]; it has ['model']"),
    "a field of nobody": (TOML + b"depth = 1\n", "MobileNetConfig has no field 'depth'"),
    "a width that is infinite": (
        TOML.replace(b"width_mult = 0.05", b"width_mult = inf"),
        "width_mult must be in (0, 2]. Received: inf",
    ),
    "classes that are no number": (
        TOML.replace(b"num_classes = 2", b"num_classes = nan"),
        "num_classes must be in [1, 1000000]. Received: nan",
    ),
}

FILES = [*attacks("foreign", FOREIGN), *attacks("config", CONFIGS, command="info")]
