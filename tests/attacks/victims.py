"""Hands files to a process of their own and collects what it says of them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "agg"}


def file_name(name):
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def written(folder, attacks):
    """Each attack as a file of its own; name -> path."""
    paths = {}
    for attack in attacks:
        paths[attack.name] = folder / file_name(attack.name)
        assert not paths[attack.name].exists(), attack.name
        paths[attack.name].write_bytes(attack.content)
    return paths


def findings(folder, attacks):
    """What happened to the file of each attack, by its name; see `read_all.examined`."""
    paths = written(folder, attacks)
    lines = (
        {"name": each.name, "file": paths[each.name].name, **how}
        for each in attacks
        for how in [{"container": each.container, "command": each.command}]
    )
    (folder / "files.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    done = subprocess.run(
        [sys.executable, "-W", "error", HERE / "read_all.py", folder],
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=300,
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    where = told[-1] if told else "the imports"
    assert done.returncode == 0, f"status {done.returncode} at {where}\n{done.stderr[-2000:]}"
    names = [line["begins"] for line in told[::2]]
    assert names == [attack.name for attack in attacks]
    return dict(zip(names, told[1::2], strict=True))
