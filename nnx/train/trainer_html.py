"""A trainer as HTML, for notebooks."""

from html import escape
from typing import Any

from nnx.callbacks.fit import epochs_done
from nnx.port.precision import precision_note
from nnx.port.registry import described


def html_of(trainer: Any) -> str:
    """Return the facts of a trainer, its network, and the curves so far."""
    backend = trainer.backend
    facts = (
        f"{trainer._steps_done} by {trainer.optimizer!r}, in {trainer.dtype} on "
        f"{described(backend).library} ({backend.device}{precision_note(backend.precision)})"
    )
    curves = trainer.history._repr_html_() if epochs_done(trainer) else ""
    return f"<div>{escape(facts)}{trainer.network._repr_html_()}{curves}</div>"
