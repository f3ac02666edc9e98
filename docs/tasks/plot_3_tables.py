"""
Tables
======

A data frame of pandas, polars or Arrow, or a CSV, Parquet or workbook file, with numbers, categories, dates and missing
values.
"""

# %%
# The data
# --------
# A table is made on the spot: pay rises with age, depends on the job, and is missing here and there.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import undiffuse as ud

random = np.random.default_rng(0)
age = random.integers(18, 66, 1500)
job = random.choice(["nurse", "clerk", "pilot"], 1500, p=[0.5, 0.3, 0.2])
base = pd.Series(job).map({"nurse": 2600, "clerk": 2200, "pilot": 5200}).to_numpy()
pay = np.round(base + 25 * (age - 18) + random.normal(0, 200, 1500), 2)
people = pd.DataFrame({"age": age, "job": job, "pay": pay, "start": pd.Timestamp("2024-01-01")})
people["start"] += pd.to_timedelta(random.integers(0, 365, 1500), unit="D")
people.loc[random.random(1500) < 0.1, "pay"] = np.nan
people.head()

# %%
# ``load`` says how each column is modelled.

data = ud.load(people)
data

# %%
# Train and sample
# ----------------
# Samples have the same columns and types, and as many missing values.

model = ud.edm(width=64).fit(data, steps=1000, seed=0)
drawn = model.sample(1000, seed=0)
drawn.head()

# %%

colours = {"nurse": "C0", "clerk": "C1", "pilot": "C2"}
_, axes = plt.subplots(1, 2, figsize=(8, 3), sharex=True, sharey=True)
for axis, frame, title in zip(axes, (people, drawn), ("real", "samples")):
    for name, colour in colours.items():
        own = frame[frame.job == name]
        axis.scatter(own.age, own.pay, s=3, color=colour, label=name)
    axis.set(title=title, xlabel="age", ylabel="pay")
axes[0].legend(markerscale=3)
plt.tight_layout()
plt.show()

# %%
# Impute
# ------
# Empty cells are drawn given what is known of the row. Several draws show how sure that is.

gaps = pd.DataFrame({"age": [40, 40], "job": ["pilot", None], "pay": [np.nan, 2700.0]})
gaps["start"] = pd.Timestamp("2024-06-01")
model.complete(gaps, n=3, seed=0)

# %%
# How good are they?
# ------------------

ud.evaluate(model, data, n=200, rows=30)
