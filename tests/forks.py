"""Processes for code that is killed, refused or left running: forks of one that has imported torch.

An import of torch and its compiler takes three seconds of a processor, and a fork a hundredth of
one. A fork has its own memory, signals, environment and exit status, as a new process has.
"""

import json
import os
import signal
import subprocess
import sys
import time

PARENT = """
import json, os, sys
import torch
import pymobilenet.cli, pymobilenet.training
from pymobilenet import backend

torch.set_num_threads(1)
torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)  # imports torch's compiler
backend("torch"), backend("numpy")
for line in sys.stdin:
    request = json.loads(line)
    if "pid" in request:
        ended, status = os.waitpid(request["pid"], os.WNOHANG)
        answer = os.waitstatus_to_exitcode(status) if ended else None
    else:
        answer = os.fork()
        if answer == 0:
            break
    print(json.dumps(answer), flush=True)
else:
    sys.exit()
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
for number, name in ((1, "output"), (2, "errors")):
    os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT), number)
os.environ.clear()
os.environ.update(request["environment"])
os.chdir(request["folder"])
sys.argv[1:] = request["arguments"]
exec(request["code"], {"__name__": "__main__"})
"""

COMMAND = "import runpy; runpy.run_module('pymobilenet.cli', run_name='__main__', alter_sys=True)"
"""What `python -m pymobilenet.cli` runs."""


class Fork:
    """A running process.

    Attributes:
        pid: Its number.
        returncode: Its status as of `subprocess.Popen`, once `poll` or `wait` has seen its end.
    """

    def __init__(self, parent, pid, output, errors):
        self._parent, self.pid, self.returncode = parent, pid, None
        self._output, self._errors = output, errors

    def poll(self):
        """Return its status, or None while it runs."""
        if self.returncode is None:
            self.returncode = self._parent.ask(pid=self.pid)
        return self.returncode

    def wait(self, timeout=300):
        """Wait for its end and return its status; kill it after `timeout` seconds."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                self.send_signal(signal.SIGKILL)
                raise TimeoutError(f"it did not end in {timeout} s: {self.stdout}{self.stderr}")
            time.sleep(0.005)
        return self.returncode

    def send_signal(self, number):
        """Send a signal to it, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    @property
    def stdout(self):
        """What it has printed so far."""
        return self._output.read_text() if self._output.exists() else ""

    @property
    def stderr(self):
        """Its errors so far."""
        return self._errors.read_text() if self._errors.exists() else ""


class Forks:
    """Starts processes; what they print is written to files in `folder`."""

    def __init__(self, folder):
        self._folder, self._count = folder, 0
        words = [sys.executable, "-c", PARENT]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **request):
        """Send a request to the parent of the forks and return its answer."""
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, code, *arguments):
        """Start a process that runs `code`, in the environment and folder that this one has now."""
        self._count += 1
        output, errors = (self._folder / f"{self._count}.{name}" for name in ("out", "err"))
        pid = self.ask(
            code=code,
            arguments=[*map(str, arguments)],
            environment=dict(os.environ),
            folder=os.getcwd(),
            output=str(output),
            errors=str(errors),
        )
        return Fork(self, pid, output, errors)

    def run(self, *words):
        """Run a command of `pymobilenet`, to its end."""
        command = self.start(COMMAND, *words)
        command.wait()
        return command

    def close(self):
        """End the parent."""
        self._process.communicate(timeout=60)
