import json

import numpy as np
import pytest

from nbcore.errors import InputError
from nbcore.physics import scenarios

PLANAR = ([1e-3, 1.0], [[1.0, 0.5], [0.1, 0.0]], [[0.0, 1.0], [0.0, 0.25]])
SPATIAL = (
    [1e-3, 1.0],
    [[1.0, 0.5, -2.0], [0.1, 0.0, 3.0]],
    [[0.0, 1.0, 0.125], [0.0, 0.25, -1.0]],
)
PLAIN = "1e-3 1.0 0.5 0 1\n1 0.1 0 0 0.25\n"

RIGHT = {
    "by place": (PLAIN, PLANAR),
    "mass last": ("x,y,vx,vy,mass\n1.0,0.5,0,1,1e-3\n0.1,0,0,0.25,1.0\n", PLANAR),
    "id and radius passed over": (
        "id,mass,x,y,vx,vy,radius\n0,1e-3,1,0.5,0,1,1e-9\n1,1,0.1,0,0,0.25,1e-2\n",
        PLANAR,
    ),
    "place and velocity by turns": (
        "mass,x,vx,y,vy,z,vz\n1e-3,1,0,0.5,1,-2,0.125\n1,0.1,0,0,0.25,3,-1\n",
        SPATIAL,
    ),
    "other spellings": (
        "Name;M;Pos_X;Pos_Y;V_x;Vel-Y\nEarth;1e-3;1;0.5;0;1\nProxima Cen;1;0.1;0;0;0.25\n",
        PLANAR,
    ),
    "velocity first": (
        "velocity_x velocity_y velocity_z x_pos y_pos z_pos m\n"
        "0 1 .125 1 .5 -2 1e-3\n0 .25 -1 .1 0 3 1\n",
        SPATIAL,
    ),
    "dots": ("m x y xdot ydot\n1e-3 1 .5 0 1\n1 .1 0 0 .25\n", PLANAR),
    "words with spaces": (
        "mass, pos x, pos y, vel x, vel y\n1e-3, 1, 0.5, 0, 1\n1, .1, 0, 0, .25\n",
        PLANAR,
    ),
    "header of numpy.savetxt": ("# vx vy x y mass\n0 1 1 0.5 1e-3\n0 0.25 0.1 0 1\n", PLANAR),
    "columns in a comment": (
        "# two bodies\n# Columns: x, y, vx, vy, m\n1 .5 0 1 1e-3\n.1 0 0 .25 1\n",
        PLANAR,
    ),
    "comment and header agree": ("# m x y vx vy\nm x y vx vy\n" + PLAIN, PLANAR),
    "index of pandas": (",mass,x,y,vx,vy\n0,1e-3,1,0.5,0,1\n1,1,0.1,0,0,0.25\n", PLANAR),
    "semicolons": ("1e-3;1;0.5;0;1\n1;0.1;0;0;0.25\n", PLANAR),
    "tabs": ("mass\tx\ty\tvx\tvy\n1e-3\t1\t0.5\t0\t1\n1\t0.1\t0\t0\t0.25\n", PLANAR),
    "index of pandas before tabs": (
        "\tmass\tx\ty\tvx\tvy\n0\t1e-3\t1\t0.5\t0\t1\n1\t1\t0.1\t0\t0\t0.25\n",
        PLANAR,
    ),
    "names with spaces between tabs": (
        "name\tm\tx\ty\tvx\tvy\nAlpha Cen\t1e-3\t1\t0.5\t0\t1\nProxima Cen\t1\t0.1\t0\t0\t0.25\n",
        PLANAR,
    ),
    "quotes": (
        '"mass","x","y","vx","vy"\n"1e-3","1.0","0.5","0","1"\n"1","0.1","0","0","0.25"\n',
        PLANAR,
    ),
    "quotes between spaces": ('"1e-3" "1.0" "0.5" "0" "1"\n1  "0.1"  0  0  0.25\n', PLANAR),
    "separators at the end": ("mass,x,y,vx,vy,\n1e-3,1,.5,0,1,\n1,.1,0,0,.25,\n", PLANAR),
    "separators at the end of rows": ("1e-3;1;.5;0;1;\n1;.1;0;0;.25;\n", PLANAR),
    "empty names of bodies": ("m,x,y,vx,vy,name\n1e-3,1,.5,0,1,\n1,.1,0,0,.25,Sun\n", PLANAR),
    "blank lines and spaces": (
        "\n\n  mass  x y   vx vy  \n\n 1e-3  1 .5 0 1\n   \n1 .1 0 0 .25  \n\n",
        PLANAR,
    ),
    "byte order mark and CRLF": (
        "\ufeffx,y,vx,vy,mass\r\n1.0,0.5,0,1,1e-3\r\n0.1,0,0,0.25,1.0\r\n",
        PLANAR,
    ),
    "exponents of Fortran": ("1.0D-3 1.0d0 0.5D+00 0 1\n1 0.1 0 0 2.5d-1\n", PLANAR),
    "brackets without a unit": ("m (-),x [],y,vx,vy\n1e-3,1,.5,0,1\n1,.1,0,0,.25\n", PLANAR),
    "comment behind a row": ("1e-3 1 0.5 0 1  # planet\n1 .1 0 0 .25 # star\n", PLANAR),
    "free comments": (
        "# made by hand, on time: yes, in a \"hurry\nm x y vx vy\n1e-3 1 .5 0 1\n1 .1 0 0 .25\n"
        "# Time: 2024-05-01 12:30\n",
        PLANAR,
    ),
    "first line for Excel": ("sep=;\n1e-3;1;0.5;0;1\n1;0.1;0;0;0.25\n", PLANAR),
    "rows of separators": (
        ",,,,\nmass,x,y,vx,vy\n1e-3,1,.5,0,1\n,,,,\n1,.1,0,0,.25\n,,,,\n",
        PLANAR,
    ),
    "number signs in quotes": (
        'name,m,x,y,vx,vy\n"Planet #2",1e-3,1,.5,0,1 # "a" planet\n"# 1, Sun",1,.1,0,0,.25\n',
        PLANAR,
    ),
    "a row behind a number sign": ("1e-3 1 .5 0 1\n# 2 2 2 2 2\n1 .1 0 0 .25\n", PLANAR),
}  # fmt: skip


