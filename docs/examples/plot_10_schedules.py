"""
Schedules of the learning rate
==============================

A schedule changes the learning rate from step to step. Its lengths count steps, or epochs of the fit.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import nnx

EPOCHS, STEPS = 20, 20 * 23  # an epoch has 23 steps of 64 samples
schedules = {
    "constant": nnx.schedules.Constant(0.01),
    "step decay": nnx.schedules.StepDecay(0.01, every=STEPS // 3, decay=0.3),
    "exponential": nnx.schedules.Exponential(0.01, every=STEPS // 2),
    "cosine, warm-up": nnx.schedules.Cosine(0.01, STEPS, warmup=STEPS // 10),
    "one cycle": nnx.schedules.OneCycle(0.01, STEPS),
}

figure, axes = plt.subplots()
t = np.arange(STEPS)
for name, schedule in schedules.items():
    axes.plot(t, 0.01 * np.broadcast_to(schedule.factor(t), t.shape), label=name)
axes.set(xlabel="steps done", ylabel="learning rate")
axes.legend()
plt.show()

# %%
# The same network with each of them. A rate that falls to 0 lets the last epochs settle.

X, Y = load_digits(return_X_y=True)
X = X.T / 16
histories = {}
for name, schedule in schedules.items():
    trainer = nnx.Trainer(nnx.mlp([64, 64, 10], output="softmax"), nnx.Adam(schedule), seed=0)
    histories[name] = trainer.fit(X, Y, epochs=EPOCHS, batch_size=64, validation_split=0.2)
    print(f"{name:16} validation loss {histories[name]['validation_loss'][-1]:.3f}")

# %%

figure = nnx.plots.learning_curves(histories)
