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
# Train a policy: through the differentiable engine (`preset = "train"`), or on whole runs of your
# own systems (`preset = "tune"`, with your file or scenario as the family). Compare it with the
# classical rules on systems that it has not seen, and look at what it has learned. A training that
# was stopped, here by the button, goes on where it was (`nbcore train --resume RUN`).
#
# With `overrides = ["train.integrator=gbs", "train.epochs=40"]` beside the preset "tune" the method
# is `gbs`, whose steps are its own: what is tuned is how its runs spend their tolerance, so that
# they err by what you asked for and cost no more. `nb.simulate(state, t_end, "outputs/RUN")` makes
# such runs.

# %% tags=["parameters"]
preset = "train"
overrides = []
run_dir = None

# %%
import matplotlib.pyplot as plt
from IPython.display import Markdown

import nbcore as nb

config, run = nb.start_run(preset, overrides, run_dir, label="train")

# %%
with nb.watch_training() as watch:
    result = nb.train(config, run.path, watch=watch)
    watch(result.history)
run.save_figure(watch.figure, "training")

# %% tags=["headline"]
first, last = result.history[0], result.history[-1]
print(
    f"{len(result.history)} epochs; loss {first['loss']:.3g} at first, {last['loss']:.3g} at last"
)

# %% [markdown]
# ## Does it pay?
#
# Other systems of the same kind. Steps that a network chooses are set beside classical rules, each
# tuned to the cost of the policy, system by system, at a tolerance in the middle of those of the
# training. Runs of `gbs` by its own law are set beside those by the shipped one: how many err by
# their tolerance within a factor of 3 and of 10, and error over tolerance.

# %%
table = nb.comparison.of_training(config, result.policy)
print(nb.comparison.as_text(table))

# %% [markdown]
# ## What has it learned?
#
# The first of these systems, as the policy steps through it.

# %%
low, high = config.train.tolerances
other = nb.training_problems(config.train, "held_out")[0].select([0])
options = {"tolerance": (low * high) ** 0.5, "record": 1}
trajectory = nb.simulate(other.state, other.t_end, result.policy, **options).system(0)
with nb.plots.style():
    figure = plt.figure(figsize=(10, 5), layout="constrained")
    nb.plots.summary_figure(trajectory, figure)
    run.save_figure(figure, "system")
    plt.show()

# %% [markdown]
# Its steps in units of classical time scales, which would be level if that criterion had chosen
# them. Of a network also its steps along an eccentric orbit, and where on Kepler orbits they are
# longer or shorter than those of a criterion at the same cost; of `gbs` the errors that runs of
# other systems come to.

# %%
with nb.plots.style():
    figure = plt.figure(figsize=(14, 4), layout="constrained")
    nb.lessons.of_training(config, result.policy, trajectory, figure)
    run.save_figure(figure, "lessons")
    plt.show()

# %% [markdown]
# ## What each part of a training buys
#
# As measured for the shipped policies (`python -m nbcore.runs.readme ablation`).

# %%
Markdown(nb.model_card("default", "What each part buys"))

# %%
run.save_metrics(
    epochs=len(result.history), held_out=table.reset_index().to_dict("records"), **last
)
