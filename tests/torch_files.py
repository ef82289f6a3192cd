"""Files of torch assembled by the tests, with any sizes and any code in them."""

import functools
import io
import os
import pickle
import subprocess
import zipfile
from collections import OrderedDict

import torch


def saved(content, new=True):
    """The bytes `torch.save` writes: a zip, or (not `new`) the format before it."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=new)
    return file.getvalue()


def repacked(content, change, method=zipfile.ZIP_STORED):
    """A zip with its records (name -> bytes) as `change` leaves them."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    change(records)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, record in records.items():
            archive.writestr(name, record)
    return file.getvalue()


def with_pickle(pickled):
    """A file that holds `pickled` in place of torch's own pickle, and one storage of 4 floats."""

    def change(records):
        (name,) = [name for name in records if name.endswith("data.pkl")]
        records[name] = pickled

    return repacked(saved({"x": torch.arange(4.0)}), change)


class Reduced:
    """Pickled as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Stateful:
    """Pickled as an object with a state."""

    x = 1

    def __setstate__(self, state):
        raise AssertionError("run")


def programs(marker):
    """Things whose pickles would make the file `marker` if anything of them were run."""
    code = f"open({marker!r}, 'w')"
    stateful = Stateful()
    stateful.x = 2
    return {
        "os.system": Reduced(os.system, f"touch {marker}"),
        "eval": Reduced(eval, code),
        "exec": Reduced(exec, code),
        "subprocess": Reduced(subprocess.Popen, ["touch", marker]),
        "open": Reduced(open, marker, "w"),
        "torch.load": Reduced(torch.load, marker),
        "torch.hub": Reduced(torch.hub.load, "a/b", "c"),
        "an object": stateful,
        "a module": torch.nn.Linear(2, 3),
        "a partial": Reduced(functools.partial, eval, code),
    }


def tensor_pickle(offset=0, shape=(4,), strides=(1,), count=4, key="0", kind="FloatStorage"):
    """The pickle of {"x": tensor}, with any claim."""

    class Pickler(pickle._Pickler):
        def persistent_id(self, value):
            return value.pid if isinstance(value, Storage) else None

    class Storage:
        pid = ("storage", getattr(torch, kind), key, "cpu", count)

    rebuild = torch._utils._rebuild_tensor_v2
    arguments = (Storage(), offset, shape, strides, False, OrderedDict())
    file = io.BytesIO()
    Pickler(file, protocol=2).dump({"x": Reduced(rebuild, *arguments)})
    return file.getvalue()
