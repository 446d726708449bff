"""The members of a trainer as one predictor: the mean of their predictions, or of a selection of them."""

import math
from collections.abc import Sequence
from contextlib import closing
from typing import Any, NoReturn

from nnx.array import host
from nnx.array.namespace import Array
from nnx.batches.rows import pair_as_rows
from nnx.callbacks.monitor import best_is
from nnx.errors import InputError, positive_int
from nnx.model.outputs.base import Output, mean_loss
from nnx.model.outputs.targets import targets
from nnx.train.evaluation import check_metrics, classes_of, find_metrics, held_out


class Ensemble:
    """The mean of K members' predictions: `nnx.Trainer.ensemble`.

    The members are taken as they are when a method is called. Those that diverged in their last fit are left out, and
    those that were not trained, as a fit in rounds ended before their first. If no other is left, those stay that
    diverged and whose best epoch early stopping has restored.

    Of the output "gaussian" the rows s, the logarithms of the variances, are averaged too. The variance of the members'
    mixture is larger, where their means a differ: the mean of e^s and the variance of a.

    Parameters
    ----------
    trainer : Trainer
        With members.

    Examples
    --------
    >>> import numpy as np
    >>> import nnx
    >>> X = np.random.default_rng(0).standard_normal((2, 200))
    >>> Y = X[0] * X[1]
    >>> trainer = nnx.Trainer(nnx.mlp([2, 16, 1], output="identity"), nnx.Adam(0.02), "numpy", members=4)
    >>> history = trainer.fit(X, Y, epochs=50, batch_size=50)
    >>> trainer.ensemble.predict(X).shape
    (1, 200)
    >>> bool(trainer.ensemble.evaluate(X, Y)["loss"] < trainer.evaluate(X, Y)["loss"].mean())
    True
    """

    def __init__(self, trainer: Any) -> None:
        if not trainer.each:
            raise InputError("this trainer has one network, and no members; give members=K")
        self._trainer = trainer

    @property
    def _session(self) -> Any:
        return self._trainer.session

    @property
    def weights(self) -> list[float]:
        """The share of each member in the mean: the same, that which `select` found, or that which you set.

        It is 0 of those that are left out. Setting a share above 0 takes back in a member that was left out.
        """
        session = self._session
        shares: list[float] = session.selection or [1 / session.K] * session.K
        if not (left_out := session.left_out):
            return [*shares]
        found = [0.0 if k in left_out else share for k, share in enumerate(shares)]
        total = sum(found) or 1.0
        return [share / total for share in found]

    @weights.setter
    def weights(self, weights: Any) -> None:
        found, K = host.numbers("weights", weights, "float64"), self._session.K
        if found.shape != (K,) or (found < 0).any() or not found.any():
            raise InputError(
                f"weights must be {K} numbers >= 0, one for each member, some of them above 0; given "
                f"an array of shape {found.shape}"
            )
        self._session.selection = shares = (found / found.sum()).tolist()
        for session, share in zip(self._session.members, shares, strict=True):
            if share:
                session.failure, session.untrained = None, False

    def __repr__(self) -> str:
        K, which = self._session.K, self._session.said_of_left_out()
        used, gone = sum(share > 0 for share in self.weights), f"; {which}" if which else ""
        return f"<Ensemble: mean of {used} of {K} members of {self._session.network!r}{gone}>"

    def predict(self, X: Any, batch_size: int | None = None, *, rows: bool = False) -> Any:
        """Return the mean of the members' A[L]: see `Trainer.predict`."""
        return self._mean(self._members(X, batch_size, rows))

    def classify(self, X: Any, batch_size: int | None = None, *, rows: bool = False) -> Any:
        """Return the classes by the mean of the members' A[L]: see `Trainer.classify`."""
        return classes_of(self._session, self._mean, X, batch_size, rows)

    def spread(self, X: Any, batch_size: int | None = None, *, rows: bool = False) -> Any:
        """Return the standard deviation of the members' A[L] around their mean, of the shape of `predict`."""
        return self.predict_with_spread(X, batch_size, rows=rows)[1]

    def predict_with_spread(
        self, X: Any, batch_size: int | None = None, *, rows: bool = False
    ) -> tuple[Any, Any]:
        """Return the results of `predict` and of `spread`, for which the members predict once."""
        A = self._members(X, batch_size, rows)
        mean = self._mean(A)
        return mean, self._mean((A - mean) ** 2) ** 0.5

    def input_gradient(
        self, X: Any, batch_size: int | None = None, *, output: Any = None, rows: bool = False
    ) -> Any:
        """Return the derivative of an output of the mean by X (n[0], m): see `Trainer.input_gradient`.

        It is the mean of the members' derivatives, with the `weights` of `predict`.
        """
        return self._mean(self._trainer.input_gradient(X, None, batch_size, output=output, rows=rows))

    def evaluate(
        self,
        X: Any,
        Y: Any,
        *,
        sample_weight: Any = None,
        metrics: Sequence[Any] | None = None,
        rows: bool = False,
    ) -> dict[str, Any]:
        """Return the loss and the metrics of the mean: see `Trainer.evaluate`."""
        A, Y, w, wanted = self._outputs(X, Y, sample_weight, metrics, rows)
        return measured(self._output, self._mean(A), Y, w, wanted)

    def select(
        self,
        X: Any,
        Y: Any,
        metric: Any = "loss",
        rounds: int | None = None,
        *,
        sample_weight: Any = None,
        rows: bool = False,
    ) -> list[float]:
        """Choose members by samples that they have not seen; return their weights, with which it predicts from now on.

        Each round adds the member that makes the mean best, again and again (Caruana et al., 2004,
        https://doi.org/10.1145/1015330.1015432, section 2.1, with replacement). The weights are those of the best
        round. Of several members that are as good, the first is taken. A member that has diverged is not.

        Parameters
        ----------
        X, Y, sample_weight, rows
            As of `evaluate`.
        metric : str or metric
            "loss", or a metric that is a number; for one of your own less is better.
        rounds : int or None
            None: 2 K.
        """
        K, left_out = self._session.K, self._session.left_out
        candidates = [k for k in range(K) if k not in left_out] or self._raise_none_left()
        rounds = 2 * K if rounds is None else positive_int("rounds", rounds)
        is_loss = isinstance(metric, str) and metric == "loss"
        A, Y, w, wanted = self._outputs(X, Y, sample_weight, [] if is_loss else [metric], rows)
        name = "loss" if is_loss else wanted[0].name
        sign = 1.0 if best_is(name, "min") == "min" else -1.0

        def scores_of(means: Array) -> list[float]:
            """Return the score of each of (K, n[L], m), less is better."""
            if is_loss:
                found = [*losses(self._output, means, Y, w)]
            else:
                found = [measured(self._output, mean, Y, w, wanted)[name] for mean in means]
            return [sign * float(x) if math.isfinite(x) else math.inf for x in found]

        counts, best, chosen, total = [0] * K, math.inf, [0] * K, 0.0
        for n in range(1, rounds + 1):
            scores = scores_of((total + A) / n)
            k = min(candidates, key=scores.__getitem__)
            counts[k] += 1
            total = total + A[k, ...]
            if scores[k] < best:
                best, chosen = scores[k], [*counts]
        if not any(chosen):
            raise InputError(
                f"{name} of the mean is no finite number with any of the members; choose another metric"
            )
        self.weights = chosen
        found: list[float] = self.weights
        return found

    def _raise_none_left(self) -> NoReturn:
        session, first = self._session, next(filter(None, self._session.errors), None)
        why = f". The first: {first}" if first else ""
        raise InputError(
            f"the ensemble has no member left: {session.said_of_left_out()}. Train again, or set "
            f"the trainer's ensemble.weights{why}"
        )

    @property
    def _output(self) -> Output:
        output: Output = self._session.network.output
        return output

    def _members(self, X: Any, batch_size: int | None, rows: bool) -> Any:
        return self._trainer.predict(X, batch_size, rows=rows)

    def _mean(self, A: Array) -> Array:
        """Return the mean over the first axis."""
        total, weights = 0.0, self.weights
        if not any(weights):
            self._raise_none_left()
        for weight, own in zip(weights, A, strict=True):
            if weight:  # the predictions of a member that is left out may be infinite
                total = total + weight * own
        return total

    def _outputs(
        self, X: Any, Y: Any, sample_weight: Any, metrics: Any, rows: bool
    ) -> tuple[Any, Any, Any, Any]:
        """Return the members' A (K, n[L], m) in float64, Y and the weights on the host, and the metrics."""
        session = self._session
        wanted = find_metrics(session, metrics)
        X, Y = pair_as_rows("", X, Y, (session.network.n[0], session.network.n_targets)) if rows else (X, Y)
        samples = held_out(session, "", X, Y, sample_weight, resident=False)
        found: list[list[Any]] = [[], [], []]
        theta, to_numpy = session.device_theta, session.backend.to_numpy
        with closing(samples.epoch()) as batches:
            for (x, y, w), _, _ in batches:
                if not x.shape[-1]:
                    continue  # its weights are all 0
                check_metrics(session, wanted, (x, y, w))
                found[0].append(host.as_dtype(to_numpy(session.forward(theta, x)), "float64"))
                found[1].append(host.copy(to_numpy(y)))
                if w is not None:
                    found[2].append(host.as_dtype(to_numpy(w), "float64"))
        if not found[0]:
            raise InputError(
                "the weights of all samples are 0: there is no mean of their losses; leave out the weights"
            )
        return (
            host.concat(found[0]),
            host.concat(found[1]),
            host.concat(found[2]) if found[2] else None,
            wanted,
        )


def measured(output: Output, A: Array, Y: Array, w: Array | None, metrics: Sequence[Any]) -> dict[str, Any]:
    """Return the loss and the metrics of predictions A (n[L], m) on the host."""
    found: dict[str, Any] = {"loss": float(losses(output, A, Y, w))}
    with host.quiet():
        for one in metrics:
            found[one.name] = one.result([one.partial(output, A, Y, w)], host.as_host)
    return found


def losses(output: Output, A: Array, Y: Array, w: Array | None) -> Any:
    """Return J (...,) of predictions A (..., n[L], m) on the host."""
    with host.quiet():
        Z = output.inverse(A)
        return mean_loss(output, Z, targets(output, Z, Y), w)[0]
