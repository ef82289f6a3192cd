"""``python -m pymobilenet.cli``, the same as the command ``pymobilenet``."""

from pymobilenet.cli import entry_point

if __name__ == "__main__":
    entry_point()
