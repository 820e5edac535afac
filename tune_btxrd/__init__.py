"""From a folder of medical images to the best checkpoint per split: Ray Tune, Optuna and ASHA, made for BTXRD."""

from tune_btxrd.version import __version__

__all__ = ["__version__"]
