"""Names resolve only under the operator's prefixes, to classes of the kind expected, defined there; nothing runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sklearn.base import BaseEstimator

from registry.errors import Untrusted
from registry.trust import DEFAULT_MODULES, Trust

TRUST = Trust()
ESTIMATORS = (BaseEstimator,)


@pytest.fixture
def company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An operator's own package, with one estimator; imports of it leave a file `ran`."""
    package = tmp_path / "acme_models"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "churn.py").write_text(
        "import os, pathlib\n"
        "from collections import OrderedDict\n"
        "from sklearn.svm import SVC\n"
        f"pathlib.Path({str(tmp_path / 'ran')!r}).touch()\n"
        "class Churn(SVC):\n    class Inner(SVC): pass\n"
        "def make(): raise AssertionError('called')\n"
        "class Loud(SVC):\n    def __init__(self): raise AssertionError('called')\n"
    )
    (package / "broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "acme_models"
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme_models"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "prefix", "covered"),
    [
        ("sklearn.svm.SVC", "sklearn", True),
        ("sklearn", "sklearn", True),
        ("sklearnx.svm.SVC", "sklearn", False),
        ("skl", "sklearn", False),
        ("torch.nn.Linear", "torch.nn", True),
        ("torch.nnx.Linear", "torch.nn", False),
        ("torch.load", "torch.nn", False),
        ("anything", "", False),
    ],
)
def test_prefixes_match_whole_components(name: str, prefix: str, covered: bool) -> None:
    assert Trust((prefix,)).covers(name) is covered


def test_adding_keeps_the_defaults() -> None:
    trust = Trust.adding(["acme"])
    assert trust.modules == (*DEFAULT_MODULES, "acme")
    assert trust.added("acme.models")
    assert not trust.added("sklearn.svm")
    assert not trust.added("acmes")


@pytest.mark.parametrize(
    "name",
    ["sklearn.svm.SVC", "sklearn.ensemble.HistGradientBoostingClassifier", "sklearn.base.BaseEstimator"],
)
def test_public_estimators_resolve(name: str) -> None:
    found = TRUST.resolve(name, ESTIMATORS)
    assert found.__name__ == name.rpartition(".")[2]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("os.system", "lies outside the modules that the operator trusts"),
        ("builtins.eval", "REFITD_TRUST__MODULES"),
        ("sklearnx.svm.SVC", "lies outside"),
        ("sklearn.svm._classes.SVC", "private (`_classes`)"),
        ("sklearn.svm.SVC.__init__.__globals__", "private (`__init__`)"),
        ("sklearn.svm.SVK", "did you mean `sklearn.svm.SVR`?"),
        (
            "sklearn.linear_model.logisticregression",
            "did you mean `sklearn.linear_model.LogisticRegression`?",
        ),
        ("sklearn.svmm.SVC", "did you mean `sklearn.svm`?"),
        ("sklearn.svm.qqqq", "there is no `qqqq` in `sklearn.svm`"),
        ("sklearn.svm", "not a class of the kind that is expected here: BaseEstimator"),
        ("sklearn", "not a class of the kind"),
        ("sklearn.base.clone", "is a function, not a class"),
        ("sklearn.svm.SVC.fit", "is a function, not a class"),
        ("sklearn.utils.Bunch", "not a class of the kind"),
        ("sklearn.tests.test_base.MyEstimator", "test code"),
        ("sklearn.conftest.Anything", "test code"),
        ("sklearn.metrics.pairwise.warnings", "only another name for `warnings`"),
        ("sklearn.metrics.pairwise.warnings.catch_warnings", "only another name for `warnings`"),
        ("sklearn.metrics.pairwise.partial", "not a class of the kind"),
        ("", "is not the dotted name of a class"),
        ("sklearn.", "is not the dotted name of a class"),
        (".sklearn", "is not the dotted name of a class"),
        ("sklearn..svm", "is not the dotted name of a class"),
        ("sklearn.svm.SVC()", "is not the dotted name of a class"),
        ("sklearn.svm.SVC\0", "is not the dotted name of a class"),
        ("a." * 500 + "b", "is not the dotted name of a class"),
    ],
)
def test_everything_else_is_refused_and_says_why(name: str, said: str) -> None:
    with pytest.raises(Untrusted) as caught:
        TRUST.resolve(name, ESTIMATORS)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_foreign_class_of_the_right_kind_is_refused_through_a_trusted_module(company: str) -> None:
    # acme_models.churn.SVC is scikit-learn's: with acme alone trusted, that is another's class.
    with pytest.raises(Untrusted, match=r"only another name for `sklearn.svm._classes.SVC`"):
        Trust((company,)).resolve("acme_models.churn.SVC", ESTIMATORS)
    assert Trust.adding([company]).resolve("acme_models.churn.SVC", ESTIMATORS).__name__ == "SVC"


def test_the_operators_own_module_works_once_listed(company: str, tmp_path: Path) -> None:
    with pytest.raises(Untrusted):
        TRUST.resolve("acme_models.churn.Churn", ESTIMATORS)
    assert not (tmp_path / "ran").exists(), "the module was imported without being trusted"
    for prefix in ("acme_models", "acme_models.churn", "acme_models.churn.Churn"):
        assert Trust.adding([prefix]).resolve("acme_models.churn.Churn", ESTIMATORS).__name__ == "Churn"
    assert (tmp_path / "ran").exists()


def test_a_prefix_that_is_one_class_opens_nothing_beside_it(company: str) -> None:
    trust = Trust.adding(["acme_models.churn.Churn"])
    assert trust.resolve("acme_models.churn.Churn.Inner", ESTIMATORS).__name__ == "Inner"
    with pytest.raises(Untrusted, match="lies outside"):
        trust.resolve("acme_models.churn.Loud", ESTIMATORS)


def test_nothing_is_called(company: str) -> None:
    trust = Trust.adding([company])
    assert trust.resolve("acme_models.churn.Loud", ESTIMATORS).__name__ == "Loud"
    with pytest.raises(Untrusted, match="is a function"):
        trust.resolve("acme_models.churn.make", ESTIMATORS)
    with pytest.raises(Untrusted, match=r"only another name for `posixpath`|only another name for `os`"):
        trust.resolve("acme_models.churn.os.system", ESTIMATORS)


def test_a_module_that_breaks_or_is_missing_says_so(company: str) -> None:
    trust = Trust.adding([company, "not_installed_here"])
    with pytest.raises(Untrusted, match=r"ZeroDivisionError: division by zero.*where the daemon and its workers run"):
        trust.resolve("acme_models.broken.Model", ESTIMATORS)
    with pytest.raises(Untrusted, match="No module named 'not_installed_here'"):
        trust.resolve("not_installed_here.Model", ESTIMATORS)
    with pytest.raises(Untrusted, match="there is no `absent` in `acme_models`"):
        trust.resolve("acme_models.absent.Model", ESTIMATORS)


def test_modules_of_private_names_are_imported_only_under_a_prefix() -> None:
    assert TRUST.module("sklearn.svm._classes").SVC.__name__ == "SVC"
    for name in ("os", "sklearn.utils._testing", "sklearn.tests.test_base"):
        with pytest.raises(Untrusted):
            TRUST.module(name)


def test_trust_needs_no_framework() -> None:
    code = "import registry.trust, sys; sys.exit(bool({'sklearn', 'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
