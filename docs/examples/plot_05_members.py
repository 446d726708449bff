"""
Eight networks beside one
=========================

``members=8`` trains eight networks at once, each from its own seed. Their mean is smoother than one of them,
and they differ where there were no samples.
"""

import matplotlib.pyplot as plt
import numpy as np

import nnx

rng = np.random.default_rng(0)
x = rng.uniform(-3, 3, 120)
x = x[(x < 0.2) | (x > 1.6)]  # no samples between
y = np.sin(2 * x) + 0.3 * x + rng.normal(0, 0.15, x.size)

trainer = nnx.Trainer(
    nnx.mlp([1, 64, 64, 1], hidden="tanh", output="identity"), nnx.Adam(0.005), seed=0, members=8
)
trainer.fit(x[None, :], y, epochs=300, batch_size=32)

grid = np.linspace(-4.5, 4.5, 300)[None, :]
each = trainer.predict(grid)  # (8, 1, 300)
mean, spread = trainer.ensemble.predict_with_spread(grid)

# %%

figure, axes = plt.subplots()
axes.plot(grid[0], each[:, 0].T, lw=0.6, color="C1", alpha=0.7)
axes.plot(grid[0], mean[0], color="C0", lw=2, label="the mean of eight")
axes.fill_between(grid[0], (mean - 2 * spread)[0], (mean + 2 * spread)[0], color="C0", alpha=0.2)
axes.plot(x, y, ".", color="C2", ms=5, label="samples")
axes.set(xlabel="x", ylabel="y", ylim=(-2.5, 2))
axes.legend()
plt.show()
