"""
In place of scikit-learn's MLP
==============================

Change one import. The same ``random_state`` gives the same first weights, the same batches and the same
results, to rounding.
"""

import matplotlib.pyplot as plt
import numpy as np
import sklearn.neural_network
from sklearn.datasets import load_breast_cancer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nnx.sklearn

X, y = load_breast_cancer(return_X_y=True)
options = {"hidden_layer_sizes": (32,), "max_iter": 300, "early_stopping": True, "random_state": 0}


def fitted(module):
    return make_pipeline(StandardScaler(), module.MLPClassifier(**options)).fit(X, y)[-1]


theirs, ours = fitted(sklearn.neural_network), fitted(nnx.sklearn)
print("epochs              ", theirs.n_iter_, ours.n_iter_)
print("scores of validation", theirs.best_validation_score_, ours.best_validation_score_)
print("the same weights    ", all(map(np.allclose, theirs.coefs_, ours.coefs_)))

# %%

figure, axes = plt.subplots()
axes.plot(theirs.loss_curve_, lw=5, alpha=0.4, label="sklearn.neural_network.MLPClassifier")
axes.plot(ours.loss_curve_, lw=1.5, label="nnx.sklearn.MLPClassifier")
axes.set(xlabel="epoch", ylabel="loss", yscale="log")
axes.legend()
plt.show()
