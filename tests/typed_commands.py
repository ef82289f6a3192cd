"""Commands as they are typed, in this process."""

from typer.testing import CliRunner

from pymobilenet.cli import app


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def refused(*arguments):
    """The one line on what is wrong."""
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    assert not done.stdout
    return done.stderr
