"""The same networks in plain PyTorch, for benchmarks/training.py; needs torch and NumPy, and nothing of labkit.

python yardstick.py ROW SEED IMAGES ROUNDS EPOCHS FILE.npz
"""

import json
import sys
import time

import numpy as np
import torch
from torch import nn


def network(row):
    """The layers of a row of lab 90; the softmax is in the loss."""
    if row == "B1":
        convolutions = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU()]
        dense = [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1600, 64), nn.ReLU(), nn.Linear(64, 10)]
        return nn.Sequential(nn.Unflatten(1, (1, 28, 28)), *convolutions, *dense)
    return nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )  # fmt: skip


def main(arguments):
    row, seed, images, rounds, epochs, path = arguments
    torch.manual_seed(int(seed))
    stored = {name: torch.from_numpy(array) for name, array in np.load(path).items()}
    x, y = stored["x"].float(), stored["y"].long()
    model, loss = network(row), nn.CrossEntropyLoss()
    batch = 128 if row == "A1" else 32
    if row == "A1":
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.001)

    def epoch():
        for chosen in torch.randperm(int(images)).split(batch):
            optimizer.zero_grad()
            loss(model(x[chosen]), y[chosen]).backward()
            optimizer.step()

    epoch()
    seconds = []
    for _ in range(int(rounds)):
        start = time.perf_counter()
        for _ in range(int(epochs)):
            epoch()
        seconds.append((time.perf_counter() - start) / int(epochs))
    with torch.no_grad():
        right = (model(stored["x_check"].float()).argmax(1) == stored["y_check"]).float().mean().item()
    print(json.dumps({"seconds": seconds, "accuracy": right, "version": torch.__version__}))


if __name__ == "__main__":
    main(sys.argv[1:])
