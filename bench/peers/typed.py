"""The notes' formulas typed in NumPy."""

from typing import Any

import numpy

from nnx.bench.case import Case, Data
from nnx.bench.clocks import wall
from nnx.bench.contestant import Contestant, only


def contestant(case: Case, data: Data, np: Any = numpy) -> Contestant:
    """Return the contestant; `np` may be a library with NumPy's functions."""
    only(case, "gradient_descent", "adam")
    L, m, alpha = len(case.sizes) - 1, case.m, case.learning_rate
    X, params = np.asarray(data.X).T, {name: np.asarray(p) for name, p in case.start().items()}
    y = np.asarray(data.y)
    Y = (y == np.arange(case.classes)[:, None] if case.sizes[-1] > 1 else y[None]).astype(X.dtype)
    rng = np.random.default_rng(case.seed) if np is numpy else np.random
    first = {name: np.zeros_like(p) for name, p in params.items()}
    second = {name: np.zeros_like(p) for name, p in params.items()}
    t = 0

    def loss_and_gradients(X: Any, Y: Any) -> Any:
        A = [X]
        for l in range(1, L + 1):
            Z = params[f"W{l}"] @ A[-1] + params[f"b{l}"]
            if l < L:
                A.append(np.maximum(Z, 0))
        if case.sizes[-1] > 1:  # softmax with cross-entropy
            Z = Z - Z.max(axis=0)
            e = np.exp(Z)
            total = e.sum(axis=0)
            J = np.mean(np.log(total) - (Y * Z).sum(axis=0))
            A.append(e / total)
        else:  # sigmoid with binary cross-entropy
            J = np.mean(np.logaddexp(0, Z) - Y * Z)
            A.append(1 / (1 + np.exp(-Z)))
        dZ = (A[L] - Y) / m
        grads = {}
        for l in range(L, 0, -1):
            grads[f"W{l}"] = dZ @ A[l - 1].T
            grads[f"b{l}"] = dZ.sum(axis=1, keepdims=True)
            if l > 1:
                dZ = (params[f"W{l}"].T @ dZ) * (A[l - 1] > 0)
        return J, grads

    def update(grads: Any) -> None:
        nonlocal t
        t += 1
        for name, g in grads.items():
            if case.optimizer == "gradient_descent":
                params[name] -= alpha * g
                continue
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.999 * second[name] + 0.001 * g**2
            m_hat = first[name] / (1 - 0.9**t)
            v_hat = second[name] / (1 - 0.999**t)
            params[name] -= alpha * m_hat / (np.sqrt(v_hat) + 1e-8)

    def epoch() -> float:
        order = rng.permutation(case.M) if case.shuffled else None
        costs = []
        for place in case.places():
            pick = place if order is None else order[place]
            J, grads = loss_and_gradients(X[:, pick], Y[:, pick])
            update(grads)
            costs.append(J)
        return float(sum(costs) / case.steps)

    return Contestant(epoch, wall(), lambda: dict(params), f"numpy {numpy.__version__}")
