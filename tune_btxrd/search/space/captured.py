"""Check of `capture: true` against what cannot be captured, for every config of a space, before Ray is started."""

from dataclasses import asdict

from tune_btxrd.config import TrainConfig
from tune_btxrd.errors import ConfigError
from tune_btxrd.search.space.combinations import combinations
from tune_btxrd.search.space.spec import SearchSpec

NAMES = ("capture", "backbone_share", "stages", "epochs", "head", "accumulate", "precision")


def check_capture(trained: SearchSpec | TrainConfig) -> None:
    """What `StaticStep` refuses when a trial begins, said of the space; the device may still turn `auto` into fp16.

    Raises:
        ConfigError: a config of the space, or the one config, has `capture` beside a setting that excludes it.
    """
    for values in combinations(trained, NAMES) if isinstance(trained, SearchSpec) else [asdict(trained)]:
        if not values["capture"]:
            continue
        config = TrainConfig(**{name: values[name] for name in NAMES})
        odd = {"backbone_share": config.backbone_share != 1, "stages": config.is_staged, "head": config.head != "linear"}
        odd |= {"accumulate": config.accumulate > 1, "precision": config.precision == "fp16"}
        if found := [f"{name}={values[name]}" for name, is_odd in odd.items() if is_odd]:
            raise ConfigError(
                f"`capture: true` needs stages=one, head=linear, accumulate=1 and no fp16, but {found[0]} is possible "
                "beside it: leave capture out, or that value."
            )
