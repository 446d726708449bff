"""Dates and times of day: found in text, made inputs, and read again alike from every kind of table."""

import datetime
import json

import numpy as np
import pytest

import nnx
from nnx.data import dates
from nnx.data.columns import Columns
from nnx.data.encoding import Notes
from nnx.data.prepare import Preparation
from nnx.data.source import Samples, Table

polars = pytest.importorskip("polars", reason="the command line's readers (extra cli) are not installed")
pytest.importorskip("sklearn", reason="scikit-learn (extra cli) is not installed")

M = 90
MOMENTS = np.datetime64("2023-11-20T06:30", "us") + np.arange(M) * np.timedelta64(17, "h")


def raises(*fragments):
    return pytest.raises(nnx.InputError, match="(?s)" + ".*".join(fragments))


def learned(frame, day_first=None):
    """The preparation of a frame's columns, as a model file brings it back."""
    frame = frame.with_columns(target=polars.Series(np.arange(len(frame)) % 2))
    samples = Table("the table", frame).training("target", (), day_first)
    p = Preparation.learn(samples, "classification", slice(None))
    again = Preparation.of({"preparation": json.loads(json.dumps(p.describe()))})
    assert again == p
    np.testing.assert_array_equal(again.X(frame), p.X(samples.X))
    return again


@pytest.mark.parametrize(
    ("text", "order", "expected"),
    [
        (["2024-03-01", None, "2024/3/1", "2024.03.01"], "year first", "2024-03-01"),
        (["2024-03-01 12:30", "2024-03-01T12:30:00", "2024-03-01 12:30:00.000Z"], "year first", "2024-03-01T12:30"),
        (["2024-03-01T00:30+01:00", "2024-02-29 20:00-0330", "2024-03-01 02:30+03"], "year first", "2024-02-29T23:30"),
        (["2024-03-01 12:30:15.25", "2024-03-01T12:30:15,250000000 UTC"], "year first", "2024-03-01T12:30:15.250"),
        (["Mar 1, 2024", "1 Mar 2024", "March 2024", "01-MAR-2024", "March 1 2024"], "year first", "2024-03-01"),
        (["01.03.2024", "1.3.2024 0:00"], "day first", "2024-03-01"),
        (["13/3/2024", "2024-03-13", "13-03-2024"], "day first", "2024-03-13"),
        (["3/13/2024 5:30 PM", "3/13/2024, 17:30", "2024-03-13 5:30pm"], "month first", "2024-03-13T17:30"),
        (["12:30 am", "0:30", "00:30:00", "01:30+01:00"], "time", "1970-01-01T00:30"),
    ],
)  # fmt: skip
def test_text_that_is_read(text, order, expected):
    series = polars.Series(text)
    found, moments, wrong = dates.find(series, None)
    assert (found, wrong) == (order, -1)
    assert moments.is_null().to_list() == series.is_null().to_list()
    assert set(moments.drop_nulls()) == {int(np.datetime64(expected, "us").astype(int))}


@pytest.mark.parametrize(("day_first", "month"), [(True, 3), (False, 1)])
def test_dates_that_could_be_both_are_what_one_says(day_first, month):
    p = learned(polars.DataFrame({"when": ["1/3/2024", "2/3/2024"] * 9}), day_first)
    assert p.columns[0].dates.first == f"2024-{month:02}-0{4 - month}"
    (line,) = p.account()
    assert (
        line
        == f"dates: when ({'' if day_first else '2 months, '}2 weekdays, days since {p.columns[0].dates.first})"
    )
    told = learned(polars.DataFrame({"when": ["1/3/2024", "12/31/2024"] * 9}), day_first)  # by 31
    assert told.columns[0].dates.order == "month first"


