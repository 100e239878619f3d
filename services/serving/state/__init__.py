"""What requests are answered from: models, catalogue, placements and experiments, kept lists."""
