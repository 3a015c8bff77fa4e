import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
from analytic_orbits import on_circles

from nbcore.errors import InputError
from nbcore.views import motion, movies
from nbcore.views.movies import movie

SMALL = {"max_frames": 6, "dpi": 33, "trail": 3}  # 330 × 198 pixels


def decoded(path):
    """Frames (F, H, W, 3) of a film."""
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    command = [ffmpeg, "-v", "error", "-i", str(path), "-f", "image2pipe", "-c:v", "ppm", "-"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    size, _ = data.removeprefix(b"P6\n").split(b"\n", 1)
    header = b"P6\n" + size + b"\n255\n"
    width, height = map(int, size.split())
    frames = np.frombuffer(data, np.uint8).reshape(-1, len(header) + width * height * 3)
    return frames[:, len(header) :].reshape(-1, height, width, 3)


@pytest.mark.parametrize(("n_bodies", "n_dimensions"), [(2, 2), (5, 2), (3, 3)])
def test_the_film_decodes_to_the_frames_that_were_asked_for(tmp_path, n_bodies, n_dimensions):
    path = movie(on_circles(n_bodies, n_dimensions=n_dimensions), tmp_path / "a.mp4", **SMALL)
    frames = decoded(path)
    assert frames.shape == (6, 198, 330, 3)
    first, last = frames[0].astype(int), frames[-1].astype(int)
    assert first.std() > 5
    assert last.std() > 5
    assert np.abs(first - last).max() > 50
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_an_odd_number_of_pixels_is_made_even(tmp_path):
    path = movie(on_circles(), tmp_path / "a.mp4", max_frames=2, dpi=35.5)
    assert decoded(path).shape[1:3] == (214, 356)


def test_there_are_no_more_frames_than_records(tmp_path):
    path = movie(on_circles(n_records=4), tmp_path / "a.mp4", dpi=33)
    assert len(decoded(path)) == 4


def test_an_old_film_is_replaced(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    movie(on_circles(), path, progress=True, **SMALL)
    assert len(decoded(path)) == 6


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_interruption_leaves_no_file_and_no_harm(tmp_path, monkeypatch, error):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    draw = movies._Scene.draw

    def interrupted(self, frame):
        if frame == 3:
            raise error
        return draw(self, frame)

    monkeypatch.setattr(movies._Scene, "draw", interrupted)
    with pytest.raises(error):
        movie(on_circles(), path, **SMALL)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_encoder_is_an_error_with_its_last_lines(tmp_path, monkeypatch):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\nhead -c 9 >/dev/null; echo disk is full >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(program))
    with pytest.raises(RuntimeError, match="status 3: disk is full"):
        movie(on_circles(), tmp_path / "a.mp4", **SMALL)
    assert list(tmp_path.iterdir()) == [program]


def test_frames_are_equidistant_in_time_and_bodies_where_the_orbit_is():
    # records crowd at the start, as they do at a pericentre
    trajectory = on_circles(time=np.linspace(0, 1, 100) ** 3)
    scene = movies._Scene(trajectory, np.arange(100), max_frames=11, dpi=20, trail=5)
    np.testing.assert_allclose(scene.times, np.linspace(0, 1, 11))
    turn = 2 * np.pi * scene.times
    seen = scene.plane[scene.at_frame, 0]
    # a cubic over a longest step of h = 0.03 turns errs by (2πh)⁴/384 = 3e-6
    np.testing.assert_allclose(seen, np.stack([np.cos(turn), np.sin(turn)], axis=-1), atol=1e-5)


def test_records_farther_apart_than_the_orbit_turns_are_joined_by_straight_lines():
    trajectory = on_circles(time=np.array([0.0, 1.25, 2.5]))
    between = motion.positions_at(trajectory, np.arange(3), np.array([0.625]))
    np.testing.assert_allclose(between[0, 0], [0.5, 0.5], atol=1e-12)


def test_a_body_seen_from_the_camera_keeps_its_distance_across_the_line_of_sight():
    axes = movies._on_screen(np.eye(3)[:, None])[:, 0]
    # the two directions of the picture are orthonormal
    np.testing.assert_allclose(axes.T @ axes, np.eye(2), atol=1e-12)


def test_records_after_a_breakdown_are_left_out(tmp_path):
    trajectory = on_circles(n_records=10)
    trajectory.arrays["position"][:, 7:] = np.nan
    assert len(decoded(movie(trajectory, tmp_path / "a.mp4", dpi=33))) == 7


def test_the_caption_says_the_step_or_else_the_record():
    trajectory = on_circles(n_records=5)
    assert movies._captions(trajectory, np.arange(5))[2] == "step 2 of 4"
    trajectory.summary["n_steps"] = np.array([4000])
    assert movies._captions(trajectory, np.arange(5))[2] == "record 2 of 4 (4,000 steps)"


def test_massless_bodies_are_still_seen():
    assert (movies._dot_sizes(np.array([0.0, 1.0])) > 0).all()
    assert (movies._dot_sizes(np.zeros(2)) > 0).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.gif", r"must end in \.mp4"), ("no/a.mp4", "does not exist"), ("d.mp4", "is a folder")],
)
def test_a_target_that_can_not_be_written_is_refused(tmp_path, name, message):
    (tmp_path / "d.mp4").mkdir()
    with pytest.raises(InputError, match=message):
        movie(on_circles(), tmp_path / name)


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(movies.os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(InputError, match="can't be written to"):
        movie(on_circles(), tmp_path / "a.mp4")


@pytest.mark.parametrize("setting", ["max_frames", "frames_per_second", "dpi", "trail"])
def test_a_setting_out_of_range_is_refused(tmp_path, setting):
    with pytest.raises(InputError, match=f"{setting} is 0; give"):
        movie(on_circles(), tmp_path / "a.mp4", **{setting: 0})


def test_a_batch_or_a_single_record_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"trajectory\.system\(0\)"):
        movie(on_circles(n_systems=2), tmp_path / "a.mp4")
    with pytest.raises(InputError, match=r"1 finite record\(s\)"):
        movie(on_circles(n_records=1), tmp_path / "a.mp4")


@pytest.mark.long
def test_the_film_is_complete_for_other_programs(tmp_path):
    path = movie(on_circles(64), tmp_path / "a.mp4", dpi=80)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-f", "null", "-"]
    result = subprocess.run(command, capture_output=True, check=True)
    assert result.stderr == b""
