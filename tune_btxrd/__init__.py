"""From a folder of medical images to the best checkpoint per split: Ray Tune, Optuna and ASHA, made for BTXRD.

The names below are the Python API: the verbs of the command line as functions, and what they take and return. Each is
loaded when it is first used, so that `import tune_btxrd` costs nothing.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tune_btxrd.version import __version__

if TYPE_CHECKING:
    from tune_btxrd.config import TrainConfig
    from tune_btxrd.data.phantom import PhantomSpec
    from tune_btxrd.data.request import DataRequest
    from tune_btxrd.labels.store import LabelStore
    from tune_btxrd.pipeline.compute import Compute
    from tune_btxrd.pipeline.finished import evaluate, explain, export, report, trial
    from tune_btxrd.pipeline.open_search import OpenSearch, open_search
    from tune_btxrd.pipeline.predict_images import predict_images
    from tune_btxrd.pipeline.prepare import prepare
    from tune_btxrd.pipeline.run import retrain, run, search, train
    from tune_btxrd.pipeline.site import Trackers
    from tune_btxrd.results.search_json import SpaceRequest

PLACES = {  # name -> the module that has it
    "Compute": "pipeline.compute",
    "DataRequest": "data.request",
    "LabelStore": "labels.store",
    "OpenSearch": "pipeline.open_search",
    "PhantomSpec": "data.phantom",
    "SpaceRequest": "results.search_json",
    "Trackers": "pipeline.site",
    "TrainConfig": "config",
    "evaluate": "pipeline.finished",
    "explain": "pipeline.finished",
    "export": "pipeline.finished",
    "open_search": "pipeline.open_search",
    "predict_images": "pipeline.predict_images",
    "prepare": "pipeline.prepare",
    "report": "pipeline.finished",
    "retrain": "pipeline.run",
    "run": "pipeline.run",
    "search": "pipeline.run",
    "train": "pipeline.run",
    "trial": "pipeline.finished",
}
__all__ = [
    "Compute",
    "DataRequest",
    "LabelStore",
    "OpenSearch",
    "PhantomSpec",
    "SpaceRequest",
    "Trackers",
    "TrainConfig",
    "__version__",
    "evaluate",
    "explain",
    "export",
    "open_search",
    "predict_images",
    "prepare",
    "report",
    "retrain",
    "run",
    "search",
    "train",
    "trial",
]


def __getattr__(name: str) -> Any:
    """A name of the API at its first use."""
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in VERB_FOLDERS:
        return import_module(f"{__name__}.{name}")
    return getattr(import_module(f"{__name__}.{PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


class _VerbFolder(ModuleType):
    """A folder of the package that is called as a verb is: `tb.search.record` is in the folder, `tb.search(...)` runs it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)

    @property
    def __wrapped__(self) -> Any:
        """The verb itself, so that `inspect.signature` and `help` show what it takes."""
        verb = self.__name__.rpartition(".")[2]
        return getattr(import_module(f"{__package__}.{PLACES[verb]}"), verb)


class _Package(ModuleType):
    """This package: a folder that is loaded under a verb's name, by whoever, can be called as the verb."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in VERB_FOLDERS and type(value) is ModuleType:
            value.__class__ = _VerbFolder
        super().__setattr__(name, value)


VERB_FOLDERS = ("search", "report")  # a folder's question and a verb share these words
sys.modules[__name__].__class__ = _Package