def load(tmp_path, text, suffix="csv", **units):
    path = tmp_path / f"bodies.{suffix}"
    path.write_text(text, encoding="utf-8", newline="")
    return scenarios.load(path, **units)


@pytest.mark.parametrize("suffix", ["csv", "dat"])
@pytest.mark.parametrize("name", RIGHT)
def test_a_table_of_bodies_is_read_whatever_its_order_and_marks(tmp_path, name, suffix):
    text, expected = RIGHT[name]
    arrays = load(tmp_path, text, suffix).to_arrays()
    for key, value in zip(("mass", "position", "velocity"), expected, strict=True):
        assert arrays[key].tolist() == value


WRONG = {
    "elements": ("m,a,e,i,Omega,omega,M\n1,1,0,0,0,0,0\n1e-3,1,0,0,0,0,0\n", "elements.*REBOUND"),
    "elements in a comment": ("# m a e inc Omega omega f\n1 1 0 0 0 0 0\n", "elements"),
    "elements beside places": ("m,x,y,vx,vy,a,e\n1,0,0,0,0,1,0\n", "'a', 'e' is unknown"),
    "unknown": ("m,x,y,vx,vy,charge\n1,0,0,0,0,1\n", "line 1: column 'charge' is unknown"),
    "unknown in a comment": ("# m x y z vx vy rho\n1 0 0 0 0 0 1\n", "'rho' is unknown"),
    "doubled": ("m,mass,x,y,vx,vy\n1,1,0,0,0,0\n", "'m' and 'mass' both mean 'mass'"),
    "doubled by case": ("m,x,X,vx,vy,y\n1,0,0,0,0,0\n", "'x' and 'X' both mean 'x'"),
    "no mass": ("x,y,vx,vy,id\n0,0,0,0,1\n", "column 'mass' is missing"),
    "no vz": ("m,x,y,z,vx,vy\n1,0,0,0,0,0\n", "column 'vz' is missing"),
    "vz alone": ("m,x,y,vx,vy,vz\n1,0,0,0,0,0\n", "column 'z' is missing"),
    "places alone": ("m,x,y,z\n1,0,0,0\n", "'vx', 'vy', 'vz' is missing"),
    "a unit": ("m,x [AU],y,vx,vy\n1,0,0,0,0\n", r"'x \[AU\]' carries the unit 'AU'; give plain"),
    "a unit close by": ("m x(km) y(km) vx vy\n1 0 0 0 0\n", "carries the unit 'km'"),
    "a unit between spaces": ("m x [km] y [km] vx vy\n1 0 0 0 0\n", "carries the unit 'km'"),
    "a unit in a comment": ("# m x [km] y vx vy\n1 0 0 0 0\n", "carries the unit 'km'"),
    "a unit by underline": ("m,x_km,y_km,vx,vy\n1,0,0,0,0\n", "'x_km', 'y_km' is unknown"),
    "comment and header disagree": ("# x y vx vy m\nm,x,y,vx,vy\n1,0,0,0,0\n", "lines 1 and 2"),
    "decimal commas": ("1,5;0;0;0;0\n1;1;0;0;0\n", "'1,5' has a decimal comma"),
    "decimal commas in all cells": ("1,5;0,0;0,0;0,0;0,1\n", "'1,5' has a decimal comma"),
    "decimal commas in quotes": ('m,x,y,vx,vy\n"1,5",0,0,0,0\n', "'1,5' has a decimal comma"),
    "decimal commas between spaces": ("1,5 0,0 0,0 0,0 0,1\n", "not a finite number"),
    "an open quote": ('m,x,y,vx,vy\n"1,0,0,0,0\n', "line 2 can't be read"),
    "an empty cell between tabs": ("1\t0\t0\t\t0\n", "line 1: '' is not a finite number"),
    "an empty column between tabs": ("1\t0\t0\t\t0\t0\t\n", "6 columns|'' is not"),
    "a cell too few": ("m,x,y,vx,vy\n1,0,0,0,0\n1,1,0,0,\n", "line 3: '' is not a finite"),
    "a row too short": ("m,x,y,vx,vy,id\n1,0,0,0,0,1\n1,1,0,0,0\n", "line 3 has 5 columns"),
    "a name without a column": ("Sun 1 0 0 0 0\n", "'Sun' is not a finite number"),
    "a row of units": ("m,x,y,vx,vy\nkg,m,m,m/s,m/s\n1,0,0,0,0\n", "line 2: 'kg' is not"),
    "numbers of columns": ("0,1,2,3,4\n1,0,0,0,0\n1,1,0,0,0\n", "line 1 counts the columns"),
    "an underline in a number": ("1_0 0 0 0 0\n1 1 0 0 0\n", "'1_0' is not a finite number"),
    "units and no G": ("# units: AU, yr, Msun\n" + PLAIN, "'AU, yr, Msun' and there is no G"),
    "G that is no number": ("# G: 4 pi^2\n1 0 0 0 0\n1 1 0 0 0\n", r"line 1: '4 pi\^2' is not"),
    "G with a unit": ("# G = 6.67e-11 m^3/kg/s^2\n" + PLAIN, "is not a finite number"),
    "two G": ("# G = 1\n# G: 2\n1 0 0 0 0\n1 1 0 0 0\n", "line 2: G is 2.0, and 1.0 above"),
    "two times": ("m,x,y,vx,vy,t\n1,0,0,0,0,1\n1,1,0,0,0,2\n", "'time' goes from 1.0 to 2.0"),
    "time twice": ("# time: 3\nm,x,y,vx,vy,t\n1,0,0,0,0,1\n1,1,0,0,0,1\n", "in a column and 3.0"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_table_that_can_not_be_read_for_sure_is_refused(tmp_path, name):
    text, message = WRONG[name]
    with pytest.raises(InputError, match=message):
        load(tmp_path, text, "txt")


MASS_LAST = "1 0.5 0 1 1e-3\n0.1 0 0 0.25 1\n"


@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ("G = 39,478", "'39,478' has a decimal comma"),
        ("G = 39,478.", "'39,478' has a decimal comma"),
        ("G = 4,30091e-3", "'4,30091e-3' has a decimal comma"),
        ("G: 4,30091E-3 pc", "'4,30091E-3' has a decimal comma"),
        ("G = 4,30091d-3", "'4,30091d-3' has a decimal comma"),
        ("G = 1,234.5", "'1,234.5' is not a finite number"),
        ("softening = 1,5e-2", "'1,5e-2' has a decimal comma"),
        ("eps: 0,1", "'0,1' has a decimal comma"),
        ("time = 3,5e0", "'3,5e0' has a decimal comma"),
        ("t = 3,5", "'3,5' has a decimal comma"),
        ("time: 3,5", "'3,5' has a decimal comma"),
    ],
)
def test_a_decimal_comma_in_a_comment_is_refused(tmp_path, comment, message, below):
    text = f"{PLAIN}# {comment}\n" if below else f"# {comment}\n{PLAIN}"
    with pytest.raises(InputError, match=message):
        load(tmp_path, text, "dat")


