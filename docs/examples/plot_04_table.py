"""
A table with text and dates
===========================

`nnx.Tabular` takes a table as it is: a CSV file, a data frame or a dict of columns. Text becomes one-hot, a
date becomes features, numbers are scaled, and missing values are filled in.
"""

import numpy as np

import nnx

rng = np.random.default_rng(0)
m = 1500
day = np.datetime64("2025-01-01") + rng.integers(0, 365, m).astype("timedelta64[D]")
shop = rng.choice(["harbour", "station", "market"], m)
temperature = 12 - 10 * np.cos(2 * np.pi * (day - np.datetime64("2025-01-15")).astype(int) / 365)
temperature = (temperature + rng.normal(0, 3, m)).round(1)
weekend = (day.astype("datetime64[D]").view("int64") - 4) % 7 >= 5  # 1970-01-01 was a Thursday
sold = 20 + 3 * temperature + 40 * weekend * (shop == "harbour") + 15 * (shop == "station")
sold = np.maximum(sold + rng.normal(0, 4, m), 0).round()

ice = {
    "day": day.astype(str),
    "shop": shop,
    "temperature": np.where(rng.random(m) < 0.05, np.nan, temperature),  # 5% are missing
    "sold": sold,
}
for row in list(zip(*ice.values(), strict=True))[:3]:
    print(*row)

# %%
# A fifth of the rows is held out. It stops the training and chooses the epoch.

model = nnx.Tabular(ice, target="sold", task="regression", layers=(64, 32), optimizer=nnx.Adam(0.005))
history = model.fit(epochs=200)
print(model.evaluate())
print(len(model.preparation.inputs), "inputs:", ", ".join(model.preparation.inputs))

# %%

figure = nnx.plots.predicted_against_true(ice["sold"], model.predict(ice), "ice creams")

# %%
# New rows need the same columns, in any order:

days = ["2025-07-04", "2025-07-05"]  # a Friday, a Saturday
print(model.predict({"shop": ["harbour", "harbour"], "day": days, "temperature": [22.0, 22.0]}))
