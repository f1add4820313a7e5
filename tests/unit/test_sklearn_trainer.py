"""The scikit-learn trainer: fit, evaluate, save, load and predict, and what it says when something is wrong."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import skops.io
from scipy.sparse import issparse  # type: ignore[import-untyped]
from sklearn.base import BaseEstimator, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import DBSCAN, Birch, BisectingKMeans, KMeans
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.decomposition import PCA, KernelPCA
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.feature_selection import RFECV, SelectKBest, mutual_info_classif
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import DotProduct, ExpSineSquared, Matern, RationalQuadratic
from sklearn.impute import IterativeImputer
from sklearn.linear_model import (
    BayesianRidge,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    Ridge,
    RidgeCV,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.model_selection import GridSearchCV, GroupKFold, TunedThresholdClassifierCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    QuantileTransformer,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import all_estimators, get_tags

from registry.document import ModelDocument
from registry.errors import (
    ArtifactCorrupt,
    Cancelled,
    DocumentInvalid,
    RowsUnusable,
    TimeLimit,
    TrainingFailed,
    Untrusted,
)
from registry.trust import Trust
from tests.fixtures.training import Recorder, loader, rows_of, training
from trainers.rows import KEY
from trainers.sklearn import SklearnTrainer
from trainers.sklearn_artifacts import dumps, loads
from trainers.sklearn_forms import UNSTORABLE
from trainers.trainer import Fitted

TRUST = Trust()
TRAINER = SklearnTrainer()
ROWS = 60


def rows(**columns: Any) -> pa.Table:
    """Sixty rows: two numbers that tell the class, a text, a weight, a group; columns replace these or add to them."""
    rng = np.random.default_rng(0)
    churned = np.arange(ROWS) % 2
    table = {
        KEY: np.arange(ROWS, dtype=np.uint64),
        "age": churned * 3.0 + rng.normal(size=ROWS),
        "income": rng.normal(size=ROWS),
        "text": ["stay here" if not each else "go away" for each in churned],
        "weight": np.where(churned, 5.0, 1.0),
        "team": np.arange(ROWS) % 3,
        "churned": churned,
    }
    return pa.table(table | columns)


def document(model: Any, **fields: Any) -> ModelDocument:
    form = TRAINER.describe(model) if isinstance(model, BaseEstimator) else model
    return ModelDocument.parse(
        {
            "_id": "m",
            "trainer": "sklearn",
            "object": form,
            "training_select": "rows",
            "train_X": ["age", "income"],
            "train_y": "churned",
        }
        | fields
    )


def fitted(doc: ModelDocument, table: pa.Table | None = None, report: Recorder | None = None) -> Fitted:
    return TRAINER.fit(training(doc, table if table is not None else rows(), trust=TRUST, report=report))


# --- fit --------------------------------------------------------------------------------------------------------


def test_it_fits_what_scikit_learn_itself_would() -> None:
    table = rows()
    model = fitted(document(LogisticRegression(C=0.5)), table).model
    frame = table.select(["age", "income"]).to_pandas()
    own = LogisticRegression(C=0.5).fit(frame, table.column("churned").to_numpy())
    np.testing.assert_array_equal(model.coef_, own.coef_)
    assert list(model.feature_names_in_) == ["age", "income"]


def test_the_whole_row_is_all_but_the_key_the_target_and_the_weights() -> None:
    doc = document(DecisionTreeClassifier(), train_X="_base", fit_kwargs={"sample_weight": "weight"})
    assert TRAINER.fields(doc) is None
    one = fitted(doc, rows(_id=np.arange(ROWS)).drop_columns(["text"]))
    assert one.detail["features"] == ["age", "income", "team"]


def test_fields_are_those_of_x_y_and_the_weights_each_once() -> None:
    doc = document(SVC(), train_X=["age", "income"], fit_kwargs={"sample_weight": "weight"})
    assert TRAINER.fields(doc) == ("age", "income", "churned", "weight")
    grid = GridSearchCV(make_pipeline(SVC()), {"svc__C": [1]}, cv=GroupKFold(2))
    doc = document(grid, fit_kwargs={"groups": "team", "svc__sample_weight": "age"})
    assert TRAINER.fields(doc) == ("age", "income", "churned", "team")
    assert TRAINER.fields(document(KMeans(), train_y=None, train_X="v")) == ("v",)


@pytest.mark.parametrize("pipeline", [False, True])
def test_sample_weight_names_a_field(pipeline: bool) -> None:
    table = rows(age=np.zeros(ROWS))
    model = make_pipeline(DecisionTreeClassifier()) if pipeline else DecisionTreeClassifier()
    keyword = "decisiontreeclassifier__sample_weight" if pipeline else "sample_weight"
    plain = fitted(document(model, train_X="age"), table)
    weighted = fitted(document(model, train_X="age", fit_kwargs={keyword: "weight"}), table)

    def share(one: Fitted) -> float:
        return float(one.model.predict_proba([[0.0]])[0, 1])

    assert share(plain) == 0.5
    assert share(weighted) == pytest.approx(5 / 6)


def test_groups_reach_a_search() -> None:
    grid = GridSearchCV(SVC(), {"C": [0.1, 1.0]}, cv=GroupKFold(3))
    one = fitted(document(grid, fit_kwargs={"groups": "team"}))
    assert one.detail["best_params"] in ({"C": 0.1}, {"C": 1.0})
    assert one.model.n_splits_ == 3


def test_unsupervised_and_text_and_vectors() -> None:
    assert fitted(document(KMeans(2, random_state=0), train_y=None)).model.n_clusters == 2
    words = fitted(document(make_pipeline(CountVectorizer(), LogisticRegression()), train_X="text"))
    assert list(TRAINER.predict(document(SVC(), train_X="text"), words, ["stay here", "go away"])) == [0, 1]
    table = rows(emb=pa.array(np.random.default_rng(1).normal(size=(ROWS, 3)).tolist()))
    assert fitted(document(PCA(2), train_X="emb", train_y=None), table).model.n_features_in_ == 3


def test_several_targets() -> None:
    table = rows(other=np.arange(ROWS) * 1.0)
    one = fitted(document(LinearRegression(), train_y=["churned", "other"]), table)
    assert one.model.coef_.shape == (2, 2)


def test_detail_is_small_and_plain() -> None:
    grid = GridSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc": [SVC(C=2)], "svc__C": [0.5, np.inf]})
    detail = fitted(document(grid)).detail
    assert json.loads(json.dumps(detail, allow_nan=False)) == detail
    assert detail["estimator"] == "GridSearchCV"
    assert detail["n_features"] == 2
    assert detail["features"] == ["age", "income"]
    assert detail["classes"] == [0, 1]
    assert set(detail["best_params"]) == {"svc", "svc__C"}
    many = fitted(document(KNeighborsClassifier(), train_y="id"), rows(id=np.arange(ROWS)))
    assert len(many.detail["classes"]) == ROWS
    wide = rows(id=pa.array(list(range(ROWS))))
    assert "n_iter" in fitted(document(LogisticRegression()), wide).detail


def test_warnings_become_lines_each_once() -> None:
    report = Recorder()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(document(MLPClassifier(max_iter=1, random_state=0)), report=report)
    assert len(report.lines) == 1
    assert report.lines[0].startswith("ConvergenceWarning: Stochastic Optimizer: Maximum iterations")
    assert report.messages == ["fitting MLPClassifier on 60 rows"]


def test_a_wrong_object_is_refused_before_anything_is_fitted() -> None:
    with pytest.raises(DocumentInvalid) as caught:
        fitted(document({"class": "os.system", "params": {"C": 1}}))
    assert caught.value.faults[0].path == "object.class"


# --- failures ---------------------------------------------------------------------------------------------------


def test_the_estimators_own_words_the_missing_values_and_the_last_lines() -> None:
    age = rows().column("age").to_pylist()
    with pytest.raises(TrainingFailed) as caught:
        fitted(document(make_pipeline(StandardScaler(), SVC())), rows(age=pa.array([None] * 12 + age[12:])))
    text = str(caught.value)
    assert text.startswith("Pipeline.fit raised ValueError: Input X contains NaN.\nSVC does not accept missing values")
    assert "`age` is missing in 12 of 60 rows" in text
    frames = [line for line in text.splitlines() if line.startswith("  sklearn/")]
    assert 1 <= len(frames) <= 3
    assert "trainers/" not in text
    assert "/site-packages/" not in text
    assert len(text) < 4000


def test_nothing_is_said_of_missing_values_when_there_are_none() -> None:
    with pytest.raises(TrainingFailed) as caught:
        fitted(document(SVC()), rows(churned=np.zeros(ROWS, dtype=int)))
    assert "The number of classes has to be greater than one" in str(caught.value)
    assert "missing" not in str(caught.value)


def test_an_estimator_that_takes_missing_values_gets_them() -> None:
    age = rows().column("age").to_pylist()
    fitted(document(HistGradientBoostingClassifier(max_iter=2)), rows(age=pa.array([None] * 12 + age[12:])))


def test_a_field_that_no_row_has() -> None:
    with pytest.raises(RowsUnusable, match=r"incme.*income"):
        fitted(document(SVC(), train_X=["age", "incme"]))
    with pytest.raises(RowsUnusable, match="wait"):
        fitted(document(SVC(), fit_kwargs={"sample_weight": "wait"}))


def raising(error: BaseException) -> Callable[..., Any]:
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise error

    return fit


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), Cancelled("stop"), TimeLimit("too long")])
def test_what_should_stop_a_fit_passes(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SVC, "fit", raising(error))
    with pytest.raises(type(error)):
        fitted(document(SVC()))


def test_cancelled_before_the_fit_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SVC, "fit", raising(AssertionError("fitted")))
    with pytest.raises(Cancelled):
        fitted(document(SVC()), report=Recorder(Cancelled("stop")))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            MemoryError("Unable to allocate 7.45 GiB"),
            "SVC.fit ran out of memory on 60 rows.*7.45 GiB.*resources.memory",
        ),
        (RecursionError("maximum depth"), "SVC.fit raised RecursionError: maximum depth"),
        (ValueError(), "SVC.fit raised ValueError$"),
        (ValueError("x" * 100_000), "ValueError: xxx"),
        (KeyError("k"), "SVC.fit raised KeyError: 'k'"),
    ],
)
def test_whatever_fit_raises_is_told(error: Exception, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SVC, "fit", raising(error))
    with pytest.raises(TrainingFailed) as caught:
        fitted(document(SVC()))
    assert re.search(said, str(caught.value), re.S | re.M)
    assert len(str(caught.value)) < 4000
    assert caught.value.__cause__ is error


# --- evaluate ---------------------------------------------------------------------------------------------------


def test_scorers_by_name_agree_with_scikit_learn() -> None:
    table = rows()
    one = fitted(document(LogisticRegression()), table)
    got = TRAINER.evaluate(document(LogisticRegression()), one, rows_of(table), ["roc_auc", "score", "f1_macro"])
    assert list(got) == ["roc_auc", "score", "f1_macro"]
    frame, y = table.select(["age", "income"]).to_pandas(), table.column("churned").to_numpy()
    assert got["score"] == one.model.score(frame, y)
    for name in ("roc_auc", "f1_macro"):
        assert got[name] == get_scorer(name)(one.model, frame, y)
    assert all(type(value) is float for value in got.values())


def test_without_metrics_the_estimators_own_score() -> None:
    assert list(TRAINER.evaluate(document(SVC()), fitted(document(SVC())), rows_of(rows()), [])) == ["score"]
    kmeans = document(KMeans(2, random_state=0), train_y=None)
    assert TRAINER.evaluate(kmeans, fitted(kmeans), rows_of(rows()), [])["score"] < 0


def test_predictions_are_made_once_for_all_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    one = fitted(document(SVC()))
    calls = []
    own = SVC.predict

    def predict(self: Any, rows_: Any) -> Any:
        calls.append(1)
        return own(self, rows_)

    monkeypatch.setattr(SVC, "predict", predict)
    TRAINER.evaluate(document(SVC()), one, rows_of(rows()), ["accuracy", "f1_macro", "precision", "recall"])
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("metrics", "columns", "said"),
    [
        (
            ["accuracy", "roc_auc"],
            {"churned": np.zeros(ROWS, int)},
            "`roc_auc` is nan on the 60 rows held out: Only one class",
        ),
        (["neg_log_loss"], {}, "^the metric `neg_log_loss` raised AttributeError: .*predict_proba"),
        (
            ["accuracy"],
            {"age": [None] * 30 + [1.0] * 30},
            "(?s)^the metric `accuracy` raised ValueError: Input X contains NaN.*`age` is missing in 30 of",
        ),
        (
            ["score"],
            {"age": [None] * 30 + [1.0] * 30},
            "(?s)^the metric `score` raised ValueError: .*`age` is missing in 30",
        ),
    ],
)
def test_a_metric_that_cant_be_computed(metrics: list[str], columns: Mapping[str, Any], said: str) -> None:
    one = fitted(document(SVC()))
    with pytest.raises(TrainingFailed, match=said):
        TRAINER.evaluate(document(SVC()), one, rows_of(rows(**columns)), metrics)


# --- predict ----------------------------------------------------------------------------------------------------


def test_predict_takes_rows_as_people_write_them() -> None:
    doc = document(LogisticRegression())
    one = fitted(doc)
    frame = rows().select(["age", "income"]).to_pandas()
    expected = one.model.predict(frame)
    reordered = rows().select(["income", "churned", "age"])
    for given in (
        frame,
        reordered.to_pandas(),
        reordered,
        reordered.to_pylist(),
        frame.to_numpy().tolist(),
    ):
        np.testing.assert_array_equal(TRAINER.predict(doc, one, given), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(TRAINER.predict(doc, one, frame.to_numpy()), expected)


def test_predict_of_whole_rows_takes_the_columns_it_was_trained_on() -> None:
    doc = document(DecisionTreeClassifier(), train_X="_base", fit_kwargs={"sample_weight": "weight"})
    table = rows().drop_columns(["text"])
    one = fitted(doc, table)
    expected = one.model.predict(table.select(["age", "income", "team"]).to_pandas())
    for given in (
        table,
        table.to_pandas(),
        table.to_pylist(),
        table.select(["team", "income", "age"]),
        rows(extra=np.arange(ROWS)),
        table.select(["age", "income", "team"]).to_pandas().to_numpy().tolist(),
    ):
        np.testing.assert_array_equal(TRAINER.predict(doc, one, given), expected)
    with pytest.raises(RowsUnusable, match="team"):
        TRAINER.predict(doc, one, [{"age": 1.0, "income": 2.0}])


def test_predict_of_whole_rows_with_a_vector() -> None:
    doc = document(DecisionTreeClassifier(), train_X="_base")
    table = rows(emb=pa.array(np.random.default_rng(1).normal(size=(ROWS, 2)).tolist())).drop_columns(["text"])
    one = fitted(doc, table)
    assert one.detail["features"] == ["age", "income", "weight", "team", "emb.0", "emb.1"]
    assert len(TRAINER.predict(doc, one, table)) == ROWS
    assert len(TRAINER.predict(doc, one, table.drop_columns(["churned"]).to_pylist())) == ROWS


def test_a_transformer_transforms() -> None:
    doc = document(StandardScaler(), train_y=None)
    assert TRAINER.predict(doc, fitted(doc), [[1.0, 2.0]]).shape == (1, 2)


def test_what_knows_only_its_own_rows_says_so() -> None:
    doc = document(DBSCAN(), train_y=None)
    with pytest.raises(TrainingFailed, match="DBSCAN says nothing about new rows"):
        TRAINER.predict(doc, fitted(doc), [[1.0, 2.0]])


# --- artifacts --------------------------------------------------------------------------------------------------

X = np.random.default_rng(0).random((ROWS, 4))
Y = (X[:, 0] > 0.5).astype(int)
Y_REAL = X @ [1.0, 2.0, 3.0, 4.0] + 1
TEXT = ["a quick brown fox", "hello world", "the cat sat", "another text here"] * 15

ARGUMENTS: dict[str, dict[str, Any]] = {
    "CCA": {"n_components": 1},
    "ColumnTransformer": {"transformers": [("a", StandardScaler(), [0, 1])]},
    "FeatureUnion": {"transformer_list": [("a", StandardScaler())]},
    "FrozenEstimator": {"estimator": LogisticRegression().fit(X, Y)},
    "GaussianRandomProjection": {"n_components": 2},
    "GridSearchCV": {"estimator": SVC(), "param_grid": {"C": [1, 2]}, "scoring": "f1_macro"},
    "HalvingGridSearchCV": {"estimator": SVC(), "param_grid": {"C": [1, 2]}},
    "HalvingRandomSearchCV": {"estimator": SVC(), "param_distributions": {"C": [1, 2]}, "n_candidates": 2},
    "PLSCanonical": {"n_components": 1},
    "PLSSVD": {"n_components": 1},
    "Pipeline": {"steps": [("a", StandardScaler()), ("b", SVC())]},
    "RandomizedSearchCV": {"estimator": SVC(), "param_distributions": {"C": [1, 2]}, "n_iter": 2},
    "SparseCoder": {"dictionary": np.eye(4)},
    "SparseRandomProjection": {"n_components": 2},
}
CLASSIFIER_PARTS = [("a", LogisticRegression()), ("b", SVC())]
REGRESSOR_PARTS = [("a", Ridge()), ("b", LinearRegression())]
ON_CLASSES = {"NeighborhoodComponentsAnalysis", "SelectFromModel", "SequentialFeatureSelector", "RFE", "RFECV"}


def made(name: str, cls: Any) -> Any:
    if name.startswith(("Voting", "Stacking")):
        return cls(CLASSIFIER_PARTS if name.endswith("Classifier") else REGRESSOR_PARTS)
    if name in ARGUMENTS:
        return cls(**ARGUMENTS[name])
    if name == "SelfTrainingClassifier":
        return cls(LogisticRegression())
    try:
        return cls()
    except TypeError:
        return cls(Ridge() if name.endswith(("Regressor", "RegressorChain")) else LogisticRegression())


def data_for(name: str, model: Any) -> tuple[Any, Any]:
    tags = get_tags(model)
    rows_: Any = X
    if tags.input_tags.one_d_array:
        rows_ = Y_REAL
    if tags.input_tags.string and name != "MissingIndicator":
        rows_ = TEXT
    if tags.input_tags.dict:
        rows_ = [{"a": 1.0, "b": each} for each in range(ROWS)]
    classes = tags.classifier_tags is not None or name in ON_CLASSES
    if tags.target_tags.multi_output and not tags.target_tags.single_output:
        return rows_, np.c_[Y, 1 - Y] if classes else np.c_[Y_REAL, Y_REAL * 2]
    if name in ("LabelBinarizer", "LabelEncoder"):
        return Y, None
    if name == "MultiLabelBinarizer":
        return [[1], [1, 2]], None
    if name == "KernelCenterer":
        return X @ X.T, None
    if name == "PatchExtractor":
        return np.random.default_rng(0).random((2, 20, 20)), None
    return rows_, Y if classes else Y_REAL


def outcome(model: Any, rows_: Any) -> Any:
    for method in ("predict", "transform", "score_samples"):
        if hasattr(model, method):
            value = getattr(model, method)(rows_)
            return np.r_[value.data, value.tocoo().col] if issparse(value) else np.asarray(value)
    learned = ("labels_", "embedding_", "covariance_", "row_labels_", "_fit_X", "negative_outlier_factor_")
    return next(getattr(model, name) for name in learned if hasattr(model, name))


ESTIMATORS = [each for each in all_estimators() if each[0] != "Birch"]


@pytest.mark.parametrize(("name", "cls"), ESTIMATORS, ids=[name for name, _ in ESTIMATORS])
@pytest.mark.filterwarnings("ignore")
def test_every_estimator_is_stored_and_loaded_and_says_the_same(name: str, cls: Any) -> None:
    model = made(name, cls)
    rows_, y = data_for(name, model)
    model.fit(rows_) if y is None else model.fit(rows_, y)
    again = loads(dumps(model, TRUST), TRUST)
    assert type(again) is type(model)
    np.testing.assert_allclose(outcome(again, rows_), outcome(model, rows_), rtol=1e-9)


@pytest.mark.parametrize(
    "model",
    [
        GridSearchCV(
            make_pipeline(TfidfVectorizer(), SVC()),
            {"svc__C": [1, 2]},
            scoring=["accuracy", "roc_auc"],
            refit="accuracy",
        ),
        make_pipeline(CountVectorizer(), FunctionTransformer(np.log1p), KNeighborsClassifier(metric="cosine")),
        make_pipeline(TfidfVectorizer(), KNeighborsClassifier()),
    ],
)
def test_compositions_on_text_are_stored(model: Any) -> None:
    model.fit(TEXT, Y)
    np.testing.assert_array_equal(loads(dumps(model, TRUST), TRUST).predict(TEXT), model.predict(TEXT))


SETTINGS = [
    BisectingKMeans(algorithm="elkan"),
    CalibratedClassifierCV(SVC(), method="isotonic"),
    GaussianProcessClassifier(1.0 * Matern() + DotProduct() ** 2 + ExpSineSquared() + RationalQuadratic()),
    HistGradientBoostingClassifier(early_stopping=True, max_iter=3),
    HistGradientBoostingClassifier(early_stopping=False, scoring="f1", max_iter=3),
    HistGradientBoostingRegressor(loss="quantile", quantile=0.5, max_iter=3),
    HistGradientBoostingRegressor(loss="poisson", max_iter=3, categorical_features=[1]),
    IterativeImputer(BayesianRidge(), max_iter=2),
    KernelPCA(kernel="rbf", fit_inverse_transform=True),
    LogisticRegressionCV(scoring="neg_log_loss", Cs=2, l1_ratios=(0,), use_legacy_attributes=False),
    MLPClassifier(solver="sgd", learning_rate="adaptive", early_stopping=True, max_iter=5),
    Pipeline(
        [
            ("a", StandardScaler()),
            ("b", "passthrough"),
            ("c", TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1)),
        ]
    ),
    QuantileTransformer(n_quantiles=10, output_distribution="normal"),
    RFECV(LogisticRegression(), scoring="roc_auc"),
    RidgeCV(scoring="neg_mean_squared_error"),
    SelectKBest(mutual_info_classif, k=2),
    SplineTransformer(extrapolation="periodic"),
    TunedThresholdClassifierCV(LogisticRegression(), scoring="f1"),
    *(SGDClassifier(loss=loss) for loss in ("hinge", "log_loss", "modified_huber", "perceptron", "squared_hinge")),
    *(SGDRegressor(loss=loss) for loss in ("squared_error", "huber", "epsilon_insensitive")),
    *(GradientBoostingRegressor(loss=loss, n_estimators=3) for loss in ("huber", "quantile", "absolute_error")),
]


@pytest.mark.parametrize("model", SETTINGS, ids=lambda each: type(each).__name__)
@pytest.mark.filterwarnings("ignore")
def test_other_settings_are_stored_too(model: Any) -> None:
    target = Y_REAL if is_regressor(model) else Y
    model.fit(X, target)
    np.testing.assert_allclose(outcome(loads(dumps(model, TRUST), TRUST), X), outcome(model, X), rtol=1e-9)


def test_every_named_scorer_can_be_stored() -> None:
    model = SVC().fit(X, Y)
    model.scorers_ = {name: get_scorer(name) for name in get_scorer_names()}
    assert set(loads(dumps(model, TRUST), TRUST).scorers_) == set(get_scorer_names())


@pytest.mark.parametrize("metric", ["manhattan", "chebyshev", "minkowski"])
def test_distances_are_stored(metric: str) -> None:
    model = KNeighborsClassifier(metric=metric, algorithm="ball_tree").fit(X, Y)
    np.testing.assert_array_equal(loads(dumps(model, TRUST), TRUST).predict(X), model.predict(X))


def test_tables_with_categories_are_stored() -> None:
    frame = pd.DataFrame({"a": X[:, 0], "b": pd.Categorical(["x", "y"] * 30), "c": ["u", None] * 30})
    prepare = ColumnTransformer(
        [
            ("n", StandardScaler(), make_column_selector(dtype_include=np.number)),
            ("c", OneHotEncoder(dtype=np.float32), make_column_selector(dtype_include=[object, "category", "string"])),
        ],
        remainder="passthrough",
    )
    for model in (make_pipeline(prepare, SVC()), HistGradientBoostingClassifier(categorical_features=["b"])):
        used = frame if isinstance(model, type(make_pipeline(SVC()))) else frame[["a", "b"]]
        model.fit(used, Y)
        np.testing.assert_array_equal(loads(dumps(model, TRUST), TRUST).predict(used), model.predict(used))


def test_what_cant_be_stored_is_known_and_refused() -> None:
    assert set(UNSTORABLE) == {"sklearn.cluster.Birch"}
    with pytest.raises(TrainingFailed, match="a fitted Birch can't be stored safely"):
        dumps(Birch().fit(X), TRUST)
    scored = HistGradientBoostingClassifier(early_stopping=True, scoring="f1", max_iter=2).fit(X, Y)
    with pytest.raises(TrainingFailed, match="refers to itself"):
        dumps(scored, TRUST)
    for model in (Birch(), scored, make_pipeline(HistGradientBoostingRegressor(scoring=None))):
        assert "can't be stored safely" in TRAINER.check(document(model), TRUST)[0].message


def test_save_and_load_through_the_trainer() -> None:
    doc = document(make_pipeline(StandardScaler(), SVC()))
    one = fitted(doc)
    data = TRAINER.save(one)
    assert TRAINER.format == "skops"
    assert zipfile.is_zipfile(io.BytesIO(data))
    again = TRAINER.load(data, doc, TRUST, loader())
    assert again.detail == one.detail
    np.testing.assert_array_equal(TRAINER.predict(doc, again, rows()), TRAINER.predict(doc, one, rows()))
    assert TRAINER.save(Fitted(one.model, {}))


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An operator's own estimator, with a helper object and a canary that a careless load would set off."""
    (tmp_path / "acme.py").write_text(
        "import pathlib\n"
        "from sklearn.base import BaseEstimator\n"
        "class Helper:\n    def __init__(self, value=0): self.value = value\n"
        "class Mean(BaseEstimator):\n"
        "    def __init__(self, shift=0.0): self.shift = shift\n"
        "    def fit(self, X, y): self.helper_ = Helper(float(y.mean())); return self\n"
        "    def predict(self, X): return [self.helper_.value + self.shift] * len(X)\n"
        "class Canary:\n"
        "    def __new__(cls, *a):\n"
        f"        pathlib.Path({str(tmp_path / 'sang')!r}).touch()\n"
        "        return object.__new__(cls)\n"
        "def sing(*a):\n"
        f"    pathlib.Path({str(tmp_path / 'sang')!r}).touch()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import importlib

    yield importlib.import_module("acme")
    del sys.modules["acme"]


def test_an_operators_own_estimator_goes_all_the_way(acme: Any) -> None:
    trust = Trust.adding(["acme"])
    doc = document({"class": "acme.Mean", "params": {"shift": 1.0}})
    assert TRAINER.check(doc, trust) == []
    assert "REFITD_TRUST__MODULES" in TRAINER.check(doc, TRUST)[0].message
    one = TRAINER.fit(training(doc, rows(), trust=trust))
    data = TRAINER.save(one)
    assert TRAINER.predict(doc, TRAINER.load(data, doc, trust, loader()), rows())[0] == 1.5
    with pytest.raises(Untrusted, match=r"acme\.Helper, acme\.Mean.*REFITD_TRUST__MODULES"):
        TRAINER.load(data, doc, TRUST, loader())
    with pytest.raises(TrainingFailed, match=r"can't be stored safely: it holds acme\.Helper, acme\.Mean"):
        dumps(one.model, TRUST)


def test_a_canary_in_an_artifact_neither_loads_nor_runs(acme: Any, tmp_path: Path) -> None:
    for held in (object.__new__(acme.Canary), acme.sing, acme.Canary):
        model = SVC().fit(X, Y)
        model.extra_ = held
        with pytest.raises(Untrusted, match=r"the artifact holds acme\.(Canary|sing)"):
            loads(skops.io.dumps(model), TRUST)
        with pytest.raises(TrainingFailed):
            dumps(model, TRUST)
    assert not (tmp_path / "sang").exists()


def test_trusting_a_module_trusts_its_classes_and_not_its_functions(acme: Any, tmp_path: Path) -> None:
    model = SVC().fit(X, Y)
    model.extra_ = acme.sing
    with pytest.raises(Untrusted, match=r"acme\.sing"):
        loads(skops.io.dumps(model), Trust.adding(["acme"]))
    assert not (tmp_path / "sang").exists()


def tampered(change: Callable[[dict[str, Any]], None], model: Any = None) -> bytes:
    """A real artifact whose schema was edited by hand."""
    source = io.BytesIO(skops.io.dumps(SVC().fit(X, Y) if model is None else model))
    target = io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "schema.json":
                schema = json.loads(data)
                change(schema)
                data = json.dumps(schema).encode()
            new.writestr(name, data)
    return target.getvalue()


def attribute(schema: dict[str, Any], name: str, node: dict[str, Any]) -> None:
    schema["content"]["content"][name] = node
    schema["content"]["key_types"]["content"].append(schema["content"]["key_types"]["content"][0])


def text_node(text: str) -> dict[str, Any]:
    return {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": json.dumps(text)}


def call_of(module: str, name: str, *arguments: str, loader: str = "ConstructorFromReduceNode") -> dict[str, Any]:
    content = [text_node(each) for each in arguments]
    listed = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": content}
    return {"__class__": name, "__module__": module, "__loader__": loader, "content": listed}


@pytest.mark.parametrize(
    "node",
    [
        call_of("os", "system", "touch {canary}"),
        call_of("posix", "system", "touch {canary}"),
        call_of("builtins", "eval", "open('{canary}', 'w')"),
        call_of("builtins", "open", "{canary}", "w"),
        call_of("sklearn.utils._testing", "os.system", "touch {canary}"),
        call_of("sklearn.datasets._base", "urlretrieve", "file:///etc/hostname", "{canary}"),
        call_of("sklearn.datasets._base", "load_files", "{canary}"),
        call_of("sklearn.datasets", "fetch_openml", "iris"),
        call_of("sklearn.tests.test_base", "MyEstimator"),
        call_of("sklearn.ensemble._base", "Parallel", "3"),
        call_of("sklearn.metrics._classification", "accuracy_score", "1", "1"),
        call_of("numpy", "mean", "3"),
        call_of("refitd.embedded", "EmbeddedMongo", "{canary}"),
        call_of("trainers.sklearn", "SklearnTrainer"),
        call_of("sklearn.utils._mocking", "CheckingClassifier"),
        call_of("sklearn.externals._arff", "ArffDecoder"),
        call_of("torch.nn", "Linear", "3"),
        {
            "__class__": "partial",
            "__module__": "functools",
            "__loader__": "PartialNode",
            "content": {
                "func": {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"},
                "args": text_node("a"),
                "kwds": text_node("a"),
                "namespace": text_node("a"),
            },
        },
        {
            "__class__": "methodcaller",
            "__module__": "operator",
            "__loader__": "OperatorFuncNode",
            "attrs": text_node("a"),
        },
        {"__class__": "load", "__module__": "numpy", "__loader__": "FunctionNode"},
        {"__class__": "system", "__module__": "os", "__loader__": "TypeNode"},
    ],
    ids=lambda node: f"{node['__loader__']}-{node['__module__']}.{node['__class__']}",
)
def test_crafted_artifacts_are_refused_and_nothing_of_them_runs(node: dict[str, Any], tmp_path: Path) -> None:
    canary = tmp_path / "sang"
    node = json.loads(json.dumps(node).replace("{canary}", str(canary)))
    data = tampered(lambda schema: attribute(schema, "extra_", node))
    named = "os.system" if node["__loader__"] == "PartialNode" else f"{node['__module__']}.{node['__class__']}"
    with pytest.raises(Untrusted, match=re.escape(named)):
        loads(data, TRUST)
    assert not canary.exists()


def test_the_crafting_of_these_tests_works() -> None:
    data = tampered(lambda schema: attribute(schema, "extra_", text_node("hello")))
    assert loads(data, TRUST).extra_ == "hello"


def test_a_vectorizer_told_to_read_files_is_refused_at_load() -> None:
    model = make_pipeline(CountVectorizer(), SVC()).fit(TEXT, Y)
    model.steps[0][1].input = "filename"
    with pytest.raises(Untrusted, match="opens files named by the rows"):
        loads(skops.io.dumps(model), TRUST)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a zip",
        skops.io.dumps(SVC().fit(X, Y))[:-400],
        skops.io.dumps([1, 2, 3]),
        tampered(lambda schema: schema.pop("__loader__")),
        tampered(lambda schema: schema.update(__loader__="NoSuchNode")),
        tampered(lambda schema: schema.update(protocol=999)),
        tampered(lambda schema: schema.update({"__class__": "SVK"})),
    ],
    ids=["empty", "no zip", "cut", "a list", "no loader", "odd loader", "newer", "no such class"],
)
def test_what_is_no_artifact_is_corrupt_or_untrusted(data: bytes) -> None:
    with pytest.raises((ArtifactCorrupt, Untrusted)):
        loads(data, TRUST)


def test_a_fitted_frozen_estimator_is_not_described() -> None:
    with pytest.raises(Untrusted):
        TRAINER.describe(FrozenEstimator(SVC()))


# --- the module -------------------------------------------------------------------------------------------------


def test_importing_refitd_does_not_import_scikit_learn() -> None:
    code = "import refitd, trainers, sys; sys.exit('sklearn' in sys.modules or 'trainers.sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
