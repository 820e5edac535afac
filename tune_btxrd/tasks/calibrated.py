"""Calibrated cross-entropy: cross-entropy of a validation part after calibration on its other folds.

Losses, samplings and class weights shift and scale logits, which costs plain cross-entropy and says nothing of what a model
has learned. Here each fold is scored with a temperature and a bias per class that were fitted on the other folds (vector
scaling with a common scale; Guo et al., ICML 2017, section 4.2), so that such models are compared by a proper score. The
targets of a fit are smoothed as Platt's (1999): of n images of a class, (n + 1) / (n + C) is its own and 1 / (n + C) each
other's. So a fit is finite on the fewest images, and does not depend on the scale of the logits.

Shapes: N images, C classes, K folds, Q fits at once, D = C + 1 parameters.
"""
# ruff: noqa: N803, N806
# (shape suffixes: logits_QCN)

from collections.abc import Iterator

import numpy as np

FOLDS = 5
SEED = 42  # of the folds; always the same, so that trainings with different seeds are scored alike
NEWTON_STEPS, HALVINGS = 50, 30
CLOSE = 1e-5  # of the last step, in standard deviations of the logits or nats; what is left is of its square
ROUNDING = 1e-12  # of a loss, relative
RIDGE = 1e-9  # per image; a common shift of all biases changes nothing
MOST_CELLS = 1_000_000  # of all folds at once; above, one after the other


def fold_numbers(answers_NK: np.ndarray, groups_N: np.ndarray | None = None) -> np.ndarray:
    """(N,) int64: the fold of each image. Groups stay whole; those that share their rarest answer are dealt in turn.

    Args:
        answers_NK: 0 or 1, as `Task.answers` gives them; groups_N: equal where images belong together; None: none do.
    """
    groups_N = np.arange(len(answers_NK)) if groups_N is None else groups_N
    names, group_of_N = np.unique(groups_N, return_inverse=True)
    held_GK = np.zeros((len(names), answers_NK.shape[1]), dtype=bool)
    np.logical_or.at(held_GK, group_of_N, answers_NK > 0)
    rarest_G = np.where(held_GK, answers_NK.sum(axis=0), np.inf).argmin(axis=1)
    order = np.lexsort((np.random.default_rng(SEED).permutation(len(names)), rarest_G))
    fold_of_G = np.empty(len(names), dtype=np.int64)
    fold_of_G[order] = np.arange(len(names)) % FOLDS
    return np.asarray(fold_of_G[group_of_N])


def class_loss(logits_NC: np.ndarray, targets_N: np.ndarray, folds_N: np.ndarray) -> float:
    """Mean over images, in nats; plain cross-entropy where all images are in one fold, NaN where a logit is not finite."""
    if not np.isfinite(logits_NC).all():
        return float("nan")
    logits_QCN = _centered(logits_NC.T[None])
    return float(_held_out(logits_QCN, targets_N[None], np.ones((1, len(targets_N))), folds_N).mean())


def label_loss(logits_NL: np.ndarray, answers_NL: np.ndarray, folds_N: np.ndarray) -> float:
    """The same of independent labels, each calibrated by itself: mean over known cells.

    Args:
        answers_NL: 1 yes, 0 no, anything else unknown.
    """
    known_LN = ((answers_NL == 1) | (answers_NL == 0)).T
    if not known_LN.any() or not np.isfinite(logits_NL.T[known_LN]).all():
        return float("nan")
    yes_LN, logits_LN = np.where(known_LN, answers_NL.T, 0), np.where(known_LN, logits_NL.T, 0.0)
    logits_LCN = _centered(np.stack([np.zeros_like(logits_LN), logits_LN], axis=1))
    return float(_held_out(logits_LCN, yes_LN, known_LN.astype(np.float64), folds_N)[known_LN].mean())


def _held_out(logits_QCN: np.ndarray, targets_QN: np.ndarray, known_QN: np.ndarray, folds_N: np.ndarray) -> np.ndarray:
    """(Q, N): the loss of each image, by the fit on the known ones of the other folds."""
    problems, _, count = logits_QCN.shape
    if len(np.unique(folds_N)) == 1:
        return _losses(logits_QCN, targets_QN)
    loss_QN = np.empty((problems, count))
    for folds in _at_once(folds_N, logits_QCN.size):
        seen_KN = folds[:, None] != folds_N
        weights_QN = (known_QN * seen_KN[:, None]).reshape(-1, count)  # fold by fold
        lots = len(folds)
        slope_Q, bias_QC = fit(np.tile(logits_QCN, (lots, 1, 1)), np.tile(targets_QN, (lots, 1)), weights_QN)
        for at, fold in enumerate(folds):
            own, rows = folds_N == fold, slice(at * problems, (at + 1) * problems)
            calibrated_QCN = logits_QCN[:, :, own] * slope_Q[rows, None, None] + bias_QC[rows, :, None]
            loss_QN[:, own] = _losses(calibrated_QCN, targets_QN[:, own])
    return loss_QN


