"""Print docs/differences.md from the table of known differences.

python docs/figures/differences.py > docs/differences.md
"""

from pymobilenet.parity.diff import DIFFERENCES
from pymobilenet.parity.diff.installed import all_facts

INTRODUCTION = """# Known differences

What `compare` tries for a layer that differs ([Compare your models](compare.md)). This page is made
from the table in `pymobilenet/parity/diff/differences.py` by `docs/figures/differences.py`.

`pymobilenet doctor port` tries every statement below on the libraries that are installed, and lets
`compare` find each difference in a pair of small torch modules.
"""


def page() -> str:
    """Return the page as Markdown."""
    parts = [INTRODUCTION]
    facts = all_facts()
    for each in DIFFERENCES:
        kinds = ", ".join(kind.replace("_", " ") for kind in each.kinds)
        lines = [f"## {each.name[0].upper()}{each.name[1:]}", "", each.explanation, ""]
        lines += [f"- Layers: {kinds}.", f"- In torch: `{each.torch}`", f"- In Flux: `{each.flux}`"]
        if each.source:
            lines.append(f"- Source: {each.source}.")
        known = [fact for fact in facts if fact.difference == each.name]
        if known:
            lines += ["", "| library | what it does |", "|---|---|"]
            lines += [f"| {fact.library} | {fact.statement} |" for fact in known]
        parts.append("\n".join([*lines, ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
