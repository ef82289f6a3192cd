"""Pretrained MobileNets by name: the registry, and downloads."""

from pymobilenet.hub.download import cached_file, fetch, is_cached
from pymobilenet.hub.registry import PretrainedModel, imagenet_classes, pretrained_models
from pymobilenet.hub.resolve import resolve_model_file

__all__ = [
    "PretrainedModel",
    "cached_file",
    "fetch",
    "imagenet_classes",
    "is_cached",
    "pretrained_models",
    "resolve_model_file",
]
