"""How good is `compare`? Faults that are planted, and pairs that are the same.

    PYTHONPATH=tests python -m parity.mutation_score [--nets N] [--julia N] [--results FILE]

Prints a table: how many faults were caught, located (layer, direction and step) and diagnosed; and
how many correct pairs were accused. What was judged before is read from FILE, so that a run that
was interrupted goes on. Without Julia, nothing is planted there.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diff.nets import FAULTS, Net
from diff.nets import images as net_images
from diff.reported_faults import REPORTED, REPORTED_OPTIMIZERS
from diff.test_reported_faults import faults_of, is_at, report_of
from diff.training_nets import LABELS, TRAINING_FAULTS, TrainedNet
from diff.training_nets import images as training_images

from parity import (
    honest_pairs,
    julia_faults,
    optimizer_faults,
    random_faults,
    random_nets,
    source_faults,
)
from parity.outcomes import JUDGED, NO_EFFECT, RAISES, Outcome
from pymobilenet.backends import backend, why_unavailable
from pymobilenet.backends.torch.minimal_optimizers import OPTIMIZER_PAIRS
from pymobilenet.parity import compare, compare_optimizers

BY_HAND, SAME = "by hand", "the same"
REVIEWED = Path(__file__).with_name("without_effect.txt")
"""The faults that change no number, or rounding only, each with the reason why that is so."""


@dataclass(frozen=True)
class Case:
    """One fault, or one pair that is the same, and how it is judged."""

    group: str
    name: str
    judge: Callable[[], Outcome]


def _faults(report, fault, group, difference, place):
    faults = faults_of(report)
    name = difference or "structure"
    diagnosed = bool(faults) and faults[0].name == name
    located = any(is_at(each, place) for each in faults)
    return Outcome(
        str(fault),
        group,
        BY_HAND,
        JUDGED,
        not report.passed,
        located,
        "" if name == "structure" else difference,
        diagnosed,
        "" if located and diagnosed else str(report),
    )


def written_faults() -> Iterator[Case]:
    """Faults written by hand in torch modules, of which users reported some."""

    def module(fault):
        report = compare(Net(), fault.net(), inputs=net_images())
        outcome = _faults(report, fault, "torch modules, by hand", fault.difference, fault.layer)
        names = [x.name for f in faults_of(report) for x in (f.first, f.second) if x is not None]
        located = any(name.partition(".")[0] == fault.layer for name in names)
        return Outcome(**{**outcome.as_dict(), "located": located})

    def training(fault):
        report = compare(
            TrainedNet(),
            fault.net(),
            inputs=training_images(),
            labels=LABELS,
            losses=[None, fault.loss],
        )
        faults = faults_of(report)
        name = fault.differences[0]
        names = [x.name.partition("#")[0] for x in (faults[0].first, faults[0].second) if x]
        located = fault.place in (faults[0].place, *names) or names == ["dropout"]
        return Outcome(
            str(fault),
            "torch modules in training, by hand",
            BY_HAND,
            JUDGED,
            not report.passed,
            located,
            "" if name == "structure" else name,
            [each.name for each in faults] == list(fault.differences),
        )

    def reported(fault):
        group = "torch modules, reported by users"
        return _faults(report_of(fault), fault, group, fault.difference, fault.place)

    def optimizer(source):
        difference = REPORTED_OPTIMIZERS[source]
        report = compare_optimizers(*OPTIMIZER_PAIRS[difference]())
        names = [fault.name for fault in report.faults]
        return Outcome(
            source,
            "torch optimizers, reported by users",
            BY_HAND,
            JUDGED,
            not report.passed,
            report.first_divergence is not None,
            difference,
            names == [difference],
        )

    for fault in FAULTS:
        yield Case("torch modules, by hand", str(fault), lambda f=fault: module(f))
    for fault in TRAINING_FAULTS:
        yield Case("torch modules in training, by hand", str(fault), lambda f=fault: training(f))
    for fault in REPORTED:
        yield Case("torch modules, reported by users", str(fault), lambda f=fault: reported(f))
    for source in REPORTED_OPTIMIZERS:
        yield Case("torch optimizers, reported by users", source, lambda s=source: optimizer(s))


def source_cases() -> Iterator[Case]:
    """Faults that operators plant in the source of the NumPy and torch backends."""
    for side in (source_faults.NUMPY, source_faults.TORCH):
        for number, mutation in enumerate(source_faults.source_mutations(side)):
            yield Case(
                f"source of the {side.name} backend",
                str(mutation),
                lambda s=side, m=mutation, n=number: source_faults.judge(s, m, n),
            )
    for side in ("NumPy", "torch"):
        for mutation in optimizer_faults.optimizer_mutations(side):
            yield Case(
                f"optimizers of the {side} backend",
                str(mutation),
                lambda s=side, m=mutation: optimizer_faults.judge_mutation(s, m),
            )


def julia_cases(count) -> Iterator[Case]:
    """`count` faults in the kernels of MobileNets.jl, and as many in its optimizers."""
    baselines = {}
    faults = _spread(julia_faults.julia_faults("models"), count)
    for number, fault in enumerate(faults):
        yield Case(
            julia_faults.GROUP,
            julia_faults.title(fault),
            lambda f=fault, n=number: julia_faults.judge_model(f, n, baselines),
        )
    for fault in _spread(julia_faults.julia_faults("optimizers"), count):
        yield Case(
            "optimizers of the Julia backend",
            julia_faults.title(fault),
            lambda f=fault: julia_faults.judge_julia_optimizer(f),
        )


def _spread(items, count):
    """`count` of the items, evenly."""
    return [items[k * len(items) // count] for k in range(min(count, len(items)))]


def random_cases(count, build, framework) -> Iterator[Case]:
    """Random nets: each pair once the same, and once with a fault."""
    group = f"random nets, torch and {framework}"

    def same(seed):
        report = compare(*random_faults.ported_pair(seed, build), inputs=random_nets.images(seed))
        return _accusation(f"seed {seed}", group, report)

    def faulty(seed):
        planted = random_faults.plant(seed, build, framework == "Flux")
        report = compare(planted.first, planted.second, inputs=random_nets.images(seed))
        faults = faults_of(report)
        located = random_faults.is_located(faults, planted.paths)
        difference = planted.fault.difference
        diagnosed = [fault.name for fault in faults] == [difference or "structure"]
        return Outcome(
            f"seed {seed}: {planted.fault.name}",
            group,
            planted.fault.operator,
            JUDGED,
            not report.passed,
            located,
            difference,
            diagnosed,
            "" if located and diagnosed else f"{planted.paths}\n{report}",
        )

    for seed in range(count):
        yield Case(group, f"seed {seed}, the same", lambda s=seed: same(s))
        yield Case(group, f"seed {seed}, a fault", lambda s=seed: faulty(s))


def _accusation(name, group, report):
    words = "" if report.passed else str(report)
    return Outcome(name, group, SAME, JUDGED, caught=not report.passed, words=words)


def honest_cases(pairs) -> Iterator[Case]:
    for pair in pairs:
        yield Case(pair.group, pair.name, lambda p=pair: _accusation(p.name, p.group, p.compare()))


def all_cases(nets, julia) -> Iterator[Case]:
    yield from written_faults()
    yield from random_cases(nets, random_faults.torch_builder, "torch")
    yield from source_cases()
    yield from honest_cases(honest_pairs.torch_pairs())
    if why_unavailable("julia") is not None:
        print("NOT RUN: no Julia, so nothing was planted or compared there.")
        return
    main = backend("julia").main
    yield from random_cases(nets, random_faults.flux_builder(main), "Flux")
    yield from honest_cases(honest_pairs.julia_pairs(main))
    yield from julia_cases(julia)


def run(cases, path):
    """The outcomes of all cases; those in the file at `path` are not judged again."""
    known = {}
    if path is not None and path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            group, name, outcome = json.loads(line)
            known[group, name] = Outcome(**outcome)
    for case in cases:
        if (case.group, case.name) not in known:
            outcome = known[case.group, case.name] = case.judge()
            if path is not None:
                with path.open("a", encoding="utf-8") as file:
                    line = [case.group, case.name, outcome.as_dict()]
                    file.write(json.dumps(line, default=str) + "\n")
        yield case, known[case.group, case.name]


def table(outcomes):
    """Group -> the numbers of a row of the table."""
    rows = {}
    for case, outcome in outcomes:
        row = rows.setdefault(case.group, dict.fromkeys(COLUMNS, 0))
        if outcome.operator == SAME:
            row["the same"] += 1
            row["accused"] += outcome.caught
        elif outcome.status in (NO_EFFECT, RAISES):
            row[outcome.status] += 1
        else:
            row["planted"] += 1
            row["caught"] += outcome.caught
            row["located"] += outcome.located
            row["known"] += bool(outcome.difference)
            row["diagnosed"] += bool(outcome.difference) and outcome.diagnosed
    return rows


COLUMNS = (
    *("planted", "caught", "located", "known", "diagnosed"),
    *(NO_EFFECT, RAISES, "the same", "accused"),
)


def as_markdown(rows):
    total = {name: sum(row[name] for row in rows.values()) for name in COLUMNS}
    lines = [
        f"| | {' | '.join(COLUMNS)} |",
        f"|---|{'---|' * len(COLUMNS)}",
        *(
            f"| {group} | {' | '.join(str(row[name]) for name in COLUMNS)} |"
            for group, row in {**rows, "all": total}.items()
        ),
    ]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", type=int, default=300, help="random nets of each framework")
    parser.add_argument("--julia", type=int, default=40, help="faults in the source of Julia")
    parser.add_argument("--results", type=Path, help="file of results, to go on with")
    parser.add_argument("--only", default="", help="judge only groups with this in their name")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    start = time.monotonic()
    cases = all_cases(arguments.nets, arguments.julia)
    chosen = (case for case in cases if arguments.only in case.group)
    reviewed = REVIEWED.read_text(encoding="utf-8") if REVIEWED.exists() else ""
    outcomes = []
    for case, outcome in run(chosen, arguments.results):
        is_reviewed = f"\n{case.name}\n" in reviewed
        if is_reviewed and not outcome.caught:
            outcome = replace(outcome, status=NO_EFFECT)
        outcomes.append((case, outcome))
        is_accused = outcome.operator == SAME and outcome.caught
        if outcome.operator != SAME and outcome.is_missed:
            print(f"MISSED {case.group}: {outcome}", flush=True)
        elif is_accused:
            print(f"ACCUSED {case.group}: {outcome}", flush=True)
        elif outcome.status == NO_EFFECT and not is_reviewed:
            print(f"WITHOUT EFFECT, not reviewed: {case.group}: {case.name}", flush=True)
    print(as_markdown(table(outcomes)))
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
