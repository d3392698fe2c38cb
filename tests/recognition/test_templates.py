import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from sktriplet.recognition import _templates
from sktriplet.recognition._templates import (
    distances_to_classes,
    enroll_templates,
    impostor_distances,
)


def make_gallery(rng, n_classes=4, n_templates=30):
    labels = np.sort(rng.integers(n_classes, size=n_templates))
    return rng.normal(size=(n_templates, 3)), labels


@pytest.mark.parametrize("max_neighbors", [1, 8, 100])
@pytest.mark.parametrize("n_shared", [0, 1, 4])
def test_impostor_distances(n_shared, max_neighbors, rng, monkeypatch):
    """By definition, with classes that are on one side or on both, few or many templates."""
    monkeypatch.setattr(_templates, "MAX_NEIGHBORS", max_neighbors)
    templates, template_labels = make_gallery(rng)
    probes, probe_labels = rng.normal(size=(20, 3)), rng.integers(4, size=20) + 4 - n_shared
    distances = np.linalg.norm(probes[:, None] - templates, axis=2)
    distances[probe_labels[:, None] == template_labels] = np.inf
    result = impostor_distances(templates, template_labels, probes, probe_labels)
    assert result == pytest.approx(distances.min(axis=1))


def test_impostors_among_duplicates():
    """All neighbors of a probe are at the same distance."""
    templates, labels = np.zeros((20, 2)), np.repeat(np.arange(4), 5)
    assert (impostor_distances(templates, labels, templates + 1, labels) == np.sqrt(2)).all()


def test_one_query_for_many_classes(rng, monkeypatch):
    queries = []

    class CountingNeighbors(NearestNeighbors):
        def kneighbors(self, X, **options):
            queries.append(len(X))
            return super().kneighbors(X, **options)

    monkeypatch.setattr(_templates, "NearestNeighbors", CountingNeighbors)
    templates, labels = make_gallery(rng, n_classes=500, n_templates=1000)
    impostor_distances(templates, labels, templates, labels)
    assert queries == [1000]


def test_distances_to_classes(rng):
    templates, labels = make_gallery(rng)
    samples = rng.normal(size=(10, 3))
    distances = np.linalg.norm(samples[:, None] - templates, axis=2)
    expected = np.column_stack([distances[:, labels == label].min(axis=1) for label in range(4)])
    assert distances_to_classes(samples, templates, labels) == pytest.approx(expected)


def test_samples_are_sorted_by_class(rng):
    embeddings, labels = rng.normal(size=(6, 2)), np.array(list("cabacb"))
    templates, sorted_labels, sizes = enroll_templates(embeddings, labels, by_class=False)
    assert "".join(sorted_labels) == "aabbcc"
    assert (templates == embeddings[[1, 3, 2, 5, 0, 4]]).all()
    assert sizes.tolist() == [1] * 6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_means_of_parts_are_those_of_all(dtype, rng):
    embeddings, labels = rng.normal(size=(50, 2)).astype(dtype), rng.integers(4, size=50)
    expected = [embeddings[labels == label].mean(axis=0) for label in range(4)]
    at_once = enroll_templates(embeddings, labels, by_class=True)
    first = enroll_templates(embeddings[:20], labels[:20], by_class=True)
    in_parts = enroll_templates(
        np.concatenate([first[0], embeddings[20:]]),
        np.concatenate([first[1], labels[20:]]),
        np.concatenate([first[2], np.ones(30, dtype=int)]),
        by_class=True,
    )
    for templates, classes, sizes in (at_once, in_parts):
        assert templates == pytest.approx(np.array(expected), abs=1e-6)
        assert templates.dtype == dtype
        assert classes.tolist() == [0, 1, 2, 3]
        assert (sizes == np.bincount(labels)).all()
