"""Evaluate models on labelled data sets, and predict the classes of single images.

`evaluate` runs a model of any backend on a data set, and returns an `Evaluation` with loss,
accuracy, confusion and calibration.
"""

from pymobilenet.data import preprocessing_of
from pymobilenet.evaluation.curves import print_runs, write_bands, write_curves
from pymobilenet.evaluation.images import read_image
from pymobilenet.evaluation.names import class_names, known_names, match_classes
from pymobilenet.evaluation.predict import print_prediction, probabilities
from pymobilenet.evaluation.report import (
    print_evaluation,
    to_dict,
    to_json,
    write_evaluation_report,
)
from pymobilenet.evaluation.result import Bin, Confusion, Evaluation
from pymobilenet.evaluation.run_logs import RunLog, read_runs
from pymobilenet.evaluation.scoring import as_trained, evaluate, model_of
from pymobilenet.evaluation.usable import check_usable, describe_scaling

__all__ = [
    "Bin",
    "Confusion",
    "Evaluation",
    "RunLog",
    "as_trained",
    "check_usable",
    "class_names",
    "describe_scaling",
    "evaluate",
    "known_names",
    "match_classes",
    "model_of",
    "preprocessing_of",
    "print_evaluation",
    "print_prediction",
    "print_runs",
    "probabilities",
    "read_image",
    "read_runs",
    "to_dict",
    "to_json",
    "write_bands",
    "write_curves",
    "write_evaluation_report",
]
