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
# # What does a learned time step buy?
#
# Train a small policy on random three-body systems, let it choose the steps on systems that it has
# not seen, and compare it with classical criteria and a fixed step **at equal force evaluations**.

# %% tags=["parameters"]
preset = "quickstart"
overrides = []
run_dir = None

# %%
import matplotlib.pyplot as plt

import nbcore as nb

config, run = nb.start_run(preset, overrides, run_dir, label="quickstart")

# %% [markdown]
# Train. The untrained policy is the smooth pair criterion of Boekholt et al. (2023); training
# refines it through a few differentiable steps forward.

# %%
result = nb.train(config, run.path)

# %% [markdown]
# Simulate held-out systems with it.

# %%
setup = nb.setup(config.simulate, trained=result.policy)
trajectory = setup.run(resume=run.trajectory_file)
shown = trajectory.system(config.movie.system)

# %% [markdown]
# Compare: η of every classical criterion is tuned, system by system, until it costs the same.

# %%
criteria, tuning_runs = config.compare.criteria, config.compare.tuning_runs
table = nb.comparison.at_equal_cost(setup, criteria, tuning_runs, mine=trajectory)

# %% tags=["headline"]
print(nb.comparison.headline(table), end="\n\n")
print(nb.comparison.as_text(table))

# %%
with nb.plots.style():
    figure, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
    nb.plots.cost_comparison(table.reset_index().to_dict("records"), ax)
    run.save_figure(figure, "comparison")
    plt.show()

# %%
with nb.plots.style():
    figure, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
    nb.plots.training(result.history, ax)
    run.save_figure(figure, "training")
    plt.show()

# %%
with nb.plots.style():
    figure = plt.figure(figsize=(10, 5), layout="constrained")
    nb.plots.summary_figure(shown, figure)
    run.save_figure(figure, "system")
    plt.show()

# %%
nb.movies.movie(trajectory, run.movie_file, **config.movie.settings())
run.save_metrics(**nb.diagnostics.metrics(trajectory), comparison=table.to_dict("index"))
