"""What network a state dict belongs to, in terms of the flags."""

from models.networks.factory import describe_state, generator_options

__all__ = ["describe_state", "generator_options"]
