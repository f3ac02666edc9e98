"""scikit-learn's own checks of each estimator, with a diffusion model."""

import sys
from pathlib import Path

import pytest
from sklearn.utils.estimator_checks import check_estimator

from undiffuse.sklearn import DensityEstimator, Imputer, OutlierDetector

sys.path.insert(0, str(Path(__file__).parents[1]))

from test_sklearn import EXPECTED, SMALL

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("kind", [DensityEstimator, OutlierDetector, Imputer])
def test_scikit_learns_own_checks_pass(kind):
    estimator = kind(**SMALL)
    found = check_estimator(estimator, on_fail=None, on_skip=None, expected_failed_checks=EXPECTED)
    failed = [one["check_name"] for one in found if one["status"] == "failed"]
    assert not failed
    assert sum(one["status"] == "passed" for one in found) >= 39
