import os
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
from analytic_orbits import on_circles
from matplotlib.figure import Figure

from nbcore.errors import InputError
from nbcore.views import motion
from nbcore.views import scene as scene_module
from nbcore.views.movies import movie, stills
from nbcore.views.plots import PANELS
from nbcore.views.scene import Camera, Scene, caption_of, dot_sizes

SMALL = {"max_frames": 6, "width": 330, "height": 198, "trail": 3}


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
    path = movie(on_circles(), tmp_path / "a.mp4", max_frames=2, width=355, height=213)
    assert decoded(path).shape[1:3] == (214, 356)


def test_there_are_no_more_frames_than_records(tmp_path):
    path = movie(on_circles(n_records=4), tmp_path / "a.mp4", width=330, height=198)
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
    draw = Scene.draw

    def interrupted(self, frame):
        if frame == 3:
            raise error
        return draw(self, frame)

    monkeypatch.setattr(Scene, "draw", interrupted)
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
    scene = Scene([motion.Motion(trajectory)], (200, 120), max_frames=11, trail=5)
    np.testing.assert_allclose(scene.times, np.linspace(0, 1, 11))
    turn = 2 * np.pi * scene.times
    seen = scene.sides[0].path.at(scene.times)[:, 0]
    # a cubic over a longest step of h = 0.03 turns errs by (2πh)⁴/384 = 3e-6
    np.testing.assert_allclose(seen, np.stack([np.cos(turn), np.sin(turn)], axis=-1), atol=1e-5)


def test_records_farther_apart_than_the_orbit_turns_are_joined_by_straight_lines():
    trajectory = on_circles(time=np.array([0.0, 1.25, 2.5]))
    between = motion.Motion(trajectory).at(np.array([0.625]))
    np.testing.assert_allclose(between[0, 0], [0.5, 0.5], atol=1e-12)


def test_a_body_seen_from_the_camera_keeps_its_distance_across_the_line_of_sight():
    axes = motion.project(np.eye(3), -60.0, 25.0)
    # the two directions of the picture are orthonormal
    np.testing.assert_allclose(axes.T @ axes, np.eye(2), atol=1e-12)


def test_records_after_a_breakdown_are_left_out(tmp_path):
    trajectory = on_circles(n_records=10)
    trajectory.arrays["position"][:, 7:] = np.nan
    assert len(decoded(movie(trajectory, tmp_path / "a.mp4", width=330, height=198))) == 7


def test_the_caption_says_the_step_or_else_the_record():
    trajectory = on_circles(n_records=5)
    assert caption_of(motion.Motion(trajectory), trajectory.time[2]) == "step 2 of 4"
    trajectory.summary["n_steps"] = np.array([4000])
    described = caption_of(motion.Motion(trajectory), trajectory.time[2])
    assert described == "record 2 of 4 (4,000 steps)"


def test_massless_bodies_are_still_seen():
    assert (dot_sizes(np.array([0.0, 1.0])) > 0).all()
    assert (dot_sizes(np.zeros(2)) > 0).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.avi", r"must end in \.mp4"), ("no/a.mp4", "does not exist"), ("d.mp4", "is a folder")],
)
def test_a_target_that_can_not_be_written_is_refused(tmp_path, name, message):
    (tmp_path / "d.mp4").mkdir()
    with pytest.raises(InputError, match=message):
        movie(on_circles(), tmp_path / name)


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(InputError, match="can't be written to"):
        movie(on_circles(), tmp_path / "a.mp4")


@pytest.mark.parametrize("setting", ["max_frames", "frames_per_second", "width", "height", "trail"])
def test_a_setting_out_of_range_is_refused(tmp_path, setting):
    with pytest.raises(InputError, match=f"{setting} is 0; give"):
        movie(on_circles(), tmp_path / "a.mp4", **{setting: 0})


def test_a_system_that_is_not_there_or_a_single_record_is_refused(tmp_path):
    with pytest.raises(InputError, match="system 2 is not among the 2 systems"):
        movie(on_circles(n_systems=2), tmp_path / "a.mp4", system=2)
    with pytest.raises(InputError, match=r"1 finite record\(s\)"):
        movie(on_circles(n_records=1), tmp_path / "a.mp4")


def first_and_last(path):
    frames = decoded(path)
    assert len(frames) == 6
    return frames[0].astype(int), frames[-1].astype(int)


@pytest.mark.parametrize("panels", [(), ("energy",), tuple(PANELS)])
@pytest.mark.parametrize("sides", [1, 2])
def test_panels_stand_beside_one_run_and_below_several(tmp_path, panels, sides):
    runs = [on_circles(3), on_circles(3, n_records=30)][:sides]
    first, last = first_and_last(movie(runs, tmp_path / "a.mp4", panels=panels, **SMALL))
    assert first.std() > 5
    assert np.abs(first - last).max() > 50


