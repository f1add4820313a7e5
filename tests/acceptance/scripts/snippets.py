"""The five snippets of SuperDuperDB's page on training, word for word but for imports and placeholders.

Usage: snippets.py URI SELECTS, where SELECTS is JSON: `numbers` and `texts`, each a select. Prints one JSON object.
"""

import json
import sys
from typing import Any

import refitd

db = refitd.connect(sys.argv[1], compute="local")
queries = json.loads(sys.argv[2])
said: dict[str, Any] = {}


def procedural() -> None:
    from sklearn.linear_model import LogisticRegression

    model = refitd.Estimator("procedural", LogisticRegression())
    model.fit(
        X="input",
        y="label",  # Optional, depending on whether supervised/ unsupervised,
        select=queries["numbers"],  # query which loads the training data
        db=db,
    )
    said["procedural"] = model.version


def declarative() -> None:
    from sklearn.svm import SVC

    from refitd import Model

    args: list[Any] = ["declarative", SVC()]
    kwargs: dict[str, Any] = {"retrain": {"quiet": "0s"}}
    db.add(
        Model(
            *args,
            training_select=queries["numbers"],  # to be passed as `Model.fit(..., select=...)`
            train_X="input",  # to be passed as `Model.fit(X=...)`
            train_y="label",  # to be passed as `Model.fit(..., y=...)`
            fit_kwargs={**{"sample_weight": "weight"}},  # noqa: PIE800 (as printed)
            **kwargs,
        )
    )
    said["declarative"] = db.wait("declarative", timeout=60)["live"]


def scikit_learn() -> None:
    from sklearn.svm import SVC

    from refitd import Estimator

    m = Estimator(SVC(C=0.05))

    m.fit(
        X="input",
        y="label",
        select=queries["numbers"],  # MongoDB, Ibis or SQL query
        db=db,
    )
    said["svc"] = m.version


def transformers() -> None:
    from refitd import Pipeline

    m = Pipeline(task="sentiment-analysis")

    m.fit(
        X="text",
        y="label",
        db=db,
        select=queries["texts"],  # MongoDB, Ibis or SQL query
        dataloader_num_workers=4,  # **kwargs are passed to `transformers.TrainingArguments`
    )
    said["sentiment-analysis"] = (m.version, m.predict(["good", "bad"]))


def pytorch() -> None:
    import torch

    from refitd import Module

    model = Module(
        "my-classifier",
        preprocess=lambda x: torch.tensor(x),
        object=torch.nn.Linear(64, 512),
        postprocess=lambda x: x.topk(1)[0].item(),
    )

    model.fit(
        X="input",
        db=db,
        select=queries["numbers"],  # MongoDB, Ibis or SQL query
        batch_size=100,  # any **kwargs supported by the torch trainer
        num_workers=4,
    )
    said["my-classifier"] = (model.version, model.predict([[0.5] * 64]))


def design() -> None:
    """What DESIGN.md §4 shows beside them."""
    import torch
    from sklearn.svm import SVC

    model = refitd.Estimator("churn", SVC(C=0.05))
    model.fit(X=["id", "weight"], y="label", select=queries["numbers"], db=db)
    refitd.Module("named", object=torch.nn.Linear(64, 512),
                  preprocess=lambda x: torch.tensor(x), postprocess=lambda x: x.topk(1)[0].item())  # fmt: skip
    said["models"] = sorted(one["model"] for one in db.models())
    said["versions"] = [one["version"] for one in db.versions("churn")]
    said["again"] = db.load("my-classifier").predict([{"input": [0.5] * 64}])


if __name__ == "__main__":
    for snippet in (procedural, declarative, scikit_learn, transformers, pytorch, design):
        snippet()
    db.close()
    print(json.dumps(said))
