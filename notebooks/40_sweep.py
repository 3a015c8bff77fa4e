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
# # Which settings serve best?
#
# Search the settings of a training: each trial trains a policy, which is judged on systems that it
# has not seen. A search that was stopped goes on (`nbcore sweep --resume RUN`), and several
# processes or jobs of a cluster may work at it (`sweep.workers`).

# %% tags=["parameters"]
preset = "sweep"
overrides = []
run_dir = None

# %%
import matplotlib.pyplot as plt

import nbcore as nb

config, run = nb.start_run(preset, overrides, run_dir, label="sweep")

# %%
found = nb.sweep(config, run.path)

# %% [markdown]
# The search, what decides, and what must be weighed. A cost ratio is that of force evaluations over
# those of the best classical rule at the same maximum error; calibration is how far the error comes
# from the tolerance that was asked for, in decades. Less is better.

# %%
with nb.plots.style():
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
    nb.search.history(found.study, left)
    if (found.trials["state"] == "complete").sum() > 3:  # fewer don't tell what decides
        nb.search.importance(found.study, middle)
    else:
        middle.set_axis_off()
    if len(config.sweep.objectives) > 1:
        nb.search.pareto(found.study, right)
    else:
        right.set_axis_off()
    run.save_figure(figure, "search")
    plt.show()

# %% tags=["headline"]
complete = found.trials.query("state == 'complete'")
print(complete.sort_values(list(config.sweep.objectives)).head(5).to_string(index=False))
print(f"\nthe best of {len(complete)}: nbcore train --config {found.best_file}")

# %%
objective = config.sweep.objectives[0]
run.save_metrics(trials=len(complete), best=complete[objective].min())
