"""The published reference on BTXRD's splits, and what differs; shown only beside scores of exactly the same test parts.

AssureXRay: EfficientNet-B0 at 224 px, CLAHE, Adam, not tuned; 95 % percentile bootstrap over images.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from tune_btxrd.scoring.intervals import Interval

DIFFERENCES = (
    "CLAHE on its images, none on ours; Adam, ours AdamW; its hyperparameters were not searched; "
    "its intervals resample images, ours probable patients"
)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Published scores on one test part."""

    test_sha256: str  # of the sorted image ids, joined by newlines
    macro_auc: float
    macro_auc_interval: Interval
    malignant_sensitivity: float
    malignant_sensitivity_interval: Interval

    def __str__(self) -> str:
        return (
            f"published (AssureXRay): macro-AUC {self.macro_auc:.3f} ({self.macro_auc_interval}), Malignant sensitivity "
            f"{self.malignant_sensitivity:.3f} ({self.malignant_sensitivity_interval}); differences: {DIFFERENCES}"
        )


REFERENCES = (
    Reference(
        test_sha256="aa6666817df64ca4323e2d45cad4d8d2aff2b4316c49573775db90c499713092",
        macro_auc=0.846,
        macro_auc_interval=Interval(0.814, 0.873),
        malignant_sensitivity=0.608,
        malignant_sensitivity_interval=Interval(0.474, 0.743),
    ),
    Reference(
        test_sha256="b989b1cd73a7b19c7796312324708d900bd8e2bb2ca644b70aa80fe571a5ecdb",
        macro_auc=0.627,
        macro_auc_interval=Interval(0.594, 0.658),
        malignant_sensitivity=0.364,
        malignant_sensitivity_interval=Interval(0.270, 0.448),
    ),
)


def reference_for(test_ids: Iterable[str]) -> Reference | None:
    """The published scores of this very test part, or None."""
    digest = hashlib.sha256("\n".join(sorted(test_ids)).encode()).hexdigest()
    return next((reference for reference in REFERENCES if reference.test_sha256 == digest), None)
