"""What the data can carry: baselines, ablation, intervals, hypotheses, judge quality."""
