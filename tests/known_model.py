"""A model that answers what was written down, and data for it to be asked about."""

import numpy as np

from pymobilenet import MobileNetConfig
from pymobilenet.data import Dataset


class Known:
    """Predicts logits that were written down, image by image; notes what it is given."""

    dtype = np.dtype("float32")

    def __init__(self, logits):
        self.logits, self.seen = np.asarray(logits, float), []
        self.config = MobileNetConfig(num_classes=self.logits.shape[1])

    def freeze(self):
        return self.predict

    def predict(self, images):
        start = sum(map(len, self.seen))
        self.seen.append(images)
        return self.logits[start : start + len(images)]


def data_with(labels, classes):
    """Black images of these labels, in classes called 0, 1, ..."""
    labels = np.array(labels, np.int64)
    names = tuple(map(str, range(classes)))
    images = np.zeros((len(labels), 3, 4, 4), np.uint8)
    return Dataset(images, labels, None, names, (), "here", synthetic=False)
