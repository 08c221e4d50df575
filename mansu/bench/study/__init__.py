"""`mansu bench`: every method on one suite, edited, measured from the exported folder, and put in one table.

A *cell* is one method on one suite with one seed: a folder that holds the exported model and a JSON document for each
stage. What is there is read, not made again.
"""
