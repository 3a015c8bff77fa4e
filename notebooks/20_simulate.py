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
# # Where do the bodies go, and how well is the energy kept?
#
# Run the systems of the preset with its policy; the trajectory streams to the run folder.

# %% tags=["parameters"]
preset = "simulate"
overrides = []
run_dir = None

# %%
import matplotlib.pyplot as plt

import nbcore as nb

config, run = nb.start_run(preset, overrides, run_dir, label="simulate")

# %%
setup = nb.setup(config.simulate, trained=run.policy())
trajectory = setup.run(resume=run.trajectory_file)
shown = trajectory.system(config.movie.system)

# %% tags=["headline"]
metrics = nb.diagnostics.metrics(trajectory)
print("\n".join(f"{name:32} {value}" for name, value in metrics.items()))

# %%
with nb.plots.style():
    figure = plt.figure(figsize=(10, 5), layout="constrained")
    nb.plots.summary_figure(shown, figure)
    run.save_figure(figure, "system")
    plt.show()

# %%
nb.movies.movie(trajectory, run.movie_file, **config.movie.settings())
run.save_metrics(**metrics)
