"""Scoring: predictions to numbers with intervals, calibration and operating points; no torch."""
