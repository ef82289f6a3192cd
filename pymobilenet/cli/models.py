"""Models in files: `convert`, `quantize` and `info`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pymobilenet.cli.common import DataOption, console, exit_on_error
from pymobilenet.cli.reading import (
    ConfigOption,
    MapOption,
    MeanOption,
    ReadingOptions,
    SampleOption,
    SetOption,
    StdOption,
    WhichOption,
    read_model,
    scaling_metadata,
    write_map,
)


def convert(
    src: Annotated[Path, typer.Argument(help="A model of this project or another.")],
    dst: Annotated[Path, typer.Argument(help="The new file.")],
    source: Annotated[
        str | None,
        typer.Option("--from", help="Format of SRC; detected by default."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--to", help="Format of DST; by default that of its suffix.")
    ] = None,
    changes: SetOption = [],
    config: ConfigOption = None,
    sample: SampleOption = None,
    which: WhichOption = None,
    name_map: MapOption = None,
    write_name_map: Annotated[
        Path | None, typer.Option("--write-map", help="Write the map of names there, as JSON.")
    ] = None,
    mean: MeanOption = None,
    std: StdOption = None,
) -> None:
    """Convert a model to another file format or project, tensor by tensor."""
    from pymobilenet.formats import convert as convert_file

    options = ReadingOptions(changes, config, sample, which, name_map, mean, std)
    with exit_on_error():
        report = convert_file(
            src, dst, source, target, metadata=scaling_metadata(options), **options.arguments()
        )
        if write_name_map is not None:
            write_map(write_name_map, report.name_map)
    console.print(str(report), soft_wrap=True, markup=False)


def quantize(
    src: Annotated[Path, typer.Argument(help="A float32 ONNX file that `convert` wrote.")],
    dst: Annotated[Path, typer.Argument(help="The int8 ONNX file.")],
    data: DataOption = None,
    preprocessing: Annotated[
        str | None,
        typer.Option(
            help="How images are scaled: unit, standard or keras; by default as the file says, "
            "else standard."
        ),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Training images for calibration.")] = 512,
) -> None:
    """Quantize an ONNX model to int8, calibrated on CIFAR-100, and print the loss of accuracy."""
    from pymobilenet.data import open_cifar100, preprocessing_of
    from pymobilenet.data.decoding import resized
    from pymobilenet.errors import DataError
    from pymobilenet.evaluation import as_trained
    from pymobilenet.quantization.quantize import about, labelled_batches, quantization_loss
    from pymobilenet.quantization.quantize import quantize as quantize_file

    with exit_on_error():
        config, metadata = about(src)
        scaled = preprocessing_of(metadata, preprocessing, str(src))
        train = open_cifar100(data, "train")
        train, test = (
            as_trained(resized(part, config.resolution), config, metadata, scaled, str(src))
            for part in (train.subset(range(min(images, len(train)))), open_cifar100(data, "test"))
        )
        if test.num_classes != config.num_classes:
            raise DataError(
                f"{test.source} has {test.num_classes} classes; the model must have as many. "
                f"Received: num_classes {config.num_classes}. In Python, "
                "pymobilenet.quantization.quantize takes any images"
            )
        calibration = labelled_batches(train, scaled)
        quantize_file(src, dst, (batch for batch, _ in calibration))
        loss = quantization_loss(src, dst, labelled_batches(test, scaled))
    console.print(str(loss), soft_wrap=True)


def info(
    config: Annotated[Path, typer.Argument(help="A TOML file with a \\[model] table, or a model.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    changes: SetOption = [],
    which: WhichOption = None,
) -> None:
    """Print the cost of each layer, and of full convolutions in its place."""
    from pymobilenet.config import MobileNetConfig
    from pymobilenet.summary import print_summary, summary

    with exit_on_error():
        is_text = True
        if config.is_file():
            with config.open("rb") as file:
                is_text = b"\0" not in file.read(4096)  # every weights file has a zero byte there
        if is_text:
            net = MobileNetConfig.from_toml(config)
        else:
            net = read_model(config, ReadingOptions(changes, which=which)).config
        result = summary(net)
    if as_json:
        typer.echo(json.dumps(result.to_dict(), indent=1))
    else:
        print_summary(result, console)
