"""The comparing engine: do two backends hold the same model?

`run_parity` climbs the ladder of agreement: structure, outputs, gradients, optimizer, training
curve. Every tolerance is measured while it runs, as the noise floor of that very tensor.
"""

from pymobilenet.parity.judge import Divergence, Row, Verdict
from pymobilenet.parity.recording import Recording, read_goldens, read_recording, record
from pymobilenet.parity.report import ParityReport, write_parity_report
from pymobilenet.parity.run import STANDARD_CONFIGS, run_parity
from pymobilenet.parity.scenario import Scenario
from pymobilenet.parity.tables import print_report

__all__ = [
    "STANDARD_CONFIGS",
    "Divergence",
    "ParityReport",
    "Recording",
    "Row",
    "Scenario",
    "Verdict",
    "print_report",
    "read_goldens",
    "read_recording",
    "record",
    "run_parity",
    "write_parity_report",
]
