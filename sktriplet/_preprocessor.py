"""Samples as users pass them, and as the network receives them: validate, encode, convert."""

import copy
from collections.abc import Sequence
from math import prod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, issparse
from sklearn.preprocessing import StandardScaler

from sktriplet._conversion_errors import check_supported
from sktriplet._input_layout import InputLayout, TableLayout, layout_type_of
from sktriplet._input_statistics import (
    ValueRange,
    large_offsets,
    partial_fit_scaler,
    to_single_precision,
)
from sktriplet._input_validation import validate_array
from sktriplet._integers import may_be_ids, to_int64
from sktriplet._lazy_samples import LazySamples
from sktriplet._table_encoder import TableEncoder, find_categorical
from sktriplet._warnings import warn_user
from sktriplet.exceptions import InputRangeWarning, InvalidParameterError


class Preprocessor:
    """Prepares the samples of an input for the network.

    There are two steps, between which labels are validated, because the second one reads all
    samples. `encode` validates samples, and encodes the categories of tables; `convert` returns
    what the network receives: float32, bytes, or ids. Their counterparts in training,
    `encode_training` and `fit_convert`, also learn the attributes. If it is fitted already,
    training continues.

    Parameters
    ----------
    input_shape, standardize, categorical_features : object
        As in `TripletEmbedder`, for this input.
    accepts_ids : bool
        Whether the network receives integers as they are.

    Attributes
    ----------
    layout : InputLayout or None
        Layout of the samples that users pass. None before fit.
    network_layout : InputLayout
        Layout of the samples that the network receives, in which tables are encoded.
    feature_names : ndarray or None
        Names of the features of a table, if it has any.
    encoder : TableEncoder or None
        Encoder of tables.
    holds_ids : bool
        Whether the network receives int64.
    scaler : StandardScaler or None
        Mean and scale of features or channels. None if the input is not standardized.
    offset : ndarray or None
        Large means of features, which are subtracted before the conversion to single precision.
    range : ValueRange or None
        Range of images and sequences.
    """

    network_layout: InputLayout

    def __init__(
        self, *, input_shape: Any, standardize: bool, categorical_features: Any, accepts_ids: bool
    ):
        self.input_shape = input_shape
        self.standardize = standardize
        self.categorical_features = categorical_features
        self.accepts_ids = accepts_ids
        self.layout: InputLayout | None = None
        self.feature_names: NDArray | None = None
        self.encoder: TableEncoder | None = None
        self.holds_ids = False
        self.scaler: StandardScaler | None = None
        self.offset: NDArray | None = None
        self.range: ValueRange | None = None

    def continued(self, new: Self) -> Self:
        """Return a copy with the parameters of a new one, to continue training."""
        now, before = new.categorical_features, self.categorical_features
        if self.encoder is not None and not np.array_equal(
            np.asarray(now, dtype=object), np.asarray(before, dtype=object)
        ):
            raise InvalidParameterError(
                "The 'categorical_features' parameter must not change when training continues. Got "
                f"{now!r} after {before!r}."
            )
        continued = copy.copy(self)
        continued.input_shape, continued.standardize = new.input_shape, new.standardize
        continued.accepts_ids, continued.categorical_features = new.accepts_ids, now
        return continued

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a sample, before it is encoded."""
        return () if self.layout is None else self.layout.shape

    @property
    def n_features(self) -> int:
        """Number of features, before they are encoded."""
        return prod(self.shape)

    def encode_training(self, X: Any, owner: Any, *, n_labels: int, min_samples: int) -> Any:
        """Validate and encode training samples for an embedder, the owner, which is not changed.

        Raises
        ------
        TypeError
            If X is sparse and holds images.
        ValueError
            If X is neither a finite table nor images, has another length than the labels, or is not
            consistent with an earlier fit.
        """
        check_supported(X, "X")
        layout_type, chosen = layout_type_of(self.input_shape, X), self.categorical_features
        is_fitted, encoder = self.layout is not None, self.encoder
        if is_fitted and not isinstance(self.layout, layout_type):
            self._raise_wrong_shape(np.shape(X), owner)
        if not layout_type.is_table and not (chosen is None or isinstance(chosen, str)):
            raise InvalidParameterError(
                "The 'categorical_features' parameter has no effect on images or sequences. Got "
                f"{chosen!r}."
            )
        if layout_type.is_table and not is_fitted:
            is_inferred = isinstance(chosen, str)
            encoder = TableEncoder(find_categorical(X, chosen), is_inferred=is_inferred)
        X = self._validate(X, owner, layout_type, encoder, min_samples)
        X = _canonical(X) if issparse(X) else X
        _check_same_length(X, n_labels)
        layout = layout_type.from_array(X, self.input_shape)
        if is_fitted and layout.shape != self.shape:
            self._raise_wrong_shape(X.shape, owner)
        network_layout = layout
        if encoder is not None:
            X = encoder.transform(X, warns=True) if is_fitted else encoder.fit_transform(X)
            network_layout = TableLayout.from_encoder(encoder)
        if not is_fitted:
            self.holds_ids = self.accepts_ids and may_be_ids(X)
        self.layout, self.network_layout, self.encoder = layout, network_layout, encoder
        return to_int64(X) if self.holds_ids else X

    def fit_convert(self, X: Any, *, update: bool) -> Any:
        """Learn the statistics of encoded training samples, and convert them.

        Those of an earlier fit are kept, unless they are to be updated.

        Raises
        ------
        InvalidParameterError
            If integers that were not standardized would be.
        """
        if self.standardize and self.holds_ids:
            raise InvalidParameterError(
                "The 'standardize' parameter must not change when training on integers continues. "
                f"Got {self.standardize} after False."
            )
        if not self.standardize:
            self.scaler = None
        elif update or self.scaler is None:
            self.scaler = partial_fit_scaler(self.scaler, X, self.network_layout)
        self.offset = large_offsets(self.scaler, X, self.network_layout)
        converted = self.convert(X)
        if self.range is None and not (self.network_layout.is_table or self.holds_ids):
            self.range = ValueRange.of(converted)
        return converted

    def encode(self, X: Any, owner: Any) -> Any:
        """Validate and encode samples. Sparse ones become a CSR matrix.

        The values of lazy samples are checked later, when they are read.

        Raises
        ------
        TypeError
            If X is sparse and the training samples were images.
        ValueError
            If X is not finite, or not consistent with the training data.
        """
        layout: Any = self.layout
        check_supported(X, "X")
        if layout.is_table and isinstance(X, LazySamples) and X.ndim > 2:
            self._raise_wrong_shape(X.shape, owner)
        X = self._validate(X, owner, type(layout), self.encoder, 1)
        if not layout.is_table:
            layout.check_dense(X)
            if X.shape[1:] not in layout.accepted_shapes:
                self._raise_wrong_shape(X.shape, owner)
        if self.encoder is not None:
            X = self.encoder.transform(X)
        return to_int64(X) if self.holds_ids else X

    def convert(self, X: Any) -> Any:
        """Return encoded samples as the network receives them.

        Warns
        -----
        InputRangeWarning
            If images or sequences seem to be in other units than those in fit.
        """
        if self.range is not None:
            now = ValueRange.of(X)
            if now.has_other_unit(self.range):
                warn_user(
                    f"X holds {now}, but the samples in fit were {self.range}. Embeddings of "
                    "values in other units are unreliable: divide both, for example by 255, or "
                    "none.",
                    InputRangeWarning,
                )
        if self.becomes_dense(X):
            X = X.toarray()
        return X if self.holds_ids else to_single_precision(X, self.offset)

    def becomes_dense(self, X: Any) -> bool:
        """Return whether samples are sparse, and the offset of the features makes them dense."""
        return issparse(X) and self.offset is not None

    def _validate(
        self,
        X: Any,
        owner: Any,
        layout_type: type[InputLayout],
        encoder: TableEncoder | None,
        min_samples: int,
    ) -> Any:
        # scikit-learn's validation sets and reads attributes of this estimator.
        probe = type(owner)(**owner.get_params(deep=False))
        is_fitted = self.layout is not None
        if is_fitted:
            probe.n_features_in_ = self.n_features
            if self.feature_names is not None:
                probe.feature_names_in_ = self.feature_names
        X = validate_array(
            probe,
            X,
            layout_type,
            encoder,
            accepts_ids=self.holds_ids if is_fitted else self.accepts_ids,
            reset=not is_fitted,
            ensure_min_samples=min_samples,
        )
        if not is_fitted:
            self.feature_names = getattr(probe, "feature_names_in_", None)
        return X

    def _raise_wrong_shape(self, shape: Sequence[int], owner: Any) -> None:
        is_single = tuple(shape) in self.layout.accepted_shapes  # type: ignore[union-attr]
        hint = " Pass a single sample as X[np.newaxis]." if is_single else ""
        raise ValueError(
            f"X has shape {tuple(shape)}, but {type(owner).__name__} is expecting {self.layout}, "
            f"as in fit.{hint}"
        )


def _canonical(X: Any) -> csr_array:
    X = csr_array((X.data, X.indices, X.indptr), shape=X.shape)  # X may be the user's.
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


def _check_same_length(X: Any, n_labels: int) -> None:
    n_samples = [X.shape[0], n_labels]
    if n_samples[0] != n_samples[1]:
        hint = " Pass a single sample as X[np.newaxis]." if n_labels == 1 else ""
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: {n_samples}.{hint}"
        )
