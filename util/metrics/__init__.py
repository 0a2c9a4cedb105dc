"""Image quality: what each metric is, under which protocol, and how to measure folders of images with it.

Deraining papers disagree silently on what "PSNR" is, so a number here always goes with its protocol. Metrics take
[H, W, 3] uint8 arrays, as read back from the saved files, and compute in float64.
"""
