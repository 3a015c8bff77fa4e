import torch
from hypothesis import settings

# The tests run side by side; and a failure must come back when it is run again.
torch.set_num_threads(1)
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=30)
settings.load_profile("repeatable")
