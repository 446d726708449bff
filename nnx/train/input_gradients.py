"""The derivatives of a trainer's outputs, or of its losses, with respect to X."""

from collections.abc import Callable
from contextlib import closing
from typing import Any

from nnx.array import host
from nnx.array.namespace import Array
from nnx.batches.rows import pair_as_rows
from nnx.errors import InputError, flag, one_of
from nnx.errors.texts import scalar, shape_of
from nnx.metrics.of_stack import beside_members
from nnx.model.input_gradient import selected
from nnx.support.members import for_each_member
from nnx.train.evaluation import Evaluator, held_out, stream_of
from nnx.train.session import Session


class InputGradients(Evaluator):
    """The part of a trainer that differentiates with respect to X."""

    def input_gradient(
        self,
        X: Any,
        Y: Any = None,
        batch_size: int | None = None,
        *,
        output: Any = None,
        of: str = "A",
        rows: bool = False,
    ) -> Any:
        """Return the derivative of an output, or of each sample's loss, by X: see `Network.input_gradient`.

        It is a NumPy array of X's shape (n[0], m), with `rows` (m, n[0]); of one sample (n[0],) it is (n[0],). Of K
        members it has K as its first axis; `ensemble.input_gradient` has the mean's.

        Parameters
        ----------
        X : array-like (n[0], m)
            As in `predict`; with Y no single sample.
        Y : array-like or None
            The targets, as in `fit`: then it is the derivative of each sample's loss.
        batch_size : int or None
            Samples computed at once, as in `predict`.
        output : int, array of int (m,), or None
            The number of the output, from 0; or one for each sample, such as its class: ``trainer.classify(X)``. None:
            the only one.
        of : {"A", "Z"}
            Whether the output is A[L], as `predict` gives it, or Z[L] before the link.
        rows : bool
            Whether samples are rows, as in `fit`.

        Examples
        --------
        >>> import nnx
        >>> trainer = nnx.Trainer(nnx.mlp([3, 1], output="identity"), backend="numpy")
        >>> trainer.parameters = {"W1": [[1, 2, 3]], "b1": [[0.5]]}
        >>> trainer.input_gradient([[5, 0, 1], [0, 1, 0]], rows=True)
        array([[1., 2., 3.],
               [1., 2., 3.]], dtype=float32)
        """
        session, rows = self.session, flag("rows", rows)
        of = one_of("of, what is differentiated,", of, ("A", "Z"))
        if Y is not None:
            if output is not None or of != "A":
                raise InputError(
                    "give Y for the derivative of the loss, or output and of for that of an output"
                )
            dX = _of_losses(session, X, Y, batch_size, rows)
            return host.transposed(dX) if rows else dX
        stream, alone = stream_of(session, X, batch_size, rows)
        dX = _of_outputs(session, stream, _outputs_asked(session, output, stream.m), of)
        return dX[..., 0] if alone else host.transposed(dX) if rows else dX


def _outputs_asked(session: Session, output: Any, m: int) -> Any:
    """Return the number of the output, None, or a NumPy array (m,) of them."""
    k = scalar(output)
    if k is None or isinstance(k, int) or not (shape_of(k) or isinstance(k, list | tuple)):
        return k
    found, n = host.class_indices("output", k), session.network.n[-1]
    if found.shape != (m,) or found.min() < 0 or found.max() >= n:
        raise InputError(
            f"output has shape {found.shape}; expected a number, or {m} of them, one for each sample, from 0 to {n - 1}"
        )
    return found


def _of_outputs(session: Session, stream: Any, output: Any, of: str) -> Any:
    """Return the derivatives (n[0], m), of members (K, n[0], m), of the outputs that are asked for."""
    theta, (asarray, to_numpy) = session.device_theta, (session.backend.asarray, session.backend.to_numpy)
    program, found, start = _compiled(session, of), [], 0
    n = session.network.n[-1]
    with closing(stream.epoch()) as batches:
        for (x, *_), _, _ in batches:
            k, end = output, start + x.shape[-1]
            if shape_of(output):
                k = asarray(host.integers(output[start:end]))
            found.append(host.copy(to_numpy(program(theta, x, selected(k, n, x)))))
            start = end
    return host.concat(found)


def _of_losses(session: Session, X: Any, Y: Any, batch_size: int | None, rows: bool) -> Any:
    """Return the derivatives of each sample's loss."""
    if rows:
        X, Y = pair_as_rows("", X, Y, (session.network.n[0], session.network.n_targets))
    samples = held_out(session, "", X, Y, None, batch_size, resident=False)
    theta, to_numpy = session.device_theta, session.backend.to_numpy
    program = _compiled(session, "loss")
    with closing(samples.epoch()) as batches:
        return host.concat([host.copy(to_numpy(program(theta, x, y))) for (x, y, _), _, _ in batches])


def _compiled(session: Session, of: str) -> Callable[..., Array]:
    """Return the program of the derivative of the outputs A or Z, or of the "loss"."""
    names, known = ("input gradient", of), session.compiled_metrics
    if names not in known:
        network = session.network

        @for_each_member
        def of_output(theta: Array, X: Array, dA: Array) -> Array:
            return network.input_gradient(theta, X, output=dA, of=of)

        @for_each_member
        def of_loss(theta: Array, X: Array, Y: Array) -> Array:
            return network.input_gradient(theta, X, beside_members(Y, None)[0] if theta.ndim > 1 else Y)

        known[names] = None, session.backend.compile(of_loss if of == "loss" else of_output)
    return known[names][1]  # type: ignore[no-any-return]
