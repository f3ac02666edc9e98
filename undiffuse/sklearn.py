"""Models of this library as scikit-learn estimators, for pipelines, grid searches and joblib.

    DensityEstimator     score_samples = log p(row) in nats and the rows' own units, sample, impute
    OutlierDetector      predict = -1 below a quantile of the training rows; p_values keep a promise
    Imputer              transform fills gaps with draws from p(gaps | known); `multiple` many times

Each trains a preset on what `fit` is given: an array (n, D) of numbers, in which NaN are gaps, or a
data frame with columns of any kind. What is random in a row depends on `random_state` and on the
row's own values, so neither the order of the rows nor which others there are matters.

>>> import numpy as np
>>> rows = np.random.default_rng(0).normal(size=(200, 2))
>>> estimator = DensityEstimator(steps=20, sizes={"width": 16}).fit(rows)
>>> estimator.score_samples(rows[:3]).shape, estimator.sample(5).shape
((3,), (5, 2))
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, DensityMixin, OutlierMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from undiffuse.data import Data, complete, load
from undiffuse.diffusion.noise import content_numbers
from undiffuse.errors import InputError, unknown
from undiffuse.evaluation.scores.conformal import Calibration
from undiffuse.models import PRESETS, GenerativeModel
from undiffuse.models.again import filled
from undiffuse.run import open as open_run
from undiffuse.seeds import mix
from undiffuse.training import fit as train

_DRAWS = 1 << 42  # between the numbers of the draws for one row, which are below 2^40
_CALIBRATION = 1  # what a seed is mixed with for held-out rows, which have noise of their own


class _Estimator(BaseEstimator):
    """What the estimators share: the parameters, training, and how a model is kept."""

    _gaps = False  # whether arrays to train on may hold NaN

    def __init__(
        self,
        preset: str = "edm",
        *,
        budget: str | float | None = "1m",
        steps: int | None = None,
        sizes: Mapping[str, Any] | None = None,
        device: str = "auto",
        random_state: int | None = 0,
    ) -> None:
        self.preset = preset
        self.budget = budget
        self.steps = steps
        self.sizes = sizes
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Any:
        """Train the preset on rows.

        Args:
            X: rows (n, D), an array of numbers in which NaN are gaps, or a data frame.
            y: ignored.

        Returns:
            The estimator itself, with `model_`, the trained model, and `seed_`.

        Raises:
            InputError: for an unknown preset or size, and rows that cannot be trained on.
        """
        rows = self._rows(X, reset=True, gaps=self._gaps)
        if self.preset not in PRESETS:
            raise unknown("preset", "preset", self.preset, PRESETS)
        self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        data = load(rows, seed=self.seed_)
        self.model_ = PRESETS[self.preset](**(self.sizes or {}))
        asked: dict[str, Any] = {"steps": self.steps, "precision": "float32"}
        if self.steps is None:
            asked = {"budget": self.budget}
        train(self.model_, data, seed=self.seed_, device=self.device, **asked)
        self._fitted(data)
        return self

    def _fitted(self, data: Data) -> None:
        """Measure what else an estimator needs of its data."""

    def _rows(self, X: Any, *, reset: bool = False, gaps: bool = False) -> Any:
        """Rows as `load` takes them: a data frame as it is, anything else as an array of floats."""
        if not reset:
            check_is_fitted(self)
        if hasattr(X, "columns"):
            validate_data(self, X, reset=reset, skip_check_array=True)
            return X
        kinds = [np.float64, np.float32]
        least: dict[str, Any] = {"ensure_min_samples": 2} if reset else {}
        finite = "allow-nan" if gaps else True
        return validate_data(self, X, reset=reset, dtype=kinds, ensure_all_finite=finite, **least)

    def _log_prob(self, rows: Any, seed: int | None = None) -> np.ndarray:
        seed = self.seed_ if seed is None else seed
        return self.model_.log_prob(rows, seed=seed, by_content=True)

    def _completed(self, X: Any, draws: int) -> list[np.ndarray]:
        """`draws` completions of rows, each (n, ...) of the stored type."""
        rows = self._rows(X, gaps=True)
        given = complete(rows, self.model_.data_config or {})
        numbers = content_numbers(np.ascontiguousarray(given.rows))[:, None]
        numbers = (numbers + _DRAWS * np.arange(draws)).reshape(-1)
        drawn = self.model_.sample_rows(draws, given=given, seed=self.seed_, first=numbers)
        drawn = filled(self.model_, drawn, given=given, seed=self.seed_, first=numbers)
        return [drawn[k::draws] for k in range(draws)]

    def _presented(self, rows: np.ndarray) -> Any:
        form = self.model_.form
        return rows if form is None else form.present(rows, drawn=False)

    def __getstate__(self) -> dict[str, Any]:
        """The parameters, and the files of the model's run in place of the model."""
        own: Any = super().__getstate__()
        state: dict[str, Any] = dict(own)
        if isinstance(model := state.get("model_"), GenerativeModel):
            with TemporaryDirectory() as folder:
                run = model.save(Path(folder) / "run")
                state["model_"] = {
                    str(file.relative_to(run)): file.read_bytes()
                    for file in run.rglob("*")
                    if file.is_file()
                }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the model's run again."""
        state = dict(state)
        if isinstance(files := state.get("model_"), dict):
            with TemporaryDirectory() as folder:
                for name, content in files.items():
                    (Path(folder) / name).write_bytes(content)
                state["model_"] = open_run(folder)
        super().__setstate__(state)


