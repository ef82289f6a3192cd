"""The code blocks of a Markdown text, and the commands of a shell block."""

import itertools
import re
import shlex

KEYWORDS = ("if", "then", "else", "fi", "srun")


def blocks_of(text, languages):
    """Language and content of each block; `languages` is a regular expression."""
    return re.findall(rf"^```({languages})\n(.*?)^```", text, re.S | re.M)


def commands(block):
    """The words of each command of a shell block; backslashes continue lines."""
    commands = []
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=";&")
        words.whitespace_split = True
        for is_end, command in itertools.groupby(words, lambda word: word in (";", "&&")):
            if not is_end:
                commands.append([word for word in command if word not in KEYWORDS])
    return [command for command in commands if command]