def fit(logits_QCN: np.ndarray, targets_QN: np.ndarray, weights_QN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes (Q,), never below 0, and biases (Q, C) of the least cross-entropy against smoothed targets.

    Newton's method on a convex loss. Where the best slope would be negative, the logits tell nothing: the slope is 0 and
    the biases are the logarithms of the classes' shares.

    Args:
        logits_QCN: centered; weights_QN: 1 for an image that is fitted on, else 0.
    """
    spread_Q = np.sqrt((weights_QN * (logits_QCN**2).mean(axis=1)).sum(axis=1) / np.maximum(weights_QN.sum(axis=1), 1))
    spread_Q[spread_Q == 0] = 1.0
    x_QCN = logits_QCN / spread_Q[:, None, None]
    wanted_QCN = weights_QN[:, None] * _smoothed(targets_QN, weights_QN, logits_QCN.shape[1])
    start_QD = theta_QD = _shares_only(wanted_QCN)
    log_p_QCN, loss_Q = _tried(theta_QD, x_QCN, wanted_QCN)
    for _ in range(NEWTON_STEPS):
        step_QD = _newton_step(log_p_QCN, x_QCN, wanted_QCN, weights_QN)
        for _ in range(HALVINGS):
            log_p_QCN, tried_Q = _tried(theta_QD - step_QD, x_QCN, wanted_QCN)
            worse_Q = tried_Q > loss_Q + ROUNDING * np.abs(loss_Q)
            if not worse_Q.any():
                break
            step_QD[worse_Q] /= 2
        theta_QD, loss_Q = theta_QD - step_QD, tried_Q
        if np.abs(step_QD).max() < CLOSE:
            break
    theta_QD = np.where(theta_QD[:, :1] < 0, start_QD, theta_QD)
    return theta_QD[:, 0] / spread_Q, theta_QD[:, 1:]


def _at_once(folds_N: np.ndarray, cells: int) -> Iterator[np.ndarray]:
    """The folds' numbers, in lots that fit the memory."""
    folds = np.unique(folds_N)
    yield from ([folds] if cells * len(folds) <= MOST_CELLS else np.split(folds, len(folds)))


def _centered(logits_QCN: np.ndarray) -> np.ndarray:
    values_QCN = logits_QCN.astype(np.float64)
    return np.asarray(values_QCN - values_QCN.mean(axis=1, keepdims=True))


def _smoothed(targets_QN: np.ndarray, weights_QN: np.ndarray, classes: int) -> np.ndarray:
    """(Q, C, N) targets."""
    own_QCN = (targets_QN[:, None] == np.arange(classes)[:, None]).astype(np.float64)
    count_QN = np.take_along_axis((own_QCN @ weights_QN[:, :, None])[:, :, 0], targets_QN, axis=1)
    return np.asarray((own_QCN * count_QN[:, None] + 1) / (count_QN[:, None] + classes))


def _shares_only(wanted_QCN: np.ndarray) -> np.ndarray:
    """(Q, D): slope 0, and the best biases for it; all 0 where nothing is fitted on."""
    total_QC = wanted_QCN.sum(axis=2)
    bias_QC = np.log(np.where(total_QC > 0, total_QC, 1.0))
    return np.concatenate([np.zeros((len(bias_QC), 1)), bias_QC - bias_QC.mean(axis=1, keepdims=True)], axis=1)


def _tried(theta_QD: np.ndarray, x_QCN: np.ndarray, wanted_QCN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Q, C, N) log probabilities and (Q,) losses."""
    log_p_QCN = _log_softmax(x_QCN * theta_QD[:, :1, None] + theta_QD[:, 1:, None])
    return log_p_QCN, -(wanted_QCN * log_p_QCN).sum(axis=(1, 2))


def _newton_step(log_p_QCN: np.ndarray, x_QCN: np.ndarray, wanted_QCN: np.ndarray, weights_QN: np.ndarray) -> np.ndarray:
    """(Q, D): the inverse of the Hessian times the gradient."""
    p_QCN = np.exp(log_p_QCN)
    weighted_QCN = weights_QN[:, None] * p_QCN
    error_QCN = weighted_QCN - wanted_QCN
    gradient_QD = np.concatenate([(error_QCN * x_QCN).sum(axis=(1, 2))[:, None], error_QCN.sum(axis=2)], axis=1)
    from_mean_QCN = x_QCN - (p_QCN * x_QCN).sum(axis=1, keepdims=True)
    hessian_QDD = np.empty((*gradient_QD.shape, gradient_QD.shape[1]))
    hessian_QDD[:, 0, 0] = (weighted_QCN * from_mean_QCN**2).sum(axis=(1, 2))
    hessian_QDD[:, 0, 1:] = hessian_QDD[:, 1:, 0] = (weighted_QCN * from_mean_QCN).sum(axis=2)
    hessian_QDD[:, 1:, 1:] = -(weighted_QCN @ p_QCN.transpose(0, 2, 1))
    at = np.arange(1, gradient_QD.shape[1])
    hessian_QDD[:, at, at] += weighted_QCN.sum(axis=2)
    hessian_QDD += RIDGE * (weights_QN.sum(axis=1) + 1)[:, None, None] * np.eye(gradient_QD.shape[1])
    step_QD = np.linalg.solve(hessian_QDD, gradient_QD[:, :, None])[:, :, 0]
    step_QD[:, 1:] -= step_QD[:, 1:].mean(axis=1, keepdims=True)  # of the common shift of biases nothing but rounding
    return np.asarray(step_QD)


def _log_softmax(logits_QCN: np.ndarray) -> np.ndarray:
    shifted_QCN = logits_QCN - logits_QCN.max(axis=1, keepdims=True)
    return np.asarray(shifted_QCN - np.log(np.exp(shifted_QCN).sum(axis=1, keepdims=True)))


def _losses(logits_QCN: np.ndarray, targets_QN: np.ndarray) -> np.ndarray:
    """(Q, N) cross-entropies."""
    return np.asarray(-np.take_along_axis(_log_softmax(logits_QCN), targets_QN[:, None], axis=1)[:, 0])
