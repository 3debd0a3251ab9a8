"""What is to be run where there is a GPU: `python -m tests.gpu`."""
