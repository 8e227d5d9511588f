"""What encoders that train a network share: batches read ahead, epochs that can be resumed, selection, predictions."""
