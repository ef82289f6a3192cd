"""A model with known logits, and a data set for it."""

import numpy as np

from pymobilenet import MobileNetConfig
from pymobilenet.data import Dataset


class Known:
    """Returns known logits, image by image, and records its inputs."""

    dtype = np.dtype("float32")

    def __init__(self, logits):
        self.logits, self.inputs = np.asarray(logits, float), []
        self.config = MobileNetConfig(num_classes=self.logits.shape[1])

    def freeze(self):
        return self.predict

    def predict(self, images):
        start = sum(map(len, self.inputs))
        self.inputs.append(images)
        return self.logits[start : start + len(images)]


def data_with(labels, classes):
    """Black images of these labels, in classes called 0, 1, ..."""
    labels = np.array(labels, np.int64)
    names = tuple(map(str, range(classes)))
    images = np.zeros((len(labels), 3, 4, 4), np.uint8)
    return Dataset(images, labels, None, names, (), "here", synthetic=False)
