"""Top-k accuracy for any number of classes."""

from mmengine.registry import METRICS
from mmpretrain.evaluation import Accuracy


@METRICS.register_module()
class TopKAccuracy(Accuracy):
    """mmpretrain's ``Accuracy``, for any number of classes.

    The original refuses top-5 with fewer than five classes. This one leaves out every
    ``k`` above the number of classes.
    """

    topk: tuple[int, ...]  # set by Accuracy

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute the accuracies of the collected results, in percent."""
        wanted = self.topk
        scores = results[0].get('pred_score')
        if scores is not None:
            self.topk = tuple(k for k in wanted if k <= len(scores)) or (1,)
        try:
            return super().compute_metrics(results)
        finally:
            self.topk = wanted
