"""The Certify page: how far a smoothed model's answer is proven, for one picture and for a test set."""
