"""A small image folder and a recipe for it, for the tests of runs."""

import json

from image_files import pixels_of, png, write_folder

RECIPE = """
[model]
width_mult = 0.1
resolution = 32
stem_stride = 1
dropout = 0.1

[train]
optimizer = "adam"
rate = 0.002
schedule = "cosine"
ema_decay = 0.9
label_smoothing = 0.1
mixup = 1
rotation = 10
cutout = 8
batch_size = 8
seed = 3

[run]
epochs = 3
warmup_epochs = 1
validation = 8
train_eval_images = 8
save_steps = 3
"""

TIMES = (
    *("seconds", "data_wait_seconds", "evaluation_seconds"),
    *("images_per_second", "memory_bytes"),
)
"""What differs between two equal runs."""


def write_images(folder):
    """40 training images of 4 classes, and one test image of each class."""
    files = {}
    for number in range(44):
        split = "train" if number < 40 else "test"
        files[f"{split}/{'abcd'[number % 4]}/{number}.png"] = png(pixels_of(number, 32, 32))
    return write_folder(folder, files)


def write_recipe(folder, text=RECIPE):
    path = folder / "small.toml"
    path.write_text(text)
    return path


def lines_of(folder, ignored=TIMES):
    """The entries of a run's log, without times."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ignored} for line in lines]
