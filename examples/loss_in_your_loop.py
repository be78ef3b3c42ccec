"""The robust loss in a plain PyTorch loop: long-tailed digits, centroids once an epoch, no Lightning, no Hydra."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from drolt_pl import DROLTLoss, class_statistics
from drolt_pl.metrics import ncm_predict

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.data, dtype=torch.float32) / 16
labels = torch.tensor(digits.target)

# Class c keeps 100, 65, 42, ... 3 images; 40 of each class are the test set.
train, test = [], []
for label in range(10):
    index = (labels == label).nonzero().flatten()
    test.append(index[:40])
    train.append(index[40 : 40 + int(100 * 35 ** (-label / 9))])
x, y = images[torch.cat(train)], labels[torch.cat(train)]
x_test, y_test = images[torch.cat(test)], labels[torch.cat(test)]

backbone = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32), nn.ReLU())
classifier = nn.Linear(32, 10)
loss = DROLTLoss(num_classes=10, num_features=32, class_counts=y.bincount(minlength=10), eps_mode="sqrt_n", eps=1.0)
optimizer = torch.optim.SGD([*backbone.parameters(), *classifier.parameters()], lr=0.1, momentum=0.9)

for epoch in range(100):
    with torch.no_grad():
        statistics = class_statistics(backbone(x), y, num_classes=10)
    for batch in torch.randperm(len(x)).split(64):
        features = backbone(x[batch])
        value = F.cross_entropy(classifier(features), y[batch])
        if epoch >= 50:  # first a representation worth having centroids of
            value = loss.mix(value, loss(features, y[batch], statistics.centroids))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

with torch.no_grad():
    features = backbone(x_test)
    statistics = class_statistics(backbone(x), y, num_classes=10)
    by_classifier = (classifier(features).argmax(1) == y_test).float().mean()
    by_centroid = (ncm_predict(features, statistics.centroids, statistics.counts) == y_test).float().mean()
print(f"classifier {by_classifier:.3f}, nearest centroid {by_centroid:.3f}")
