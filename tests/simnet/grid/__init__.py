"""The grid of paths that kcp-bbr is judged on: `python -m tests.simnet`, or `make sim`.

cases.py     every path, by line of the table          run.py     one simulation -> figures
targets.py   what each line asks for                    record.py  what is kept, and taken up again
table.py     the table                                  chart.py   the picture
"""
