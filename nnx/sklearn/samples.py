"""The arrays of an estimator, of any library, with samples as rows.

X stays on its device. Only labels and weights pass over the host, which checks them.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from numbers import Number
from typing import Any

import numpy as np
from array_api_compat import device, is_cupy_array, is_jax_array, is_torch_array
from scipy import sparse
from sklearn.base import is_classifier
from sklearn.utils.validation import _check_sample_weight, validate_data

from nnx.array import host
from nnx.array.namespace import Array, Namespace, array_namespace
from nnx.batches import frames
from nnx.errors import BackendError, InputError, first_line, listed, scalar, shown
from nnx.port import registry
from nnx.port.base import Backend
from nnx.port.precision import FLOAT32
from nnx.sklearn import table_inputs

MAX_NUMBERS = 2**20
"""Numbers of the widest layer that a prediction computes at once on the host: more would leave the caches."""


def home(x: Any) -> tuple[str, str] | None:
    """Return the backend and the device that x, an array of a library, lives on; None for whatever is the host's.

    Examples
    --------
    >>> home([1.0]), home(np.ones(3))
    (None, None)
    """
    if isinstance(x, np.ndarray) or not hasattr(x, "__dlpack__"):
        return None
    if is_torch_array(x):
        return "torch", str(x.device)
    if is_cupy_array(x):
        return "cupy", f"cuda:{x.device.id}"
    if is_jax_array(x):
        (first, *_) = x.devices()
        return "jax", "cpu" if first.platform == "cpu" else f"{_cuda(first.platform)}:{first.id}"
    name = _added(array_namespace(x)) if hasattr(x, "__array_namespace__") else None
    return (name, backend(name, str(device(x))).device) if name else None


@lru_cache
def _added(xp: Namespace) -> str | None:
    """Return the name of the backend that another package adds for the library of this namespace, if one does."""
    for name in registry.names():
        if name not in ("numpy", "numba", "cupy", "torch", "jax"):
            with suppress(BackendError):  # one that is not usable here has no arrays
                if backend(name).xp is xp:
                    return name
    return None


def _cuda(platform: str) -> str:
    return "cuda" if platform == "gpu" else platform


backend = lru_cache(registry.backend)
"""`nnx.backend`, asked once for each name, device and precision."""


@lru_cache
def _on_cpu(worth: bool) -> Backend:
    """Return NumPy, or numba where it is installed and worth the compilation; one for all estimators."""
    return registry.choose("auto", "cpu", work=registry.WORTH if worth else 0.0).backend


def backend_for(X: Any, name: str | None, device: str | None, precision: str | None, work: float) -> Backend:
    """Return the backend of this name; None: that of the library and device that X is of, the CPU for the host's.

    `work` is that of a fit (`nnx.port.registry.work`): of it depends which of the CPU's is taken.
    """
    found = home(X)
    if name is not None:
        return backend(name, device, precision)
    if device is not None:
        return backend(found[0] if found else "auto", device, precision)
    if found:
        return backend(*found, precision)
    if precision not in (None, FLOAT32):
        try:
            return backend("auto", "cpu", precision)
        except BackendError as error:
            raise BackendError(
                f"{error}. For a GPU give device='cuda'; arrays on the host stay on the CPU"
            ) from error
    return _on_cpu(work >= registry.WORTH)


def table(estimator: Any, X: Any, reset: bool) -> Any:
    """Return X so that scikit-learn holds the names of its columns against those of the fit: never by position.

    The rule is scikit-learn's own: the same names in the same order. Here the order is held, also for what scikit-learn
    takes without a look at the names: record batches of Arrow, and pandas frames whose names are numbers.

    Raises
    ------
    InputError
        For a dict of columns, for columns of one name, and for the fit's columns in another order.
    """
    found = None if isinstance(X, np.ndarray) or sparse.issparse(X) else frames.frame(X)
    if reset:
        estimator.__dict__.pop("_column_names", None)
    if found is None:
        is_array = any(hasattr(X, one) for one in ("__len__", "__array__", "__dlpack__"))
        if not sparse.issparse(X) and (isinstance(X, set | Mapping) or not is_array):
            raise InputError(f"X must be array-like (m, n), samples as rows; given {shown(X)}")
        return X
    if isinstance(X, dict):
        raise InputError(
            "X is a dict of columns, which has no order; hand in a data frame: pandas.DataFrame(X)"
        )
    names = frames.distinct("X", found.names)
    if reset:
        estimator._column_names = names
    known = getattr(estimator, "_column_names", names)
    if names != known and sorted(names) == sorted(known):
        ordered = (
            "X[list(model.feature_names_in_)]"
            if hasattr(estimator, "feature_names_in_")
            else listed(known, 8)
        )
        raise InputError(
            "The feature names should match those that were passed during fit.\n"
            "Feature names must be in the same order as they were in fit.\n"
            f"Give the columns in that order: {ordered}"
        )
    if frames.library(X) == "pyarrow" and not hasattr(X, "combine_chunks"):
        return sys.modules["pyarrow"].Table.from_batches([X])
    return X


def validated(estimator: Any, X: Any, reset: bool) -> Any:
    """Return X (m, n) for a prediction: of NumPy, sparse, or as it is where it is another library's."""
    X = table(estimator, X, reset)
    if home(X) is not None:
        return on_device(estimator, X, reset)
    if not reset and _is_good(estimator, X):
        return X
    return checked(estimator, X, accept_sparse="csr", dtype=(np.float64, np.float32), reset=reset)


