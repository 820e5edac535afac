"""Shipped: the search space that comes with the package for each kind of dataset, told before the dataset is read."""

import sys
from pathlib import Path

from tune_btxrd.data.readers.registry import holds_volumes, task_of
from tune_btxrd.data.request import DataRequest
from tune_btxrd.search.space.spec import SearchSpec
from tune_btxrd.tasks.registry import DEFAULT
from tune_btxrd.tasks.task import Task


def shipped_space(request: DataRequest) -> Path:
    """The search space for this dataset: of the checkout, or where an installed package keeps it."""
    checkout = Path(__file__).parents[2] / "search_spaces"
    folder = checkout if checkout.is_dir() else Path(sys.prefix) / "share" / "tune_btxrd" / "search_spaces"
    if are_volumes(request):
        return folder / ("phantom_volumes.yaml" if request.is_phantom else "volumes.yaml")
    plain = "btxrd.yaml" if task_of_request(request).exclusive else "multilabel.yaml"
    return folder / ("phantom.yaml" if request.is_phantom else plain)


def are_volumes(request: DataRequest) -> bool:
    """Whether the samples are volumes, before the dataset is read. Raises: DataError."""
    return request.drawn.kind == "volumes" if request.data is None else holds_volumes(request.data)


def task_of_request(request: DataRequest) -> Task:
    """What targets of a dataset are, before it is read; the phantom's are classes."""
    return DEFAULT if request.data is None else task_of(request.data)


def usual_size(request: DataRequest) -> int:
    """The side of the images that the shipped search space trains on, px."""
    return SearchSpec.load(shipped_space(request)).hand_made.image_size
