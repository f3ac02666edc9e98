"""
Images
======

A folder of images, with a subfolder for each class, becomes a model that draws new ones.
"""

# %%
# The data
# --------
# Here the folder is made on the spot: scikit-learn's handwritten zeros, ones and twos, as PNGs of 8 by 8 pixels.

from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import undiffuse as ud

folder = Path(mkdtemp()) / "photos"
digits, classes = load_digits(n_class=3, return_X_y=True)
for number, (pixels, name) in enumerate(zip(digits, classes)):
    (folder / f"{name}").mkdir(parents=True, exist_ok=True)
    image = Image.fromarray((pixels.reshape(8, 8) * 15.9375).astype(np.uint8))
    image.save(folder / f"{name}" / f"{number:03}.png")

data = ud.load(folder)
data

# %%
# Train
# -----
# The network is sized to the data; ``width`` makes it smaller here, and 200 steps take seconds.

model = ud.edm(width=16)
model.fit(data, steps=200, seed=0)
model

# %%
# Sample
# ------
# Samples come in the form of the data: images. ``label`` draws one class, or one for each sample.


def show(images, columns):
    rows = len(images) // columns
    _, axes = plt.subplots(rows, columns, figsize=(columns * 0.7, rows * 0.7), squeeze=False)
    for axis, image in zip(axes.flat, images):
        axis.imshow(np.asarray(image), cmap="gray", vmin=0, vmax=255)
        axis.axis("off")
    plt.tight_layout(pad=0.2)
    plt.show()


names = [name for name in "012" for _ in range(10)]
show(model.sample(30, label=names, seed=0), 10)

# %%
# How good are they?
# ------------------
# The report compares samples with held-out images. Its verdict says whether to train for longer, and each figure has its
# interval and its floor, the value that two disjoint sets of real images give.

ud.evaluate(model, data, n=100, rows=30)

# %%
# Fill in
# -------
# Transparent pixels are unknown. Here the lower half of an image is, and three completions are drawn.

torn = np.zeros((8, 8, 2), np.uint8)
torn[..., 0] = np.asarray(Image.open(next((folder / "0").glob("*.png"))))
torn[:4, :, 1] = 255
Image.fromarray(torn, "LA").save(folder.parent / "torn.png")
show(model.complete(folder.parent / "torn.png", n=3), 3)

# %%
# Keep
# ----
# A run is a folder with everything needed to sample, score and evaluate; the data are not needed to sample.

run = model.save(folder.parent / "run")
print(sorted(file.name for file in run.iterdir()))
ud.open(run)
