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
# # How does it look when it moves?
#
# A movie of a run that exists, straight from its stored trajectory. Settings are those of the run's
# config, or `overrides` such as `movie.look=dark`, `movie.frame=0` (follow body 0),
# `movie.turn=180` (the camera goes round), `movie.panels=["energy", "separation"]`.

# %% tags=["parameters"]
run_dir = None
overrides = []

# %%
import matplotlib.pyplot as plt

import nbcore as nb

run = nb.Run.open(run_dir)
config = nb.load_config(run.config_file, overrides)

# %% tags=["headline"]
path = nb.movies.movie(run.trajectory_file, run.movie_file, **config.movie.settings())
print(f"{path.stat().st_size / 1e6:.1f} MB")

# %% [markdown]
# Four of its frames.

# %%
figure = plt.figure(figsize=(9, 5.6), layout="constrained")
nb.movies.stills(path, figure)
run.save_figure(figure, "stills")
plt.show()
