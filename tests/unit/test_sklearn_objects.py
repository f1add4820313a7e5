"""describe ⇄ build round-trips for every estimator there is; check names every fault, and refuses what is hostile."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import Birch, FeatureAgglomeration
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, chi2
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import (
    GridSearchCV,
    PredefinedSplit,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.utils import all_estimators

from registry.document import ModelDocument
from registry.errors import DocumentInvalid, Untrusted
from registry.trust import Trust
from trainers.sklearn_checks import check
from trainers.sklearn_describe import MAX_ARRAY, describe
from trainers.sklearn_objects import build, construct

TRUST = Trust()


def stored(form: Any) -> Any:
    """As the datastore gives it back: through JSON, which has no tuples and no nan."""
    return json.loads(json.dumps(form, allow_nan=False))


def rebuilt(estimator: Any) -> Any:
    return build(stored(describe(estimator)), TRUST)


def alike(left: Any, right: Any) -> bool:
    """Equal parameters all the way down, and equal types."""
    if isinstance(left, dict) and isinstance(right, dict):
        return list(left) == list(right) and all(alike(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return type(left) is type(right) and len(left) == len(right) and all(map(alike, left, right))
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
    left, right = (each.item() if isinstance(each, np.generic) else each for each in (left, right))
    if type(left) is not type(right):
        return False
    if isinstance(left, BaseEstimator):
        return alike(left.get_params(deep=False), right.get_params(deep=False))
    if isinstance(left, make_column_selector):
        return alike(vars(left), vars(right))
    if type(left).__module__.startswith("sklearn."):
        return repr(left) == repr(right)
    return bool(left is right or left == right or (left != left and right != right))


def defaults() -> list[BaseEstimator]:
    """Every estimator of scikit-learn that can be made without arguments."""
    made = []
    for _, cls in all_estimators():
        try:
            made.append(cls())
        except TypeError:
            continue
    return made


def faults_of(form: Any, **fields: Any) -> dict[str, str]:
    document = ModelDocument.parse(
        {
            "_id": "m",
            "trainer": "sklearn",
            "object": form,
            "training_select": "rows",
            "train_X": "x",
            "train_y": "y",
        }
        | fields
    )
    return {fault.path: fault.message for fault in check(document, TRUST)}


GRID = "sklearn.model_selection.GridSearchCV"
SVC_FORM = {"class": "sklearn.svm.SVC"}


# --- describe and build -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", defaults(), ids=lambda each: type(each).__name__)
def test_every_estimator_round_trips_as_its_name_alone(estimator: BaseEstimator) -> None:
    form = describe(estimator)
    assert set(form) == {"class"}, "a default was written down"
    if isinstance(estimator, Birch):
        assert "can't be stored safely" in construct(form, TRUST)[1][0].message
        return
    # Some can't be fitted with their defaults (SelfTrainingClassifier needs an estimator): check says so.
    built, faults = construct(stored(form), TRUST)
    assert faults == [] or "parameter of" in faults[0].message
    assert faults or alike(built, estimator)


def test_hardly_any_estimator_is_refused_with_its_defaults() -> None:
    refused = {type(each).__name__ for each in defaults() if construct(describe(each), TRUST)[1]}
    assert refused <= {"Birch", "SelfTrainingClassifier"}


COMPOSITIONS = {
    "svc": SVC(C=0.05),
    "nan and inf": SimpleImputer(missing_values=np.nan, fill_value=float("-inf")),
    "explicit nan": SimpleImputer(fill_value=float("nan")),
    "numpy scalars": SVC(C=np.float32(0.5), degree=np.int64(2), shrinking=np.bool_(False)),
    "pipeline": make_pipeline(StandardScaler(with_mean=False), SVC(kernel="linear", C=2)),
    "passthrough": Pipeline([("a", "passthrough"), ("b", SVC())]),
    "columns": Pipeline(
        [
            (
                "prepare",
                ColumnTransformer(
                    [
                        ("n", make_pipeline(SimpleImputer(), MinMaxScaler((0, 5))), ["age", "income"]),
                        (
                            "c",
                            OneHotEncoder(handle_unknown="ignore", dtype=np.float32),
                            make_column_selector("^c_"),
                        ),
                        ("s", "drop", slice(0, 2)),
                        ("t", TfidfVectorizer(ngram_range=(1, 2)), "text"),
                    ],
                    remainder=StandardScaler(),
                ),
            ),
            ("model", RandomForestClassifier(max_depth=3, class_weight={0: 1.0, 1: 5.0})),
        ]
    ),
    "selector of types": ColumnTransformer([("n", StandardScaler(), make_column_selector(dtype_include=np.number))]),
    "selector of objects": ColumnTransformer(
        [("n", OneHotEncoder(), make_column_selector(dtype_include=[object, "category"]))]
    ),
    "grid": GridSearchCV(
        Pipeline([("v", CountVectorizer()), ("m", SVC())]),
        {
            "v__ngram_range": [(1, 1), (1, 2)],
            "m__C": list(np.logspace(-2, 2, 3)),
            "m": [SVC(), SVC(kernel="linear")],
        },
        cv=StratifiedKFold(3, shuffle=True, random_state=0),
        scoring=["accuracy", "f1_macro"],
        refit="accuracy",
    ),
    "grids": GridSearchCV(
        Pipeline([("m", SVC())]),
        [
            {"m": [SVC()], "m__C": [1, 2]},
            {"m": [RandomForestClassifier()], "m__max_depth": [1, 2], "m__n_estimators": [5]},
        ],
        cv=RepeatedKFold(n_splits=2, n_repeats=3, random_state=1),
    ),
    "a grid named like a marker": GridSearchCV(CountVectorizer(), {"dtype": [np.int64]}),
    "voting": VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB()), ("c", "drop")], weights=[1, 2, 3]),
    "stacking": StackingClassifier([("a", SVC()), ("b", GaussianNB())], final_estimator=LogisticRegression(C=3)),
    "union": FeatureUnion([("a", StandardScaler()), ("b", SelectKBest(chi2, k=3))], transformer_weights={"a": 2.0}),
    "boosting": AdaBoostClassifier(SVC(), n_estimators=3),
    "bagging": BaggingClassifier(make_pipeline(StandardScaler(), SVC())),
    "kernel": GaussianProcessRegressor(2.0 * RBF(0.5, (1e-3, 1e3)) + WhiteKernel(1e-3, "fixed")),
    "ufunc": FunctionTransformer(np.log1p, inverse_func=np.expm1),
    "target": TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1),
    "aggregate": FeatureAgglomeration(pooling_func=np.median),
    "array": GaussianNB(priors=np.array([0.25, 0.75])),
    "array of nan": SimpleImputer(fill_value=np.array([1.0, np.nan])),
    "array of text": OneHotEncoder(categories=[np.array(["a", "bcd"]), np.array(["x", None], dtype=object)]),
    "splits": GridSearchCV(SVC(), {"C": [1]}, cv=PredefinedSplit([0, 1, 0, 1])),
    "shuffle": GridSearchCV(SVC(), {"C": [1]}, cv=ShuffleSplit(2, test_size=0.5, random_state=3)),
    "time": GridSearchCV(SVC(), {"C": [1]}, cv=TimeSeriesSplit(3, gap=1)),
    "range": GridSearchCV(SVC(), {"degree": [1, 2, 3]}),
    "weights": SGDClassifier(class_weight={"no": 1, "yes": 3}),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_compositions_round_trip(name: str) -> None:
    estimator = COMPOSITIONS[name]
    built = rebuilt(estimator)
    assert alike(built, estimator), f"{built!r} is not {estimator!r}"
    assert describe(built) == describe(estimator)
    clone(built)


def test_the_form_is_what_a_person_would_write() -> None:
    assert describe(SVC(C=0.05)) == {"class": "sklearn.svm.SVC", "params": {"C": 0.05}}
    assert describe(make_pipeline(StandardScaler(), SVC(C=2))) == {
        "class": "sklearn.pipeline.Pipeline",
        "params": {
            "steps": [
                ["standardscaler", {"class": "sklearn.preprocessing.StandardScaler"}],
                ["svc", {"class": "sklearn.svm.SVC", "params": {"C": 2}}],
            ]
        },
    }


def test_a_range_is_written_as_its_numbers() -> None:
    form = describe(GridSearchCV(SVC(), {"degree": range(1, 4)}))
    assert form["params"]["param_grid"] == {"degree": [1, 2, 3]}


def test_what_an_estimator_learned_is_not_written() -> None:
    fitted = SVC(C=3).fit([[0], [1]], [0, 1])
    assert describe(fitted) == describe(SVC(C=3))


@given(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-(10**12), 10**12),
    st.lists(st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=3)), max_size=4),
    st.dictionaries(st.one_of(st.integers(-3, 3), st.sampled_from(["tuple", "class", "float", "a"])), st.floats(0, 9)),
)
@settings(max_examples=60, deadline=None)
def test_any_plain_value_round_trips(number: float, whole: int, listed: list[Any], mapping: dict[Any, Any]) -> None:
    # FunctionTransformer checks none of the values in kw_args, so it may hold anything.
    held = {"a": number, "b": whole, "c": (tuple(listed), listed), "d": mapping, "e": {"tuple": listed}}
    built = rebuilt(FunctionTransformer(kw_args=held))
    assert alike(built.kw_args, held)


class Local(BaseEstimator):
    """Not offered by any module that the daemon could import."""

    class Inner(BaseEstimator):
        pass


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (SVC, "object: SVC is a class; give an instance of it, SVC()"),
        (3, "object: a int is not a scikit-learn estimator"),
        (FunctionTransformer(lambda x: x), "object.params.func: the function .*lambda"),
        (
            make_pipeline(FunctionTransformer(print), SVC()),
            r"object.params.steps.0.1.params.func: the function print",
        ),
        (SVC(random_state=np.random.RandomState(0)), "object.params.random_state: a random generator.*seed"),
        (SVC(random_state=np.random.default_rng(0)), "object.params.random_state: a random generator"),
        (SVC(C=1j), "object.params.C: a builtins.complex can't be written"),
        (SVC(C={1, 2}), "object.params.C: a builtins.set can't"),
        (GaussianNB(priors=np.zeros(MAX_ARRAY + 1)), "object.params.priors: an array of 10001 elements"),
        (
            OneHotEncoder(categories=np.array(["2020-01-01"], dtype="M8[D]")),
            "object.params.categories: an array of type",
        ),
        (FrozenEstimator(SVC()), "holds a fitted estimator"),
        (Local.Inner(), "can't be imported under a public name"),
        (CountVectorizer(tokenizer=str.split), "object.params.tokenizer: the function str.split"),
    ],
)
def test_what_cant_be_written_is_refused_with_its_path(model: Any, said: str) -> None:
    with pytest.raises(Untrusted, match=said):
        describe(model)


def test_describing_never_recurses_without_end() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(Untrusted, match="nested deeper than 64 levels"):
        describe(FunctionTransformer(kw_args={"a": endless}))


# --- documents written by hand ----------------------------------------------------------------------------------


def test_plain_lists_and_whole_doubles_become_what_scikit_learn_wants() -> None:
    form = {
        "class": "sklearn.pipeline.Pipeline",
        "params": {
            "steps": [
                [
                    "words",
                    {
                        "class": "sklearn.feature_extraction.text.CountVectorizer",
                        "params": {"ngram_range": [1, 2]},
                    },
                ],
                ["scale", {"class": "sklearn.preprocessing.MaxAbsScaler", "params": {}}],
                [
                    "forest",
                    {"class": "sklearn.ensemble.RandomForestClassifier", "params": {"n_estimators": 7.0}},
                ],
            ]
        },
    }
    built = build(form, TRUST)
    assert built.steps[0][1].ngram_range == (1, 2)
    assert type(built.steps[2][1].n_estimators) is int
    built.fit(["aa bb", "bb cc", "aa cc", "cc"], [0, 1, 0, 1])


def test_columns_of_a_column_transformer_stay_a_list() -> None:
    form = {
        "class": "sklearn.compose.ColumnTransformer",
        "params": {"transformers": [["n", {"class": "sklearn.preprocessing.StandardScaler"}, ["a", "b"]]]},
    }
    assert build(form, TRUST).transformers[0][2] == ["a", "b"]


def test_the_candidates_of_a_grid_are_put_right_too() -> None:
    form = {
        "class": GRID,
        "params": {
            "estimator": describe(make_pipeline(CountVectorizer(), RandomForestClassifier())),
            "param_grid": {
                "countvectorizer__ngram_range": [[1, 1], [1, 2]],
                "randomforestclassifier__max_depth": [2.0, None],
            },
        },
    }
    grid = build(form, TRUST).param_grid
    assert grid["countvectorizer__ngram_range"] == [(1, 1), (1, 2)]
    assert [type(each) for each in grid["randomforestclassifier__max_depth"]] == [int, type(None)]


@pytest.mark.parametrize("name", ["IterativeImputer", "HalvingGridSearchCV"])
def test_experimental_classes_need_only_be_named(name: str) -> None:
    home = "sklearn.impute" if name == "IterativeImputer" else "sklearn.model_selection"
    params = {} if name == "IterativeImputer" else {"estimator": SVC_FORM, "param_grid": {"C": [1, 2]}}
    assert type(build({"class": f"{home}.{name}", "params": params}, TRUST)).__name__ == name


# --- faults -----------------------------------------------------------------------------------------------------


def test_all_faults_come_at_once_each_with_its_path() -> None:
    form = {
        "class": "sklearn.pipeline.Pipeline",
        "params": {
            "steps": [
                ["a", {"class": "sklearn.preprocessing.StandardScalr"}],
                ["b", {"class": "os.system", "params": {"x": {"class": "sklearn.svm.SVK"}}}],
                ["c", {"class": "sklearn.svm.SVC", "params": {"C": -1, "gama": 1, "degree": "x"}, "note": 1}],
            ],
            "verbos": True,
        },
        "parms": 3,
    }
    faults = faults_of(
        form,
        fit_kwargs={"sample_weight": "w"},
        validation={"split": 0.2, "metrics": ["acuracy"], "promote": {"metric": "f1_makro"}},
    )
    at = "object.params.steps"
    assert faults.keys() == {
        "object.parms",
        "object.params.verbos",
        f"{at}.0.1.class",
        f"{at}.1.1.class",
        f"{at}.1.1.params.x.class",
        f"{at}.2.1.note",
        f"{at}.2.1.params.C",
        f"{at}.2.1.params.gama",
        f"{at}.2.1.params.degree",
        "validation.metrics.0",
        "validation.promote.metric",
    }
    assert "did you mean `sklearn.preprocessing.StandardScaler`?" in faults[f"{at}.0.1.class"]
    assert "REFITD_TRUST__MODULES" in faults[f"{at}.1.1.class"]
    assert "did you mean `gamma`?" in faults[f"{at}.2.1.params.gama"]
    assert faults[f"{at}.2.1.params.C"] == (
        "The 'C' parameter of SVC must be a float in the range (0.0, inf]. Got -1 instead."
    )
    assert "did you mean `verbose`?" in faults["object.params.verbos"]
    assert "did you mean `accuracy`?" in faults["validation.metrics.0"]
    assert "did you mean `f1_macro`?" in faults["validation.promote.metric"]


@pytest.mark.parametrize(
    ("form", "path", "said"),
    [
        ({}, "object", "must say `class`"),
        ({"class": 3}, "object", "must say `class`"),
        ({"params": {}}, "object", "must say `class`"),
        ({"class": "sklearn.svm.SVC", "params": [1]}, "object.params", "must be a mapping"),
        ({"class": "sklearn.gaussian_process.kernels.RBF"}, "object.class", "expected here: BaseEstimator"),
        ({"class": "sklearn.model_selection.KFold"}, "object.class", "kind that is expected"),
        ({"class": "sklearn.base.BaseEstimator"}, "object.class", "has no fit"),
        ({"class": "sklearn.cluster.Birch"}, "object.class", "can't be stored safely; use sklearn.cluster.Mini"),
        ({"class": GRID}, "object.params.estimator", "is missing"),
        ({"class": "sklearn.pipeline.Pipeline", "params": {"steps": []}}, "object.params", "The pipeline is empty"),
        ({"class": "sklearn.pipeline.Pipeline", "params": {"steps": "ab"}}, "object.params.steps", "must be a list"),
        ({"class": "sklearn.pipeline.Pipeline", "params": {"steps": ["ab"]}}, "object.params.steps.0", "must be [name"),
        (
            {"class": "sklearn.pipeline.Pipeline", "params": {"steps": [["a", SVC_FORM], ["b", SVC_FORM]]}},
            "object.params",
            "All intermediate steps should be transformers",
        ),
        (
            {"class": "sklearn.pipeline.Pipeline", "params": {"steps": [["a__b", SVC_FORM]]}},
            "object.params",
            "Estimator names must not contain __",
        ),
        (
            {"class": "sklearn.ensemble.VotingClassifier", "params": {"estimators": []}},
            "object.params",
            "non-empty list",
        ),
        (
            {"class": "sklearn.semi_supervised.SelfTrainingClassifier"},
            "object.params",
            "The 'estimator' parameter of SelfTrainingClassifier must be",
        ),
        (
            {"class": GRID, "params": {"estimator": SVC_FORM, "param_grid": {"X": [1]}}},
            "object.params.param_grid.X",
            "SVC has no parameter `X`",
        ),
        (
            {"class": GRID, "params": {"estimator": SVC_FORM, "param_grid": {"C": 1}}},
            "object.params.param_grid",
            "needs to be a list",
        ),
        (
            {
                "class": GRID,
                "params": {"estimator": SVC_FORM, "param_grid": {"C": [1, -1]}},
            },
            "object.params.param_grid.C",
            "must be a float in the range (0.0, inf]. Got -1",
        ),
        (
            {"class": "sklearn.svm.SVC", "params": {"C": {"float": "many"}}},
            "object.params.C",
            "none of nan, inf, -inf",
        ),
        (
            {"class": "sklearn.feature_extraction.text.CountVectorizer", "params": {"dtype": {"dtype": "float33"}}},
            "object.params.dtype",
            "not a NumPy type",
        ),
        (
            {"class": "sklearn.naive_bayes.GaussianNB", "params": {"priors": {"array": ["a"], "dtype": "float64"}}},
            "object.params.priors",
            "could not convert",
        ),
        (
            {
                "class": GRID,
                "params": {
                    "estimator": SVC_FORM,
                    "param_grid": {"C": [1]},
                    "cv": {"class": "sklearn.model_selection.KFold", "params": {"n_splits": 1}},
                },
            },
            "object.params.cv.params",
            "at least one train/test split",
        ),
        (
            {
                "class": GRID,
                "params": {
                    "estimator": SVC_FORM,
                    "param_grid": {"C": [1]},
                    "cv": {"class": "sklearn.model_selection.BaseCrossValidator"},
                },
            },
            "object.params.cv.class",
            "abstract",
        ),
    ],
)
def test_each_fault_is_named(form: Any, path: str, said: str) -> None:
    faults = faults_of(form)
    assert said in faults.get(path, ""), faults


HOSTILE: dict[str, tuple[Any, str]] = {
    "a file for each row": (
        {"class": "sklearn.feature_extraction.text.CountVectorizer", "params": {"input": "filename"}},
        "object.params.input",
    ),
    "file objects": (
        {"class": "sklearn.feature_extraction.text.HashingVectorizer", "params": {"input": "file"}},
        "object.params.input",
    ),
    "a file by way of a NumPy string": (
        {
            "class": "sklearn.feature_extraction.text.TfidfVectorizer",
            "params": {"input": {"array": "filename", "dtype": "str"}},
        },
        "object.params.input",
    ),
    "a pickle cache": (
        {"class": "sklearn.pipeline.Pipeline", "params": {"steps": [["a", SVC_FORM]], "memory": "/tmp/x"}},
        "object.params.memory",
    ),
    "a file by way of a grid": (
        {
            "class": GRID,
            "params": {
                "estimator": describe(make_pipeline(CountVectorizer(), SVC())),
                "param_grid": {"countvectorizer__input": ["content", "filename"]},
            },
        },
        "object.params.param_grid.countvectorizer__input",
    ),
    "a cache by way of a grid": (
        {
            "class": "sklearn.model_selection.RandomizedSearchCV",
            "params": {
                "estimator": describe(make_pipeline(SVC())),
                "param_distributions": [{"memory": ["/tmp/x"]}],
            },
        },
        "object.params.param_distributions.memory",
    ),
    "a file by way of a step that the grid swaps in": (
        {
            "class": GRID,
            "params": {
                "estimator": describe(make_pipeline(CountVectorizer(), SVC())),
                "param_grid": {
                    "countvectorizer": [{"class": "sklearn.feature_extraction.text.TfidfVectorizer"}],
                    "countvectorizer__input": ["filename"],
                },
            },
        },
        "object.params.param_grid.countvectorizer__input",
    ),
    "any function": (
        {"class": "sklearn.preprocessing.FunctionTransformer", "params": {"func": {"function": "os.system"}}},
        "object.params.func",
    ),
    "a function of NumPy that reads files": (
        {
            "class": "sklearn.preprocessing.FunctionTransformer",
            "params": {"func": {"function": "numpy.load"}},
        },
        "object.params.func",
    ),
    "a function of scikit-learn that reads files": (
        {
            "class": "sklearn.preprocessing.FunctionTransformer",
            "params": {"func": {"function": "sklearn.datasets.load_files"}},
        },
        "object.params.func",
    ),
    "a class as a function": (
        {
            "class": "sklearn.preprocessing.FunctionTransformer",
            "params": {"func": {"class": "subprocess.Popen"}},
        },
        "object.params.func.class",
    ),
    "a joblib cache": (
        {
            "class": "sklearn.cluster.FeatureAgglomeration",
            "params": {"memory": {"class": "joblib.memory.Memory"}},
        },
        "object.params.memory.class",
    ),
    "a class that scikit-learn imported": (
        {"class": "sklearn.svm.SVC", "params": {"C": {"class": "sklearn.utils.parallel.Parallel"}}},
        "object.params.C.class",
    ),
    "an array type that eats memory": (
        {
            "class": "sklearn.naive_bayes.GaussianNB",
            "params": {"priors": {"array": ["a"], "dtype": "U999999999"}},
        },
        "object.params.priors",
    ),
    "bytes": ({"class": "sklearn.svm.SVC", "params": {"C": b"x"}}, "object.params.C"),
}


def test_the_types_of_arrays_are_numpys_own() -> None:
    form = HOSTILE["an array type that eats memory"][0]
    assert "`U999999999` is not a NumPy type" in faults_of(form)["object.params.priors"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_parameters_are_refused(name: str) -> None:
    form, path = HOSTILE[name]
    faults = faults_of(form)
    assert path in faults, faults
    with pytest.raises(DocumentInvalid):
        build(form, TRUST)


def test_deep_nesting_is_a_fault_and_no_recursion_error() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert (
        "nested deeper" in next(iter(construct({"class": "sklearn.svm.SVC", "params": {"C": deep}}, TRUST)[1])).message
    )
    form: Any = {"class": "sklearn.svm.SVC"}
    for _ in range(300):
        form = {"class": "sklearn.ensemble.BaggingClassifier", "params": {"estimator": form}}
    assert any("nested deeper" in fault.message for fault in construct(form, TRUST)[1])


@pytest.mark.parametrize("value", [10**400, -(10**400), 1e308, "x" * 10**6, [0] * 10**5, None, True, "\0", {"a": {}}])
def test_no_value_makes_check_raise(value: Any) -> None:
    for name in ("sklearn.svm.SVC", "sklearn.pipeline.Pipeline", GRID):
        for param in ("C", "steps", "param_grid", "estimator", "degree", "random_state"):
            construct({"class": name, "params": {param: value}}, TRUST)
    assert construct({"class": "sklearn.tree.DecisionTreeClassifier", "params": {"max_depth": 10**400}}, TRUST)[1] == []


JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["class", "params", "tuple", "dict", "slice", "array", "dtype", "function", "float", "a"]),
            st.one_of(
                inner,
                st.sampled_from(["sklearn.svm.SVC", "sklearn.pipeline.Pipeline", "float32", "numpy.log1p"]),
            ),
            max_size=3,
        ),
    ),
    max_leaves=12,
)


@given(JUNK, st.sampled_from(["steps", "memory", "transform_input", "x"]))
@settings(max_examples=150, deadline=None)
def test_no_junk_makes_check_raise(value: Any, param: str) -> None:
    construct(value, TRUST)
    construct({"class": "sklearn.pipeline.Pipeline", "params": {param: value}}, TRUST)
    construct(
        {
            "class": GRID,
            "params": {"estimator": SVC_FORM, "param_grid": value},
        },
        TRUST,
    )
    construct({"class": "sklearn.preprocessing.FunctionTransformer", "params": {"kw_args": value}}, TRUST)


# --- the document around the object -----------------------------------------------------------------------------


PIPE = describe(make_pipeline(StandardScaler(), SVC()))
BAD = {"C": -1}


@pytest.mark.parametrize(
    ("form", "fit_kwargs", "path", "said"),
    [
        (
            SVC_FORM,
            {"sample_wait": "w"},
            "sample_wait",
            "SVC.fit has no keyword `sample_wait`; did you mean `sample_weight`?",
        ),
        (SVC_FORM, {"epochs": 3}, "epochs", "it has: sample_weight"),
        (SVC_FORM, {"X": "age"}, "X", "comes from the rows"),
        (SVC_FORM, {"sample_weight": [1, 2]}, "sample_weight", "names the field that holds it"),
        (
            PIPE,
            {"sample_weight": "w"},
            "sample_weight",
            "takes `<step>__sample_weight`; its steps are: standardscaler, svc",
        ),
        (PIPE, {"svm__sample_weight": "w"}, "svm__sample_weight", "no step `svm`; did you mean `svc`?"),
        (PIPE, {"svc__sample_wait": "w"}, "svc__sample_wait", "did you mean `sample_weight`?"),
        (PIPE, {"svc__sample_weight": 3}, "svc__sample_weight", "names the field"),
    ],
)
def test_keywords_of_fit(form: Any, fit_kwargs: dict[str, Any], path: str, said: str) -> None:
    faults = faults_of(form, fit_kwargs=fit_kwargs)
    assert said in faults.get(f"fit_kwargs.{path}", ""), faults


def test_keywords_that_fit_takes_are_no_faults() -> None:
    assert faults_of(SVC_FORM, fit_kwargs={"sample_weight": "w"}) == {}
    assert faults_of(PIPE, fit_kwargs={"svc__sample_weight": "w"}) == {}
    grid = {"class": GRID, "params": {"estimator": PIPE, "param_grid": {}}}
    assert faults_of(grid, fit_kwargs={"svc__sample_weight": "w", "groups": "g"}) == {}


def test_metrics_are_scorers_or_the_score() -> None:
    good = {
        "split": 0.5,
        "metrics": ["accuracy", "roc_auc", "score"],
        "promote": {"metric": "neg_log_loss", "min": -1},
    }
    assert faults_of(SVC_FORM, validation=good) == {}
    assert "validation.metrics.1" in faults_of(SVC_FORM, validation={"split": 0.5, "metrics": ["accuracy", "loss"]})


def test_without_a_target() -> None:
    kmeans = {"class": "sklearn.cluster.KMeans"}
    split = {"split": 0.5}
    assert faults_of(kmeans, train_y=None) == {}
    assert faults_of(kmeans, train_y=None, validation=split) == {}
    assert "SVC learns from a target" in faults_of(SVC_FORM, train_y=None)["train_y"]
    assert "train_y" in faults_of(PIPE, train_y=None)
    named = faults_of(kmeans, train_y=None, validation={**split, "metrics": ["adjusted_rand_score"]})
    assert "there is no `train_y`; use `score`" in named["validation.metrics.0"]
    unscored = faults_of({"class": "sklearn.cluster.DBSCAN"}, train_y=None, validation=split)
    assert "DBSCAN has no score of its own" in unscored["validation.metrics"]
