"""What goes wrong with ranks, without processes of MPI."""

from types import SimpleNamespace

import pytest

import nnx
from nnx.backends.mpi import adapter


@pytest.mark.parametrize("name", adapter.LAUNCHED)
def test_a_launcher_of_another_mpi(monkeypatch, name):
    """Each of its processes would train alone, and write into the same folder."""
    mpi = SimpleNamespace(
        COMM_WORLD=SimpleNamespace(rank=0, size=1), Get_library_version=lambda: "MPICH Version:      5.0.2\n"
    )
    monkeypatch.setattr(adapter, "require", lambda *_: mpi)
    monkeypatch.setenv(name, "2")
    with pytest.raises(
        nnx.CommunicatorError, match=rf"2 processes were started \({name}\), .*MPICH.*mpiexec"
    ):
        adapter.Mpi()
