"""How a table's columns become inputs, learned from the training rows alone.

scikit-learn's transformers learn it (`SimpleImputer`, `StandardScaler`, `OneHotEncoder`). A model file holds a few
numbers and lists of each column as JSON, and `nnx.data.encoding` applies them. A transformer of scikit-learn's could
travel only as a pickle, which runs code when it is loaded and binds a model to one version of scikit-learn. So a model
predicts without scikit-learn. It gives the same bits as scikit-learn's transformers, which a test shows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnx.array.host import quiet
from nnx.data.column_checks import remark_on
from nnx.data.columns import Columns
from nnx.data.dates import Dates
from nnx.data.encoding import Column, look_up
from nnx.port.base import require

MOST_CATEGORIES = 100
"""The inputs that a column of categories may become; the rarest ones then share one."""
RARE = 2
"""A category that occurs less often in the training rows shares an input with the others of its kind."""
AT_ONCE = 2**22
"""The numbers that scikit-learn is given at once, as whole columns."""


def learn(columns: Columns) -> tuple[list[Column], list[float], list[float]]:
    """Return the inputs of each column, and the mean and the scale of each input, from the training rows.

    As in scikit-learn:

    - numbers and booleans: ``SimpleImputer(strategy="median", keep_empty_features=True)``, then ``StandardScaler()``;
      beside it, where any is missing, ``MissingIndicator()``, not scaled;
    - text: ``OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=RARE, max_categories=MOST_CATEGORIES)``,
      for which a missing value is a category, too; not scaled.

    Dates become their parts, see `Dates`; a missing one is the median.
    """
    require("sklearn", "cli")
    from sklearn.preprocessing import OneHotEncoder

    found: dict[str, Column] = {}
    scales: dict[str, tuple[list[float], list[float]]] = {}
    names = columns.frame.columns
    numeric = [
        name
        for name, kind in columns.frame.schema.items()
        if kind.is_numeric() or str(kind).startswith(("Boolean", "Null", "Duration"))
    ]
    many = max(1, AT_ONCE // len(columns))
    for start in range(0, len(numeric), many):
        _learn_numbers(columns, numeric[start : start + many], found, scales)
    for name in names:
        if name in found:
            continue
        if columns.frame.schema[name].is_temporal():
            found[name], scales[name] = _learn_dates(columns, name)
            continue
        text = columns.text(name)
        encoder = OneHotEncoder(
            handle_unknown="infrequent_if_exist", min_frequency=RARE, max_categories=MOST_CATEGORIES
        )
        encoder.fit(_objects(text))
        rare = encoder.infrequent_categories_[0]
        rare = [] if rare is None else rare.tolist()
        shared = set(rare)
        kept = [one for one in encoder.categories_[0].tolist() if one not in shared]
        remark = "constant" if len(kept) + len(rare) == 1 else ""
        found[name] = Column(
            "categories", missing=text.null_count(), categories=kept, rare=rare, remark=remark
        )
    mean, scale = [], []
    for name in names:
        own_mean, own_scale = scales.get(name, ([], []))
        rest = len(found[name].inputs(name)) - len(own_mean)
        mean += own_mean + [0.0] * rest
        scale += own_scale + [1.0] * rest
    return [found[name] for name in names], mean, scale


def _learn_numbers(
    columns: Columns,
    names: Sequence[str],
    found: dict[str, Column],
    scales: dict[str, tuple[list[float], list[float]]],
) -> None:
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    table = np.empty((len(columns), len(names)), order="F")
    for j, name in enumerate(names):
        table[:, j] = columns.numbers(name)
    missing = np.isnan(table).sum(axis=0)
    rows = np.arange(columns.frame.height) if columns.rows is None else columns.rows
    remarks = [remark_on(table[:, j], rows) for j in range(len(names))]
    imputer, scaler = SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
    schema = columns.frame.schema
    with quiet():
        scaler.fit(imputer.fit_transform(table))
    for j, name in enumerate(names):
        kind = "boolean" if str(schema[name]) == "Boolean" else "numbers"
        found[name] = Column(kind, float(imputer.statistics_[j]), int(missing[j]), remark=remarks[j])
        scales[name] = [float(scaler.mean_[j])], [float(scaler.scale_[j])]


def _learn_dates(columns: Columns, name: str) -> tuple[Column, tuple[list[float], list[float]]]:
    """Return the inputs of a column of dates, and the means and scales of all but the one for missing dates."""
    is_time = str(columns.frame.schema[name]) == "Time"
    order = columns.orders.get(name, "time" if is_time else "year first")
    moments = columns.moments(name, order)
    missing = np.isnan(moments)
    present = moments[~missing] if not missing.all() else np.zeros(1)
    made = Dates.learn(present, order)
    fill = made.days(float(np.median(present)))
    moments[missing] = made.moment(fill)
    inputs = made.values(moments)
    mean, scale = inputs.mean(axis=0), inputs.std(axis=0)
    unscaled = ~np.array(made.scaled()) | (scale == 0)
    mean[~np.array(made.scaled())], scale[unscaled] = 0, 1
    remark = "constant" if (moments == moments[0]).all() else ""
    column = Column("date", fill, int(missing.sum()), remark=remark, dates=made)
    return column, (mean.tolist(), scale.tolist())


def _objects(text: Any) -> Any:
    """Return text as an array (m, 1) of objects, a value that repeats being one object."""
    values = text.unique(maintain_order=True)
    table = np.array(values.to_list(), dtype=object)
    places = dict(zip(values.to_list(), range(len(values)), strict=True))
    of_missing = places.pop(None, -1)
    codes = look_up(text, places, of_missing, of_missing)
    return table[codes][:, None]
