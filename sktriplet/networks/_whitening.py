"""Partial whitening of normalized embeddings."""

import torch
from torch import Tensor, nn

from sktriplet.networks._precision import DTYPE

# Fraction of the mean that is added to the eigenvalues, so that no direction without variance
# dominates.
SHRINKAGE = 0.1


class Whitening(nn.Module):
    r"""Linear map that makes the principal axes of embeddings more equal in length.

    Networks use few of the directions of the embedding space, those that tell their training
    classes apart. Whitening gives the others more weight, in which unseen classes may differ [1]_.
    With the second moment :math:`M = \frac{1}{n} \sum_i z_i z_i^T` of the training embeddings, the
    map is :math:`M^{-1/4}`: halfway, in the exponent, between none and full whitening
    :math:`M^{-1/2}`. Each member of an ensemble has its own.

    Parameters
    ----------
    n_components : int
        Number of components of the embeddings.
    n_members : int, default=1
        Number of members whose parts, as `torch.tensor_split` returns them, are whitened
        separately.

    Attributes
    ----------
    n_samples : Tensor of shape ()
        Number of samples from which the map was computed. Without any it is the identity.
    moment : Tensor of shape (n_components, n_components)
        Second moment of these samples.
    matrix : Tensor of shape (n_components, n_components)
        The map, which is symmetric.

    References
    ----------
    .. [1] Jegou and Chum, "Negative evidences and co-occurences in image retrieval: The benefit
       of PCA and whitening", ECCV 2012.

    Examples
    --------
    >>> import torch
    >>> from sktriplet.networks import Whitening
    >>> whitening = Whitening(n_components=2)
    >>> whitening.update(torch.tensor([[16.0, 0.0], [0.0, 1.0]]))
    >>> whitening(torch.eye(2))
    tensor([[0.2937, 0.0000],
            [0.0000, 0.6164]])
    """

    n_samples: Tensor
    moment: Tensor
    matrix: Tensor

    def __init__(self, n_components: int, n_members: int = 1):
        super().__init__()
        self.n_members = n_members
        self.register_buffer("n_samples", torch.zeros((), dtype=torch.int64))
        self.register_buffer("moment", torch.zeros(n_components, n_components, dtype=DTYPE))
        self.register_buffer("matrix", torch.eye(n_components, dtype=DTYPE))

    @torch.no_grad()
    def update(self, embeddings: Tensor) -> None:
        """Compute the map from these samples, and from those of earlier updates.

        Parameters
        ----------
        embeddings : Tensor of shape (n_samples, n_components)
            Embeddings that are not whitened.
        """
        # In double precision, on the CPU: other devices may not have it.
        embeddings = embeddings.to("cpu", torch.float64)
        n_earlier, n_added = int(self.n_samples), len(embeddings)
        moment = n_earlier * self.moment.to("cpu", torch.float64) + embeddings.T @ embeddings
        moment /= n_earlier + n_added
        matrix = torch.zeros_like(moment)
        for part in torch.arange(len(moment)).tensor_split(self.n_members):
            block = (part[:, None], part)
            values, axes = torch.linalg.eigh(moment[block])
            values = values.clamp(min=0) + SHRINKAGE * values.mean().clamp(min=1e-12)
            matrix[block] = axes * values**-0.25 @ axes.T
        self.n_samples += n_added
        self.moment.copy_(moment)
        self.matrix.copy_(matrix)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the whitened embeddings, which are not normalized.

        Parameters
        ----------
        embeddings : Tensor of shape (n_samples, n_components)
            Embeddings.

        Returns
        -------
        whitened : Tensor of shape (n_samples, n_components)
            Their images.
        """
        return embeddings @ self.matrix.to(embeddings.dtype)
