"""
Quantiles, and a mean with its deviation
========================================

One number hides how uncertain it is. The loss ``quantile(0.1,0.5,0.9)`` trains one network for three quantiles, and
``gaussian`` for a mean and a standard deviation, both of which depend on x.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from nnx.sklearn import MLPRegressor

warnings.simplefilter("ignore", ConvergenceWarning)  # max_iter ends these fits

rng = np.random.default_rng(0)
x = rng.uniform(0, 6, 800)
y = np.sin(x) + rng.normal(0, 0.05 + 0.1 * x)  # noise that grows
grid = np.linspace(0, 6, 200)[:, None]

options = {
    "hidden_layer_sizes": (32, 32),
    "activation": "silu",
    "learning_rate_init": 0.01,
    "batch_size": 100,
    "max_iter": 60,
    "tol": 0,
    "random_state": 0,
}
quantiles = MLPRegressor("quantile(0.1,0.5,0.9)", **options).fit(x[:, None], y)
gaussian = MLPRegressor("gaussian", **options).fit(x[:, None], y)

low, middle, high = quantiles.predict(x[:, None]).T
print(f"{((low <= y) & (y <= high)).mean():.0%} of the samples are between the quantiles 0.1 and 0.9")

# %%

figure, both = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="tight")
low, middle, high = quantiles.predict(grid).T
mean, deviation = gaussian.predict(grid, return_std=True)
bands = {
    "quantiles 0.1, 0.5, 0.9": (middle, low, high),
    "mean and 1.28 deviations": (mean, mean - 1.28 * deviation, mean + 1.28 * deviation),
}
for axes, (title, (line, lower, upper)) in zip(both, bands.items(), strict=True):
    axes.plot(x, y, ".", color="C2", ms=3, alpha=0.7)
    axes.fill_between(grid[:, 0], lower, upper, color="C0", alpha=0.3)
    axes.plot(grid[:, 0], line, color="C0", lw=2)
    axes.set(title=title, xlabel="x")
plt.show()
