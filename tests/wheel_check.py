"""Use an installed pymobilenet as a newcomer would, in an empty folder; run by `nox -s wheel`.

Says what it did. Everything that needs Julia is run where a Julia is, or can be downloaded.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

import pymobilenet
from pymobilenet import MobileNetConfig, backend
from pymobilenet.backends.julia import unavailable
from pymobilenet.parity import read_recordings

PACKAGE = Path(pymobilenet.__file__).parent


def main() -> None:
    assert "site-packages" in str(PACKAGE), f"not the installed package: {PACKAGE}"
    assert (PACKAGE.parent / "pymobilenet_julia" / "src" / "MobileNets.jl").is_file()
    recordings = read_recordings()
    print_line(f"{len(recordings)} recordings in the wheel")
    config = MobileNetConfig(width_mult=0.25, resolution=32, num_classes=10)
    backend("torch").build(config).save("model.safetensors")
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    logits = {"torch": backend("torch").load("model.safetensors").predict(images)}
    reason = unavailable()
    if reason is None:
        logits["julia"] = backend("julia").load("model.safetensors").predict(images)
        np.testing.assert_allclose(logits["julia"], logits["torch"], rtol=1e-4, atol=1e-4)
        print_line(f"Julia from the wheel: {backend('julia').versions()}")
    else:
        print_line(f"NOT RUN in Julia: {reason}")
    command = [sys.executable, "-m", "pymobilenet.cli", "--version"]
    version = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    first = {name: values[0, :2].tolist() for name, values in logits.items()}
    print_line(f"{version.strip()}: {json.dumps(first)}")


def print_line(text: str) -> None:
    sys.stdout.write(f"wheel: {text}\n")


if __name__ == "__main__":
    main()
