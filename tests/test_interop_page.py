"""The blocks of docs/interop.md run in order, and print what the page shows."""

import os
from pathlib import Path

import numpy as np
import pytest
from code_blocks import blocks_of
from story_blocks import file_name

from pymobilenet import backend
from pymobilenet.data import open_cifar100, synthetic

PAGE = Path(__file__).parents[1] / "docs/interop.md"
IMAGES = 640


def images(*_):
    folder = os.environ.get("PYMOBILENET_TEST_DATA")
    data = synthetic(IMAGES)
    if folder is not None:
        data = open_cifar100(Path(folder) / "cifar-100-binary.tar.xz", "train")
    return data.subset(np.arange(IMAGES))


@pytest.mark.julia
@pytest.mark.slow
def test_the_page_runs_and_prints_what_it_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pymobilenet.data.open_cifar100", images)
    names, printed = {}, ""
    for language, block in blocks_of(PAGE.read_text(encoding="utf-8"), "python|julia|text"):
        if file_name(block):
            Path(file_name(block)).write_text(block, encoding="utf-8")
        elif language == "python":
            exec(compile(block, PAGE.name, "exec"), names)
            printed = capsys.readouterr().out
        elif language == "text" and block.startswith("using "):
            main = backend("julia").main
            space = main.seval("module InteropPage end")
            code, update = block.rstrip().rsplit("\n", 1)
            main.include_string(space, f"{code}\ncopied = map(copy, layer.parameters)")
            main.include_string(space, update)
            assert main.include_string(space, "layer.parameters[1] != copied[1]")
            assert np.isfinite(np.asarray(space.gradient.layers[2].weight)).all()
        elif language == "text":
            assert block == printed
    assert len(names["losses"]) == 5
    assert all(np.isfinite(names["losses"]))