def test_a_gif_holds_the_same_frames(tmp_path):
    film, gif = (movie(on_circles(), tmp_path / f"a.{kind}", **SMALL) for kind in ("mp4", "gif"))
    (first, last), (again, again_last) = first_and_last(film), first_and_last(gif)
    assert np.abs(first - again).mean() < 5
    assert np.abs(last - again_last).mean() < 5


def test_the_dark_look_is_dark(tmp_path):
    first, _ = first_and_last(movie(on_circles(), tmp_path / "a.mp4", look="dark", **SMALL))
    assert np.median(first) < 60


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"panels": ("eror",)}, "errors"),
        ({"look": "bright"}, "light"),
        ({"pace": "stepps"}, "steps"),
        ({"codec": "libx2644"}, "libx264"),
        ({"frame": 7}, "bodies are 0 to 1"),
    ],
)
def test_a_name_that_is_unknown_is_refused_before_a_file_is_begun(tmp_path, setting, words):
    with pytest.raises(InputError, match=words):
        movie(on_circles(), tmp_path / "a.mp4", **SMALL, **setting)
    assert list(tmp_path.iterdir()) == []


def test_a_stored_run_gives_the_same_film_as_one_in_memory(tmp_path):
    trajectory = on_circles(3, n_systems=2)
    stored = trajectory.save(tmp_path / "run.zarr")
    films = [
        movie(source, tmp_path / f"{k}.mp4", system=1, **SMALL)
        for k, source in enumerate((trajectory, stored))
    ]
    assert films[0].read_bytes() == films[1].read_bytes()


def test_a_body_that_is_followed_stays_in_the_middle():
    positions = motion.Motion(on_circles(3)).at(np.linspace(0, 2, 40))
    seen = motion.in_frame(positions, 1, np.ones(3))
    assert not seen[:, 1].any()
    np.testing.assert_allclose(seen[:, 2] - seen[:, 0], positions[:, 2] - positions[:, 0])


def test_in_the_rotating_frame_two_bodies_stay_on_an_axis_about_their_centre_of_mass():
    run = on_circles(3, n_dimensions=3)
    positions, mass = motion.Motion(run).at(np.linspace(0, 2, 40)), run.mass
    seen = motion.in_frame(positions.copy(), "rotating", mass)
    centre = (mass[:2, None] * seen[:, :2]).sum(axis=1)
    np.testing.assert_allclose(centre, 0, atol=1e-12)
    np.testing.assert_allclose(seen[:, :2, 1], 0, atol=1e-12)
    assert (seen[:, 1, 0] > seen[:, 0, 0]).all()
    apart = [np.linalg.norm(p[:, 2] - p[:, 0], axis=-1) for p in (seen, positions)]
    np.testing.assert_allclose(*apart)


def test_the_camera_goes_round():
    scene = Scene(
        [motion.Motion(on_circles(n_dimensions=3))], (200, 120), camera=Camera(0.0, 0.0, 90.0)
    )
    side = scene.sides[0]
    point = np.array([[1.0, 0.0, 0.0]])
    np.testing.assert_allclose(side._seen(point, 0.0), [[0.0, 0.0]], atol=1e-12)
    np.testing.assert_allclose(side._seen(point, 1.0), [[-1.0, 0.0]], atol=1e-12)


def test_paced_by_steps_each_step_has_as_many_frames():
    run = on_circles(time=np.linspace(0, 1, 100) ** 3)
    scene = Scene([motion.Motion(run)], (200, 120), max_frames=34, pace="steps")
    np.testing.assert_allclose(scene.times, run.time[::3])


def test_a_path_is_read_in_blocks_that_join(monkeypatch):
    monkeypatch.setattr(scene_module, "BLOCK", 1)
    small = Scene([motion.Motion(on_circles(3))], (200, 120)).sides[0].path
    assert small._rows == 16
    for first, last in ((0, 3), (10, 40), (31, 33), (40, 59)):
        expected = small.at(small.times)[first : last + 1]
        np.testing.assert_allclose(small.stretch(first, last), expected, atol=1e-12)
        assert len(small._blocks) <= (last - first) // 16 + 2


@pytest.mark.long
def test_the_film_is_complete_for_other_programs(tmp_path):
    path = movie(on_circles(64), tmp_path / "a.mp4", width=800, height=480)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-f", "null", "-"]
    result = subprocess.run(command, capture_output=True, check=True)
    assert result.stderr == b""


def test_stills_are_frames_of_the_film(tmp_path):
    path = movie(on_circles(), tmp_path / "a.mp4", **SMALL)
    shown = [ax.images[0].get_array() for ax in stills(path, Figure(), count=3).axes if ax.images]
    np.testing.assert_array_equal(shown[0], decoded(path)[0])
    np.testing.assert_array_equal(shown[-1], decoded(path)[-1])
    assert len(shown) == 3