@pytest.mark.parametrize(
    "comment",
    [
        "1:x 2:y 3:vx 4:vy 5:m",
        "x:0 y:1 vx:2 vy:3 m:4",
        "(1) x (2) y (3) vx (4) vy (5) mass",
        "x [0], y [1], vx [2], vy [3], m [4]",
        "columns are x y vx vy m",
        "x | y | vx | vy | m",
        "| x | y | vx | vy | m |",
        "x y vx vy m | time = 0",
    ],
)
def test_names_of_columns_in_a_comment_are_read_if_they_are_sure(tmp_path, comment):
    arrays = load(tmp_path, f"#{comment}\n{MASS_LAST}", "dat").to_arrays()
    for key, value in zip(("mass", "position", "velocity"), PLANAR, strict=True):
        assert arrays[key].tolist() == value
    with pytest.raises(InputError, match="seems to name the columns; put their names in a line of"):
        load(tmp_path, f"{MASS_LAST}#{comment}\n", "dat")


@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize(
    "comment",
    [
        "x y vx vy m (code units)",
        "x y vx vy m, made by hand",
        "x y vx vy and the mass come in the usual order",
        "positions, velocities, mass",
        "mass, velocity, position",
        "mass, position, velocity, radius",
        "r v m",
        "pos_xyz vel_xyz m",
        "px py pvx pvy M_sun",
        "x_au y_au vx_kms vy_kms m_sun",
        "m:5 x:1 y:2 vx:3 vy:4",
        "mass in 5, x, y in 1-2, vx, vy in 3-4",
        "orbits by m a e inc Omega",
        "1: x\n# 2: y\n# 3: vx\n# 4: vy\n# 5: mass",
        "x: place\n# y\n# vx: speed\n# vy\n# m",
        "Column 5: mass\n# Column 1: x\n# Column 2: y\n# Column 3: vx\n# Column 4: vy",
    ],
)
def test_names_of_columns_that_are_not_understood_are_refused(tmp_path, comment, below):
    text = f"{MASS_LAST}# {comment}\n" if below else f"# {comment}\n{MASS_LAST}"
    with pytest.raises(InputError, match="seems to name the columns; put their names in a line of"):
        load(tmp_path, text, "dat")


