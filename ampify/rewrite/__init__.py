"""From meaning to text: plans, adoption, erasure and the proof."""
