"""
Series
======

Sequences with several values at each time: an array (rows, times, values), or as many columns of a file.
"""

# %%
# The data
# --------
# Three hundred swings, 32 times each, of position and speed. They begin anywhere, so that the data do not change along
# the steps.

import matplotlib.pyplot as plt
import numpy as np

import undiffuse as ud

random = np.random.default_rng(0)
t = np.linspace(0, 6, 32)
size, phase = random.uniform(0.5, 1.5, (300, 1)), random.uniform(0, 6.28, (300, 1))
angle = 2.0 * t + phase
swings = np.stack([size * np.cos(angle), -2.0 * size * np.sin(angle)], -1)
swings += random.normal(0, 0.05, swings.shape)

data = ud.load(swings, axes="NTC")
data

# %%
# Train and sample
# ----------------

model = ud.edm(width=24).fit(data, steps=250, seed=0)
drawn = model.sample(6, seed=0)
drawn.shape

# %%

_, axes = plt.subplots(1, 2, figsize=(8, 2.5), sharey=True)
for axis, series, title in zip(axes, (swings, drawn), ("real", "samples")):
    axis.plot(t, series[:6, :, 0].T, lw=1)
    axis.set(title=title, xlabel="time")
axes[0].set_ylabel("position")
plt.tight_layout()
plt.show()

# %%
# Forecast
# --------
# What is unknown is NaN: here the second half of one series. Draws show how sure a forecast is.

begun = swings[:1].copy()
begun[:, 16:] = np.nan
futures = model.complete(begun, n=20, seed=0)

plt.figure(figsize=(6, 2.5))
plt.plot(t, futures[:, :, 0].T, lw=0.5, color="C1")
plt.plot(t, swings[0, :, 0], color="C0", label="what happened")
plt.legend()
plt.show()

# %%
# Longer ones
# -----------
# ``length`` continues series beyond the length of the data.

longer = model.sample(3, length=64, seed=0)
plt.figure(figsize=(6, 2.5))
plt.plot(longer[:, :, 0].T, lw=1)
plt.xlabel("step")
plt.tight_layout()
plt.show()
