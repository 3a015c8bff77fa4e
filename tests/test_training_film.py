import imageio_ffmpeg
import numpy as np
import pytest
from tiny_training import tiny

import nbcore as nb
from nbcore.errors import InputError
from nbcore.learning.training import train
from nbcore.views.encoder import frame_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    train(tiny(epochs=6, keep_every=2, learning_rate=0.1), folder)
    return folder


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:1 of 1 systems")  # a tiny training has seen little
def test_a_film_has_a_frame_for_each_policy_that_was_kept(run, tmp_path):
    state = nb.scenarios.make("kepler_orbits", n_systems=1, eccentricity=(0.4, 0.5), seed=1)
    path = nb.movies.training(run, state, 3.0, tmp_path / "film.mp4", width=640, height=320)
    assert imageio_ffmpeg.count_frames_and_secs(str(path))[0] == 3
    first, last = (frame_of(path, k) for k in (0, 2))
    assert first.shape == (320, 640, 3)
    assert first.std() > 5
    assert (np.abs(first.astype(int) - last) > 50).sum() > 100


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"run": "elsewhere"}, "holds no policies; train with train.keep_every=1"),
        ({"n_systems": 2}, "there are 2 systems"),
        ({"look": "lihgt"}, "did you mean 'light'"),
        ({"path": "film.avi"}, "must end in .mp4 or .gif"),
    ],
)
def test_what_makes_no_film_is_named(run, tmp_path, changes, words):
    state = nb.scenarios.make("kepler_orbits", n_systems=changes.pop("n_systems", 1))
    given = {"run": run, "path": "film.mp4", **changes}
    path = tmp_path / given.pop("path")
    with pytest.raises(InputError, match=words):
        nb.movies.training(given.pop("run"), state, 1.0, path, **given)
    assert list(tmp_path.iterdir()) == []
