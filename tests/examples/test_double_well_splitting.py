"""The algorithm alone, fed with trajectories made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from double_well.model import Model
from double_well.splitting import Run

MODEL = Model()


def new_run(**changes):
    given = {"trajectories": 4, "discard": 1, "max_iterations": 100, "seed": 1, "number": 0}
    return Run(MODEL, **(given | changes))


def at(*xs):
    """Positions on the x axis, where the score rises with x from -1 to the target at 0.7."""
    return np.array([(x, 0.0) for x in xs]).reshape(-1, 2)


def begin(run, *paths):
    """Feed the first trajectories; returns the requests of the first iteration."""
    run.start()
    for slot, path in enumerate(paths[:-1]):
        assert run.receive(slot, path) == []
    return run.receive(len(paths) - 1, paths[-1])


def test_a_run_starts_all_trajectories_from_well_a():
    requests = new_run().start()
    assert [request.slot for request in requests] == [0, 1, 2, 3]
    assert {request.position for request in requests} == {(-1.0, 0.0)}
    assert {request.step for request in requests} == {0}


def test_all_in_the_target_at_once_is_probability_one_without_any_iteration():
    run = new_run()
    assert begin(run, *[at(0.0, 1.0)] * 4) == []
    assert (run.finished, run.probability, run.iterations) == (True, 1.0, 0)


def test_the_worst_is_replaced_from_a_survivor_at_its_first_step_above_the_level():
    run = new_run()
    (request,) = begin(
        run, at(-0.6), at(-0.9, -0.6, -0.5, -0.4), at(-0.9, -0.6, -0.5, -0.4), at(-0.9, -0.6, -0.5, -0.4)
    )
    assert request.slot == 0
    assert request.step == 3, "a step that only equals the level does not count"
    assert request.position == (-0.5, 0.0)
    assert request.number == 4
    assert run.weight == pytest.approx(3 / 4)


def test_a_replacement_keeps_its_parents_past():
    run = new_run()
    begin(run, at(-0.6), *[at(-0.9, -0.5)] * 3)
    run.receive(0, at(0.0, 0.8))
    np.testing.assert_array_equal(run.paths[0], at(-1.0, -0.9, -0.5, 0.0, 0.8))


def test_ties_are_all_discarded_and_weighted():
    run = new_run()
    requests = begin(run, at(-0.6), at(-0.6), at(-0.6), at(-0.2))
    assert [request.slot for request in requests] == [0, 1, 2]
    assert run.weight == pytest.approx(1 / 4)


def test_several_are_discarded_at_a_time():
    run = new_run(discard=2)
    requests = begin(run, at(-0.2), at(-0.6), at(-0.5), at(0.0))
    assert [request.slot for request in requests] == [1, 2]
    assert run.weight == pytest.approx(2 / 4)


def test_nobody_above_the_level_is_probability_zero():
    run = new_run()
    assert begin(run, *[at(-0.6)] * 4) == []
    assert (run.finished, run.probability, run.iterations) == (True, 0.0, 1)


def test_fewer_than_k_outside_of_the_target_end_a_run_and_lower_the_estimate():
    run = new_run(discard=2)
    assert begin(run, at(-0.6), at(1.0), at(1.0), at(1.0)) == []
    assert (run.finished, run.iterations) == (True, 0)
    assert run.probability == pytest.approx(3 / 4)


def test_exactly_k_outside_of_the_target_are_replaced_by_trajectories_that_are_in_it():
    run = new_run(discard=2)
    requests = begin(run, at(-0.6), at(-0.5), at(1.0), at(1.0))
    assert [request.position for request in requests] == [(1.0, 0.0)] * 2
    for request in requests:
        run.receive(request.slot, at())
    assert run.finished
    assert run.probability == pytest.approx(1 / 2)


def test_the_last_allowed_iteration_gives_the_estimate_so_far():
    run = new_run(max_iterations=1)
    (request,) = begin(run, at(-0.6), at(-0.2), at(1.0), at(1.0))
    assert run.receive(request.slot, at()) == []
    assert run.finished
    assert run.iterations == 1
    assert run.probability == pytest.approx(3 / 4 * np.mean(run._maxima() >= 1.0))


def test_a_result_that_nobody_waits_for_is_refused():
    run = new_run()
    begin(run, at(-0.6), *[at(-0.2)] * 3)
    with pytest.raises(KeyError):
        run.receive(2, at(-0.1))
