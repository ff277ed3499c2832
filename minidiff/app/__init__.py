"""From a trained network to files and figures of merit: checkpoints, runs, sampling, evaluation."""
