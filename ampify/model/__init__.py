"""What code means for mixed precision: roles, training steps, the scaler protocol. Never makes text."""
