"""
A first network: handwritten digits
===================================

A network with two hidden layers reads images of 8 by 8 pixels.
"""

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import nnx

# sphinx_gallery_thumbnail_number = 3

X, Y = load_digits(return_X_y=True)
X_train, X_test, Y_train, Y_test = train_test_split(X / 16, Y, test_size=0.2, stratify=Y, random_state=0)

net = nnx.mlp([64, 128, 64, 10], hidden="relu", output="softmax")
trainer = nnx.Trainer(net, nnx.Adam(0.002), seed=0)
history = trainer.fit(
    X_train,
    Y_train,
    epochs=100,
    batch_size=32,
    rows=True,  # a row is a sample, as in scikit-learn
    validation_split=0.2,
    callbacks=nnx.EarlyStopping(patience=10),
)
print(trainer.stopped)
print(trainer.evaluate(X_test, Y_test, rows=True))

# %%
# The history has a number for each epoch. The dashed line marks the epoch that early stopping kept.

figure = nnx.plots.learning_curves(history)

# %%
# The digits that the network takes for another:

predicted = trainer.classify(X_test, rows=True)
figure = nnx.plots.confusion_matrix(Y_test, predicted, range(10))

# %%
# The weights of the first layer, as images. Each unit looks for its own part of a digit:

figure = nnx.plots.first_layer(trainer.parameters["W1"], (8, 8), most=32)
