"""Hypothesis profiles: `fast` for every run, `deep` for the nights.

HYPOTHESIS_PROFILE=deep python -m pytest tests/core/test_properties.py
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Generated streams are slow to shrink on a busy machine; slowness is no fault of theirs.
_PATIENT = (HealthCheck.too_slow, HealthCheck.data_too_large)

settings.register_profile("fast", max_examples=60, deadline=None, suppress_health_check=_PATIENT)
settings.register_profile("deep", max_examples=2000, deadline=None, suppress_health_check=_PATIENT)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))
