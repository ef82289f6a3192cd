"""Doors: models of other projects and other file formats, in and out.

A *container* is bytes <-> named arrays (safetensors, npz, torch's, Keras', Julia's); a *layout* is
another project's names and axes <-> canonical state and config. A file is known by its content and
its names; what neither tells is refused, never guessed.
"""

from pymobilenet.doors.layout import Layout
from pymobilenet.doors.load import Loaded, load_any
from pymobilenet.doors.registry import CONTAINERS, DOORS, LAYOUTS
from pymobilenet.doors.report import Report
from pymobilenet.doors.save import convert, save_as

__all__ = [
    "CONTAINERS",
    "DOORS",
    "LAYOUTS",
    "Layout",
    "Loaded",
    "Report",
    "convert",
    "load_any",
    "save_as",
]
