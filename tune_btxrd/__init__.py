"""From a folder of radiographs to the best checkpoint per split: Ray Tune, Optuna and ASHA on BTXRD."""

__version__ = "0.1.0"
