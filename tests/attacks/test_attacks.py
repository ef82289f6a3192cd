"""Bad files: each broken rule is named, nothing is run, written or allocated, and nothing crashes.

Every file is read in a process of its own with little memory to spare (`read_all`).
"""

import pytest
from attack import rule
from attacks_on_foreign import FILES
from attacks_on_keras import KERAS
from attacks_on_models import MODELS
from attacks_on_npz import NPZ
from attacks_on_safetensors import SAFETENSORS
from attacks_on_torch import TORCH
from mutations import CONTAINERS, EACH, Attack, mutations, truncations
from victims import file_name, findings

BY_HAND = [*SAFETENSORS, *NPZ, *TORCH, *KERAS, *MODELS, *FILES]
LEAST_RULES, LEAST_FILES = 60, 300

SPARE = 2**20
GROWTH = 16
"""What may be allocated: so many bytes, and so many times the file; a number in a header of text
becomes an object of 32 bytes."""


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory):
    return findings(tmp_path_factory.mktemp("attacks"), BY_HAND)


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """What was found of each changed file, and its size."""
    made = [*of_all(mutations), *of_all(truncations)]
    whole = [
        Attack(f"{kind}, whole", content, "", kind.split()[0], None)
        for kind, content in CONTAINERS.items()
    ]
    found = findings(tmp_path_factory.mktemp("changed"), [*made, *whole])
    return {attack.name: (found[attack.name], len(attack.content)) for attack in made + whole}


def of_all(make):
    return [attack for kind in CONTAINERS for attack in make(kind)]


def refusals(found):
    """Every refusal of one file: read as what it is called, as what it is, converted, told."""
    return [found[way] for way in ("loaded", "unnamed", "converted", "told") if found.get(way)]


def met(attack, found):
    """The refusal that is to name the rule."""
    return found["told"] if attack.command else found["loaded"]


def wrong_with(name, found, size):
    """What no file may do, whatever it holds."""
    allowed = SPARE + GROWTH * size
    return [
        *(f"no refusal: {each}" for each in refusals(found) if not each["house"]),
        *(f"unnamed: {each}" for each in refusals(found) if file_name(name) not in each["text"]),
        *(f"out of memory: {each}" for each in refusals(found) if "emory" in each["text"]),
        *(f"ran {program}" for program in found["programs"]),
        *(f"left {left}" for left in found["left"]),
        *([] if found["kept"] or not found["loaded"] else ["wrote over the target"]),
        *([] if found["peak"] <= allowed else [f"{found['peak']} bytes; {allowed} are allowed"]),
    ]


def test_each_broken_rule_is_refused_and_named(by_hand):
    said = {attack.name: met(attack, by_hand[attack.name]) for attack in BY_HAND}
    assert not [name for name in said if not said[name]]
    assert not {
        attack.name: said[attack.name]["text"]
        for attack in BY_HAND
        if attack.says not in said[attack.name]["text"]
    }


def test_a_file_that_is_only_read_is_refused_in_every_way(by_hand):
    for attack in BY_HAND:
        if not attack.command:
            found = by_hand[attack.name]
            assert found["loaded"], attack.name
            assert found["converted"], attack.name
            assert found["told"], attack.name
            assert found.get("unnamed", True), attack.name


def test_nothing_crashes_runs_leaves_or_allocates(by_hand):
    wrong = {
        attack.name: wrong_with(attack.name, by_hand[attack.name], len(attack.content))
        for attack in BY_HAND
    }
    assert not {name: each for name, each in wrong.items() if each}


def test_there_are_as_many_rules_as_are_asked_for(by_hand):
    texts = [(met(attack, by_hand[attack.name])["text"], attack.name) for attack in BY_HAND]
    rules = {rule(text.partition(file_name(name))[2]) for text, name in texts}
    assert len(rules) >= LEAST_RULES, sorted(rules)


def test_changed_files_are_refused_or_are_valid_models(changed):
    wrong = {name: wrong_with(name, found, size) for name, (found, size) in changed.items()}
    assert not {name: each for name, each in wrong.items() if each}


def test_some_changed_files_are_refused_and_the_whole_ones_are_not(changed):
    refused = [name for name, (found, _) in changed.items() if found["loaded"]]
    assert len(refused) > len(changed) / 2
    assert not [name for name in refused if name.endswith("whole")]
    cut = [name for name in changed if ", cut at " in name]
    assert set(cut) <= set(refused)


def test_there_are_as_many_files_as_are_asked_for(changed):
    assert len(BY_HAND) + len(changed) >= LEAST_FILES
    for kind in CONTAINERS:
        assert len([name for name in changed if name.startswith(f"{kind}, change")]) == EACH
