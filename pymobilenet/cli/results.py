"""What came out: `evaluate`, `predict` and `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from pymobilenet.backends import BACKENDS, backend
from pymobilenet.cli.common import console, exit_on_error, print_written, progress_bars
from pymobilenet.files import make_folder

if TYPE_CHECKING:
    from pymobilenet.data.cifar_layouts import Split

SOME = "One of " + ", ".join(BACKENDS)

ModelArgument = Annotated[Path, typer.Argument(help="A model of this project or another.")]
PreprocessingOption = Annotated[
    str | None,
    typer.Option(
        help="How images are scaled: unit, standard, keras; if left out, as the file says, "
        "else standard."
    ),
]


def evaluate(
    model: ModelArgument,
    data: Annotated[
        str | None,
        typer.Option(help="cifar-100, cifar-10, synthetic, or a folder or archive with images."),
    ] = None,
    backend_name: Annotated[str, typer.Option("--backend", help=SOME)] = "torch",
    out: Annotated[Path | None, typer.Option(help="Folder for JSON and pictures.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    split: Annotated[str, typer.Option(help="test, train")] = "test",
    preprocessing: PreprocessingOption = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Take so many images, evenly spaced; all if left out.")
    ] = None,
) -> None:
    """Ask a model about labelled images: loss, top-1, top-5, each class, confusion, calibration."""
    from pymobilenet.data import open_or_cifar100
    from pymobilenet.evaluation import (
        as_trained,
        model_of,
        preprocessing_of,
        print_evaluation,
        to_dict,
        to_json,
        write_evaluation_report,
    )
    from pymobilenet.evaluation import evaluate as ask
    from pymobilenet.formats import load_any

    with exit_on_error(), progress_bars() as progress:
        loaded = load_any(model)
        scaled = preprocessing_of(loaded.metadata, preprocessing, str(model))
        if out is not None:
            make_folder(out)
        images = open_or_cifar100(data, cast("Split", split), loaded.config.resolution)
        images = as_trained(images, loaded.config, loaded.metadata, scaled, str(model))
        if limit is not None:
            count = min(limit, len(images))
            images = images.subset([place * len(images) // count for place in range(count)])
        asked = model_of(loaded, backend(backend_name))
        batch_size = 256
        advance = progress(f"{model.name}, {backend_name}", -(-len(images) // batch_size))
        found = ask(asked, images, scaled, batch_size, advance)
        values = to_dict(found, asked, model)
        written = write_evaluation_report(found, images, values, out) if out is not None else []
    if as_json:
        typer.echo(to_json(values), nl=False)
        return
    print_evaluation(found, console)
    if written:
        print_written(written)


def predict(
    model: ModelArgument,
    images: Annotated[list[Path], typer.Argument(help="Image files of any kind.")],
    backend_name: Annotated[
        list[str], typer.Option("--backend", help=f"{SOME}; several are shown side by side.")
    ] = ["torch"],
    top: Annotated[int, typer.Option(min=1, help="How many classes.")] = 5,
    classes: Annotated[
        Path | None,
        typer.Option(help="A name for each class, one a line; if left out, as the file says."),
    ] = None,
    preprocessing: PreprocessingOption = None,
) -> None:
    """Print the most likely classes of images, in one backend or in several side by side."""
    from pymobilenet.data import statistics_of
    from pymobilenet.evaluation import (
        class_names,
        model_of,
        preprocessing_of,
        print_prediction,
        probabilities,
        read_image,
    )
    from pymobilenet.formats import load_any

    with exit_on_error():
        loaded = load_any(model)
        config = loaded.config
        scaled = preprocessing_of(loaded.metadata, preprocessing, str(model))
        known = statistics_of(loaded.metadata, scaled, str(model))
        names = class_names(config, loaded.metadata, str(model), classes)
        pixels = [read_image(path, config.resolution) for path in images]
        asked = {name: model_of(loaded, backend(name)) for name in backend_name}
        for path, one in zip(images, pixels, strict=True):
            found = {
                name: probabilities(each, one[None], scaled, known)[0]
                for name, each in asked.items()
            }
            print_prediction(str(path), found, names, top, console)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders, each with a log.jsonl.")],
    out: Annotated[Path, typer.Option(help="Folder for the picture.")] = Path("compare"),
) -> None:
    """Lay the curves of training runs over each other, and print their best values."""
    from pymobilenet.evaluation import print_runs, read_runs, write_curves

    with exit_on_error():
        found = read_runs(runs)
        make_folder(out)
        write_curves(found, out / "curves.png")
    print_runs(found, console)
    print_written([out / "curves.png"])
