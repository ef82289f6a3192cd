"""Bad files: each gives an error with name and rule; no code is run, no claimed size is allocated.

The files are read in a process of its own with limited memory (`read_all`).
"""

import functools

import pytest
from attack import Attack, rule
from attacks_on_foreign import FILES
from attacks_on_keras import KERAS
from attacks_on_models import MODELS
from attacks_on_npz import NPZ
from attacks_on_safetensors import SAFETENSORS
from attacks_on_torch import TORCH
from isolated_process import outcomes_of
from mutations import CONTAINERS, mutations, truncations

pytestmark = pytest.mark.slow

WRITTEN_ATTACKS = [*SAFETENSORS, *NPZ, *TORCH, *KERAS, *MODELS, *FILES]
LEAST_RULES, LEAST_FILES, LEAST_CHANGED = 60, 300, 240

MEMORY_BASE = 2**20
MEMORY_PER_BYTE = 16
"""Bytes that may be allocated: so many, and so many for each byte of the file. A number in a header
of text becomes an object of 32 bytes."""


@functools.cache
def changed():
    return [
        attack for kind in CONTAINERS for make in (mutations, truncations) for attack in make(kind)
    ]


WAYS = ("loaded", "detected", "converted", "printed")
"""Read as the container of the attack, read as the detected container, converted, and printed by a
command; see `read_all.read_in_every_way`."""


def errors(outcome):
    return [outcome[way] for way in WAYS if outcome.get(way)]


def message_of(attack, outcome):
    return (outcome["printed"] if attack.command else outcome["loaded"]).get("message", "")


def missing_errors(attack, outcome):
    """The ways in which an invalid file was read without the expected error."""
    message = message_of(attack, outcome)
    successes = [] if attack.command else [way for way in WAYS if outcome.get(way) == {}]
    return [
        *(f"was {way}" for way in successes),
        *([] if attack.message in message else [f"raised {message!r}, not {attack.message!r}"]),
    ]


def harm(attack, outcome):
    """The side effects that no file may have, and errors that are not the package's."""
    allowed = MEMORY_BASE + MEMORY_PER_BYTE * len(attack.content)
    messages = [error["message"] for error in errors(outcome)]
    crashes = [error["message"] for error in errors(outcome) if not error["is_package_error"]]
    return [
        *(f"crashed: {message}" for message in crashes),
        *(f"is not named: {message}" for message in messages if attack.file_name not in message),
        *(f"has no rule: {message}" for message in messages if not rule_in(attack, message)),
        *(f"exhausted the memory: {message}" for message in messages if "emory" in message),
        *(f"ran {program}" for program in outcome["programs"]),
        *(f"created {name}" for name in outcome["new_files"]),
        *([] if outcome["target_is_unchanged"] else ["changed the target"]),
        *([] if outcome["peak"] <= allowed else [f"took {outcome['peak']} bytes of {allowed}"]),
    ]


def rule_in(attack, message):
    """The rule in a message, after the name of the file."""
    return rule(message.partition(attack.file_name)[2])


def test_every_bad_file_is_an_error_and_does_no_harm(tmp_path):
    outcomes = outcomes_of(tmp_path, WRITTEN_ATTACKS)
    problems = {
        attack.name: missing_errors(attack, outcomes[attack.name])
        + harm(attack, outcomes[attack.name])
        for attack in WRITTEN_ATTACKS
    }
    assert not {name: each for name, each in problems.items() if each}
    rules = {rule_in(each, message_of(each, outcomes[each.name])) for each in WRITTEN_ATTACKS}
    assert len(rules) >= LEAST_RULES, sorted(rules)


def test_every_changed_file_is_an_error_or_a_valid_model_and_does_no_harm(tmp_path):
    unchanged = [
        Attack(f"{kind}, unchanged", content, "", kind.split()[0], None)
        for kind, content in CONTAINERS.items()
    ]
    outcomes = outcomes_of(tmp_path, [*changed(), *unchanged])
    problems = {each.name: harm(each, outcomes[each.name]) for each in [*changed(), *unchanged]}
    assert not {name: each for name, each in problems.items() if each}
    rejected = {name for name, outcome in outcomes.items() if outcome["loaded"]}
    assert len(rejected) > len(changed()) / 2
    assert not [attack.name for attack in unchanged if attack.name in rejected]
    assert {name for name in outcomes if ", cut at " in name} <= rejected


def test_there_are_enough_attack_files():
    contents = {attack.content for attack in [*WRITTEN_ATTACKS, *changed()]}
    assert len(contents) >= LEAST_FILES
    assert len(changed()) >= LEAST_CHANGED
