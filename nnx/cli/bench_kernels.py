"""`nnx bench --kernels`: the kernels and matrix products of a step as a table."""

from nnx.bench.kernels import Profile, step_profile
from nnx.bench.suite import Plan
from nnx.cli import show
from nnx.cli.bench_options import checked_dtype, methods, names, networks
from nnx.cli.inputs import integers, typed


def show_kernels(backends: str, sizes: list[str], batch_sizes: str, optimizers: str, dtype: str) -> None:
    """Print the kernels and products of a step of each cell, with their times where there is a GPU."""
    with typed():
        named = names(backends) or ["cupy"]
        plan = Plan(
            named,
            networks(sizes),
            integers("batch-sizes", batch_sizes),
            methods(optimizers),
            checked_dtype(dtype),
        )
        absent: dict[str | None, None] = {}  # each reason once, in order
        for case in plan.cases:
            for name in named:
                found = step_profile(case, name)
                _show(found)
                absent[found.absent] = None
    for reason in absent:
        if reason is not None:
            show.say("GPU", f"none, and so no times: {reason}", fold=False, to=show.output)
    show.output.print(CAPTION + TIMES * (None in absent), soft_wrap=True)


CAPTION = (
    "gemm MxNxK: a product as BLAS has it: sums of K terms, and M results lie side by side in memory. kB: the arrays "
    "that a call reads or writes, each once. All kernels, at least: the bytes of a step whose kernels are fused as far "
    "as possible."
)

TIMES = (
    " µs: the time of the call alone, repeated. At least µs: the time of its bytes at the speed of a large copy, or of "
    "its operations at that of a large product."
)


def _show(found: Profile) -> None:
    show.output.print(str(found), markup=False, highlight=False, soft_wrap=True)
    if found.bytes_per_second is not None and found.flops_per_second is not None:
        copied, multiplied = found.bytes_per_second / 1e9, found.flops_per_second / 1e9
        text = f"{found.device}; a large copy: {copied:,.0f} GB/s; a large product: {multiplied:,.0f} GFLOP/s"
        show.say("GPU", text, fold=False, to=show.output)
