"""Measure one model in torch, Julia and ONNX Runtime, for the page docs/results.md.

    python docs/figures/deployment.py MODEL cifar-100-binary.tar.gz --threads 2

Accuracy, bytes and the latency of one image (median of 200 calls, in turns; torch and Julia are
frozen), for the float32 model in each runtime and for ONNX int8; then every test image whose
predicted class is not the same in the float32 runtimes, with its margin: the difference of its two
highest logits in torch. ONNX files are written to a temporary folder.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from pymobilenet.backends import backend
from pymobilenet.bench.process import use_threads
from pymobilenet.data import open_cifar100
from pymobilenet.data.decoding import resized
from pymobilenet.evaluation import as_trained, check_usable, model_of
from pymobilenet.formats import convert, load_any
from pymobilenet.hub import resolve_model_file
from pymobilenet.quantization.quantize import labelled_batches, predictor, quantize

CALLS = 200
CALIBRATION_IMAGES = 512


def main(name, data, threads):
    file, _ = resolve_model_file(name)
    loaded = load_any(file)
    scaled = check_usable(loaded, None, str(file))
    calibration = open_cifar100(data, "train").subset(range(CALIBRATION_IMAGES))
    train, test = (
        as_trained(
            resized(part, loaded.config.resolution), loaded.config, loaded.metadata, scaled, name
        )
        for part in (calibration, open_cifar100(data, "test"))
    )
    with tempfile.TemporaryDirectory() as folder:
        float32, int8 = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        convert(file, float32)
        images = labelled_batches(train, scaled)
        quantize(float32, int8, (batch for batch, _ in images))
        sizes = {"ONNX Runtime": float32.stat().st_size, "ONNX Runtime, int8": int8.stat().st_size}
        programs = {
            "torch": model_of(loaded, backend("torch")).freeze(),
            "julia": model_of(loaded, backend("julia")).freeze(),
            "ONNX Runtime": predictor(float32, threads),
            "ONNX Runtime, int8": predictor(int8, threads),
        }
        logits = {
            name: np.concatenate([run(images) for images, _ in labelled_batches(test, scaled)])
            for name, run in programs.items()
        }
        one = next(iter(labelled_batches(test, scaled)))[0][:1]
        seconds = {name: [] for name in programs}
        for _ in range(CALLS):
            for name, run in programs.items():
                start = time.perf_counter()
                run(one)
                seconds[name].append(time.perf_counter() - start)
    print("| program | top-1 | bytes | one image, ms |\n|---|---|---|---|")
    for program, values in logits.items():
        top1 = (values.argmax(axis=1) == test.labels).mean()
        size, latency = sizes.get(program, file.stat().st_size), 1e3 * np.median(seconds[program])
        print(f"| {program} | {top1:.2%} | {size:,} | {latency:.2f} |")
    print_differences({name: logits[name] for name in ("torch", "julia", "ONNX Runtime")})
    best, best_int8 = (logits[n].argmax(axis=1) for n in ("torch", "ONNX Runtime, int8"))
    same = (best == best_int8).mean()
    print(f"torch and int8 predict the same class of {same:.2%} of the images")


def print_differences(logits):
    """Print the images of which the programs predict different classes."""
    classes = np.array([values.argmax(axis=1) for values in logits.values()])
    different = np.flatnonzero((classes != classes[0]).any(axis=0))
    print(f"{len(different)} of {classes.shape[1]} predicted classes differ in {', '.join(logits)}")
    ordered = np.sort(logits["torch"], axis=1)
    margins = ordered[:, -1] - ordered[:, -2]
    for image in different:
        print(f"image {image}: {classes[:, image]}, margin {margins[image]:.1e}")
    print(f"the five smallest margins: {', '.join(f'{m:.1e}' for m in np.sort(margins)[:5])}")
    worst = max(np.abs(values - logits["torch"]).max() for values in logits.values())
    print(f"largest difference of a logit: {worst:.1e}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    use_threads(arguments.threads)
    main(arguments.model, arguments.data, arguments.threads)
