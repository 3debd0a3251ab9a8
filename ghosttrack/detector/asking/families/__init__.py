"""The families of interventions, a module each; its name is the family's and the setting's.

To add one:

1. Write a module `shout.py` here that ends in `FAMILY = Rescoring("shout", order, ...)`. It says
   what its columns are (`define`), how many copies it makes by itself, what it needs of a question,
   how it makes copies and how it reads their scores. `paraphrase.py` is the shortest example.
2. Add the line `shout: 0` to `conf/interventions/none.yaml`, on which the other presets build.

`interventions.copies.shout=3` then asks for 3 copies, `interventions.copies.shout=null` for as many
as the family makes by itself. Everything else is derived: `detect.py` judges the detector
`shout+output` and lets `interventions+output` and the detector of all tables read its columns, and
`python -m ghosttrack.detector.catalogue` lists them.
"""
