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
# # Can this run be trusted?
#
# Conserved quantities and steps of one system of a stored run: `nbcore notebook 30_diagnose -p
# run=outputs/RUN -p system=0`.

# %% tags=["parameters"]
run_dir = ""
system = 0

# %%
import matplotlib.pyplot as plt

import nbcore as nb

run = nb.Run.open(run_dir)
trajectory = nb.Trajectory.load(run.trajectory_file)
shown = trajectory.system(system)

# %% tags=["headline"]
print(f"system {system}: {shown.status!s}, {shown.n_steps} steps by {shown.policy}")
print(f"max error of the energy {shown.max_energy_error:.2e}", end=", ")
print(f"of an orbit {shown.max_body_error:.2e} (body {shown.worst_body:.0f})", end="; ")
print(f"asked for {shown.tolerance:.0e}: {'kept' if shown.kept_tolerance else 'missed'}")
if shown.expected_error is not None:
    low, _, high = shown.expected_error
    print(f"four of five such runs end between {low:.0e} and {high:.0e}")
print(f"{shown.n_redone} steps were redone by the guard")

# %%
for name, values in nb.diagnostics.conserved_quantities(shown).items():
    print(f"{name:24}", *values.ravel())

# %%
with nb.plots.style():
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    nb.plots.errors(shown, left)
    nb.plots.steps(shown, right)
    run.save_figure(figure, "errors")
    plt.show()

# %%
with nb.plots.style():
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    nb.plots.step_against_separation(shown, left)
    nb.plots.step_histogram(shown, right)
    run.save_figure(figure, "step_against_separation")
    plt.show()

# %% [markdown]
# The steps in units of classical time scales: level where that criterion would have chosen them.

# %%
with nb.plots.style():
    figure, ax = plt.subplots(figsize=(8, 3.5), layout="constrained")
    nb.lessons.steps_beside_time_scales(shown, ax)
    run.save_figure(figure, "time_scales")
    plt.show()
