"""Brings the table `iris` into the project's database, unless it is there already."""

import psycopg
from sklearn.datasets import load_iris

COLUMNS = ("sepal_length", "sepal_width", "petal_length", "petal_width", "species")

flowers = load_iris()
rows = [(*map(float, row), int(kind)) for row, kind in zip(flowers.data, flowers.target, strict=True)]

# Host, database, user and password are in the variables PGHOST, PGDATABASE, PGUSER and PGPASSWORD.
with psycopg.connect() as connection, connection.cursor() as cursor:
    cursor.execute(
        "create table if not exists iris (sepal_length real, sepal_width real,"
        " petal_length real, petal_width real, species int)"
    )
    cursor.execute("lock table iris in exclusive mode")
    cursor.execute("select count(*) from iris")
    if not cursor.fetchone()[0]:
        with cursor.copy(f"copy iris ({', '.join(COLUMNS)}) from stdin") as copy:
            for row in rows:
                copy.write_row(row)
    cursor.execute("select count(*) from iris")
    print(f"table iris: {cursor.fetchone()[0]} rows")
