"""Images: CIFAR-100 in its official forms, a generated stand-in, and the plan of batches."""

from pymobilenet.data.batch_plan import Batch, BatchPlan, apply, normalise
from pymobilenet.data.cache import cache_dir
from pymobilenet.data.cifar import CIFAR100_MEAN, CIFAR100_STD, find_cifar100, load_cifar100
from pymobilenet.data.dataset import Dataset
from pymobilenet.data.download import download_cifar100
from pymobilenet.data.opening import open_cifar100, print_to_stderr
from pymobilenet.data.standin import standin, write_binary

__all__ = [
    "CIFAR100_MEAN",
    "CIFAR100_STD",
    "Batch",
    "BatchPlan",
    "Dataset",
    "apply",
    "cache_dir",
    "download_cifar100",
    "find_cifar100",
    "load_cifar100",
    "normalise",
    "open_cifar100",
    "print_to_stderr",
    "standin",
    "write_binary",
]
