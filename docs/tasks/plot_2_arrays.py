"""
Arrays and vectors
==================

A NumPy array, a torch tensor or Dataset, or a ``.npy``, ``.npz`` or HDF5 file, of any shape: the first axis counts the
rows.
"""

# %%
# The data
# --------
# Points on two half circles, 2,000 rows of two numbers.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons

import undiffuse as ud

rows, _ = make_moons(2000, noise=0.06, random_state=0)
data = ud.load(rows)
data

# %%
# Train and sample
# ----------------

model = ud.edm(width=64).fit(data, steps=1500, seed=0)
samples = model.sample(1000, seed=0)
samples.shape, samples.dtype

# %%

_, axes = plt.subplots(1, 2, figsize=(7, 3), sharex=True, sharey=True)
axes[0].scatter(*rows[:1000].T, s=3)
axes[0].set_title("data")
axes[1].scatter(*samples.T, s=3, color="C1")
axes[1].set_title("samples")
plt.show()

# %%
# Likelihoods
# -----------
# ``log_prob`` gives the log-density of each row in nats, in the data's own units. Here it is drawn on a grid.

x, y = np.meshgrid(np.linspace(-1.5, 2.5, 40), np.linspace(-1, 1.5, 30))
grid = np.stack([x.ravel(), y.ravel()], 1)
nats = model.log_prob(grid, how=ud.Density(steps=8))

plt.figure(figsize=(5, 3))
plt.pcolormesh(x, y, np.exp(nats).reshape(x.shape), shading="auto")
plt.colorbar(label="density")
plt.show()

# %%
# Surprising rows
# ---------------
# ``score`` ranks each row among rows that were held out. An alarm of 0.05 marks at most 5 % of ordinary rows, on average.

strange = np.array([[0.5, 0.25], [0.0, 1.0], [3.0, 3.0]])
scores = ud.score(model, strange, held_out=data.held_out, alarm=0.05)
scores

# %%
# Gaps
# ----
# NaN are unknown. Given the first number, the second is likely on either half circle.

known = np.array([[0.5, np.nan]])
drawn = model.complete(known, n=300, seed=0)
plt.figure(figsize=(5, 2.5))
plt.hist(drawn[:, 1], bins=40)
plt.xlabel("second number, given that the first is 0.5")
plt.tight_layout()
plt.show()
