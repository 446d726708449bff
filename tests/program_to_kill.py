"""The program that tests/test_resume.py kills: it goes on from its checkpoints until it is done.

python program_to_kill.py FOLDER SECONDS: a fit with all that has a memory; it tells each step, and rests SECONDS then.
"""

import sys
import time
from pathlib import Path

import numpy as np

import nnx


class Rest(nnx.Callback):
    def __init__(self, seconds):
        self.seconds = seconds

    def on_fit_start(self, trainer, epochs):
        print("training from step", trainer.steps, flush=True)

    def on_step(self, trainer, progress):
        if self.seconds:
            print("step", trainer.steps, flush=True)
            time.sleep(self.seconds)


def main(folder, seconds):
    rng = np.random.default_rng(1)
    X, labels = rng.standard_normal((6, 90)), rng.integers(0, 3, 90)
    X[0] += labels
    net = nnx.Network(
        6,
        [
            nnx.GaussianNoise(0.05),
            nnx.Dense(16),
            nnx.BatchNorm(),
            nnx.PReLU(),
            nnx.Dropout(0.3),
            nnx.Dense(3),
        ],
        output="softmax",
    )
    schedule = nnx.schedules.Cosine(0.02, steps=150, warmup=10)
    trainer = nnx.Trainer(
        net,
        nnx.AdamW(schedule),
        backend="numpy",
        seed=4,
        regularization=nnx.Regularization(l2=1e-4, clip_norm=1.0),
    )
    average = nnx.MovingAverage(0.95)
    trainer.fit(
        X[:, :70],
        labels[:70],
        epochs=40,
        batch_size=16,
        validation=(X[:, 70:], labels[70:]),
        callbacks=[
            Rest(seconds),
            average,
            nnx.ReduceOnPlateau("validation_loss", factor=0.7, patience=3),
            nnx.EarlyStopping("validation_loss", patience=30),
            nnx.JSONLines(folder / "log.jsonl"),
            nnx.Checkpoints(folder / "checkpoints", steps=3, keep=2, best="validation_loss"),
        ],
        resume=folder / "checkpoints",
    )
    np.save(folder / "average.npy", average.theta)
    trainer.save(folder / "done.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
