"""
The pixels that a class depends on
==================================

`Trainer.input_gradient` returns the derivative of an output by the inputs. Where its size is large, a small
change of the pixel changes the score of the class most.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import nnx

X, Y = load_digits(return_X_y=True)
X = X.T / 16
net = nnx.Network(64, [nnx.GaussianNoise(0.2), nnx.Dense(128, "silu"), nnx.Dense(10)], output="softmax")
trainer = nnx.Trainer(net, nnx.Adam(0.003), seed=0)
trainer.fit(X, Y, epochs=40, batch_size=64)

# %%
# The derivative of Z[L], the score of the predicted class before the softmax, for one sample of each digit:

first = np.array([np.flatnonzero(Y == digit)[0] for digit in range(10)])
samples = X[:, first]
gradient = trainer.input_gradient(samples, output=trainer.classify(samples), of="Z")  # (64, 10)

figure, axes = plt.subplots(2, 10, figsize=(9, 2.2), layout="tight")
for k in range(10):
    axes[0, k].imshow(samples[:, k].reshape(8, 8), cmap="Greys")
    axes[1, k].imshow(np.abs(gradient[:, k]).reshape(8, 8), cmap="inferno")
for axis in axes.flat:
    axis.set_axis_off()
plt.show()

# %%
# The mean of the derivatives over all samples of a digit. Brown pixels speak against the digit, purple ones for it:

figure, axes = plt.subplots(1, 10, figsize=(9, 1.2), layout="tight")
for digit, axis in enumerate(axes):
    mean = trainer.input_gradient(X[:, digit == Y], output=digit, of="Z").mean(axis=1)
    axis.imshow(mean.reshape(8, 8), cmap="PuOr_r", vmin=-np.abs(mean).max(), vmax=np.abs(mean).max())
    axis.set_axis_off()
plt.show()
