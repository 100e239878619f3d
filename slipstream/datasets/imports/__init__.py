"""Import of the files that shops export: reading, recognition of columns, and conversion of rows.

A file is read in three passes that share their functions. A sample shows its form: encoding,
delimiter, columns, times. A survey converts every row and sends nothing. The last pass sends.
"""
