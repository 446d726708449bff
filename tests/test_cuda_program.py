"""CuPy's programs on a stand-in for CuPy: the tests of all programs, with graphs in several orders."""

import logging

import pytest
from conftest import long_but_for
from cuda_kernels_on_host import needs_compiler
from cupy_on_host import installed
from test_programs import (  # noqa: F401  # they are run here, too
    test_a_program_tells_what_is_not_finite,
    test_a_run_is_one_step_after_the_other,
    test_a_run_that_fails_changes_nothing,
    test_a_snapshot_is_the_way_back,
    test_a_state_of_other_shapes_takes_the_place_of_the_first,
    test_a_step_by_itself_leaves_its_arguments,
    test_arrays_of_any_strides_are_loaded,
    test_no_steps_leave_the_state,
    test_some_arrays_are_loaded_and_the_others_stay,
    test_threads_call_one_program_at_once,
    test_what_is_loaded_and_read_is_a_copy,
)

ORDERS = ["as asked", "last first", "any"]

pytestmark = [
    needs_compiler,
    pytest.mark.parametrize("backend", long_but_for(ORDERS, "last first"), indirect=True),
]

FALL_BACK = {"test_a_run_that_fails_changes_nothing"}
"""Tests whose steps cannot be rendered."""


@pytest.fixture
def backend(request, monkeypatch, caplog):
    """CuPy on the host; graphs do calls that do not wait for each other in an order of the test's."""
    order = request.param
    with caplog.at_level(logging.DEBUG, logger="nnx"):
        yield installed(monkeypatch, order=order, seed=ORDERS.index(order))[0]
    if request.function.__name__ not in FALL_BACK:
        texts = [record.getMessage() for record in caplog.get_records("call")]
        assert [text for text in texts if "single operations" in text] == []
