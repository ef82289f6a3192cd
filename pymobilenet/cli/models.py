"""Models in files: `convert`, `quantize` and `info`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pymobilenet.cli.common import DataOption, console, exit_on_error


def convert(
    src: Annotated[Path, typer.Argument(help="A model of this project or another.")],
    dst: Annotated[Path, typer.Argument(help="The new file.")],
    source: Annotated[
        str | None, typer.Option("--from", help="What SRC is; told by its content if left out.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--to", help="What to write; told by DST's suffix if left out.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML with [model]: what SRC does not show.")
    ] = None,
) -> None:
    """Carry a model from one file format or project to another, tensor by tensor, by name."""
    from pymobilenet.config import MobileNetConfig
    from pymobilenet.formats import convert as carry

    with exit_on_error():
        given = MobileNetConfig.from_toml(config) if config else None
        report = carry(src, dst, source, target, given)
    console.print(str(report), soft_wrap=True, markup=False)


def quantize(
    src: Annotated[Path, typer.Argument(help="A float32 ONNX file that `convert` wrote.")],
    dst: Annotated[Path, typer.Argument(help="The int8 ONNX file.")],
    data: DataOption = None,
    preprocessing: Annotated[
        str | None,
        typer.Option(
            help="How images are scaled: unit, standard, keras; if left out, as the file says, "
            "else standard."
        ),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Training images to calibrate with.")] = 512,
) -> None:
    """Make an ONNX model int8, calibrated on CIFAR-100; print what it costs on the test images."""
    from pymobilenet.data import open_cifar100, preprocessing_of
    from pymobilenet.errors import DataError
    from pymobilenet.evaluation import as_trained
    from pymobilenet.quantization.quantize import about, labelled_batches, quantization_loss
    from pymobilenet.quantization.quantize import quantize as make

    with exit_on_error():
        config, metadata = about(src)
        scaled = preprocessing_of(metadata, preprocessing, str(src))
        train, test = (
            as_trained(open_cifar100(data, split), config, metadata, scaled, str(src))
            for split in ("train", "test")
        )
        if test.num_classes != config.num_classes:
            raise DataError(
                f"{test.source} has {test.num_classes} classes; the model must have as many. "
                f"Received: num_classes {config.num_classes}. In Python, "
                "pymobilenet.quantization.quantize takes any images"
            )
        known = labelled_batches(train.subset(range(min(images, len(train)))), scaled)
        make(src, dst, (batch for batch, _ in known))
        loss = quantization_loss(src, dst, labelled_batches(test, scaled))
    console.print(str(loss), soft_wrap=True)


def info(
    config: Annotated[Path, typer.Argument(help="A TOML file with [model], or a model.")],
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Print what each layer costs, and what full convolutions in its place would."""
    from pymobilenet.config import MobileNetConfig
    from pymobilenet.formats import load_any
    from pymobilenet.summary import print_summary, summary

    with exit_on_error():
        with config.open("rb") as file:
            text = b"\0" not in file.read(4096)  # every file of weights has one there
        found = summary(MobileNetConfig.from_toml(config) if text else load_any(config).config)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
    else:
        print_summary(found, console)
