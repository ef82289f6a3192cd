"""The stories of docs/stories.md: each is a section, whose blocks run in order."""

import contextlib
import io
import re
from pathlib import Path

import pytest
from code_blocks import blocks_of, commands
from typed_commands import run

PAGE = Path(__file__).parents[1] / "docs/stories.md"
NUMBERS = re.compile(
    r"(?<=(?:at|of) )[\d.e+-]+(?=[ ,\n]|$)|(?<=error )[\d.e+-]+|(?<=floor )[\d.e+-]+"
)
"""Errors and floors, which differ from machine to machine."""


def stories():
    """Title of a section -> its text."""
    _, *sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.M)
    return {title: text for title, _, text in (section.partition("\n") for section in sections)}


def file_name(block):
    """The name of the file that a block is, in its first line; or None."""
    found = re.match(r"# (\w+\.(?:py|jl))\n", block)
    return found and found[1]


def run_story(text):
    """Run the blocks of a story in the current folder."""
    names = {}
    printed = ""
    for language, block in blocks_of(text, "python|julia|sh|text"):
        if file_name(block):
            Path(file_name(block)).write_text(block, encoding="utf-8")
        elif language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(block, PAGE.name, "exec"), names)
            printed = output.getvalue()
        elif language == "sh":
            done = [run(*words[1:]) for words in commands(block)]
            printed = "".join(each.output for each in done)
            assert [each.exit_code for each in done] == [1 if "DIFFER" in printed else 0], printed
        elif language == "text":
            assert shows(block, printed), printed
        else:
            pytest.fail(f"a block of {language} that is no file")


def shows(block, printed):
    """Whether a block shows what was printed; a line of three dots stands for any lines."""
    lines = [
        r"(?:.*\n)*?" if line == "..." else re.escape(NUMBERS.sub("#", line)) + r"\n"
        for line in block.splitlines()
    ]
    return re.fullmatch("".join(lines), NUMBERS.sub("#", printed)) is not None
