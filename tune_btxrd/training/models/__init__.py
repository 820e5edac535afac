"""Models: backbones, heads, pretrained weights, and which parameter belongs to which layer."""
