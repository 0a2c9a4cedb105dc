"""Tables of results: how near saved images come to their targets, of a test and of any folders side by side."""

from __future__ import annotations

from util.evaluation.files import summary_table, write_metrics
from util.evaluation.scores import Evaluation, Result, Row, Scores, evaluate, score

__all__ = ["Evaluation", "Result", "Row", "Scores", "evaluate", "score", "summary_table", "write_metrics"]
