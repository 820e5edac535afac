import numpy as np
import pytest

from tune_btxrd.scoring.calibration import Calibration, fit_calibration
from tune_btxrd.scoring.metrics import calibration_error, log_loss, ones
from tune_btxrd.tasks.multiclass import MULTICLASS


def sampled(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and targets drawn from exactly those logits' probabilities: perfectly calibrated by construction."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=1.5, size=(count, 3)) + np.array([1.0, 0.6, -0.8])
    targets = (MULTICLASS.probabilities(logits).cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    return logits, targets


def test_recovers_a_known_temperature_and_shift():
    """Logits were multiplied by 2.5 and shifted by log class weights; the fit must find the way back."""
    logits, targets = sampled(40_000)
    shift = np.log([0.664, 0.820, 3.640])
    found = fit_calibration((logits + shift) * 2.5, targets)
    assert found.temperature == pytest.approx(2.5, rel=0.03)
    np.testing.assert_allclose(found.bias, -(shift - shift.mean()), atol=0.05)
    assert sum(found.bias) == pytest.approx(0)


def test_a_temperature_alone_cannot_undo_class_weights():
    logits, targets = sampled(20_000)
    weighted = logits + np.log([0.664, 0.820, 3.640])
    full = fit_calibration(weighted, targets)
    alone = Calibration(temperature=full.temperature, bias=(0.0, 0.0, 0.0))
    new_logits, new_targets = sampled(20_000, seed=1)
    new_weighted = new_logits + np.log([0.664, 0.820, 3.640])

    def error(p):
        return calibration_error(p, new_targets, ones(len(new_targets)))[0]

    before, after, only = (f(new_weighted) for f in (MULTICLASS.probabilities, full.probabilities, alone.probabilities))
    assert log_loss(after, new_targets) < min(log_loss(before, new_targets), log_loss(only, new_targets)) - 0.02
    assert error(after) < 0.02 < error(only) and error(before) > 0.02


def test_calibrated_logits_stay_as_they_are():
    logits, targets = sampled(40_000)
    found = fit_calibration(logits, targets)
    assert found.temperature == pytest.approx(1, rel=0.03) and np.abs(found.bias).max() < 0.05
    assert Calibration.from_dict(found.to_dict()) == found


def test_separable_logits_and_an_absent_class_stay_finite():
    logits = np.array([[9.0, 0, 0], [0, 9.0, 0], [8.0, 0, 0]])
    found = fit_calibration(logits, np.array([0, 1, 0]))
    probabilities = found.probabilities(logits)
    assert np.isfinite(probabilities).all() and found.temperature >= np.exp(-3) - 1e-9


def test_probabilities_by_hand():
    """softmax([2, 0] / 2 + [0, log 3]) = [e, 3] / (e + 3)."""
    found = Calibration(temperature=2.0, bias=(0.0, float(np.log(3)))).probabilities(np.array([[2.0, 0.0]]))
    np.testing.assert_allclose(found, [[np.e / (np.e + 3), 3 / (np.e + 3)]])