@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize(
    "comment",
    [
        "SI",
        "SI units",
        "unit system: SI",
        "All quantities in SI",
        "cgs",
        "solar masses and astronomical units",
        "mass in Msun, positions in AU, velocities in AU/yr",
        "masses in M_sun",
        "distances in au",
        "Earth at 1 au",
        "lengths in m, times in s",
        "[Msun], [AU], [km/s]",
        "[m] [s]",
        "Msun,AU,AU,km/s,km/s",
        "kpc; km/s; 1e10 M☉",
        "G is 39.5",
        "G 39.478",
        "g = 39.478",
        "G [AU^3/Msun/yr^2] = 39.478",
        "GM = 1.327e20",
        "GM_sun: 1.327e20",
        "Newton's constant 39.5",
    ],
)
def test_units_or_a_G_that_a_comment_tells_are_not_passed_over(tmp_path, comment, below):
    text = f"{PLAIN}# {comment}\n" if below else f"# {comment}\n{PLAIN}"
    with pytest.raises(
        InputError, match="and there is no G that can be read; add the comment «# G"
    ):
        load(tmp_path, text, "dat")
    assert load(tmp_path, text, "dat", G=39.5).G == 39.5
    assert load(tmp_path, text + "# G = 39.5\n", "dat").G == 39.5


