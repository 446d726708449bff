"""Ten tables of the kind people have, made from a seed: signals, noise, holes, dates, keys, and what else goes wrong.

Each is modelled on a well-known table, and says by which columns one would learn it by hand.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class People:
    """A table.

    Attributes
    ----------
    columns : dict of array (m + tests,) of objects, None where a value is missing
        The first m rows are to train on.
    target : str
    task : {"classification", "regression"}
        What the target is for a person who looks at it.
    numbers, text, dates : list of str
        The columns that one would use, by what they are. Others are keys, names, constant or the like.
    m : int
    """

    columns: dict[str, Any]
    target: str
    task: str
    numbers: list[str]
    text: list[str]
    dates: list[str]
    m: int


def _holes(rng: Any, values: Any, share: float) -> Any:
    values = np.asarray(values).astype(object)
    values[rng.random(len(values)) < share] = None
    return values


def _chosen(rng: Any, names: str, m: int, p: Any = None) -> Any:
    return rng.choice(names.split(), m, p=p)


def _effect(values: Any, **of: float) -> Any:
    return np.array([of.get(str(value), 0.0) for value in values])


def _happens(rng: Any, logit: Any) -> Any:
    return rng.random(len(logit)) < 1 / (1 + np.exp(-logit))


def churn(rng: Any, tests: int = 2000) -> People:
    """Customers who leave: keys, a total that is missing for the newest."""
    m = 3000 + tests
    tenure = np.minimum(rng.integers(0, 73, m), rng.integers(0, 90, m))
    contract = _chosen(rng, "Month-to-month One-year Two-year", m, [0.55, 0.21, 0.24])
    internet = _chosen(rng, "DSL Fiber No", m, [0.34, 0.44, 0.22])
    payment = _chosen(rng, "Electronic-check Mailed-check Bank-transfer Credit-card", m)
    senior, partner = rng.random(m) < 0.16, _chosen(rng, "Yes No", m)
    monthly = np.round(20 + _effect(internet, DSL=30, Fiber=60) + rng.normal(0, 8, m), 2)
    logit = -1.1 - 0.045 * tenure + _effect(contract, **{"Month-to-month": 1.2, "Two-year": -1.0})
    logit += (
        _effect(internet, Fiber=1.1, No=-0.9) + 0.4 * senior + _effect(payment, **{"Electronic-check": 0.5})
    )
    total = np.round(tenure * monthly, 2).astype(object)
    total[tenure == 0] = None
    columns = {
        "customerID": [f"{k:04}-{'ABCDEFG'[k % 7]}{k * 7919 % 9973:04}" for k in range(m)],
        "SeniorCitizen": senior.astype(int), "Partner": partner, "tenure": tenure, "Contract": contract,
        "InternetService": internet, "PaymentMethod": payment, "MonthlyCharges": monthly, "TotalCharges": total,
        "Churn": np.where(_happens(rng, logit), "Yes", "No"),
    }  # fmt: skip
    numbers = ["SeniorCitizen", "tenure", "MonthlyCharges", "TotalCharges"]
    text = ["Partner", "Contract", "InternetService", "PaymentMethod"]
    return People(columns, "Churn", "classification", numbers, text, [], 3000)


def titanic(rng: Any, tests: int = 2000) -> People:
    """Passengers: names, tickets, cabins that are mostly missing, ages that are at times, fares that are skewed."""
    m = 891 + tests
    pclass, sex = rng.choice([1, 2, 3], m, p=[0.24, 0.21, 0.55]), _chosen(rng, "male female", m, [0.65, 0.35])
    age = np.clip(rng.normal(38 - 4 * pclass, 13, m), 0.5, 80).round()
    siblings, parents = rng.poisson(0.5, m), rng.poisson(0.4, m)
    fare = np.round(np.exp(rng.normal(4.6 - 0.75 * pclass, 0.6, m)) * (1 + 0.3 * (siblings + parents)), 4)
    female = sex == "female"
    logit = -0.9 + 3 * female - 0.8 * (pclass - 2) - 0.8 * female * (pclass == 3) - 0.03 * (age - 30)
    logit -= 0.4 * siblings
    deck = np.array([f"{'ABCDEFG'[k % 7]}{k % 97}" for k in rng.integers(0, 9999, m)])
    columns = {
        "PassengerId": np.arange(1, m + 1), "Survived": _happens(rng, logit).astype(int), "Pclass": pclass,
        "Name": [f'Name{k}, Mr. "N" {k * 31 % 997}' for k in range(m)], "Sex": sex, "Age": _holes(rng, age, 0.2),
        "SibSp": siblings, "Parch": parents, "Ticket": [f"A/5 {k * 7919 % 99991}" for k in range(m)], "Fare": fare,
        "Cabin": _holes(rng, deck, 0.77), "Embarked": _holes(rng, _chosen(rng, "S C Q", m, [0.72, 0.19, 0.09]), 0.003),
    }  # fmt: skip
    numbers = ["Pclass", "Age", "SibSp", "Parch", "Fare"]
    return People(columns, "Survived", "classification", numbers, ["Sex", "Embarked"], [], 891)


def penguins(rng: Any, tests: int = 1000) -> People:
    """Three species, few rows, some missing."""
    m = 344 + tests
    kind = rng.choice(3, m, p=[0.44, 0.2, 0.36])
    male = rng.random(m) < 0.5
    bill = np.array([38.8, 48.8, 47.5])[kind] + 1.7 * male + rng.normal(0, 2.4, m)
    depth = np.array([18.3, 18.4, 15.0])[kind] + 0.7 * male + rng.normal(0, 0.9, m)
    flipper = np.array([190, 196, 217])[kind] + 3 * male + rng.normal(0, 6, m)
    mass = np.array([3700, 3730, 5080])[kind] + 300 * male + rng.normal(0, 330, m)
    islands = np.array(["Torgersen", "Dream", "Biscoe"])
    columns = {
        "species": np.array(["Adelie", "Chinstrap", "Gentoo"])[kind],
        "island": np.where(kind == 0, islands[rng.integers(0, 3, m)], islands[kind]),
        "bill_length_mm": _holes(rng, bill.round(1), 0.01), "bill_depth_mm": _holes(rng, depth.round(1), 0.01),
        "flipper_length_mm": _holes(rng, flipper.round(), 0.01),
        "body_mass_g": _holes(rng, 25 * (mass / 25).round(), 0.01),
        "sex": _holes(rng, np.where(male, "male", "female"), 0.03), "year": rng.integers(2007, 2010, m),
    }  # fmt: skip
    numbers = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "year"]
    return People(columns, "species", "classification", numbers, ["island", "sex"], [], 344)


def diamonds(rng: Any, tests: int = 2000) -> People:
    """Prices, skewed, of stones; rows that are there twice."""
    m = 6000 + tests
    carat = np.round(np.clip(np.exp(rng.normal(-0.4, 0.6, m)), 0.2, 4), 2)
    cut = _chosen(rng, "Fair Good VeryGood Premium Ideal", m, [0.03, 0.09, 0.22, 0.26, 0.4])
    grades = np.array(["I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"])
    color, grade = rng.integers(0, 7, m), rng.integers(0, 8, m)
    x = np.round(6.5 * carat ** (1 / 3) * (1 + rng.normal(0, 0.01, m)), 2)
    log = 8.45 + 1.7 * np.log(carat) + _effect(cut, Fair=-0.15, Good=-0.08, Ideal=0.06)
    log += 0.11 * grade - 0.08 * color
    columns = {
        "carat": carat, "cut": cut, "color": np.array([*"DEFGHIJ"])[color], "clarity": grades[grade],
        "depth": rng.normal(61.7, 1.4, m).round(1),
        "table": rng.normal(57, 2.2, m).round(), "price": np.exp(log + rng.normal(0, 0.1, m)).round().astype(int),
        "x": x, "y": np.round(x * (1 + rng.normal(0, 0.005, m)), 2), "z": np.round(0.617 * x, 2),
    }  # fmt: skip
    twice = np.arange(m)
    twice[300:450] = twice[:150]
    columns = {name: np.asarray(values)[twice] for name, values in columns.items()}
    numbers = ["carat", "depth", "table", "x", "y", "z"]
    return People(columns, "price", "regression", numbers, ["cut", "color", "clarity"], [], 6000)


def flights(rng: Any, tests: int = 2000) -> People:
    """Delays in minutes, missing for flights that were cancelled; airports, tail numbers, a date with a time."""
    m = 6000 + tests
    minutes = rng.integers(0, 364, m) * 1440 + 15 * rng.integers(20, 92, m)
    at = np.datetime64("2013-01-01", "m") + minutes
    hour = (minutes % 1440) / 60
    month = at.astype("M8[M]").astype(int) % 12
    carrier, origin = _chosen(rng, "UA B6 EV DL AA MQ US WN 9E", m), _chosen(rng, "EWR JFK LGA", m)
    airports = np.array([f"{a}{b}{c}" for a in "ABCD" for b in "OIE" for c in "RNT"])
    dest, distance = rng.integers(0, len(airports), m), rng.integers(200, 2600, len(airports))
    delay = 3 * (hour - 5) - 20 + _effect(carrier, EV=10, B6=5, UA=-4) + 9 * np.isin(month, [5, 6, 11])
    delay += 5 * (origin == "EWR") + rng.gamma(1.5, 9, m)
    taken = distance[dest] / 7.5 + rng.normal(18, 6, m)
    columns = {
        "scheduled": at.astype(str).astype(object), "carrier": carrier, "flight": rng.integers(1, 6000, m),
        "tailnum": _holes(rng, [f"N{k}" for k in rng.integers(10000, 99999, m)], 0.01), "origin": origin,
        "dest": airports[dest], "air_time": _holes(rng, taken.round(), 0.03), "distance": distance[dest],
        "arr_delay": _holes(rng, delay.round().astype(int), 0.03),
    }  # fmt: skip
    numbers = ["flight", "air_time", "distance"]
    return People(
        columns, "arr_delay", "regression", numbers, ["carrier", "origin", "dest"], ["scheduled"], 6000
    )


def houses(rng: Any, tests: int = 1000) -> People:
    """Wide: eighty columns, half of them noise, with many holes; prices that are skewed."""
    m = 1460 + tests
    area, quality = np.exp(rng.normal(7.25, 0.33, m)).round(), np.clip(rng.normal(6, 1.4, m).round(), 1, 10)
    built = rng.integers(1900, 2011, m)
    zones = np.array([f"Zone{k}" for k in range(25)])
    zone, worth = rng.integers(0, 25, m), rng.normal(0, 0.15, 25)
    log = 8.2 + 0.45 * np.log(area) + 0.11 * quality + 0.0025 * (built - 1970) + worth[zone]
    columns = {"Id": np.arange(1, m + 1), "GrLivArea": area, "OverallQual": quality.astype(int), "YearBuilt": built,
               "Neighborhood": zones[zone], "Utilities": ["AllPub"] * m}  # fmt: skip
    numbers, text = ["GrLivArea", "OverallQual", "YearBuilt"], ["Neighborhood"]
    for k in range(40):
        values = rng.gamma(1.5, 100, m).round() if k % 2 else rng.integers(0, 4, m)
        log += 0.04 * (k < 8) * (values - values.mean()) / values.std()
        columns[f"Number{k}"] = _holes(rng, values, [0.0, 0.05, 0.18][k % 3])
        numbers.append(f"Number{k}")
    for k in range(33):
        values = _chosen(rng, "Ex Gd TA Fa Po", m, [0.1, 0.25, 0.5, 0.1, 0.05])
        log += 0.05 * (k < 5) * _effect(values, Ex=2, Gd=1, Fa=-1, Po=-2)
        columns[f"Kind{k}"] = _holes(rng, values, [0.0, 0.05, 0.9][k % 3])
        text.append(f"Kind{k}")
    columns["SalePrice"] = (np.exp(log + rng.normal(0, 0.1, m)) / 100).round().astype(int) * 100
    return People(columns, "SalePrice", "regression", numbers, text, [], 1460)


def credit(rng: Any, tests: int = 3000) -> People:
    """Defaults, which are rare: a column that is constant, one that is there twice, amounts over five powers of ten."""
    m = 6000 + tests
    limit, age = np.exp(rng.normal(11.5, 0.8, m)).round(-3), rng.integers(21, 70, m)
    late = np.maximum(rng.integers(-2, 2, m), rng.poisson(0.35, m) * 2 - 1)
    bill = (limit * rng.beta(0.6, 1.5, m)).round()
    paid = (bill * rng.beta(0.5, 4, m)).round()
    education = _chosen(rng, "graduate university school other", m, [0.35, 0.46, 0.16, 0.03])
    logit = (
        -3.7 + 0.9 * late + 1.6 * bill / limit - 0.25 * (np.log(limit) - 11.5) - 0.2 * np.log1p(paid / 1000)
    )
    columns = {
        "ID": rng.permutation(m) + 100_000, "LIMIT_BAL": limit, "EDUCATION": education,
        "MARRIAGE": rng.integers(1, 4, m), "AGE": age, "PAY_0": late, "BILL_AMT1": bill, "BILL_AMT1_copy": bill,
        "PAY_AMT1": paid, "currency": ["TWD"] * m, "active": [1] * m, "default": _happens(rng, logit).astype(int),
    }  # fmt: skip
    numbers = ["LIMIT_BAL", "MARRIAGE", "AGE", "PAY_0", "BILL_AMT1", "PAY_AMT1"]
    return People(columns, "default", "classification", numbers, ["EDUCATION"], [], 6000)


def wine(rng: Any, tests: int = 2000) -> People:
    """Quality from 3 to 8: ordered classes, the outer ones rare."""
    m = 3000 + tests
    X = rng.normal(size=(m, 11))
    X[:, 7] = 0.7 * X[:, 7] - 0.7 * X[:, 10]
    score = 5.7 + 0.75 * X[:, 10] - 0.6 * X[:, 1] + 0.35 * X[:, 9] - 0.25 * X[:, 4] + rng.normal(0, 0.45, m)
    names = [
        "fixed acidity", "volatile acidity", "citric acid", "residual sugar", "chlorides", "free sulfur dioxide",
        "total sulfur dioxide", "density", "pH", "sulphates", "alcohol",
    ]  # fmt: skip
    values = np.exp(0.3 * X) * np.array([8, 0.5, 0.3, 2.5, 0.09, 16, 46, 1, 3.3, 0.66, 10.4])
    columns = dict(zip(names, np.round(values, 4).T, strict=True))
    columns["quality"] = np.clip(score.round(), 3, 8).astype(int)
    return People(columns, "quality", "classification", names, [], [], 3000)


def bikes(rng: Any, tests: int = 2000) -> People:
    """Rentals by hour, with the day first: two rush hours on working days, one mountain at weekends, more each year."""
    m = 8000 + tests
    hours = rng.choice(2 * 365 * 24, m, replace=False)
    at = np.datetime64("2011-01-01", "h") + hours
    clock, day = hours % 24, at.astype("M8[D]")
    working = (day.astype(int) + 3) % 7 < 5
    season = 2 * np.pi * (at - at.astype("M8[Y]")).astype(int) / 8766
    rush = np.exp(-((clock - 8) ** 2) / 2) + 1.3 * np.exp(-((clock - 17.5) ** 2) / 4)
    noon = 1.1 * np.exp(-((clock - 14) ** 2) / 18)
    temperature = 15 - 11 * np.cos(season) + 3 * np.sin(2 * np.pi * (clock - 9) / 24) + rng.normal(0, 2.5, m)
    weather = _chosen(rng, "clear mist rain", m, [0.66, 0.26, 0.08])
    rate = (30 + 260 * np.where(working, rush, noon) + 60 * np.exp(-((clock - 14) ** 2) / 40)) * (
        1 + hours / 12000
    )
    rate *= np.clip(0.35 + 0.045 * temperature, 0.1, 1.3) * (1 + _effect(weather, mist=-0.12, rain=-0.55))
    moments = [f"{str(one)[8:10]}/{str(one)[5:7]}/{str(one)[:4]} {str(one)[11:13]}:00" for one in at]
    columns = {
        "instant": rng.permutation(m), "datetime": moments, "weather": weather, "temp": temperature.round(1),
        "humidity": _holes(rng, rng.integers(20, 100, m), 0.02), "windspeed": rng.gamma(2, 6, m).round(1),
        "count": rng.poisson(rate * rng.gamma(20, 1 / 20, m)),
    }  # fmt: skip
    return People(
        columns, "count", "regression", ["temp", "humidity", "windspeed"], ["weather"], ["datetime"], 8000
    )


def sensors(rng: Any, tests: int = 4000) -> People:
    """A long log: moments in UTC, readings with holes and rows twice; the state is mostly ok."""
    m = 20_000 + tests
    at = np.datetime64("2024-02-01T00:00:00", "s") + np.cumsum(rng.integers(30, 300, m))
    sensor = rng.integers(0, 12, m)
    clock = (at - at.astype("M8[D]")).astype(int) / 3600
    heat = 55 + 2 * (sensor % 4) + 6 * np.sin(2 * np.pi * (clock - 9) / 24) + rng.normal(0, 5, m)
    shake = np.exp(rng.normal(0, 0.7, m))
    load = rng.beta(2, 2, m)
    stress = (
        0.12 * (heat - 60)
        + 1.1 * np.log(shake)
        + 3 * (load - 0.5) * (sensor % 3 == 0)
        + rng.normal(0, 0.35, m)
    )
    columns = {
        "timestamp": [f"{one}Z" for one in at], "sensor": [f"S-{k:02}" for k in sensor], "firmware": ["1.4.2"] * m,
        "temperature": _holes(rng, heat.round(2), 0.04), "vibration": _holes(rng, shake.round(3), 0.02),
        "load": load.round(3), "unit": ["C"] * m,
        "state": np.select([stress > 2.2, stress > 1.2], ["fail", "warn"], "ok"),
    }  # fmt: skip
    twice = np.arange(m)
    twice[500:700] = twice[300:500]
    columns = {name: np.asarray(values)[twice] for name, values in columns.items()}
    numbers = ["temperature", "vibration", "load"]
    return People(columns, "state", "classification", numbers, ["sensor"], ["timestamp"], 20_000)


TABLES: dict[str, Callable[[Any], People]] = {
    made.__name__: made
    for made in (churn, titanic, penguins, diamonds, flights, houses, credit, wine, bikes, sensors)
}  # fmt: skip
