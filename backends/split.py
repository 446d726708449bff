"""What of a recording threads can do, each with a part of the samples or of the rows, before they need each other."""

from nnx.recording import Group, Op, Recording, RecordingError, Value

ROWS, SAMPLES = 0, 1
"""The axes that are cut."""


class Split:
    """How the operations of a recording are shared out.

    Parameters
    ----------
    recording : Recording
        With samples as the columns of what it is given.

    Raises
    ------
    RecordingError
        When what it is given has no samples, or of several numbers.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        found = {x.shape[1] for x in recording.inputs if x.ndim == 2}
        if len(found) != 1:
            raise RecordingError(f"samples of {len(found)} numbers")
        (self.m,) = found
        self.whole = {
            recording.base(x)
            for op in recording.ops
            if op.kind != "view" and (way := self.way(op)) is not None
            for x in op.reads
            if x not in self.cut(op, way)
        }
        """What a thread reads beyond its own share."""

    def way(self, op: Op) -> int | None:
        """Return the axis that is cut; None: one thread does it."""
        arrays = (*op.reads, op.out)
        if op.out.ndim != 2 or not {x.ndim for x in arrays} <= {0, 2}:
            return None
        whose = SAMPLES if op.out.shape[1] == self.m else ROWS
        if op.kind == "matmul":
            if {x.dtype for x in arrays} not in ({"float32"}, {"float64"}):
                return None
            turned = any(view.name == "permute" for view in self._recording.views(op.reads[-1]))
            return ROWS if turned else whose  # dZ A^T is a sum over the samples
        if op.kind == "elementwise":
            return whose
        if op.kind == "reduction" and op.option("axes") == (1,):
            return ROWS
        down = op.kind == "reduction" and op.option("axes") == (0,)
        return SAMPLES if down and whose == SAMPLES else None

    def cut(self, op: Op, axis: int) -> set[Value]:
        """Return those of the operation's arrays of which each thread needs its share only."""
        if op.kind == "matmul":
            return {op.out, (op.reads * 2)[axis]}
        size = op.out.shape[axis]
        return {x for x in (*op.reads, op.out) if x.ndim and x.shape[axis] == size}

    def sorted(self) -> Recording:
        """Return the recording with what is shared out in one way on end, as far as it goes."""
        place: dict[Value, tuple[int, int]] = {}
        for op in self._recording.ops:
            if op.kind == "view":
                place[op.out] = place.get(op.reads[0], (0, 0))
                continue
            way = self.way(op)
            kind = 0 if way is None else 2 - way  # in one turn: by one thread, by samples, by rows
            turn = 0
            for x in op.reads:
                before, other = place.get(self._recording.base(x), (0, 0))
                later = other > kind or (other == kind and not self._is_own(op, x, way))
                turn = max(turn, before + later)
            place[op.out] = turn, kind
        ops = tuple(sorted(self._recording.ops, key=lambda op: place[op.out]))
        return Recording(self._recording.inputs, ops, self._recording.arguments, self._recording.result)

    def _is_own(self, op: Op, x: Value, way: int | None) -> bool:
        """Whether what a thread reads there, made in the same way, it has made itself."""
        if way is None:
            return True
        return (
            way == SAMPLES
            and x == self._recording.base(x)
            and x in self.cut(op, way)
            and not (op.kind == "matmul" and x == op.reads[0])
        )

    def joined(self, groups: list[Group]) -> list[Group]:
        """Return the groups with those as one that the threads do without meeting."""
        found: list[Group] = []
        made: set[Value] = set()
        last: int | None = None
        for group in groups:
            op = group.ops[0]
            way = self.way(op) if group.space is None else None
            reads = [x for x in op.reads if self._recording.base(x) in made]
            if way is not None and way == last and all(self._is_own(op, x, way) for x in reads):
                found[-1] = Group((*found[-1].ops, op), None, frozenset())
            else:
                found.append(group)
                made, last = set(), way
            made.add(op.out)
        return found
