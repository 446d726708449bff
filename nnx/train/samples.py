"""Samples as they were handed in, checked for a session and made into batches."""

from dataclasses import dataclass, field
from typing import Any

from nnx.array import host
from nnx.array.namespace import Array
from nnx.batches import Provider, frames
from nnx.batches.provide import provide
from nnx.batches.sample_weights import batch_weights, class_table, fitting, in_range, sample_weights
from nnx.batches.stream import Checks
from nnx.errors import InputError
from nnx.model.outputs.host_targets import checked_targets
from nnx.train.session import Session


def make_batches(
    session: Session,
    whose: str,
    X: Any,
    Y: Any,
    sample_weight: Any = None,
    class_weight: Any = None,
    batch_size: int | None = None,
    rng: Any = None,
    micro_batch: int | None = None,
    steps: int | None = None,
    resident: bool = True,
    learns: bool = False,
) -> Provider:
    """Return the batches of samples: `Batches` of arrays in memory, a `Stream`, or `Iterated` batches.

    Parameters
    ----------
    session : Session
    whose : str
        Stands before X, Y and w in errors, such as "the validation's ".
    X, Y, sample_weight, class_weight, micro_batch, steps
        As of `Trainer.fit`.
    batch_size, rng, resident
        As of `nnx.batches.provide.provide`.
    learns : bool
        Whether the session takes the columns' names of a first table, and trains on the samples: of several ranks each
        has its share of the batches.
    """
    exponents: list[int] = []
    found = provide(
        session.backend,
        X,
        Y,
        sample_weight,
        None if Y is None else batch_size,
        rng,
        micro_batch,
        checks=checks(session, class_weight, learns, batch_size if learns else None, exponents),
        dtype=session.dtype,
        steps=steps,
        resident=resident,
        whose=whose,
        communicator=session.communicator if learns else None,
    )
    found.exponent = exponents[-1] if exponents else 0
    return found


def checks(
    session: Session,
    class_weight: Any = None,
    learns: bool = False,
    batch_size: int | None = None,
    exponents: list[int] | None = None,
) -> Checks:
    """Return the checks of samples, of all or of a part, before they go to the device.

    They may multiply the weights of all samples by a power of two. They add its exponent to `exponents`.
    """
    found = _Checks(session, class_weight, learns, batch_size, [] if exponents is None else exponents)
    return Checks(found.features, found.targets, found.weights, found.weights_of_part, found.columns)


@dataclass
class _Checks:
    session: Session
    class_weight: Any
    learns: bool
    batch_size: int | None
    exponents: list[int]
    _class_table: list[Any] = field(default_factory=list)
    """Made for the first part; empty before."""

    def features(self, name: str, X: Any) -> Array:
        """Return X (n[0], m), finite numbers."""
        X = host.as_numbers(name, X)
        self.session.network.check_features(X, name, rows=True)
        if X.ndim != 2:
            raise InputError(f"{name} has shape {tuple(X.shape)}; expected two axes, (n[0], m)")
        more = ". Replace them, or leave out the samples"
        host.check_finite(name, X, self.session.dtype, "feature {0}, sample {1}", more)
        return X

    def targets(self, name: str, Y: Any, m: int) -> Any:
        """Return Y (n[L], m), or class indices (m,)."""
        network = self.session.network
        return checked_targets(name, Y, network.output, network.n[-1], m, self.session.dtype)

    def weights(self, name: str, w: Any, Y: Any, m: int) -> Any:
        """Return the weights (m,) of all samples, or None."""
        network, dtype = self.session.network, self.session.dtype
        found = sample_weights(w, self.class_weight, Y, network.output, network.n[-1], m)
        absolute = self.session.regularization.per_sample  # the penalty depends on the sum of the weights
        if found is None or absolute:
            return fitting(found, dtype)
        found, exponent = in_range(found, dtype, together=self.batch_size is None or self.batch_size >= m)
        self.exponents.append(exponent)
        return found

    def weights_of_part(self, name: str, w: Any, Y: Any, m: int) -> Any:
        """Return the weights (m,) of a part of the samples, or None."""
        output, n = self.session.network.output, self.session.network.n[-1]
        if not self._class_table:
            self._class_table.append(class_table(self.class_weight, output, n))
        return fitting(batch_weights(w, self._class_table[0], Y, output, n, m), self.session.dtype)

    def columns(self, what: str, name: str, names: list[str]) -> list[str] | None:
        """Return the names of the columns of X or Y to take from a table; None: all as they come."""
        session, names = self.session, frames.distinct(name, names)
        if what == "X":
            if session.features is None and self.learns:
                session.features = names
            return session.features
        if session.targets is None and self.learns and len(names) > 1:
            session.targets = names
        return session.targets
