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
# # How much time does an accuracy cost, with us and with the best there is?
#
# Every method at several accuracy settings on families of problems that no policy was trained on,
# beside REBOUND, heyoka and SciPy. The table of all runs lies in the run folder (`benchmark.csv`).

# %% tags=["parameters"]
preset = "benchmark"
overrides = []
run_dir = None

# %%
import matplotlib.pyplot as plt
from IPython.display import Markdown, display

import nbcore as nb
from nbcore.analysis import benchmark, engine_speed, equal_errors, gains, summary
from nbcore.views.frontiers import frontiers_figure

config, run = nb.start_run(preset, overrides, run_dir, label="benchmark")

# %%
table = benchmark.run_benchmark(config.benchmark, run.path)

# %% [markdown]
# The time of a single step, without all that depends on the problem.

# %%
speed = engine_speed.ratios(config.benchmark.engine_speed, progress=config.benchmark.progress)

# %%
summary.save(table, speed, run.path)
run.save_metrics(**summary.metrics(table, speed), **gains.metrics(table))

# %% tags=["headline"]
display(Markdown(summary.short_table(table)))
display(Markdown(summary.where_peers_win(table)))
if config.benchmark.judged:
    display(Markdown(equal_errors.as_markdown(table)))

# %%
display(Markdown(summary.engine_table(speed)))

# %% [markdown]
# Force evaluations of the learned policies over those of the best classical rule with the same
# integrator, at the same maximum error. η of that rule, the criterion and the way to step are
# tuned to each family and error; the policies are what they are.

# %%
display(Markdown(gains.as_markdown(gains.gains(table))))

# %% [markdown]
# The same at the same error at the end, beside reversible rules; and in CPU time.

# %%
at_the_end = gains.gains(table, "final_energy_error", stepping="reversible")
display(Markdown(gains.as_markdown(at_the_end)))
display(Markdown(gains.as_markdown(gains.gains(table, cost="cpu_seconds"))))

# %% [markdown]
# How many runs come near to the error that was asked for.

# %%
display(Markdown(gains.shares_as_markdown(gains.calibration_shares(table))))

# %% [markdown]
# CPU time of a system against its largest energy error over every step; medians over the systems.
# Lower is quicker, to the right is more accurate. Our three best are in colour, with the band from
# the 10th to the 90th percentile of the error; the peers have markers.

# %%
frontiers_figure(table, figure := plt.figure(layout="constrained"))
run.save_figure(figure, "cpu_time")
plt.show()

# %% [markdown]
# The same in force evaluations, which leave out what choosing a step costs; heyoka makes none.

# %%
frontiers_figure(table, figure := plt.figure(layout="constrained"), cost="n_force_evaluations")
run.save_figure(figure, "evaluations")
plt.show()

# %% [markdown]
# Where the motion is regular, or the run short: how far the bodies are from their true places at
# the end.

# %%
frontiers_figure(table, figure := plt.figure(layout="constrained"), error="position_error")
run.save_figure(figure, "position")
plt.show()
