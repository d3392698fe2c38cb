"""Loss of neighborhood components analysis (NCA), alone and as a term of the triplet loss."""

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar

import torch
from torch import Tensor

from sktriplet._parameters import Interval, validate_parameters
from sktriplet.losses._triplet import TripletLoss

# Softmax temperature in margins: both are in the units of the metric.
RELATIVE_TEMPERATURE = 0.4


def nca_loss(distances: Tensor, labels: Tensor, temperature: float) -> Tensor:
    r"""Compute the loss of neighborhood components analysis over a batch.

    Sample i selects another sample j as its neighbor with probability

    .. math::
        p_{ij} = \frac{\exp(-d_{ij} / T)}{\sum_{k \neq i} \exp(-d_{ik} / T)},

    and the loss is the mean of :math:`-\log \sum_{j: y_j = y_i} p_{ij}` [1]_. A triplet loss
    compares single positives and negatives. This loss requires that some neighbors are of the
    same class, wherever the other samples of the class are, and therefore does not penalize
    multimodal classes.

    Parameters
    ----------
    distances : Tensor of shape (B, B) or (G, B, B)
        Pairwise distances.
    labels : int Tensor of shape (B,) or (G, B)
        Class labels.
    temperature : float
        Softmax temperature T, in the units of the distances.

    Returns
    -------
    loss : Tensor of shape () or (G,)
        Mean over the samples that share their class with another sample; zero, and connected
        to the graph, if there are none.

    References
    ----------
    .. [1] Goldberger, Hinton, Roweis and Salakhutdinov, "Neighbourhood Components Analysis",
       NeurIPS 2004.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.losses import nca_loss
    >>> distances = torch.tensor([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    >>> nca_loss(distances, torch.tensor([0, 0, 1]), temperature=1.0)  # log 2
    tensor(0.6931)
    """
    if labels.shape[-1] == 0:
        return distances.sum(dim=(-2, -1))
    is_other = labels[..., None] != labels[..., None, :]
    is_other.diagonal(dim1=-2, dim2=-1).fill_(True)
    logits = distances / -temperature
    logits.diagonal(dim1=-2, dim2=-1).fill_(-torch.inf)
    # Infinity would give samples without positives a gradient of NaN.
    smallest = torch.finfo(logits.dtype).min
    positive_logits = logits.masked_fill(is_other, smallest)
    largest, nearest = positive_logits.detach().max(dim=-1, keepdim=True)
    has_positive = ~is_other.all(dim=-1)
    # The ratio of the probabilities among all samples and among positives is the same for each
    # positive. torch's log_softmax is several times faster than its logsumexp.
    log_p = logits.log_softmax(dim=-1).gather(-1, nearest)
    log_p -= positive_logits.log_softmax(dim=-1).gather(-1, nearest)
    # All positives are infinitely far if the largest logit is that of another sample.
    is_infinite = (largest == smallest).squeeze(-1)
    losses = log_p.squeeze(-1).neg().masked_fill(is_infinite, torch.inf)
    losses = losses.masked_fill(~has_positive, 0)
    return losses.sum(dim=-1) / has_positive.sum(dim=-1).clamp(min=1)


class TripletNCALoss(TripletLoss):
    """Triplet loss with an additional NCA term, computed from the same distances.

    The loss is ``TripletLoss(...) + nca_weight * nca_loss(...)``, where the temperature of the
    NCA loss is 0.4 margins. It is the default criterion of :class:`~sktriplet.TripletEmbedder`.

    Parameters
    ----------
    margin : float, default=0.5
        Minimum gap between the anchor-negative and anchor-positive distances. It also scales
        the temperature of the NCA term.
    nca_weight : float, default=2.0
        Weight of the NCA term. With zero, this is the triplet loss.
    **kwargs : dict
        Other parameters of :class:`~sktriplet.losses.TripletLoss`.

    Attributes
    ----------
    statistics : dict of str to Tensor of shape ()
        Statistics of the triplet loss; see :class:`~sktriplet.losses.TripletLoss`.

    See Also
    --------
    nca_loss : The additional term.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.losses import TripletLoss, TripletNCALoss
    >>> embeddings = torch.tensor([[0.0], [1.0], [1.1], [5.0]])
    >>> labels = torch.tensor([0, 0, 1, 1])
    >>> bool(TripletNCALoss()(embeddings, labels) > TripletLoss()(embeddings, labels))
    True
    """

    accepts_stacks = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TripletLoss._parameter_constraints,
        "nca_weight": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, margin: float = 0.5, *, nca_weight: float = 2.0, **kwargs: Any) -> None:
        super().__init__(margin, **kwargs)
        validate_parameters(self, nca_weight=nca_weight)
        self.nca_weight = nca_weight
        self._parameter_names += ("nca_weight",)

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        *,
        triplets: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Compute the loss of a batch.

        Parameters
        ----------
        embeddings : Tensor of shape (B, D) or (G, B, D)
            Embeddings of the samples, of a floating point type. The losses of a stack of G
            batches are averaged.
        labels : int Tensor of shape (B,) or (G, B), default=None
            Class labels.
        triplets : tuple of three int Tensors of shape (T,), default=None
            Indices of anchors, positives, and negatives to use instead of labels. Without
            labels there is no NCA term.

        Returns
        -------
        loss : Tensor of shape ()
            Reduced triplet loss plus the weighted NCA loss.

        Raises
        ------
        TypeError
            If the embeddings are not floating point, or labels or indices are not integers.
        ValueError
            If shapes or lengths do not match, if an index is outside the batch, or
            if not exactly one of `labels` and `triplets` is given.
        """
        triplet_loss, distances, labels = self._triplet_loss(embeddings, labels, triplets)
        if labels is None or not self.nca_weight:
            return triplet_loss
        temperature = RELATIVE_TEMPERATURE * self.margin
        return triplet_loss + self.nca_weight * nca_loss(distances, labels, temperature).mean()
