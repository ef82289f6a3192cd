"""HDF5 files with links, with false sizes, or with another structure than Keras'."""

import io
from dataclasses import replace

import h5py
import numpy as np
from attack import attacks
from format_models import KERAS_V1, peer_tensors

ARRAY = np.arange(4, dtype=np.float32)
PLACE = "x/x/kernel:0"


def built(build, **options):
    """The bytes of a file with Keras' attribute layer_names and the content that `build` writes."""
    file = io.BytesIO()
    with h5py.File(file, "w", **options) as root:
        root.attrs["layer_names"] = np.array([b"x"])
        build(root)
    return file.getvalue()


def array(content=ARRAY, **options):
    return built(lambda root: root.create_dataset(PLACE, data=content, **options))


def linked(link):
    def build(root):
        root["x/w/kernel:0"] = ARRAY
        root["x/x"] = link

    return built(build)


def circle(root):
    root["x/w/kernel:0"] = ARRAY
    root["x/x"] = root["x"]


def two_names(root):
    root["x/x/kernel:0"] = root["x/w/kernel:0"] = root.create_dataset("x/v/kernel:0", data=ARRAY)


def named_type(root):
    root["x/x"] = np.dtype("f4")


def external(root):
    root.create_dataset(PLACE, (4,), "f4", external=[("/etc/passwd", 0, 16)])


def virtual(root):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    root.create_virtual_dataset(PLACE, layout)


def chunked_claim(root):
    root.create_dataset(PLACE, (2**40,), "f4", chunks=(1024,))


def never_written(root):
    """A shape of terabytes, whose bytes HDF5 sets aside when the first is written."""
    root.create_dataset(PLACE, (2**40,), "f4")


def copies(root):
    root["x/x/kernel:0"] = ARRAY
    root["x/w/kernel:1"] = ARRAY


def with_metadata(text):
    def build(root):
        root[PLACE] = ARRAY
        root.attrs["pymobilenet0"] = np.bytes_(text)

    return built(build)


def no_layers():
    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        root["weights"] = ARRAY
    return file.getvalue()


def group_elsewhere(name):
    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        root[name] = h5py.ExternalLink("/etc/passwd", "/")
    return file.getvalue()


def enlarged():
    """A dataset whose dataspace says 4096 values where 1024 bytes of storage stand behind it."""
    content = array(np.zeros(1357, np.float32))
    old, new = (1357).to_bytes(8, "little"), (4096).to_bytes(8, "little")
    assert old in content
    return content.replace(old, new)


def model(change=None, config=KERAS_V1):
    """A model of Keras', with its tensors changed by `change`."""
    tensors = peer_tensors(config, "keras")
    if change:
        change(tensors)

    def build(root):
        for name, values in tensors.items():
            layer, _, variable = name.partition("/")
            root[f"{layer}/{layer}/{variable}:0"] = values

    return built(build)


def with_nan(tensors):
    tensors["conv1/kernel"] = tensors["conv1/kernel"] * np.float32("nan")


def of_three_axes(tensors):
    tensors["conv1/kernel"] = tensors["conv1/kernel"][0]


MODEL = model()
SMALL = model(config=replace(KERAS_V1, width_mult=0.05))
OWN_TYPE = np.dtype([("re", "f4"), ("im", "f4")])
TABLE = {
    "no hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(999), "is not an HDF5 file: "),
    "half a file": (MODEL[: len(MODEL) // 2], "is not an HDF5 file: "),
    "a file without its last byte": (MODEL[:-1], "is not an HDF5 file: "),
    "a soft link": (
        linked(h5py.SoftLink("/x/w")),
        "/x/x must be a member of its group, not a link to another place. Received: a SoftLink",
    ),
    "a soft link to itself": (linked(h5py.SoftLink("/x/x")), "Received: a SoftLink"),
    "a link to another file": (
        linked(h5py.ExternalLink("/etc/passwd", "/")),
        "must be a member of its group, not a link to another place. Received: a ExternalLink",
    ),
    "a circle": (built(circle), "must be the only name of its object, at most 16 groups deep"),
    "two names of an array": (built(two_names), "must be the only name of its object"),
    "groups in groups": (
        built(lambda root: root.create_group("x" + "/x" * 20)),
        "must be the only name of its object, at most 16 groups deep",
    ),
    "a type in place of an array": (built(named_type), "must be a group or a dataset"),
    "integers": (array(ARRAY.astype(np.int32)), "must be float32 or float64. Received: int32"),
    "float16": (array(ARRAY.astype(np.float16)), "must be float32 or float64. Received: float16"),
    "complex numbers": (array(ARRAY.astype(np.complex64)), "must be float32 or float64"),
    "records": (array(np.zeros(4, OWN_TYPE)), "must be float32 or float64. Received: "),
    "texts": (array(np.array([b"x"])), "must be float32 or float64. Received: |S1"),
    "texts of any length": (
        array(["x"], dtype=h5py.string_dtype()),
        "must be float32 or float64. Received: object",
    ),
    "no numbers": (array(h5py.Empty("f4")), "must hold numbers. Received: a null dataspace"),
    "a compressed array": (
        array(np.zeros(10**6, np.float32), compression="gzip"),
        "must be stored in one piece, as Keras writes it",
    ),
    "a chunked array": (array(ARRAY, chunks=(2,)), "must be stored in one piece, as Keras"),
    "chunks of terabytes": (built(chunked_claim), "must be stored in one piece"),
    "a filter of others": (array(ARRAY, shuffle=True), "must be stored in one piece"),
    "an array in other files": (built(virtual), "must be stored in one piece"),
    "an array in another file": (
        built(external),
        "must lie in this file. Received: a link to b'/etc/passwd'",
    ),
    "terabytes that are not there": (
        built(never_written),
        "claims 4398046511104 bytes. Received: ",
    ),
    "an array larger than its bytes": (enlarged(), "is not an HDF5 file: "),
    "an array twice": built(copies),
    "an hdf5 file of others": (
        no_layers(),
        "must be a Keras file, with an attribute layer_names or a group",
    ),
    "layers elsewhere": (group_elsewhere("layers"), "/layers must be a member of its group"),
    "a model elsewhere": (group_elsewhere("model_weights"), "/model_weights must be a member of"),
    "metadata that is no json": (with_metadata(b"{"), "attributes pymobilenet0, ...: not JSON"),
    "metadata of numbers": (with_metadata(b'{"k":1}'), "pymobilenet0, ... must be "),
    "metadata that is a list": (with_metadata(b"[]"), "pymobilenet0, ...: not a JSON object"),
    "metadata that nests": (with_metadata(b"[" * 60_000), "attributes pymobilenet0, ...: not JSON"),
    "a NaN": (
        model(with_nan),
        "stem.conv.weight must be finite. Received: nan at [0, 0, 0, 0]",
    ),
    "a kernel of three axes": (
        model(of_three_axes),
        "stem.conv.weight must have the axes of keras: stem.conv.weight must have Keras' axes (kH",
    ),
}

KERAS = attacks("keras", TABLE, container="keras")
