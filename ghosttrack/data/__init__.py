"""What models and SAEs read: corpora, questions, stored and streamed activations."""
