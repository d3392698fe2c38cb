import torch

from sktriplet.mining import Triplets


def test_triplets_fields():
    triplets = Triplets(*torch.tensor([[0, 1], [1, 0], [2, 2]]))
    assert Triplets._fields == ("anchor", "positive", "negative")
    assert torch.stack(triplets, dim=1).tolist() == [[0, 1, 2], [1, 0, 2]]
