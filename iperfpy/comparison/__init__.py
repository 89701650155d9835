"""From the tests of several transports over one path to a ranking, and to a sentence. Pure functions.

MeasuredTest    figures of one test                            comparison_report.py
  Standing      medians of one contender in one direction      standing.py
    Ranking     which contenders of a direction differ         ranking.py
      Choice    a sentence: which one to take, how sure        choice.py
"""
