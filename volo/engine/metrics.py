"""Metrics that mmpretrain lacks."""

from mmengine.registry import METRICS
from mmpretrain.evaluation import Accuracy


@METRICS.register_module()
class TopKAccuracy(Accuracy):
    """mmpretrain's accuracy, for any number of classes.

    The original refuses top-5 where there are fewer than five classes; here a
    ``k`` above the number of classes is left out.
    """

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute the accuracies, in percent, of the collected results."""
        wanted = self.topk
        scores = results[0].get('pred_score')
        if scores is not None:
            self.topk = tuple(k for k in wanted if k <= len(scores)) or (1,)
        try:
            return super().compute_metrics(results)
        finally:
            self.topk = wanted
