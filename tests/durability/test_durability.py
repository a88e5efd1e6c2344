"""The durability tests, with small counts; and each turns red on the fault that it is about."""

from tests.durability import cells, kills, restarts, starts


def test_simultaneous_starts_on_one_device(tmp_path):
    found = starts.prove(tmp_path, count=4)
    assert found.violations == [] and found.facts["of them worked"] == 1


def test_without_the_lock_one_run_is_done_more_than_once(tmp_path):
    assert starts.prove(tmp_path, count=2, plant="lock").violations == ["2 of 2 processes did the work of one run"]


def test_the_app_killed_while_a_run_goes_on(tmp_path):
    found = restarts.prove(tmp_path, count=2)
    assert found.violations == [] and found.facts["apps"] == 2


def test_a_state_believed_without_its_process_is_noticed(tmp_path):
    assert "a killed run reads as running" in restarts.prove(tmp_path, count=1, plant="identity").violations


def test_a_training_killed_again_and_again(tmp_path):
    found = kills.prove(tmp_path, count=3, seed=3)
    assert found.violations == [] and found.facts["kills"] == 3


def test_a_checkpoint_written_in_place_is_noticed(tmp_path):
    found = kills.prove(tmp_path, count=1, seed=5, plant="writer")  # the kill comes while a checkpoint is written
    assert any("cannot be read" in violation for violation in found.violations)


def test_a_certification_killed_again_and_again(tmp_path):
    found = cells.prove(tmp_path, count=3, seed=2)
    assert found.violations == [] and found.facts["kills"] == 3


def test_an_evaluation_killed_again_and_again(tmp_path):
    found = cells.prove_evaluation(tmp_path, count=2, seed=4)
    assert found.violations == [] and found.facts["kills"] == 2


def test_a_run_that_forgets_what_it_has_measured_is_noticed(tmp_path):
    found = cells.prove(tmp_path, count=1, seed=2, plant="amnesia")  # the kill comes after some cells
    assert any("measured twice" in violation for violation in found.violations)
