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
# # How does the policy learn to step?
#
# Train a policy through the differentiable engine; a training that was stopped goes on where it
# was (`nbcore train --resume RUN`).

# %% tags=["parameters"]
preset = "train"
overrides = []
run_dir = None

# %%
import matplotlib.pyplot as plt

import nbcore as nb

config, run = nb.start_run(preset, overrides, run_dir, label="train")

# %%
result = nb.train(config, run.path)

# %% tags=["headline"]
first, last = result.history[0], result.history[-1]
print(
    f"{len(result.history)} epochs; loss {first['loss']:.3g} at first, {last['loss']:.3g} at last"
)

# %%
with nb.plots.style():
    figure, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
    nb.plots.training(result.history, ax)
    run.save_figure(figure, "training")
    plt.show()

# %% [markdown]
# The first training system, as the policy steps through it now.

# %%
one = result.systems.select([0])
trajectory = nb.simulate(one, one.time + config.train.orbit_time, result.policy).system(0)
with nb.plots.style():
    figure = plt.figure(figsize=(10, 5), layout="constrained")
    nb.plots.summary_figure(trajectory, figure)
    run.save_figure(figure, "system")
    plt.show()

# %%
run.save_metrics(epochs=len(result.history), **last)
