"""Doors: models of other projects and other file formats, in and out.

A *container* is bytes <-> named arrays (safetensors, npz, torch's, Keras', Julia's); a *layout* is
another project's names and axes <-> canonical state and config. A file is known by its content and
its names; what neither tells is refused, never guessed.
"""

from pymobilenet.formats.conversion_report import ConversionReport
from pymobilenet.formats.layout import Layout
from pymobilenet.formats.load import Loaded, load_any
from pymobilenet.formats.registry import CONTAINERS, FORMATS, LAYOUTS
from pymobilenet.formats.sample import Sample
from pymobilenet.formats.save import convert, save_as
from pymobilenet.formats.settings import parse_settings

__all__ = [
    "CONTAINERS",
    "FORMATS",
    "LAYOUTS",
    "ConversionReport",
    "Layout",
    "Loaded",
    "Sample",
    "convert",
    "load_any",
    "parse_settings",
    "save_as",
]
