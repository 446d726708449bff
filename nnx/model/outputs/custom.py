"""A loss of one's own in a network: its output, and the check of its derivative."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from nnx.array.namespace import Array, array_namespace
from nnx.compiler import TraceError
from nnx.errors import InputError, first_line
from nnx.model import custom
from nnx.model.outputs.base import Output
from nnx.model.outputs.loss import Loss
from nnx.model.outputs.losses import Function

OWN: dict[str, Loss] = {}
"""Every loss that was registered, by its name."""


@cache  # one loss is one output
def with_own(link: Output, given: Loss) -> Output:
    """Return the output with this link and a loss of one's own."""

    def loss(Z: Array, Y: Array) -> Array:
        each = given.loss(Z if given.of == "Z" else link.link(Z), Y)
        return array_namespace(Z).sum(each, axis=-2) if each.ndim == Z.ndim else each

    def derivative(Z: Array, Y: Array) -> Array:
        if given.of == "Z":
            return given.slope(Z, Y)
        A = link.link(Z)
        return through_link(link, A, given.slope(A, Y))

    return replace(link, spec=given.name, loss_name=given.name, loss=loss, derivative=derivative, own=given)


def _through_softmax(A: Array, dA: Array) -> Array:
    return A * (dA - array_namespace(A).sum(A * dA, axis=-2, keepdims=True))


_THROUGH: dict[str, Callable[[Array, Array], Array]] = {
    "identity": lambda A, dA: dA,
    "sigmoid": lambda A, dA: dA * (A * (1 - A)),
    "softmax": _through_softmax,
    "exp": lambda A, dA: dA * A,
}
"""A, dA -> dZ of each link."""


def through_link(output: Output, A: Array, dA: Array) -> Array:
    """Return dZ[L] (..., n[L], m) from A[L] and dA[L]: the backward of the output's link."""
    return _THROUGH[output.name](A, dA)


_HINT = ". nnx takes the mean over the samples itself"


@cache
def check_own(output: Output, given: Loss, n: int) -> None:
    """Raise an InputError if a loss of one's own cannot be used with n outputs, or its derivative is wrong."""
    what = f"the loss {given.name!r}:"
    Z, Y = custom.neighbours(custom.draws(n, 16, 3.0)), some_targets(output, n)
    xp = array_namespace(Z)
    A, Y = Z if given.of == "Z" else output.link(Z), xp.concat([Y, Y], axis=-1)
    shapes = A.shape, A.shape[1:]
    with custom.quiet():
        for name, function, expected in (
            ("loss", given.loss, shapes),
            ("derivative", given.slope, shapes[:1]),
        ):
            if function is given.loss or given.derivative is not None:
                custom.check_portable(f"{what} {name}", function, custom.single(A), custom.single(Y))
            else:
                _check_derived(what, function, A, Y)
            for a, y in ((A, Y), (custom.single(A), custom.single(Y))):
                custom.check_array(f"{what} {name}", function(a, y), a, expected, _HINT)
            _check_stack(f"{what} {name}", function, A, Y)
        if not given.check:
            return
        found = given.slope(A, Y)

        def each(x: Array) -> Array:
            value = given.loss(x, Y)
            return xp.sum(value, axis=0) if value.ndim == 2 else value

        for k in range(n)[:: n // 8 + 1]:
            row = xp.astype(xp.arange(n) == k, A.dtype)[:, None]
            slope = custom.slope(each, A, custom.STEP * row)
            at = custom.wrong(found[k, :], slope, A[k, :])
            if at is not None:
                place = f"{given.of.lower()} = {A[k, at]:.6g}, y = {Y[k, at]:.6g}"
                place += f" (output {k} of {n})" if n > 1 else ""
                raise InputError(
                    f"{what} derivative gives {found[k, at]:.6g} at {place}, where the loss changes by {slope[at]:.6g} "
                    f"(central differences). It must be ∂loss/∂{given.of} of each output, without the mean over the "
                    "samples, which nnx takes. check=False takes it as it is"
                )


def _check_stack(what: str, function: Function, A: Array, Y: Array) -> None:
    """Raise an InputError unless a function gives for two networks at once what it gives for each alone."""
    xp = array_namespace(A)
    two = [(A, Y), (xp.flip(A, axis=-1), xp.flip(Y, axis=-1))]
    expected = xp.stack([function(a, y) for a, y in two])
    try:
        found = function(*(xp.stack(each) for each in zip(*two, strict=True)))
        problem = "" if found.shape == expected.shape else f"the shape {found.shape}, not {expected.shape}"
        if not problem and custom.far(found, expected).any():
            problem = "other numbers than for each of them"
    except Exception as error:  # of a function that a user wrote
        problem = f"the error {first_line(error)}"
    if problem:
        raise InputError(
            f"{what} must work for several networks at once, (K, n, m); for A and Y of 2 networks it gives {problem}. "
            "Index from the last two axes: use axis -2 for the outputs in place of 0, and axis -1 for the samples"
        )


def _check_derived(what: str, derivative: Function, A: Array, Y: Array) -> None:
    """Raise an InputError if nnx cannot derive the derivative of a loss."""
    try:
        derivative(A, Y)
    except TraceError as error:
        raise InputError(
            f"{what} nnx cannot derive its derivative: {first_line(error)}. Give it: nnx.Loss(name, loss, derivative)"
        ) from error


def check_saved(output: Output) -> None:
    """Raise an InputError if a model file could not name the loss of an output."""
    if output.own is not None and not custom.has_name(output.own.name):
        raise custom.not_named("loss", output.own.loss)


def some_targets(output: Output, n: int, m: int = 16) -> Array:
    """Return targets (n, m) of n outputs, or (n / `Output.per_target`, m), always the same."""
    Y = custom.draws(n // output.per_target, m, 3.0, seed=1)
    xp = array_namespace(Y)
    if output.exclusive:
        return xp.astype(xp.max(Y, axis=0, keepdims=True) == Y, Y.dtype)
    if output.classes:
        return xp.astype(Y > 0, Y.dtype)
    return xp.floor(xp.abs(Y)) if output.lowest == 0 else Y
