"""Print docs/differences.md from the table of known differences.

python docs/figures/differences.py > docs/differences.md
"""

from pymobilenet.parity.diff import DIFFERENCES

INTRODUCTION = """# Known differences

What `compare` tries for a layer that differs ([Compare your models](compare.md)). This page is made
from the table in `pymobilenet/parity/diff/differences.py` by `docs/figures/differences.py`.
"""


def page() -> str:
    """Return the page as Markdown."""
    parts = [INTRODUCTION]
    for each in DIFFERENCES:
        kinds = ", ".join(kind.replace("_", " ") for kind in each.kinds)
        lines = [f"## {each.name[0].upper()}{each.name[1:]}", "", each.explanation, ""]
        lines += [f"- Layers: {kinds}.", f"- torch: `{each.torch}`", f"- Flux: `{each.flux}`"]
        if each.source:
            lines.append(f"- Source: {each.source}.")
        parts.append("\n".join([*lines, ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
