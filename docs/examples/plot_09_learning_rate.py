"""
A search for the learning rate
==============================

`nnx.find_learning_rate` raises the rate from step to step on a copy of the trainer. It suggests the rate at
which the cost falls fastest. That rate is high: try a third of it, too.
"""

from sklearn.datasets import load_digits

import nnx
from nnx.plots.rates import learning_rates

X, Y = load_digits(return_X_y=True)
X = X.T / 16
net = nnx.mlp([64, 64, 32, 10], hidden="relu", output="softmax")

search = nnx.find_learning_rate(nnx.Trainer(net, nnx.Adam(), seed=0), X, Y, batch_size=64)
print(search)
figure = learning_rates(search.rates, search.costs, search.smoothed, search.suggestion, (0, 3))

# %%
# Fits with that rate, a third of it, a hundredth of it and ten times as much, for 15 epochs each:

runs = {}
for factor in (0.01, 1 / 3, 1, 10):
    rate = search.suggestion * factor
    trainer = nnx.Trainer(net, nnx.Adam(rate), seed=0)
    runs[f"{rate:.2g}"] = trainer.fit(X, Y, epochs=15, batch_size=64, validation_split=0.2)
figure = nnx.plots.learning_curves(runs)