@pytest.mark.parametrize(
    "comment", ["soft = .1", "softening is 0.1", "softening of 0.1", "eps^2 = 0.01", "ε = 0.1"]
)
def test_a_softening_that_a_comment_tells_is_not_passed_over(tmp_path, comment):
    text = f"# {comment}\n{PLAIN}"
    with pytest.raises(InputError, match="there is no softening that can be read"):
        load(tmp_path, text, "dat")
    assert load(tmp_path, text, "dat", softening=0.1).softening == 0.1


@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize(
    "comment",
    [
        "two bodies on an orbit, mass ratio 0.5",
        "orbit with a = 1, e = 0.5, i = 0, omega = 0, f = 0",
        "a planet x around a star of mass m",
        "positions and velocities by Horizons",
        "mass, position, velocity",
        "a row for each body: mass x y vx vy",
        "1:mass 2:x 3:y 4:vx 5:vy",
        "Column 1: mass\n# Column 2: x\n# Column 3: y\n# Column 4: vx\n# Column 5: vy",
        "mass, x, y, vx, vy; time = 0",
        "Solar system, Sun and Jupiter, au revoir",
        "gravitational 3-body problem in Si, by software 3.2",
        "version 2 of 3, made on 2024-05-01,12:30 in 3 days",
        "N-body units",
        "units of length: code",
    ],
)
def test_comments_in_prose_are_passed_over(tmp_path, comment, below):
    text = f"{PLAIN}# {comment}\n" if below else f"# {comment}\n{PLAIN}"
    state = load(tmp_path, text, "dat")
    assert (state.G, state.softening, state.time.item()) == (1, 0, 0)
    assert state.to_arrays()["mass"].tolist() == PLANAR[0]


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ('# "G": 39.5', (39.5, 0.0, 0.0)),
        ("# constants: G: 39.5", (39.5, 0.0, 0.0)),
        ("# G: 39.5", (39.5, 0.0, 0.0)),
        ("#G=39.5", (39.5, 0.0, 0.0)),
        ("# G = 39.5, softening = 0.01, time = 3", (39.5, 0.01, 3.0)),
        ("# softening: 0.01\n# time: 3", (1.0, 0.01, 3.0)),
        ("# Softening length = 1.0D-2; Time = -3", (1.0, 0.01, -3.0)),
        ("# with G = 39.5 and softening = 0.01.", (39.5, 0.01, 0.0)),
        ("# eps = 0.01, t = 3", (1.0, 0.01, 3.0)),
        ("# Epsilon: 0.01", (1.0, 0.01, 0.0)),
        ("# gravitational constant = 39.5", (39.5, 0.0, 0.0)),
        ("# G = 39.5, 2 bodies at t = noon", (39.5, 0.0, 0.0)),
        ("# dt = 5, t_end = 7", (1.0, 0.0, 0.0)),
        ("# N-body units: G = M = 1", (1.0, 0.0, 0.0)),
        ("# units: N-body", (1.0, 0.0, 0.0)),
        ("# units: AU, yr, Msun\n# G: 39.5", (39.5, 0.0, 0.0)),
        ("# log: G went well", (1.0, 0.0, 0.0)),
    ],
)
@pytest.mark.parametrize("where", ["above", "below"])
def test_comments_hold_G_softening_and_time(tmp_path, comment, expected, where):
    text = f"{comment}\n{PLAIN}" if where == "above" else f"{PLAIN}{comment}\n"
    state = load(tmp_path, text, "dat")
    assert (state.G, state.softening, state.time.item()) == expected


