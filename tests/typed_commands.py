"""Runs commands in this process, with their arguments as a user types them."""

from typer.testing import CliRunner

from pymobilenet.cli import app


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def refused(*arguments):
    """The one line on what is wrong."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert not result.stdout
    return result.stderr
