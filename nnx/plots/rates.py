"""The search for the learning rate."""

from collections.abc import Sequence
from typing import Any

from nnx.plots.figure import figure
from nnx.plots.style import INK, colour, drawing


def learning_rates(
    rates: Sequence[float],
    costs: Sequence[float],
    smoothed: Sequence[float],
    suggestion: float,
    limits: tuple[float, float],
) -> Any:
    """Draw the costs over the rates, with the suggestion, for `RateSearch.plot`.

    Parameters
    ----------
    rates, costs, smoothed, suggestion
        As `nnx.RateSearch` has them.
    limits : tuple of two float
        The costs between which it is worth looking.

    Returns
    -------
    matplotlib.figure.Figure
    """
    low, high = limits
    with drawing():
        made = figure(6, 3.6)
        axis = made.subplots()
        axis.plot(rates, costs, color=INK, lw=0.6, label="cost J")
        axis.plot(rates, smoothed, color=colour(0), label="smoothed")
        axis.axvline(suggestion, color=colour(1), linestyle="--", label=f"suggestion {suggestion:.2g}")
        axis.set(xscale="log", xlabel="learning rate", ylabel="cost J")
        axis.set_ylim(low - 0.05 * (high - low), high + 0.3 * (high - low))
        axis.grid()
        axis.legend()
    return made
