"""Comparison of two backends that should compute the same model.

`run_parity` compares level by level: structure, outputs, gradients, optimizer, training curves,
hand-over. Every tolerance is measured while it runs, as the noise floor of that tensor.
"""

from pymobilenet.parity.diff import (
    assert_same_model,
    compare,
    compare_optimizers,
    flux_optimizer,
    julia,
    load_onnx,
    torch_optimizer,
)
from pymobilenet.parity.judge import Divergence, Row, Verdict
from pymobilenet.parity.recording import Recording, read_recording, read_recordings, record
from pymobilenet.parity.report import ParityReport, write_parity_report
from pymobilenet.parity.run import run_parity
from pymobilenet.parity.scenario import STANDARD_CONFIGS, Scenario
from pymobilenet.parity.tables import print_report

__all__ = [
    "STANDARD_CONFIGS",
    "Divergence",
    "ParityReport",
    "Recording",
    "Row",
    "Scenario",
    "Verdict",
    "assert_same_model",
    "compare",
    "compare_optimizers",
    "flux_optimizer",
    "julia",
    "load_onnx",
    "print_report",
    "read_recording",
    "read_recordings",
    "record",
    "run_parity",
    "torch_optimizer",
    "write_parity_report",
]
