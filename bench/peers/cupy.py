"""The notes' formulas typed in CuPy: the text of typed.py, on a GPU."""

from nnx.bench.case import Case, Data
from nnx.bench.clocks import cupy_events
from nnx.bench.contestant import Absent, Contestant, library
from nnx.bench.memory import cupy_peak
from nnx.bench.peers import typed
from nnx.errors import first_line


def contestant(case: Case, data: Data) -> Contestant:
    """Return the contestant."""
    cupy = library("cupy", "cuda13")
    try:
        cupy.asnumpy(cupy.ones((2, 2)) @ cupy.ones((2, 2)))
        name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    except Exception as error:  # CUDA's, NVRTC's and the loader's errors have no common base
        raise Absent(f"CuPy cannot compute on a GPU here ({first_line(error)})") from error
    made = typed.contestant(case, data, cupy)
    return made._replace(
        clock=cupy_events(),
        parameters=lambda: {name: cupy.asnumpy(p) for name, p in made.parameters().items()},
        library=f"cupy {cupy.__version__}",
        device="cuda",
        detail=name,
        peak=lambda: cupy_peak(cupy),
    )
