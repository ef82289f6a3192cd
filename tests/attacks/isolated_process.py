"""Reads files in a process of its own and collects the outcomes."""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "agg"}


def write_files(folder, attacks):
    """Write each attack as a file; return name of the attack -> path."""
    paths = {}
    for attack in attacks:
        paths[attack.name] = folder / attack.file_name
        assert not paths[attack.name].exists(), attack.name
        paths[attack.name].write_bytes(attack.content)
    return paths


def outcomes_of(folder, attacks):
    """Name of the attack -> outcome of reading its file; see `read_all.read_in_every_way`."""
    write_files(folder, attacks)
    descriptions = (
        {
            "name": each.name,
            "file": each.file_name,
            "container": each.container,
            "command": each.command,
        }
        for each in attacks
    )
    (folder / "files.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in descriptions))
    completed = subprocess.run(
        [sys.executable, "-W", "error", HERE / "read_all.py", folder],
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=300,
    )
    lines = [json.loads(line) for line in completed.stdout.splitlines()]
    last = lines[-1] if lines else "the imports"
    assert completed.returncode == 0, (
        f"status {completed.returncode} at {last}\n{completed.stderr[-2000:]}"
    )
    names = [line["attack"] for line in lines[::2]]
    assert names == [attack.name for attack in attacks]
    return dict(zip(names, lines[1::2], strict=True))
