"""
Early stopping, dropout and weight decay
========================================

A large network learns 300 samples by heart: the validation's cost rises while the training's falls.
`nnx.EarlyStopping` ends the fit and takes back the best epoch. Penalties and dropout slow the learning by
heart down.
"""

from sklearn.datasets import load_digits

import nnx

X, Y = load_digits(return_X_y=True)
X = X.T / 16
train, unseen = (X[:, :300], Y[:300]), (X[:, 300:900], Y[300:900])


def trained(dropout=0.0, l2=0.0, callbacks=()):
    hidden = [nnx.Dense(128, "relu"), nnx.Dropout(dropout)]
    trainer = nnx.Trainer(
        nnx.Network(64, [*hidden, *hidden, nnx.Dense(10)], output="softmax"),
        nnx.Adam(0.001),
        seed=0,
        regularization=nnx.Regularization(l2=l2),
    )
    trainer.fit(*train, epochs=40, batch_size=32, validation=unseen, callbacks=callbacks)
    return trainer


runs = {
    "nothing": trained(),
    "early stopping": trained(callbacks=nnx.EarlyStopping(patience=5)),
    "dropout 0.4": trained(dropout=0.4),
    "L2 0.01": trained(l2=0.01),
}
for name, trainer in runs.items():
    print(f"{name:15}", trainer.evaluate(*unseen))

# %%

figure = nnx.plots.learning_curves({name: trainer.history for name, trainer in runs.items()})
