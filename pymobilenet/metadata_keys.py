"""Keys of the metadata that a model's file carries, the same in every format; all values are text.

`PREPROCESSING` is a plain name, `KERAS_VERSION` and `KERAS_BACKEND` are what Keras wrote, and the
others are JSON with sorted keys.
"""

FORMAT_VERSION = "format_version"
"""Version of the exchange file; see `pymobilenet.formats.exchange.FORMAT_VERSION`."""

CONFIG = "config"
"""The `MobileNetConfig`."""

VERSIONS = "versions"
"""Library name -> version, of what wrote the file."""

DIGEST = "tensors_sha256"
"""The SHA-256, in hex (no JSON), of the tensors' bytes; see `formats.safetensors_file`."""

PROBE = "probe"
"""Logits by which the file is verified; see `pymobilenet.backends.probe`."""

PREPROCESSING, MEAN, STD = "preprocessing", "mean", "std"
"""How images are scaled; see `pymobilenet.data.file_metadata`."""

CLASSES = "classes"
"""Class names in the order of the logits: a list, or a key of `evaluation.names.OFFICIAL`."""

TRAIN, RUN, TRAIN_STATE, DATA = "train", "run", "train_state", "data"
"""What a checkpoint holds beside its weights; see `pymobilenet.training.checkpoint`."""

KERAS_VERSION, KERAS_BACKEND = "keras_version", "backend"
"""Attributes of Keras' own files."""
