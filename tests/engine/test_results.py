import json

import numpy as np
import torch

from volo.engine.results import describe_results


def test_lists_get_the_names_of_the_classes_and_matrices_stay():
    metrics = {
        'mIoU': np.float32(50.0),
        'single-label/precision_classwise': [100.0, float('nan')],
        'confusion_matrix/result': torch.tensor([[3, 1], [0, 2]]),
    }
    scores = dict(IoU=np.array([75.0, np.nan]), Acc=np.array([100.0, 50.0]))
    results = describe_results(metrics, ['cat', 'dog'], scores)
    assert json.loads(json.dumps(results)) == {
        'mIoU': 50.0,
        'single-label/precision_classwise': {'cat': 100.0, 'dog': None},
        'confusion_matrix/result': [[3, 1], [0, 2]],
        'per_class': {
            'cat': {'IoU': 75.0, 'Acc': 100.0},
            'dog': {'IoU': None, 'Acc': 50.0},
        },
    }


def test_without_names_lists_stay_lists():
    scores = dict(IoU=np.array([1.0, 2.0]))
    assert describe_results(dict(a=[1, 2], b=3), (), scores) == dict(a=[1, 2], b=3)
