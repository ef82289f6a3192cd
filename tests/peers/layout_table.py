"""The table of docs/layouts.md: how closely nets of other projects are read and written.

`python tests/peers/layout_table.py` builds every net with random weights, reads its file, computes
its outputs with torch in float32, writes the weights into the project's format again, loads them
into a second net of the project, and writes docs/layouts.md.
"""

import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

os.environ.setdefault("KERAS_BACKEND", "torch")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import conftest  # noqa: E402, F401  # lets torchvision import
import keras  # noqa: E402  # after its backend is set
import peer_nets  # noqa: E402
import timm  # noqa: E402
import torchvision  # noqa: E402
import transformers  # noqa: E402

from pymobilenet import backend  # noqa: E402
from pymobilenet.formats import load_any, save_as  # noqa: E402

CLASSES = 11
SIZE = 64
TIMM = (
    *(f"mobilenetv1_{name}" for name in ("100", "100h", "125")),
    *(f"mobilenetv2_{name}" for name in ("035", "050", "075", "100", "110d", "120d", "140")),
)


@dataclass(frozen=True)
class Row:
    """A net of another project, and the forms in which it is read and written.

    Attributes:
        project: The name of the project.
        net: The name of the net.
        make: Returns the net with new random weights.
        save: Saves a net to a path: the project's own way.
        load: Loads weights that pymobilenet wrote into a net.
        outputs: The outputs (N, classes) of a net for images (N, 3, H, W).
        to: `save_as`'s format.
        suffix: Of the files.
        layout: `load_any`'s layout, if the names are those of another project, too.
    """

    project: str
    net: str
    make: Callable
    save: Callable
    load: Callable
    outputs: Callable
    to: str
    suffix: str
    layout: str | None = None


def torch_outputs(module, images):
    with torch.no_grad():
        outputs = module.eval()(torch.from_numpy(images))
    return getattr(outputs, "logits", outputs).numpy()


def keras_outputs(model, images):
    return np.asarray(model.predict(images.transpose(0, 2, 3, 1), verbose=0))


def save_state(module, path):
    torch.save(module.state_dict(), path)


def load_state(module, path):
    module.load_state_dict(torch.load(path, weights_only=True), strict=True)
    return module


def of_torch(project, net, make, to, layout=None):
    def randomized():
        return peer_nets.randomized(make())

    forms = (save_state, load_state, torch_outputs, to, ".pt")
    return Row(project, net, randomized, *forms, layout)


def of_transformers(kind, fields):
    def make():
        config = getattr(transformers, f"{kind}Config")(
            image_size=SIZE, num_labels=CLASSES, **fields
        )
        return peer_nets.randomized(getattr(transformers, f"{kind}ForImageClassification")(config))

    def load(module, path):
        return type(module).from_pretrained(path)

    name = f"{kind}ForImageClassification"
    save = lambda module, path: module.save_pretrained(path)  # noqa: E731
    return Row("transformers", name, make, save, load, torch_outputs, "huggingface", "")


def of_keras(name, alpha, suffix):
    def make():
        return getattr(keras.applications, name)(
            (SIZE, SIZE, 3), alpha, weights=None, classes=CLASSES, classifier_activation=None
        )

    def save(model, path):
        model.save_weights(path) if suffix == ".weights.h5" else model.save(path)

    def load(model, path):
        if suffix == ".keras":
            return keras.saving.load_model(path)
        model.load_weights(path)
        return model

    net = f"{name}, `{suffix}`"
    return Row("Keras", net, make, save, load, keras_outputs, "keras", suffix)


def chenyaofo():
    module = torchvision.models.mobilenet_v2(width_mult=0.5, num_classes=CLASSES)
    module.features[0][0].stride = module.features[2].conv[1][0].stride = (1, 1)
    return module


def rows():
    """Return all rows of the table."""
    for width in (0.5, 1.0, 1.4):
        make = lambda width=width: torchvision.models.mobilenet_v2(  # noqa: E731
            width_mult=width, num_classes=CLASSES
        )
        yield of_torch("torchvision", f"mobilenet_v2, width {width}", make, "torchvision")
    for name in TIMM:
        make = lambda name=name: timm.create_model(name, num_classes=CLASSES)  # noqa: E731
        yield of_torch("timm", name, make, "timm")
    yield of_transformers("MobileNetV1", {"depth_multiplier": 0.25})
    yield of_transformers("MobileNetV2", {"depth_multiplier": 0.35})
    for name, alpha in (("MobileNet", 0.25), ("MobileNetV2", 0.35)):
        for suffix in (".keras", ".h5", ".weights.h5"):
            yield of_keras(name, alpha, suffix)
    for name in peer_nets.NETS:
        if not name.startswith("huggingface"):
            make = peer_nets.NETS[name][2]
            yield of_torch(name, f"MobileNetV{peer_nets.NETS[name][0][1]}", make, name)
    yield of_torch("chenyaofo", "MobileNetV2", chenyaofo, "chenyaofo", "chenyaofo")


def errors(row):
    """Return the relative errors of the outputs as read, and as written and loaded again."""
    images = np.random.default_rng(5).standard_normal((2, 3, SIZE, SIZE)).astype(np.float32)
    torch.manual_seed(0)
    keras.utils.set_random_seed(0)
    net = row.make()
    expected = row.outputs(net, images)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, ours = Path(folder, f"theirs{row.suffix}"), Path(folder, f"ours{row.suffix}")
        row.save(net, theirs)
        loaded = load_any(theirs, layout=row.layout)
        model = backend("torch").from_state(loaded.config, loaded.state)
        save_as(ours, loaded.config, loaded.state, to=row.to, metadata=loaded.metadata)
        torch.manual_seed(1)
        again = row.outputs(row.load(row.make(), ours), images)
    return tuple(
        float(np.linalg.norm(outputs - expected) / np.linalg.norm(expected))
        for outputs in (model.predict(images), again)
    )


HEAD = """# Layouts of other projects

Each net below was built by its project with random weights, saved, read with `load_any`, computed
by the torch backend in float32, written with `save_as` and loaded into a second net of the project.
The errors are those of the outputs for two random images of 64x64 pixels, relative to the outputs
of the original net (Frobenius norm); 1e-7 is float32's rounding. The nets of
{hand} have the modules and names of these
repositories, which are no packages.

| project | net | error as read | error as written |
|---|---|---|---|
"""

VERSIONS = """
{count} layouts: torch {torch}, torchvision {torchvision}, timm {timm}, transformers {transformers},
Keras {keras}. `python tests/peers/layout_table.py` writes this page, and `nox -s peers` measures it
again. `Flux.state` in JLD2 and BSON files, Lux's parameters and Metalhead's nets are tested in
Julia.
"""


def table():
    """Return the text of docs/layouts.md."""
    lines, count = [], 0
    for row in rows():
        read, written = errors(row)
        cells = " | ".join(f"{error:.1e}" if error else "0" for error in (read, written))
        lines.append(f"| {row.project} | {row.net} | {cells} |")
        count += 1
    hand = ", ".join(name for name in peer_nets.NETS if not name.startswith("huggingface"))
    modules = {m.__name__: m.__version__ for m in (torch, torchvision, timm, transformers, keras)}
    versions = VERSIONS.format(count=count, **modules)
    return HEAD.format(hand=f"{hand} and chenyaofo") + "\n".join(lines) + "\n" + versions


if __name__ == "__main__":
    (ROOT / "docs/layouts.md").write_text(table(), encoding="utf-8")
