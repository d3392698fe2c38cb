"""Labels from several sources, combined without rounding."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def concatenate_labels(*parts: NDArray) -> NDArray:
    """Concatenate labels; as objects, if NumPy's common type would round one of them.

    Signed and unsigned integers have the common type float64, which has 53 bits.

    Examples
    --------
    >>> import numpy as np
    >>> from sktriplet._labels import concatenate_labels
    >>> parts = np.array([2**60 + 1]), np.array([2**60], dtype=np.uint64)
    >>> len(np.unique(concatenate_labels(*parts))), len(np.unique(np.concatenate(parts)))
    (2, 1)
    """
    joined = np.concatenate(parts)
    is_rounded = joined.dtype.kind in "fc" and any(_is_rounded(part, joined) for part in parts)
    return np.concatenate([part.astype(object) for part in parts]) if is_rounded else joined


def _is_rounded(part: NDArray, joined: NDArray) -> Any:
    with np.errstate(invalid="ignore"):
        restored = part.astype(joined.dtype).astype(part.dtype)
    return part.dtype.kind in "iu" and bool((restored != part).any())
