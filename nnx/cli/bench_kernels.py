"""`nnx bench --kernels`: the kernels and matrix products of a step as a table."""

from pathlib import Path

from nnx.bench.kernels import Profile, step_profile
from nnx.bench.suite import Plan
from nnx.cli import show
from nnx.cli.bench_options import checked_dtype, methods, names, networks
from nnx.cli.inputs import UsageError, integers, typed


def show_kernels(
    backends: str, sizes: list[str], batch_sizes: str, optimizers: str, dtype: str, out: Path | None
) -> None:
    """Print the kernels and products of a step of each cell, with their times where there is a GPU."""
    if out is not None:
        raise UsageError("--kernels prints a table and writes no file; leave out --out")
    with typed():
        named = names(backends) or ["cupy"]
        plan = Plan(
            named,
            networks(sizes),
            integers("batch-sizes", batch_sizes),
            methods(optimizers),
            checked_dtype(dtype),
        )
        for case in plan.cases:
            for name in named:
                _show(step_profile(case, name))
    show.output.print(
        "kB: the arrays that a call reads or writes, each once. µs: the time of the call alone, repeated. At least µs: "
        "the time of its bytes at the speed of a large copy, or of its operations at that of a large product. "
        "All kernels, at least: the bytes of a step whose kernels are fused as far as possible.",
        soft_wrap=True,
    )


def _show(found: Profile) -> None:
    show.output.print(str(found), markup=False, highlight=False, soft_wrap=True)
    if found.bytes_per_second is None or found.flops_per_second is None:
        text = f"none, and so no times: {found.absent}"
    else:
        copied, multiplied = found.bytes_per_second / 1e9, found.flops_per_second / 1e9
        text = f"{found.device}; a large copy: {copied:,.0f} GB/s; a large product: {multiplied:,.0f} GFLOP/s"
    show.say("GPU", text, fold=False, to=show.output)