def test_inputs_are_the_parts_that_differ():
    p = learned(polars.DataFrame({"when": MOMENTS}))
    hours = sorted(set(MOMENTS.astype("M8[h]").astype(int) % 24))
    parts = [
        *(f"month={n}" for n in (1, 11, 12)),
        *(f"weekday={n}" for n in range(1, 8)),
        *(f"hour={n}" for n in hours),
    ]
    assert p.inputs == [f"when {one}" for one in ("year", "hour sine", "hour cosine", "days", *parts)]
    assert p.account() == ["dates: when (year, 3 months, 7 weekdays, 24 hours, days since 2023-11-20)"]
    X = p.X({"when": [datetime.datetime(2024, 1, 1, 18, 30), datetime.datetime(2023, 12, 1)]})
    at = dict(zip(p.inputs, X, strict=True))
    year = np.where(MOMENTS < np.datetime64("2024"), 2023, 2024)
    np.testing.assert_allclose(at["when year"], (np.array([2024, 2023]) - year.mean()) / year.std())
    days = (MOMENTS - np.datetime64("2023-11-20")) / np.timedelta64(1, "D")
    np.testing.assert_allclose(at["when days"], (np.array([42 + 18.5 / 24, 11]) - days.mean()) / days.std())
    np.testing.assert_allclose(at["when hour sine"], [np.sin(2 * np.pi * 18.5 / 24), 0], atol=1e-12)
    np.testing.assert_allclose(at["when hour cosine"], [np.cos(2 * np.pi * 18.5 / 24), 1], atol=1e-12)
    ones = [["month=1", "month=12"], ["weekday=1", "weekday=5"], ["hour=18", "hour=0"]]  # a Monday, a Friday
    np.testing.assert_array_equal([at[f"when {first}"] for first, _ in ones], [[1, 0]] * 3)
    np.testing.assert_array_equal([at[f"when {second}"] for _, second in ones], [[0, 1]] * 3)
    assert sum(at[f"when {one}"].sum() for one in parts) == 6


def test_parts_that_the_training_did_not_have_are_zeros_and_counted():
    when = [f"2024-0{month}-01 0{hour}:30" for month in (1, 3) for hour in (6, 7)] * 9
    p = learned(polars.DataFrame({"when": [*when, None]}))
    assert p.inputs[3:-1] == [
        f"when {one}" for one in ("month=1", "month=3", "weekday=1", "weekday=5", "hour=6", "hour=7")
    ]
    notes = Notes()
    X = p.X({"when": ["2024-03-01 07:45", "2024-05-01 08:00", "2024-05-03 06:30", None]}, notes=notes)
    np.testing.assert_array_equal(
        X[3:].T, [[0, 1, 0, 1, 0, 1, 0], [0] * 7, [0, 0, 0, 1, 1, 0, 0], [1, 0, 0, 0, 0, 1, 1]]
    )
    assert (notes.unseen, notes.filled) == ({"when": 2}, {"when": 1})
    assert notes.example == {"when": "month=5, weekday=3, hour=8"}


def test_parts_that_are_constant_are_left_out():
    days = MOMENTS[:20].astype("M8[D]").astype("M8[us]")
    for same in (MOMENTS[:1].repeat(20), ["2024-03-01"] * 20):
        p = learned(polars.DataFrame({"when": days, "same": same}))
        parts = ["days", "month=11", "month=12", *(f"weekday={n}" for n in range(1, 8))]
        assert p.inputs == [f"when {one}" for one in parts]
        assert p.account()[-1] == "left out: same (constant)"
    hours = learned(polars.DataFrame({"clock": ["9:30", "17:05 UTC"] * 5}))
    parts = ["clock hour sine", "clock hour cosine", "clock hour=9", "clock hour=17"]
    assert (hours.inputs, hours.account()) == (parts, ["dates: clock (2 hours)"])
    np.testing.assert_allclose(hours.X({"clock": [datetime.time(17)]})[2:], [[0], [1]])
    minutes = learned(polars.DataFrame({"clock": ["9:30", "9:45"] * 5}))
    assert (minutes.inputs, minutes.account()) == (parts[:2], ["dates: clock (hour)"])
    np.testing.assert_allclose(minutes.X({"clock": ["18:00"]}), [[-1], [0]], atol=1e-12)


def test_missing_dates_are_the_median():
    frame = polars.DataFrame(
        {"when": polars.Series(MOMENTS).scatter([3, 5], None), "clock": ["6:00", None, "18:00"] * 30}
    )
    p = learned(frame)
    assert [one for one in p.inputs if "missing" in one] == ["when is missing", "clock is missing"]
    notes, median = Notes(), polars.Series(np.delete(MOMENTS, [3, 5])).median()
    X = p.X(polars.DataFrame({"when": [None, median], "clock": [None, "12:00"]}), notes=notes)
    assert notes.filled == {"when": 1, "clock": 1}
    same = ["missing" not in one for one in p.inputs]
    np.testing.assert_allclose(*X[same].T)
    np.testing.assert_array_equal(X[np.logical_not(same)], [[1, 0], [1, 0]])
    said = f"missing, filled with the median: when (2, with {str(median)[:16]}), clock (30, with 12:00)"
    assert p.account()[-1] == said


