import pytest
import torch

from nbcore.simulation.threads import WORTH_A_THREAD, threads_for


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_few_pairs_run_on_one_thread_and_many_on_all_and_both_are_put_back():
    with threads_for(1, 3, 3):
        assert torch.get_num_threads() == 1
    with threads_for(WORTH_A_THREAD, 3, 3):
        assert torch.get_num_threads() == 2

    with pytest.raises(KeyboardInterrupt), threads_for(1, 3, 3):
        raise KeyboardInterrupt
    assert torch.get_num_threads() == 2