def test_units_in_a_comment_go_with_a_G_beside_the_file(tmp_path):
    assert load(tmp_path, "# units: AU, yr, Msun\n" + PLAIN, G=39.5).G == 39.5


def test_a_column_of_equal_times_is_the_time(tmp_path):
    text = "t,m,x,y,vx,vy\n2.5,1,0,0,0,0\n2.5,1,1,0,0,0\n"
    assert load(tmp_path, text).time.tolist() == [2.5]


def structured(*fields):
    return np.zeros(2, dtype=list(fields))


def test_an_array_with_fields_is_read_by_their_names(tmp_path):
    rows = structured(
        ("vy", "f8"), ("id", "i8"), ("x", "f8"), ("y", "f4"), ("vx", "f8"), ("m", "f8")
    )
    values = dict(zip(("m", "x", "y", "vx", "vy"), np.arange(1.0, 11).reshape(5, 2), strict=True))
    for name, value in values.items():
        rows[name] = value
    np.save(tmp_path / "a.npy", rows)
    arrays = scenarios.load(tmp_path / "a.npy").to_arrays()
    assert arrays["mass"].tolist() == [1, 2]
    assert arrays["position"].tolist() == [[3, 5], [4, 6]]
    assert arrays["velocity"].tolist() == [[7, 9], [8, 10]]


def test_an_array_may_have_vectors_as_fields(tmp_path):
    rows = structured(("vel", "f8", 3), ("mass", "f8"), ("pos", "f8", 3))
    rows["mass"], rows["pos"][1], rows["vel"][1] = 1, [1, 2, 3], [4, 5, 6]
    np.save(tmp_path / "a.npy", rows)
    arrays = scenarios.load(tmp_path / "a.npy").to_arrays()
    assert arrays["position"].tolist() == [[0, 0, 0], [1, 2, 3]]
    assert arrays["velocity"].tolist() == [[0, 0, 0], [4, 5, 6]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (structured(("m", "f8"), ("x", "f8"), ("y", "f8"), ("vx", "f8")), "'vy' is missing"),
        (structured(("m", "f8"), ("pos", "f8", 4), ("vel", "f8", 3)), "'pos' has shape"),
        (structured(("m", "c16"), ("pos", "f8", 2), ("vel", "f8", 2)), "'m' holds complex128"),
        (structured(("m", "f8"), ("a", "f8"), ("e", "f8"), ("M", "f8")), "elements"),
    ],
)
def test_fields_that_can_not_be_used_are_named(tmp_path, rows, message):
    np.save(tmp_path / "a.npy", rows)
    with pytest.raises(InputError, match=message):
        scenarios.load(tmp_path / "a.npy")


def test_a_key_that_stands_twice_is_refused(tmp_path):
    good = json.dumps({"mass": [1, 1], "position": [[0, 0], [1, 0]], "velocity": [[0, 0], [0, 1]]})
    with pytest.raises(InputError, match="'mass' stands there twice"):
        load(tmp_path, good[:-1] + ', "mass": [2, 2]}', "json")
