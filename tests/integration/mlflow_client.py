"""MLflow, unmodified, loads the champion: `python mlflow_client.py TRACKING_URI ITEM`.

It runs in an environment of its own (`make clients`), which has MLflow and what our library needs,
and prints MLflow's version at the end. ITEM must be the best item for a visitor without a history.
"""

import sys
import tempfile

import mlflow
import pandas as pd

URI, BEST = sys.argv[1:]
MODEL = "models:/recommender@champion"


def check(model):
    histories = pd.DataFrame({"items": [["item-03", "item-04"], []]}, index=["ada", "nobody"])
    lists = model.predict(histories, params={"n": 3})
    assert list(lists.index) == ["ada", "nobody"]
    assert [len(items) for items in lists["items"]] == [3, 3], lists
    assert not {"item-03", "item-04"} & set(lists["items"]["ada"]), lists
    assert lists["items"]["nobody"][0] == BEST, lists
    assert list(lists["scores"]["ada"]) == sorted(lists["scores"]["ada"], reverse=True)
    assert len(model.predict(histories)["items"]["ada"]) == 10


if __name__ == "__main__":
    mlflow.set_tracking_uri(URI)
    for _ in range(2):  # the second time from a folder in which MLflow has left a file
        check(mlflow.pyfunc.load_model(MODEL))
    with tempfile.TemporaryDirectory() as folder:
        check(mlflow.pyfunc.load_model(MODEL, dst_path=folder))
    print(f"mlflow {mlflow.__version__}: {MODEL} loads and predicts")
