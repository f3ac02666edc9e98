"""
Recordings
==========

A folder of wav, flac, ogg or mp3 files becomes windows of one length and rate; samples are recordings at that rate.
"""

# %%
# The data
# --------
# Plucked strings are made on the spot: 160 tones of random pitch that fade, at 2,000 samples a second.

from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
import soundfile

import undiffuse as ud

RATE = 2000
folder = Path(mkdtemp()) / "strings"
folder.mkdir()
random = np.random.default_rng(0)
time = np.arange(256) / RATE
for number in range(160):
    pitch, fades = random.uniform(80, 160), random.uniform(10, 30)
    tone = 0.5 * np.sin(2 * np.pi * pitch * time) * np.exp(-fades * time)
    soundfile.write(folder / f"{number:03}.wav", tone, RATE)

data = ud.load(folder)
data

# %%
# Train and sample
# ----------------

model = ud.edm(width=16).fit(data, steps=120, seed=0)
drawn = model.sample(4, seed=0)
drawn

# %%
# Samples of one channel are whole numbers of 16 bits, as in a wav file.

soundfile.write(folder.parent / "new.wav", drawn[0], RATE)
_, axes = plt.subplots(2, 4, figsize=(9, 3), sharex=True, sharey=True)
for axis, file in zip(axes[0], sorted(folder.glob("*.wav"))):
    axis.plot(time, soundfile.read(file)[0], lw=0.8)
for axis, row in zip(axes[1], drawn):
    axis.plot(time, np.ravel(row) / 2**15, lw=0.8, color="C1")
axes[0, 0].set_ylabel("real")
axes[1, 0].set_ylabel("samples")
plt.show()