def test_every_kind_of_table_gives_the_same_inputs(tmp_path):
    p = learned(polars.DataFrame({"when": MOMENTS}))
    expected, given = p.X({"when": MOMENTS}), polars.Series("when", MOMENTS)
    assert expected.shape == (len(p.inputs), M)
    for unit in ("ms", "ns"):
        np.testing.assert_array_equal(
            p.X(polars.DataFrame({"when": given.cast(polars.Datetime(unit))})), expected
        )
    berlin = given.dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Berlin")
    np.testing.assert_array_equal(p.X(berlin.to_frame()), expected)
    for pattern in ("%Y-%m-%d %H:%M", "%d %b %Y %I:%M %p", "%Y/%m/%dT%H:%M:%S%.6fZ"):
        text = given.dt.strftime(pattern)
        np.testing.assert_array_equal(p.X(text.to_frame()), expected)
        np.testing.assert_array_equal(learned(text.to_frame()).X(text.to_frame()), expected)
    np.testing.assert_array_equal(
        learned(given.dt.strftime("%m/%d/%Y %H:%M").to_frame()).X(given.to_frame()), expected
    )
    np.testing.assert_array_equal(p.X({"when": MOMENTS.astype("M8[s]")}), expected)
    np.testing.assert_array_equal(p.X({"when": MOMENTS.tolist()}), expected)


def test_data_frames_of_pandas_and_arrow():
    p = learned(polars.DataFrame({"when": MOMENTS}))
    expected = p.X({"when": MOMENTS})
    pandas = pytest.importorskip("pandas")
    plain = pandas.DataFrame({"when": MOMENTS})
    for given in (plain, plain.astype("datetime64[ns]"), plain.astype("datetime64[s]"), plain.astype(object)):
        np.testing.assert_array_equal(p.X(given), expected)
    zoned = plain.assign(when=plain.when.dt.tz_localize("UTC").dt.tz_convert("America/New_York"))
    np.testing.assert_array_equal(p.X(zoned), expected)
    hole = p.X(plain.assign(when=plain.when.where(plain.index != 4)))
    assert (hole[:, 4] != expected[:, 4]).any()
    np.testing.assert_array_equal(np.delete(hole, 4, 1), np.delete(expected, 4, 1))
    arrow = pytest.importorskip("pyarrow")
    np.testing.assert_array_equal(p.X(arrow.table({"when": MOMENTS})), expected)


def test_what_is_no_date_when_a_model_is_used():
    p = learned(polars.DataFrame({"when": ["13.01.2024", "01.02.2024 17:30", None] * 9, "x": range(27)}))
    new = Table(
        "new", polars.DataFrame({"when": ["1.2.2024", "2024-02-01", "31.02.2024"], "x": [1, 2, 3]}), first=11
    )
    with raises(
        "the column 'when' of new holds '31.02.2024' in row 13 .* expected a date with the day first, such as"
    ):
        p.X(new.values(p.features, True))
    for wrong in (polars.Series([20240301]), polars.Series([datetime.time(9)]), polars.Series(["soon"])):
        with raises(
            "the column 'when' of the data frame holds .* in row 1 .*; expected a date with the day first"
        ):
            p.X(polars.DataFrame({"when": wrong, "x": [1]}))
    with raises("trained on dates in the column 'when'; give a table, not an array"):
        p.X(np.ones((1, 2)))
    late = polars.Series([10**15]).cast(polars.Datetime("ms"))
    with raises("the column 'when' of the data frame holds"):
        p.X(polars.DataFrame({"when": late, "x": [1]}))


def test_numbers_of_seconds_stay_numbers_and_durations_are_days():
    seconds = MOMENTS.astype("M8[s]").astype(int)
    frame = polars.DataFrame({"unix": seconds, "took": MOMENTS - MOMENTS[0]})
    p = learned(frame)
    assert p.account() == ["numbers: unix, took"]
    column = Columns("it", frame).numbers("took")
    np.testing.assert_allclose(column, np.arange(M) * 17 / 24)
    np.testing.assert_allclose(p.X({"unix": seconds[:2], "took": column[:2]}), p.X(frame[:2]))