class DensityEstimator(DensityMixin, _Estimator):
    """The density of rows, by any preset that has one.

    Args:
        preset: a name in `undiffuse.models.PRESETS`.
        budget: time to train for, such as "10m" or seconds.
        steps: training steps in place of a time; then the same call gives the same model.
        sizes: dimensions of the network, such as {"width": 64}; None: chosen from the data.
        device: "auto", "cpu" or "cuda".
        random_state: decides everything random.

    >>> import numpy as np
    >>> rows = np.random.default_rng(0).normal(size=(200, 2))
    >>> model = DensityEstimator(steps=10, sizes={"width": 16}).fit(rows)
    >>> bool(model.score(rows) == model.score_samples(rows).mean())
    True
    """

    def score_samples(self, X: Any) -> np.ndarray:
        """Return log p of each row (n,), in nats and the rows' own units.

        Raises:
            InputError: for a preset without a density, and rows unlike those of training.
        """
        return self._log_prob(self._rows(X))

    def score(  # pyright: ignore[reportIncompatibleMethodOverride] - theirs has no annotation
        self, X: Any, y: Any = None
    ) -> float:
        """Return the mean of `score_samples`."""
        return float(np.mean(self.score_samples(X)))

    def sample(self, n_samples: int = 1, random_state: int | None = None) -> Any:
        """Return so many new rows, in the form of those of training."""
        check_is_fitted(self)
        seed = self.seed_ if random_state is None else random_state
        drawn = check_random_state(seed).randint(2**31 - 1)
        return self.model_.sample(n_samples, seed=int(drawn))

    def impute(self, X: Any) -> Any:
        """Return rows with their gaps filled, each by one draw given what is known."""
        return self._presented(self._completed(X, 1)[0])


class OutlierDetector(OutlierMixin, _Estimator):
    """Outliers by the log-likelihood of rows.

    `predict` follows scikit-learn: -1 for rows less likely than a share `contamination` of the
    training rows. `p_values` are conformal, from the rows that training held out: among rows like
    those, at most a share r has a p-value of r or less, on average over held-out sets.

    Args:
        preset: a name in `undiffuse.models.PRESETS`, of a family with a density.
        budget: time to train for, such as "10m" or seconds.
        steps: training steps in place of a time; then the same call gives the same model.
        sizes: dimensions of the network, such as {"width": 64}; None: chosen from the data.
        contamination: the share of the training rows that are outliers, in (0, 0.5].
        device: "auto", "cpu" or "cuda".
        random_state: decides everything random.
    """

    def __init__(
        self,
        preset: str = "edm",
        *,
        budget: str | float | None = "1m",
        steps: int | None = None,
        sizes: Mapping[str, Any] | None = None,
        contamination: float = 0.1,
        device: str = "auto",
        random_state: int | None = 0,
    ) -> None:
        super().__init__(
            preset,
            budget=budget,
            steps=steps,
            sizes=sizes,
            device=device,
            random_state=random_state,
        )
        self.contamination = contamination

    def fit(self, X: Any, y: Any = None) -> OutlierDetector:
        """Train on rows (n, D), and measure `offset_`, the score below which a row is one."""
        if not 0 < self.contamination <= 0.5:
            raise InputError(
                f"contamination {self.contamination:g}: it is a share of the training rows; give a "
                "number above 0 and at most 0.5."
            )
        super().fit(X, y)
        self.offset_ = float(np.quantile(self._log_prob(self._rows(X)), self.contamination))
        return self

    def _fitted(self, data: Data) -> None:
        nats = self._log_prob(data.held_out, mix(self.seed_, _CALIBRATION))
        self.calibration_ = np.sort(nats)

    def score_samples(self, X: Any) -> np.ndarray:
        """Return log p of each row (n,), in nats and the rows' own units."""
        return self._log_prob(self._rows(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """Return `score_samples` less `offset_`: below 0 for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """Return -1 for outliers and 1 for others, (n,)."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def p_values(self, X: Any) -> np.ndarray:
        """Return the conformal p-value of each row (n,): its rank among held-out rows."""
        return Calibration(self.calibration_).p_values(self.score_samples(X))


class Imputer(TransformerMixin, _Estimator):
    """Fills gaps: NaN of an array, empty cells of a data frame, by draws given what is known.

    Args:
        preset: a name in `undiffuse.models.PRESETS`, of a diffusion model.
        budget: time to train for, such as "10m" or seconds.
        steps: training steps in place of a time; then the same call gives the same model.
        sizes: dimensions of the network, such as {"width": 64}; None: chosen from the data.
        device: "auto", "cpu" or "cuda".
        random_state: decides everything random.
    """

    _gaps = True

    def transform(self, X: Any) -> Any:
        """Return rows like `X` in which each gap is filled by one draw."""
        return self.multiple(X, 1)[0]

    def multiple(self, X: Any, draws: int = 5) -> list[Any]:
        """Return so many completions of `X`, for multiple imputation (Rubin 1987)."""
        return [self._like(self._presented(one), X) for one in self._completed(X, draws)]

    def _like(self, rows: Any, X: Any) -> Any:
        """The index of a pandas frame is kept."""
        if hasattr(X, "index") and hasattr(rows, "index"):
            rows.index = X.index
        return rows

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns, which are those that came in."""
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            names = [f"x{i}" for i in range(getattr(self, "n_features_in_", 0))]
        return np.asarray(names, dtype=object)

    def __sklearn_tags__(self) -> Any:
        """See scikit-learn: NaN are allowed."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
