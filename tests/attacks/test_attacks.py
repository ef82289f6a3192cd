"""Bad files: each is refused by name and rule; nothing is run, written or allocated for a claim.

Every file is read in a process of its own with little memory to spare (`read_all`).
"""

import functools

from attack import Attack, rule
from attacks_on_foreign import FILES
from attacks_on_keras import KERAS
from attacks_on_models import MODELS
from attacks_on_npz import NPZ
from attacks_on_safetensors import SAFETENSORS
from attacks_on_torch import TORCH
from mutations import CONTAINERS, mutations, truncations
from victims import findings

BY_HAND = [*SAFETENSORS, *NPZ, *TORCH, *KERAS, *MODELS, *FILES]
LEAST_RULES, LEAST_FILES, LEAST_CHANGED = 60, 300, 240

SPARE = 2**20
GROWTH = 16
"""What may be allocated: so many bytes, and so many times the file; a number in a header of text
becomes an object of 32 bytes."""


@functools.cache
def changed():
    return [
        attack for kind in CONTAINERS for make in (mutations, truncations) for attack in make(kind)
    ]


WAYS = ("loaded", "unnamed", "converted", "told")
"""Read as what the attack is for, as what the file shows itself to be, converted, told by the
command."""


def refusals(found):
    return [found[way] for way in WAYS if found.get(way)]


def unrefused(attack, found):
    """What an attack that is to be refused in every way got past."""
    said = (found["told"] if attack.command else found["loaded"]).get("text", "")
    passed = [] if attack.command else [way for way in WAYS if found.get(way) == {}]
    return [
        *(f"was {way}" for way in passed),
        *([] if attack.says in said else [f"said {said!r} and not {attack.says!r}"]),
    ]


def harm(attack, found):
    """What no file may do, whatever it holds."""
    allowed = SPARE + GROWTH * len(attack.content)
    said = refusals(found)
    return [
        *(f"crashed: {each['text']}" for each in said if not each["house"]),
        *(f"is not named: {each['text']}" for each in said if attack.file not in each["text"]),
        *(f"has no rule: {each['text']}" for each in said if not rule_in(attack, each["text"])),
        *(f"took all memory: {each['text']}" for each in said if "emory" in each["text"]),
        *(f"ran {program}" for program in found["programs"]),
        *(f"left {left}" for left in found["left"]),
        *([] if found["kept"] else ["wrote over the target"]),
        *([] if found["peak"] <= allowed else [f"took {found['peak']} bytes of {allowed}"]),
    ]


def rule_in(attack, text):
    """What a message says behind the name of the file, without what is one file's own."""
    return rule(text.partition(attack.file)[2])


def rule_met(attack, found):
    return rule_in(attack, (found["told"] if attack.command else found["loaded"]).get("text", ""))


def test_every_bad_file_is_refused_by_its_rule_and_does_no_harm(tmp_path):
    found = findings(tmp_path, BY_HAND)
    wrong = {
        attack.name: unrefused(attack, found[attack.name]) + harm(attack, found[attack.name])
        for attack in BY_HAND
    }
    assert not {name: each for name, each in wrong.items() if each}
    rules = {rule_met(attack, found[attack.name]) for attack in BY_HAND}
    assert len(rules) >= LEAST_RULES, sorted(rules)


def test_every_changed_file_is_refused_or_a_valid_model_and_does_no_harm(tmp_path):
    whole = [
        Attack(f"{kind}, whole", content, "", kind.split()[0], None)
        for kind, content in CONTAINERS.items()
    ]
    found = findings(tmp_path, [*changed(), *whole])
    wrong = {attack.name: harm(attack, found[attack.name]) for attack in [*changed(), *whole]}
    assert not {name: each for name, each in wrong.items() if each}
    refused = {name for name, each in found.items() if each["loaded"]}
    assert len(refused) > len(changed()) / 2
    assert not [attack.name for attack in whole if attack.name in refused]
    assert {name for name in found if ", cut at " in name} <= refused


def test_there_are_as_many_files_as_are_asked_for():
    contents = {attack.content for attack in [*BY_HAND, *changed()]}
    assert len(contents) >= LEAST_FILES
    assert len(changed()) >= LEAST_CHANGED
