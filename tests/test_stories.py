"""A story of docs/stories.md runs in order, and prints what the page shows.

The stories that need other packages are in peers/test_stories_peers.py.
"""

from pathlib import Path

import pytest
from story_blocks import run_story, shows, stories

FLUX = "A Flux model and a torch module"


def test_a_text_block_shows_what_was_printed():
    printed = "A and B agree: 3 layers, the worst at 0.3 noise floors\n  first, error 1.2e-16\n"
    assert shows(f"output at 1e+14\n{printed}", f"output at 2e+14\n{printed}")
    assert shows(printed.replace("0.3", "12").replace("1.2e-16", "2.0e-16"), printed)
    assert shows("...\n  first, error 0\n", printed)
    assert shows("A and B agree: 3 layers, the worst at 1 noise floors\n...\n", printed)
    assert not shows(printed.replace("3 layers", "4 layers"), printed)
    assert not shows(printed.replace("agree", "DIFFER"), printed)
    assert not shows("  first, error 0\n", printed)


def test_every_story_is_run_by_a_test():
    tests = [Path(__file__), Path(__file__).parent / "peers/test_stories_peers.py"]
    code = "".join(path.read_text(encoding="utf-8") for path in tests)
    assert [title for title in stories() if f'= "{title}"\n' not in code] == []


@pytest.mark.julia
@pytest.mark.slow
def test_the_page_runs_and_prints_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_story(stories()[FLUX])
