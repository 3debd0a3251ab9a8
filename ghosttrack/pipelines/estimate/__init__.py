"""`estimate=true`: what a program will take, from short measured probes of its own phases."""
