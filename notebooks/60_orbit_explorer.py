# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What does the orbit do, and what does it cost?
#
# Change a setting, and the run is made again at once. Press play; drag to rotate (three dimensions)
# or to move; scroll to zoom; drag in a panel to scrub. Two policies run side by side, on the same
# system, with their costs. `system` takes a scenario or the path of a file with your own initial
# conditions.

# %% tags=["parameters"]
preset = "explore"
overrides = []
versus = "boekholt"
run_dir = None

# %%
import matplotlib.pyplot as plt

import nbcore as nb

config, run = nb.start_run(preset, overrides, run_dir, label="explore")

# %%
explorer = nb.explore(settings=config.simulate, versus=versus)
explorer.wait()
explorer

# %% [markdown]
# The same, for readers without a kernel.

# %% tags=["headline"]
for trajectory in explorer.trajectories:
    with nb.plots.style():
        figure = plt.figure(figsize=(10, 5), layout="constrained")
        nb.plots.summary_figure(trajectory, figure)
        run.save_figure(figure, trajectory.policy)
        plt.show()

# %%
run.save_metrics(
    costs={t.policy: int(t.n_force_evaluations) for t in explorer.trajectories},
    errors={t.policy: float(t.max_energy_error) for t in explorer.trajectories},
)
