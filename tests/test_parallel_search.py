"""Grid searches over several processes."""

import os

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline


def process_of(estimator, X, y):
    return os.getpid()


@pytest.mark.slow
def test_grid_search_on_dask_workers(make_embedder, wine):
    """The scores are those of a search in one process."""
    distributed = pytest.importorskip("distributed")

    def scores_and_processes(**parallel):
        search = GridSearchCV(
            make_pipeline(make_embedder(), KNeighborsClassifier()),
            {"tripletembedder__margin": [0.1, 0.5, 1.0]},
            scoring={"accuracy": "accuracy", "process": process_of},
            cv=2,
            refit=False,
        )
        with joblib.parallel_config(**parallel):
            results = search.fit(*wine).cv_results_
        scores = np.array([results[f"split{fold}_test_accuracy"] for fold in range(2)])
        return scores, {int(process) for process in results["split0_test_process"]}

    alone, _ = scores_and_processes(n_jobs=1)
    assert len(np.unique(alone)) > 2
    assert_array_equal(scores_and_processes(backend="loky", n_jobs=2)[0], alone)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        workers = set(client.run(os.getpid).values())
        assert len(workers - {os.getpid()}) == 2
        scores, processes = scores_and_processes(backend="dask")
    assert_array_equal(scores, alone)
    assert processes <= workers
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
