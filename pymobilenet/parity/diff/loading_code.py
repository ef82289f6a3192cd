"""Code that loads the weights of a port, in the language of the model that got them."""

from __future__ import annotations

import json
from pathlib import Path

from pymobilenet.files import atomic_write

PYTHON = '''"""The weights of {name}, for {spec}."""
{imports}
from pathlib import Path

import torch


def load(module):
    """Copy the weights into a module and return it in evaluation mode."""
    path = Path(__file__).with_name({file})
    module.load_state_dict(torch.load(path, weights_only=True))
    return module.eval()
'''

PYTHON_MODEL = '''

def ported():
    """Build the module and load it."""
    return load({call})
'''

JULIA = """# The weights of {name}, for {spec}.
using Flux
import JLD2
{include}
# Copy the weights into a model and return it in test mode.
function load(model)
    path = joinpath(@__DIR__, {file})
    Flux.loadmodel!(model, JLD2.load(path, "model_state"))
    return Flux.testmode!(model)
end
"""

LUX = """# The weights of {name}, for {spec}.
using Lux
import JLD2
{include}
# The parameters and the states, in test mode.
function load()
    path = joinpath(@__DIR__, {file})
    ps, st = JLD2.load(path, "ps", "st")
    return ps, Lux.testmode(st)
end
"""

LUX_MODEL = """
# Build the model and load it.
ported() = (first({function}()), load()...)
"""

JULIA_MODEL = """
# Build the model and load it.
ported() = load({function}())
"""


def write_loading_code(spec: str, path: Path, framework: str) -> Path:
    """Write a file of code that loads weights, beside the weights.

    Args:
        spec: The model that got the weights, as the command line names it. If it is
            ``file:function`` or ``package.module:function``, the code also builds the model.
        path: The weights: ``.jld2`` for a model in Julia, else a state dict of torch.
        framework: Of the model: ``torch``, ``Flux`` or ``Lux``.

    Returns:
        The written file: ``load_NAME.jl`` or ``load_NAME.py``.
    """
    is_julia = framework in ("Flux", "Lux")
    target = path.with_name(f"load_{path.stem}{'.jl' if is_julia else '.py'}")
    text = _julia(spec, path, framework) if is_julia else _python(spec, path)
    with atomic_write(target) as file:
        file.write(text.encode())
    return target


def _python(spec: str, path: Path) -> str:
    source, _, function = spec.rpartition(":")
    imports, call = "", ""
    if source.endswith(".py"):
        imports, call = "\nimport runpy", f"runpy.run_path({_text(str(Path(source).resolve()))})"
        call += f"[{_text(function)}]()"
    elif source and not Path(spec).exists():
        imports, call = (
            "\nimport importlib",
            f"importlib.import_module({_text(source)}).{function}()",
        )
    code = PYTHON.format(
        name=_one_line(path.name), file=_text(path.name), spec=_one_line(spec), imports=imports
    )
    return code + (PYTHON_MODEL.format(call=call) if call else "")


def _julia(spec: str, path: Path, framework: str) -> str:
    source, _, function = spec.rpartition(":")
    include = f"include({_julia_text(str(Path(source).resolve()))})\n"
    head, model = (LUX, LUX_MODEL) if framework == "Lux" else (JULIA, JULIA_MODEL)
    code = head.format(
        name=_one_line(path.name),
        file=_julia_text(path.name),
        spec=_one_line(spec),
        include=include,
    )
    return code + model.format(function=function)


def _text(text: str) -> str:
    """Return a string literal of Python."""
    return json.dumps(text, ensure_ascii=False)


def _julia_text(text: str) -> str:
    """Return a string literal of Julia, where a dollar sign starts an expression."""
    return _text(text).replace("$", "\\$")


def _one_line(text: str) -> str:
    """Return text that ends neither a comment nor a docstring."""
    return "".join(c if c.isprintable() and c not in '"\\' else "?" for c in text)
