import pytest
import torch
from mmpretrain.structures import DataSample

from volo.engine import TopKAccuracy


def evaluate(scores, labels, topk):
    metric = TopKAccuracy(topk=topk)
    samples = [
        DataSample().set_pred_score(score).set_gt_label(label).to_dict()
        for score, label in zip(scores, labels, strict=True)
    ]
    metric.process(None, samples)
    return metric.evaluate(len(samples))


def test_fewer_classes_than_k():
    scores = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]])
    assert evaluate(scores, [0, 1], topk=(1, 5)) == {'accuracy/top1': 50.0}
    assert evaluate(scores, [1, 1], topk=(5,)) == {'accuracy/top1': 0.0}


def test_enough_classes_are_as_in_mmpretrain():
    scores = torch.tensor([[0.5, 0.2, 0.1, 0.1, 0.06, 0.04]] * 2)
    metrics = evaluate(scores, [1, 5], topk=(1, 5))
    assert metrics == pytest.approx({'accuracy/top1': 0.0, 'accuracy/top5': 50.0})