def checked(estimator: Any, X: Any, *y: Any, **options: Any) -> Any:
    """Return what scikit-learn's `validate_data` returns. Its error also names the estimators that take such an X.

    Raises
    ------
    InputError
        When X holds dates, of which NumPy makes no numbers.
    """
    try:
        return validate_data(estimator, X, *y, **options)
    except TypeError as error:
        if dates := table_inputs.dates(X):
            raise dates from error
        raise
    except ValueError as error:
        if not sparse.issparse(X) and any(
            part in str(error) for part in ("Input X contains NaN", "could not convert string")
        ):
            raise ValueError(f"{error}\n{takes_more(estimator)}") from error
        raise


def takes_more(estimator: Any) -> str:
    """Return the name of the estimator of tables for the same task, for a message."""
    name = "TabularClassifier" if is_classifier(estimator) else "TabularRegressor"
    return f"nnx.sklearn.{name} takes missing values, text and categories in X as they are."


def _is_good(estimator: Any, X: Any) -> bool:
    """Whether a look at X tells that `validate_data`, which takes longer than a small network, would return it."""
    fits = (
        type(X) is np.ndarray
        and X.dtype in (np.float64, np.float32)
        and X.ndim == 2
        and X.shape[0] > 0
        and X.shape[1] == estimator.n_features_in_
        and not hasattr(estimator, "feature_names_in_")
    )
    with host.quiet():  # of finite numbers the sum may be infinite: then the other looks closer
        return fits and bool(np.isfinite(X.sum()))


def on_device(estimator: Any, X: Array, reset: bool) -> Array:
    """Return an array of another library than NumPy, checked where it is, of a floating dtype."""
    if X.ndim != 2:
        raise ValueError(f"Expected 2D array, got {X.ndim}D array instead. Reshape your data")
    for axis, what in enumerate(("sample(s)", "feature(s)")):
        if X.shape[axis] == 0:
            raise ValueError(
                f"Found array with 0 {what} (shape={tuple(X.shape)}) while a minimum of 1 is required."
            )
    validate_data(estimator, X, skip_check_array=True, reset=reset)
    xp = array_namespace(X)
    X = X.detach() if hasattr(X, "detach") else X
    if X.dtype not in (xp.float32, xp.float64):
        if not xp.isdtype(X.dtype, ("bool", "integral", "real floating")):
            raise ValueError(f"X holds numbers of dtype {X.dtype}; expected real numbers")
        X = xp.astype(X, xp.asarray(0.0).dtype)  # the library's own choice
    if not host.is_finite(X):
        if bool(xp.any(xp.isnan(X))):
            raise ValueError(f"Input X contains NaN. {takes_more(estimator)}")
        raise ValueError("Input X contains infinity. Replace it, or leave out the samples")
    return X


def dtype_of(X: Any) -> str:
    """Return "float32" or "float64", the dtype of the validated samples."""
    return "float64" if str(X.dtype).endswith("float64") else "float32"


def take(X: Any, rows: Any) -> Any:
    """Return the samples of these numbers, where X is."""
    where = home(X)
    if where is None:
        return X[rows]
    return array_namespace(X).take(X, backend(*where).asarray(rows), axis=0)


def pieces(X: Any, size: int) -> Iterator[Any]:
    """Yield the samples, `size` at a time, as columns: views, but for those of a sparse matrix, which become dense."""
    for start in range(0, X.shape[0], size):
        rows = X[start : min(start + size, X.shape[0]), :]
        yield (rows.toarray() if sparse.issparse(rows) else rows).T


def at_once(backend: Backend, units: int) -> int:
    """Return how many samples a prediction computes at once, of a widest layer of so many units (of all members)."""
    return max(1, (MAX_NUMBERS if backend.device == "cpu" else 16 * MAX_NUMBERS) // units)


def given_back(x: Array, backend: Backend, X: Any) -> Any:
    """Return x, an array of the backend, as one of X's library and device: of NumPy where X is of the host."""
    where = home(X)
    if where == (backend.name, backend.device):
        return x
    x = backend.to_numpy(x)
    return x if where is None else array_namespace(X).asarray(np.array(x), device=device(X))


def weights(sample_weight: Any, m: int) -> Any:
    """Return the weights of m samples as a NumPy array (m,), float64.

    Raises
    ------
    ValueError
        As scikit-learn: for what is no number or not finite, another length, a weight below 0, and weights all 0.
    """
    given = scalar(sample_weight)
    try:
        given = given if isinstance(given, Number) else host.as_host(given)
        found = np.asarray(
            _check_sample_weight(given, np.empty((m, 0)), ensure_non_negative=True), np.float64
        )
    except Exception as error:
        said = str(error).lower()
        if isinstance(error, ValueError) and ("sample_weight" in said or "sample weights" in said):
            raise
        raise InputError(
            f"sample_weight must be numbers, one for each of the {m} samples, or one for all; given "
            f"{shown(sample_weight)}: {first_line(error)}"
        ) from error
    if not found.any():  # scikit-learn before 1.9 lets it pass
        raise InputError("Sample weights must contain at least one non-zero number.")
    return found


def with_length(y: Any, m: int) -> Any:
    """Return y as a NumPy array, or raise a ValueError unless it is of m samples."""
    y = y if sparse.issparse(y) else np.asarray(y)
    if y.shape[:1] != (m,):
        raise ValueError(f"Found input variables with inconsistent numbers of samples: {[m, *y.shape[:1]]}")
    return y
