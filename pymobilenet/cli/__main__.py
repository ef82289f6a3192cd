"""`python -m pymobilenet.cli`, which is the command `pymobilenet`."""

from pymobilenet.cli import app

if __name__ == "__main__":
    app()
