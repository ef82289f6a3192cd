"""Data sets: CIFAR-10 and CIFAR-100, image folders, synthetic images, and the batch plan."""

from pymobilenet.data.augmenting import apply, targets
from pymobilenet.data.batch_plan import BatchPlan, BatchSpec
from pymobilenet.data.cache import cache_dir
from pymobilenet.data.cifar import find_cifar, load_cifar10, load_cifar100
from pymobilenet.data.cifar_table import CIFAR10_MEAN, CIFAR10_STD, CIFAR100_MEAN, CIFAR100_STD
from pymobilenet.data.conversion import to_dataset
from pymobilenet.data.dataset import Dataset, SelectedImages
from pymobilenet.data.download import download_cifar
from pymobilenet.data.file_metadata import preprocessing_of, scaling_metadata, statistics_of
from pymobilenet.data.image_folder import load_image_folder
from pymobilenet.data.loading import open_cifar100, open_data, open_or_cifar100
from pymobilenet.data.notices import print_to_stderr
from pymobilenet.data.preprocessing import for_channels, normalise, scaling
from pymobilenet.data.synthetic import synthetic, write_binary

__all__ = [
    "CIFAR10_MEAN",
    "CIFAR10_STD",
    "CIFAR100_MEAN",
    "CIFAR100_STD",
    "BatchPlan",
    "BatchSpec",
    "Dataset",
    "SelectedImages",
    "apply",
    "cache_dir",
    "download_cifar",
    "find_cifar",
    "for_channels",
    "load_cifar10",
    "load_cifar100",
    "load_image_folder",
    "normalise",
    "open_cifar100",
    "open_data",
    "open_or_cifar100",
    "preprocessing_of",
    "print_to_stderr",
    "scaling",
    "scaling_metadata",
    "statistics_of",
    "synthetic",
    "targets",
    "to_dataset",
    "write_binary",
]
