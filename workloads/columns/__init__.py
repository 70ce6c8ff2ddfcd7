"""What every column of result rows means, what it is called and how it is printed: said here, read everywhere.

Units end the names. A value that does not apply is NaN (numbers) or "" (text).
"""
