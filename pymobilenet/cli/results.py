"""Results: `evaluate`, `predict` and `compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from pymobilenet.backends import BACKENDS, backend
from pymobilenet.cli.common import console, exit_on_error, print_written, show_progress
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
)
from pymobilenet.files import make_folder

if TYPE_CHECKING:
    from pymobilenet.data.cifar_layouts import Split

BACKEND_HELP = "One of " + ", ".join(BACKENDS)

DEFAULT_MODEL = "v1-0.25-96.pymobilenet"

ModelArgument = Annotated[Path, typer.Argument(help="A model of this project or another.")]
PreprocessingOption = Annotated[
    str | None,
    typer.Option(
        help="How images are scaled: unit, standard or keras; by default as the file says, "
        "else standard."
    ),
]


def evaluate(
    model: ModelArgument,
    data: Annotated[
        str | None,
        typer.Option(help="cifar-100, cifar-10, synthetic, or a folder or archive with images."),
    ] = None,
    backend_name: Annotated[str, typer.Option("--backend", help=BACKEND_HELP)] = "torch",
    out: Annotated[Path | None, typer.Option(help="Folder for JSON and plots.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    split: Annotated[str, typer.Option(help="test, train")] = "test",
    preprocessing: PreprocessingOption = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Evaluate this many images, evenly spaced."),
    ] = None,
    changes: SetOption = [],
    config: ConfigOption = None,
    sample: SampleOption = None,
    which: WhichOption = None,
    name_map: MapOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
) -> None:
    """Evaluate a model on a labelled data set: loss, top-1, top-5, classes, calibration."""
    from pymobilenet.data import open_or_cifar100
    from pymobilenet.data import scaling as data_scaling
    from pymobilenet.evaluation import (
        as_trained,
        check_usable,
        describe_scaling,
        model_of,
        print_evaluation,
        to_dict,
        to_json,
        write_evaluation_report,
    )
    from pymobilenet.evaluation import evaluate as evaluate_model

    with exit_on_error(), show_progress() as progress:
        loaded = read_model(
            model, ReadingOptions(changes, config, sample, which, name_map, mean, std)
        )
        scaled = check_usable(loaded, preprocessing, str(model))
        if out is not None:
            make_folder(out)
        images = open_or_cifar100(data, cast("Split", split), loaded.config.resolution)
        images = as_trained(images, loaded.config, loaded.metadata, scaled, str(model))
        scaling = describe_scaling(scaled, data_scaling(scaled, images))
        if limit is not None:
            count = min(limit, len(images))
            images = images.subset([index * len(images) // count for index in range(count)])
        built = model_of(loaded, backend(backend_name))
        batch_size = 256
        advance = progress(f"{model.name}, {backend_name}", -(-len(images) // batch_size))
        result = evaluate_model(built, images, scaled, batch_size, advance)
        values = to_dict(result, built, model)
        written = write_evaluation_report(result, images, values, out) if out is not None else []
    if as_json:
        typer.echo(to_json(values), nl=False)
        return
    print_evaluation(result, console)
    console.print(scaling, soft_wrap=True, markup=False)
    if written:
        print_written(written)


def predict(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="[MODEL] IMAGE...",
            help="A model of this project or another, and image files that Pillow reads. Without "
            f"a model: {DEFAULT_MODEL}, which is part of the package and knows the 100 classes of "
            "CIFAR-100.",
        ),
    ],
    backend_name: Annotated[
        list[str],
        typer.Option("--backend", help=f"{BACKEND_HELP}; several: side by side."),
    ] = ["torch"],
    top: Annotated[int, typer.Option(min=1, help="How many classes to print.")] = 5,
    classes: Annotated[
        Path | None,
        typer.Option(help="Text file: a name for each class, one a line."),
    ] = None,
    preprocessing: PreprocessingOption = None,
    changes: SetOption = [],
    config: ConfigOption = None,
    sample: SampleOption = None,
    which: WhichOption = None,
    name_map: MapOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
) -> None:
    """Print the most likely classes of images, in one backend or in several side by side."""
    from pymobilenet.data import statistics_of
    from pymobilenet.data.preprocessing import PREPROCESSING
    from pymobilenet.evaluation import (
        check_usable,
        class_names,
        describe_scaling,
        model_of,
        print_prediction,
        probabilities,
        read_image,
    )

    with exit_on_error():
        model, images = model_and_images(paths)
        loaded = read_model(
            model, ReadingOptions(changes, config, sample, which, name_map, mean, std)
        )
        net = loaded.config
        scaled = check_usable(loaded, preprocessing, str(model))
        statistics = statistics_of(loaded.metadata, scaled, str(model))
        names = class_names(net, loaded.metadata, str(model), classes)
        pixels = [read_image(path, net.resolution) for path in images]
        models = {name: model_of(loaded, backend(name)) for name in backend_name}
        for path, image in zip(images, pixels, strict=True):
            by_backend = {
                name: probabilities(built, image[None], scaled, statistics)[0]
                for name, built in models.items()
            }
            print_prediction(str(path), by_backend, names, top, console)
        scaling = describe_scaling(scaled, statistics or PREPROCESSING[scaled])
        console.print(scaling, soft_wrap=True, markup=False)


def model_and_images(paths: Sequence[Path]) -> tuple[Path, Sequence[Path]]:
    """Return the model and the images of `predict`; an image in the first place needs no model.

    Raises:
        ConfigError: A model alone.
    """
    from pymobilenet.data.image_files import SUFFIXES
    from pymobilenet.errors import ConfigError

    if paths[0].suffix.lower() in SUFFIXES:
        return Path(DEFAULT_MODEL), paths
    if len(paths) == 1:
        raise ConfigError(
            "predict requires an image, as in `predict photo.jpg` or `predict MODEL photo.jpg`. "
            f"Received: {paths[0]} alone"
        )
    return paths[0], paths[1:]


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders, each with a log.jsonl.")],
    out: Annotated[Path, typer.Option(help="Folder for the plot.")] = Path("compare"),
) -> None:
    """Plot the curves of training runs in one picture, and print their best values."""
    from pymobilenet.evaluation import print_runs, read_runs, write_curves

    with exit_on_error():
        logs = read_runs(runs)
        make_folder(out)
        write_curves(logs, out / "curves.png")
    print_runs(logs, console)
    print_written([out / "curves.png"])
