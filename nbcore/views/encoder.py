"""Raw frames into a film, through a pipe to FFMPEG."""

from __future__ import annotations

import io
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nbcore.errors import InputError, unknown_name

__all__ = ["checked_codec", "checked_target", "encoder", "frame_of"]

# A palette for each frame: one for all would have to keep all frames in memory.
GIF = "split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=new=1"


def checked_target(path: str | Path) -> Path:
    """Path of a film that can be written.

    Raises
    ------
    InputError
        Not .mp4 or .gif, a folder, or in a folder that is missing or can't be written to.
    """
    if not isinstance(path, (str, Path)):
        raise InputError(
            f"path is of type {type(path).__name__!r}; give a file name such as 'a.mp4'"
        )
    target = Path(path)
    if target.suffix.lower() not in (".mp4", ".gif"):
        raise InputError(f"movie {str(target)!r} must end in .mp4 or .gif, not {target.suffix!r}")
    if not target.parent.is_dir():
        raise InputError(f"folder {str(target.parent)!r} does not exist; make it first")
    if target.is_dir():
        raise InputError(f"movie {str(target)!r} is a folder; choose another name")
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"folder {str(target.parent)!r} can't be written to; choose another")
    return target


def checked_codec(codec: str) -> str:
    """Codec that this FFMPEG has an encoder for.

    Raises
    ------
    InputError
        It has none.
    """
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-encoders"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in listed.partition("------")[2].splitlines())
    known = [row[1] for row in rows if len(row) > 1 and row[0].startswith("V")]
    if codec not in known:
        raise unknown_name("codec", codec, known)
    return codec


@contextmanager
def encoder(
    path: Path, size: tuple[int, int], frames_per_second: int, codec: str, paper: str
) -> Iterator[IO[bytes]]:
    """Standard input of an FFMPEG that encodes raw RGBA frames.

    Parameters
    ----------
    path
        Film, .mp4 or .gif.
    size
        Width and height of a frame in pixels.
    codec
        Of an mp4.
    paper
        Colour that fills up odd sides.
    """
    if path.suffix.lower() == ".gif":
        output = ["-vf", GIF, "-loop", "0"]
    else:
        # yuv420p, which every player knows, needs even sides
        even = f"pad=ceil(iw/2)*2:ceil(ih/2)*2:color={paper}"
        output = ["-vf", even, "-pix_fmt", "yuv420p", "-c:v", codec, "-movflags", "+faststart"]
        if codec == "libx264":
            output += ["-preset", "veryfast", "-crf", "20"]
    command = [
        *(imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y"),
        *("-f", "rawvideo", "-pix_fmt", "rgba", "-s", f"{size[0]}x{size[1]}"),
        *("-r", str(frames_per_second), "-i", "pipe:"),
        *output,
        str(path),
    ]
    # a file, not a pipe: nobody reads while frames are written, and a full pipe would block
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=messages)
        assert process.stdin is not None
        try:
            with suppress(BrokenPipeError):  # FFMPEG gave up; its exit status tells
                yield process.stdin
            with suppress(BrokenPipeError):
                process.stdin.close()
            status = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            with suppress(BrokenPipeError):
                process.stdin.close()
        if status:
            messages.seek(0)
            words = messages.read().decode(errors="replace").strip().splitlines()[-5:]
            raise RuntimeError(f"FFMPEG ended with status {status}: " + " / ".join(words))


def frame_of(path: str | Path, number: int) -> NDArray[np.uint8]:
    """One frame of a film, (height, width, 3)."""
    command = [
        *(imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(path)),
        *("-vf", f"select=eq(n\\,{number})", "-frames:v", "1"),
        *("-c:v", "png", "-f", "image2pipe", "-"),
    ]
    page = subprocess.run(command, capture_output=True, check=True).stdout
    return np.asarray(Image.open(io.BytesIO(page)).convert("RGB"))
