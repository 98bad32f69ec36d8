"""What the tensors of a bundle's `model.onnx` are called: packaging writes them, serving reads them."""

INPUT = "matrix"
"""The float64 matrix that the encoding makes, rows x columns."""

CLASS = "predicted_class"
"""The column of the predicted class among the model's classes, one integer a row."""

PROBABILITY = "class_probability"
"""The probability of each of the model's classes, rows x classes."""

VALUE = "predicted_value"
"""The predicted number, one a row."""
