"""
A decision boundary
===================

Logistic regression divides the plane by a line. Two hidden layers find the petals of a flower.
"""

import nnx
from nnx.data import flower

X, Y = flower(400)  # X (2, 400): a column is a sample


def trained(sizes):
    trainer = nnx.Trainer(nnx.mlp(sizes, hidden="tanh", output="sigmoid"), nnx.Adam(0.01), seed=0)
    trainer.fit(X, Y, epochs=200, batch_size=64)
    return trainer


deep, line = trained([2, 32, 32, 1]), trained([2, 1])
for name, trainer in {"two hidden layers": deep, "logistic regression": line}.items():
    print(f"{name:20} accuracy {trainer.evaluate(X, Y)['accuracy']:.3f}")

# %%

figure = nnx.plots.decision_boundary(deep.predict, X, Y, title="2-32-32-1")

# %%

figure = nnx.plots.decision_boundary(line.predict, X, Y, title="2-1")