@pytest.mark.parametrize(
    "target",
    [
        polars.Series(MOMENTS),
        polars.Series(MOMENTS).dt.date(),
        polars.Series(MOMENTS).dt.strftime("%d/%m/%Y"),
    ],
)
def test_dates_are_no_target(target):
    with raises("the target 'y' of the table holds dates or times such as '.*; expected classes or numbers"):
        Table("the table", polars.DataFrame({"y": target, "x": range(M)})).training("y", ())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"order": "backwards"}, "dates.order is 'backwards'; expected one of year first"),
        ({"first": "yesterday"}, "dates.first is 'yesterday'; expected a day"),
        ({"first": "NaT"}, "dates.first is 'NaT'; expected a day"),
        ({"numbers": []}, "dates.numbers is"),
        ({"numbers": ["days", "year"]}, "dates.numbers is .*in this order"),
        ({"numbers": ["year"]}, "mean has 38 entries; expected 35"),
        ({"one_hot": {"year": [1, 2]}}, "dates.one_hot has the unknown 'year'"),
        ({"one_hot": {"month": [0, 2]}}, "dates.one_hot.month.0. is 0; expected a whole number from 1 to 12"),
        (
            {"one_hot": {"weekday": [2, 8]}},
            "dates.one_hot.weekday.1. is 8; expected a whole number from 1 to 7",
        ),
        ({"one_hot": {"hour": ["noon"]}}, "dates.one_hot.hour.0. is 'noon'"),
        (
            {"one_hot": {"hour": [3]}},
            "dates.one_hot.hour is .3.; expected two numbers or more, in ascending order",
        ),
        ({"one_hot": {"month": [3, 2]}}, "dates.one_hot.month is .3, 2.; .* in ascending order"),
        ({"one_hot": [3]}, "dates.one_hot is .3.; expected an object"),
        ({"one_hot": {}}, "mean has 38 entries; expected 4"),
        ({"more": 1}, "unknown 'more'"),
        (None, "is of the kind 'date'"),
    ],
)
def test_a_damaged_description_is_refused(change, why):
    described = learned(polars.DataFrame({"when": MOMENTS})).describe()
    column = described["columns"][0]
    column["dates"] = None if change is None else {**column["dates"], **change}
    with raises(f"the model's description of its data cannot be read: .*{why}"):
        Preparation.of({"preparation": described})


def test_columns_without_orders_are_typed_ones(rng):
    frame = polars.DataFrame({"when": MOMENTS, "x": rng.random(M)})
    samples = Samples(Columns("the table", frame), np.arange(M) % 2, frame.columns, "y")
    p = Preparation.learn(samples, "classification", np.arange(60))
    assert p.columns[0].dates.order == "year first"


def test_the_command_line(run):
    frame = polars.DataFrame({"when": polars.Series(MOMENTS).dt.strftime("%d/%m/%Y"), "x": np.arange(M) % 7})
    frame = frame.with_columns(
        level=polars.Series(np.where(MOMENTS.astype("M8[D]").astype(int) % 7 < 2, "a", "b"))
    )
    frame.write_csv("t.csv")
    frame.with_columns(when=polars.Series(["1/2/2024", "1/3/2024"] * (M // 2))).write_csv("both.csv")
    fast = ("--target", "level", "--layers", "4", "--epochs", "1", "--no-plots")
    status, _, said = run("train", "t.csv", *fast, "--out", "run")
    assert status == 0
    assert "dates: when (year, 3 months, 7 weekdays, days since 2023-11-20)" in said
    _, of_csv, _ = run("predict", "run", "t.csv")
    frame.with_columns(when=polars.Series(MOMENTS).dt.date()).write_parquet("t.parquet")
    assert run("predict", "run", "t.parquet")[1] == of_csv
    assert len(of_csv.splitlines()) == M + 1
    status, _, said = run("train", "both.csv", *fast, "--out", "both")
    assert status == 1
    assert "when (dates such as '1/2/2024'" in said
    assert "give --day-first or --month-first" in said
    assert run("train", "both.csv", *fast, "--month-first", "--out", "both")[0] == 0
    status, _, said = run("train", "--config", "both/config.toml", "--out", "again")
    assert status == 0
    assert "days since 2024-01-02" in said


def test_rows_without_a_target_tell_nothing_of_the_order():
    frame = polars.DataFrame({"when": ["soon", "13/1/2024", "14/2/2024"] * 9, "y": [None, "p", "q"] * 9})
    samples = Table("the table", frame).training("y", ())
    p = Preparation.learn(samples, "classification", slice(None))
    assert p.columns[0].dates.order == "day first"
    np.testing.assert_array_equal(p.X(samples.X), p.X({"when": ["2024-01-13", "2024-02-14"] * 9}))
