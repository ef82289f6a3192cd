"""Loss, accuracy, confusion and calibration of known and of arbitrary predictions."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from known_model import Known, data_with

from pymobilenet import MobileNetConfig, backend
from pymobilenet.backends import numpy_layers
from pymobilenet.data import synthetic
from pymobilenet.data.preprocessing import PREPROCESSING, preprocess
from pymobilenet.errors import ConfigError, DataError, WeightsError
from pymobilenet.evaluation import Confusion, Evaluation, evaluate, preprocessing_of
from pymobilenet.evaluation.result import BINS, NO_CLASS

NAN, INF = float("nan"), float("inf")
FINITE = st.floats(-30, 30, width=16)
ODD = st.sampled_from([NAN, INF, -INF])


def scored(logits, labels, classes=None):
    logits = np.asarray(logits, float)
    return evaluate(Known(logits), data_with(labels, classes or logits.shape[1]), batch_size=7)


@st.composite
def answers(draw, logit):
    """Logits (N, classes) of a few images, and their labels."""
    count, classes = draw(st.integers(1, 20)), draw(st.integers(2, 7))
    row = st.lists(logit, min_size=classes, max_size=classes)
    logits = draw(st.lists(row, min_size=count, max_size=count))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=count, max_size=count))
    return np.array(logits), labels


ANSWERS = answers(st.one_of(FINITE, ODD))

# Known values: four images of three classes, two of them right

FOUR_IMAGES = scored(
    np.log([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.08, 0.1, 0.82], [0.62, 0.28, 0.1]]), [0, 1, 2, 2]
)


def test_the_figures_of_four_images():
    result = FOUR_IMAGES
    assert (result.count, result.unanswered) == (4, 0)
    assert result.loss == pytest.approx(-np.log([0.7, 0.3, 0.82, 0.1]).mean(), rel=1e-15)
    assert (result.top1, result.top5) == (2 / 4, 1)
    assert result.confusion.tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 1]]
    assert result.class_counts.tolist() == [1, 1, 2]
    assert result.class_accuracy.tolist() == [1, 0, 0.5]
    assert result.predicted.tolist() == [0, 0, 2, 0]
    assert result.confidence == pytest.approx([0.7, 0.5, 0.82, 0.62], rel=1e-15)
    assert result.ece == pytest.approx((0.3 + 0.5 + 0.18 + 0.62) / 4, rel=1e-14)


def test_the_reliability_table_of_four_images():
    result = {index: one for index, one in enumerate(FOUR_IMAGES.reliability) if one.count}
    assert list(result) == [7, 9, 10, 12]  # 0.5, 0.62, 0.7 and 0.82 times 15, cut off
    assert [one.accuracy for one in result.values()] == [0, 0, 1, 1]
    assert [one.confidence for one in result.values()] == pytest.approx([0.5, 0.62, 0.7, 0.82])
    assert all(
        (one.count, one.accuracy, one.confidence) == (0, None, None)
        for index, one in enumerate(FOUR_IMAGES.reliability)
        if index not in result
    )


def test_mistakes_begin_with_the_most_confident():
    assert FOUR_IMAGES.mistakes().tolist() == [3, 1]
    assert FOUR_IMAGES.confusions(5) == [Confusion("1", "0", 1), Confusion("2", "0", 1)]
    assert FOUR_IMAGES.confusions(1) == [Confusion("1", "0", 1)]


def test_to_dict_has_every_figure_and_is_plain():
    result = FOUR_IMAGES.to_dict()
    assert result["classes"][2] == {"name": "2", "count": 2, "accuracy": 0.5}
    assert result["confusion"] == [[1, 0, 0], [1, 0, 0], [1, 0, 1]]
    assert len(result["reliability"]) == BINS
    assert (result["source"], result["preprocessing"]) == ("here", "standard")
    assert [type(result[key]) for key in ("count", "loss", "top1", "ece")] == [int, *[float] * 3]


# Unusual values


def test_an_image_without_finite_logits_has_no_prediction():
    result = scored([[NAN, 1], [INF, 0], [-INF, 0], [3, 1]], [0, 0, 1, 0])
    assert (result.unanswered, result.top1, result.top5) == (3, 1 / 4, 1 / 4)
    assert result.predicted.tolist() == [NO_CLASS, NO_CLASS, NO_CLASS, 0]
    assert result.confusion.tolist() == [[1, 0], [0, 0]]
    assert result.loss == INF
    assert result.to_dict()["loss"] is None
    assert sum(one.count for one in result.reliability) == 1
    assert result.ece == pytest.approx(1 - result.confidence[3])
    assert result.mistakes().tolist() == [0, 1, 2]
    assert [result.name(index) for index in (NO_CLASS, 1, 2)] == ["nothing", "1", "2"]


def test_without_any_prediction_there_is_no_calibration():
    result = scored([[NAN, NAN]], [1])
    assert np.isnan(result.ece)
    assert result.to_dict()["ece"] is None


def test_a_class_without_images_has_no_accuracy():
    result = scored([[1, 0, 0], [0, 0, 1]], [0, 2])
    assert result.class_counts.tolist() == [1, 0, 1]
    assert result.to_dict()["classes"][1] == {"name": "1", "count": 0, "accuracy": None}


def test_a_model_may_have_more_classes_than_the_data():
    result = scored([[0, 1, 0, 0], [0, 0, 0, 1]], [1, 0], classes=2)
    assert result.confusion.tolist() == [[0, 0, 0, 1], [0, 1, 0, 0]]
    assert result.class_accuracy.tolist() == [0, 1]
    assert result.confusions(3) == [Confusion("0", "3", 1)]


def test_a_model_with_too_few_classes_is_refused():
    with pytest.raises(DataError, match=r"here has 3 classes.*Received: num_classes 2"):
        scored([[0, 1]], [0], classes=3)


def test_huge_logits_overflow_nothing():
    result = scored([[1e30, -1e30], [-1e30, 1e30]], [0, 0])
    assert result.losses.tolist() == [0, 2e30]
    assert result.confidence.tolist() == [1, 1]


# Any predictions


# Drawing thousands of floats takes longer than hypothesis expects if the machine is busy.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ANSWERS, st.randoms(use_true_random=False))
def test_the_order_of_the_images_changes_nothing(case, random):
    logits, labels = case
    order = list(range(len(labels)))
    random.shuffle(order)
    first, second = scored(logits, labels), scored(logits[order], np.take(labels, order))
    for name in ("count", "unanswered", "top1", "top5"):
        assert getattr(first, name) == getattr(second, name)
    assert first.confusion.tolist() == second.confusion.tolist()
    assert first.loss == pytest.approx(second.loss, rel=1e-12)
    assert first.ece == pytest.approx(second.ece, abs=1e-12, nan_ok=True)


@given(ANSWERS)
def test_figures_are_consistent(case):
    logits, labels = case
    result = scored(logits, labels)
    assert result.top1 == np.trace(result.confusion) / len(labels)
    assert result.confusion.sum() + result.unanswered == len(labels)
    assert 0 <= result.top1 <= result.top5 <= 1
    assert result.loss >= 0
    assert np.isnan(result.ece) if result.unanswered == len(labels) else 0 <= result.ece <= 1
    assert result.class_counts.sum() == len(labels)
    assert len(result.mistakes()) == len(labels) - round(result.top1 * len(labels))


@given(answers(FINITE))
def test_the_loss_is_the_oracles(case):
    logits, labels = case
    expected, _ = numpy_layers.cross_entropy(logits, np.array(labels))
    assert scored(logits, labels).loss == pytest.approx(expected, rel=1e-12, abs=1e-15)


def with_confidence(confidence, right):
    """An evaluation of two classes: nothing but how sure the answers are, and which are right."""
    confidence, right = np.array(confidence), np.array(right, bool)
    zeros = np.zeros(len(right), np.int64)
    ranks = (~right).astype(np.int64)
    names = ("0", "1")
    return Evaluation(zeros, ranks, confidence, ranks, zeros * 1.0, names, 2, "here", "unit")


@given(st.lists(st.tuples(st.floats(0, 1, exclude_min=True), st.booleans()), min_size=1))
def test_ece_is_that_of_the_equation(pairs):
    """Guo et al., arXiv:1706.04599, equation 3, bin by bin as it is written there."""
    expected = 0.0
    for m in range(1, 16):
        inside = [(c, r) for c, r in pairs if (m - 1) / 15 < c <= m / 15]
        if inside:
            accuracy = sum(r for _, r in inside) / len(inside)
            confidence = sum(c for c, _ in inside) / len(inside)
            expected += len(inside) / len(pairs) * abs(accuracy - confidence)
    confidence, right = zip(*pairs, strict=True)
    assert with_confidence(confidence, right).ece == pytest.approx(expected, abs=1e-12)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8))
def test_ece_is_zero_where_accuracy_is_confidence(hits):
    """For each number of hits, twenty answers as sure as they are right on average."""
    confidence = np.repeat(np.array(hits) / 20, 20)
    right = np.concatenate([np.arange(20) < number for number in hits])
    assert with_confidence(confidence, right).ece == pytest.approx(0, abs=1e-12)


def test_a_bin_has_its_upper_edge_and_not_its_lower_one():
    edges = [m / 15 for m in range(1, 16)]
    assert [one.count for one in with_confidence(edges, [True] * 15).reliability] == [1] * 15


# Models


DATA = synthetic(12, num_classes=5)
CONFIG = MobileNetConfig(width_mult=0.1, resolution=32, num_classes=5)


@pytest.mark.parametrize("name", PREPROCESSING)
def test_images_go_through_the_preprocessing_of_that_name(name):
    model = Known(np.zeros((12, 5)))
    result = evaluate(model, DATA, name)
    expected = preprocess(DATA.images.transpose(0, 2, 3, 1), name)
    assert model.inputs[0].tobytes() == expected.tobytes()
    assert result.preprocessing == name


def test_backends_agree_on_a_model():
    oracle = backend("numpy").build(CONFIG, dtype="float64")
    expected = evaluate(oracle, DATA)
    result = evaluate(backend("torch").from_state(CONFIG, oracle.get_state()), DATA, batch_size=5)
    assert result.predicted.tolist() == expected.predicted.tolist()
    assert result.losses == pytest.approx(expected.losses, rel=1e-10)


@pytest.mark.parametrize("name", ["torch", "numpy"])
def test_a_softmax_changes_no_figure(name):
    model = backend(name).build(CONFIG, dtype="float64")
    config = replace(CONFIG, softmax=True)
    with_softmax = backend(name).from_state(config, model.get_state())
    assert evaluate(with_softmax, DATA).to_dict() == evaluate(model, DATA).to_dict()


def test_a_softmax_that_saturates_keeps_its_loss():
    state = backend("torch").build(CONFIG).get_state()
    state["classifier.bias"] = np.array([1000, 0, 0, 0, 0], np.float32)
    model = backend("torch").from_state(replace(CONFIG, softmax=True), state)
    assert 700 < evaluate(model, DATA).loss < 900  # three of four images are not of class 0


@pytest.mark.parametrize("batch_size", [1, 5, 7, 11, 12, 13])
def test_the_last_batch_counts_as_many_images_as_it_has(batch_size):
    logits = np.random.default_rng(0).normal(0, 3, (12, 5))
    data = data_with(np.arange(12) % 5, 5)
    result = evaluate(Known(logits), data, batch_size=batch_size)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert result.losses == pytest.approx(-np.log(probabilities[range(12), data.labels]), rel=1e-12)
    assert result.loss == pytest.approx(result.losses.mean(), rel=1e-14)
    assert result.top1 == np.mean(logits.argmax(1) == data.labels)


def test_on_batch_is_called_for_every_batch():
    batches = []
    evaluate(Known(np.zeros((12, 5))), DATA, batch_size=5, on_batch=lambda: batches.append(1))
    assert len(batches) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preprocessing": "caffe"}, r"preprocessing must be one of unit.*Received: 'caffe'"),
        ({"batch_size": 0}, "batch_size must be at least 1. Received: 0"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        evaluate(Known(np.zeros((12, 5))), DATA, **arguments)


def test_preprocessing_is_the_users_then_the_files_then_the_default():
    keras = {"preprocessing": "keras"}
    assert preprocessing_of(keras, "unit", "file") == "unit"
    assert preprocessing_of(keras, None, "file") == "keras"
    assert preprocessing_of({}, None, "file") == "standard"
    with pytest.raises(WeightsError, match=r"file: metadata preprocessing .* Received: 'caffe'"):
        preprocessing_of({"preprocessing": "caffe"}, None, "file")
    with pytest.raises(ConfigError, match=r"Received: 'caffe'"):
        preprocessing_of(keras, "caffe", "file")
