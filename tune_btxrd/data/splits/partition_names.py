"""Names of the partitions that a search makes of the images it sees: fresh ones for confirmation, folds for trials."""


def confirm_split(repeat: int) -> str:
    """The train/val partition of a confirmation repeat, from 1."""
    return f"confirm_{repeat}"


def trial_folds(count: int) -> tuple[str, ...]:
    """The folds that each trial trains on in step, where `folds_per_trial` asks for several."""
    return tuple(f"trial_fold_{number}_of_{count}" for number in range(1, count + 1))
