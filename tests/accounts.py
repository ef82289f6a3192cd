"""Run a process as an account that does not exist: without rights to write, and without a home."""

import os
import shutil

SETPRIV = shutil.which("setpriv")
CAN_USE_ANOTHER_ACCOUNT = hasattr(os, "geteuid") and os.geteuid() == 0 and SETPRIV is not None

CAPABILITY = "+dac_read_search"
"""To read Python, where it is in a home folder."""


def as_another_account(command):
    """The command that runs `command` as that account; requires `CAN_USE_ANOTHER_ACCOUNT`."""
    identity = ["--reuid=54321", "--regid=54321", "--clear-groups"]
    capabilities = [f"--inh-caps={CAPABILITY}", f"--ambient-caps={CAPABILITY}"]
    return [SETPRIV, *identity, *capabilities, *command]
