"""Models that come from other libraries and go to them.

pipelines   diffusers' pipelines -> models, and back
hub, card   a run -> a model on the Hugging Face hub, with its card
"""
