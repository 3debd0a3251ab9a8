"""What is asked: question sets, labels, names that stand for one another, ready answers."""
