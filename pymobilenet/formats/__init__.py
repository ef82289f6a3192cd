"""Import and export of models: the exchange file, npz, torch, Keras, Flux and ONNX files.

A *container* maps bytes to named arrays and back (safetensors, npz, torch, Keras, Flux); a *layout*
maps another project's tensor names and axes to the canonical state and config, and back. The
container of a file is detected by its content and the layout by its tensor names. A file that fits
none, or more than one, is an error. Settings that a file does not state are defaults of its layout,
and the report states which.
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
