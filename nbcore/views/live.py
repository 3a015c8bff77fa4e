"""Training, watched as it goes: its curves, and a button that ends it in good order."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets as widgets
from IPython.core.getipython import get_ipython
from IPython.display import HTML, Image, display
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nbcore.views.plots import training
from nbcore.views.style import style

__all__ = ["TrainingView", "watch_training"]

SECONDS = 1.0  # between two pictures, and no more than a tenth of the time goes into them
SHARE = 0.1


class TrainingView:
    """Takes the history of a training after each epoch, shows it, and says whether to stop.

    To be used in a `with` statement, at whose end the last picture is drawn.

    Attributes
    ----------
    figure
        The newest picture, or None before the first epoch.
    """

    def __init__(self) -> None:
        self.figure: Figure | None = None
        self._stop = threading.Event()
        self._history: Sequence[Mapping[str, Any]] = ()
        self._due = 0.0
        self._shown = get_ipython() is not None
        self._button = widgets.Button(description="stop training", icon="stop")
        self._button.on_click(lambda _: self.stop())
        # While a cell runs, JupyterLab asks for clicks to be handled by another thread. ipykernel
        # 7.4 hands them to the thread that made the widget all the same, unless it forgets that.
        vars(self._button.comm).pop("_reply_subshell_id", None)
        self._picture = self._controls = None

    def __enter__(self) -> TrainingView:
        if self._shown:
            self._controls = display(self._button, display_id=True)
        return self

    def __call__(self, history: Sequence[Mapping[str, Any]]) -> bool:
        """Show the history now and then; whether the training shall stop."""
        self._history = history
        if self._shown and time.monotonic() >= self._due:
            begun = time.monotonic()
            self._draw()
            took = time.monotonic() - begun
            self._due = begun + max(SECONDS, took / SHARE)
        return self._stop.is_set()

    def __exit__(self, *_: object) -> None:
        if self._history:
            self._draw()
        if self._controls is not None:
            words = (
                f"stopped by hand after {len(self._history)} epochs" if self._stop.is_set() else ""
            )
            self._controls.update(HTML(words))

    def stop(self) -> None:
        """End the training after the epoch that goes on; what was learned is saved."""
        self._stop.set()
        self._button.disabled = True
        self._button.description = "stopping after this epoch"

    def _draw(self) -> None:
        if not any("loss" in row for row in self._history):
            return
        with style():
            self.figure = Figure(figsize=(7, 3.5), layout="constrained")
            FigureCanvasAgg(self.figure)
            training(self._history, self.figure.subplots())
            if not self._shown:
                return
            page = io.BytesIO()
            self.figure.savefig(page, format="png", dpi=100)
        picture = Image(page.getvalue())
        if self._picture is None:
            self._picture = display(picture, display_id=True)
        else:
            self._picture.update(picture)


def watch_training() -> TrainingView:
    """A picture of a training that renews itself, and a stop button; for `nb.train`.

    Examples
    --------
    >>> with nb.watch_training() as watch:
    ...     result = nb.train(config, watch=watch)
    """
    return TrainingView()
