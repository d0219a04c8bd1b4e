"""Temporary."""
def general_weights(probs_PNC, labels_N):
    raise AssertionError
