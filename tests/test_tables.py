import numpy as np
import pandas as pd

from nbcore.tables import read_table, write_table


def test_a_table_comes_back_as_it_was(tmp_path):
    table = pd.DataFrame(
        {
            "name": ["a, b", "", 'say "x"\nand more'],
            "number": [1 / 3, np.nan, np.inf],
            "count": [1, 2, 10**15],
            "good": [True, False, True],
        }
    )
    table.attrs = {"machine": {"cores": 2}, "edge": np.nan, "sizes": [1, 2]}
    path = tmp_path / "table.csv"
    write_table(table, path)
    back = read_table(path)
    pd.testing.assert_frame_equal(back, table, check_exact=True)
    assert back.attrs["machine"] == {"cores": 2}
    assert np.isnan(back.attrs["edge"])
    assert [each.name for each in tmp_path.iterdir()] == ["table.csv"]


def test_any_program_reads_it(tmp_path):
    path = tmp_path / "table.csv"
    write_table(pd.DataFrame({"x": [1.5], "y": [2.5]}), path)
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert np.loadtxt(path, delimiter=",", skiprows=2).tolist() == [1.5, 2.5]
