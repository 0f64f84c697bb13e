"""The signs and words of the language, and the hints for those it leaves out; data only."""

from __future__ import annotations

from typing import Final

from sqlglot.tokenizer_core import TokenType as T

KEYWORDS: Final[dict[str, T]] = {
    "and": T.AND, "or": T.OR, "not": T.NOT, "null": T.NULL, "true": T.TRUE, "false": T.FALSE, "is": T.IS, "in": T.IN,
    "between": T.BETWEEN, "like": T.LIKE, "ilike": T.ILIKE, "case": T.CASE, "when": T.WHEN, "then": T.THEN, "else": T.ELSE,
    "end": T.END,
}  # fmt: skip

MOMENT_WORDS: Final = frozenset({"date", "timestamp", "timestamptz"})

# `!` is parsed with the precedence of a sign, which the parser knows only as the bitwise complement.
OPERATORS: Final[dict[str, T]] = {
    "==": T.EQ, "=": T.EQ, "!=": T.NEQ, "<>": T.NEQ, "<=": T.LTE, ">=": T.GTE, "<": T.LT, ">": T.GT, "&&": T.AND, "||": T.OR,
    "!": T.TILDE, "+": T.PLUS, "-": T.DASH, "*": T.STAR, "/": T.SLASH, "%": T.MOD, "(": T.L_PAREN, ")": T.R_PAREN, ",": T.COMMA,
    "[": T.L_BRACKET, ".": T.DOT,
}  # fmt: skip

_BITS = "there are no operators on bits"
_SAFE = "'=' and '!=' are null-safe already"

REFUSED_SIGNS: Final[dict[str, str]] = {
    "===": "write ==", "!==": "write !=", "<=>": _SAFE, "=~": "write regexp_matches(text, 'pattern')",
    "!~": "write !regexp_matches(text, 'pattern')", "~": "write regexp_matches(text, 'pattern')", "?:": "write coalesce(a, b)",
    "??": "write coalesce(a, b)", "?": "write if(condition, a, b)", "->>": "write json_extract_string(value, '$.name')",
    "->": "write json_extract(value, '$.name')", "=>": "write >= or call functions without argument names",
    "=<": "write <=", "><": "write !=", "::": "write cast(value as type)", ":=": "there are no assignments", ":": "",
    "--": "there are no comments; a double minus is '- -1'", "/*": "there are no comments", "*/": "there are no comments",
    "#": "there are no comments", "//": "write floor(a / b)", "**": "write power(a, b)", "^": "write power(a, b)",
    ";": "an expression is no statement", "$": "there are no parameters; now() is the run's time", "@": "there are no parameters",
    "&": "write && or and", "|": "write || or or", "<<": _BITS, ">>": _BITS, "{": "there are no struct literals", "}": "",
    "]": "", "\\": "",
}  # fmt: skip

_STATEMENT = "an expression is no statement"
_QUERY = "there are no subqueries; use a join or a sql node"
_WINDOW = "there are no window functions; use deduplicate, sort or a sql node"

# Refused wherever they stand alone: nobody names a field so and means the field.
RESERVED: Final[dict[str, str]] = {
    **dict.fromkeys(("select", "from", "where", "union", "intersect", "except", "having", "lateral", "pivot"), _QUERY),
    **dict.fromkeys(("over", "qualify"), _WINDOW),
    "interval": "write date_add('day', 1, value)",
    "lambda": "there are no lambdas",
    "escape": "like has no escape character; use contains, starts_with or regexp_matches",
    "similar": "write regexp_matches(text, 'pattern')", "glob": "use like or regexp_matches",
    "rlike": "write regexp_matches(text, 'pattern')",
    "collate": "compare lower(a) with lower(b)", "div": "write floor(a / b)", "xor": "write a != b",
    "isnull": "write = null", "notnull": "write != null",
    "current_date": "write cast(now() as date)", "current_timestamp": "write now()",
    "current_time": "write cast(now() as time)", "localtime": "write now()", "localtimestamp": "write now()",
}  # fmt: skip

# Fields may be called so; two values in a row, the first of them one of these, are a statement or a query instead.
SUSPICIOUS: Final[dict[str, str]] = {
    **dict.fromkeys(("exists", "with", "any", "all", "some", "table", "values", "distinct", "group", "order", "limit", "using"), _QUERY),
    **dict.fromkeys(("insert", "update", "delete", "create", "drop", "alter", "attach", "detach", "copy", "export", "import",
                     "install", "load", "pragma", "call", "execute", "prepare", "vacuum", "truncate", "set", "use", "show",
                     "describe", "explain", "summarize", "begin", "commit", "checkpoint"), _STATEMENT),
    "array": "there are no list literals", "mod": "write a % b or mod(a, b)",
}  # fmt: skip

_AGGREGATE = "aggregates belong into an aggregate node"
_RANDOM = "an expression gives the same result in every run; now() is the run's time"
_OUTSIDE = "an expression sees its row and nothing else"
_LAMBDA = "there are no lambdas; use unnest"

REFUSED_FUNCTIONS: Final[dict[str, str]] = {
    **dict.fromkeys(("sum", "count", "avg", "min", "max", "any_value", "first", "last", "list", "array_agg", "string_agg",
                     "group_concat", "median", "mode", "stddev", "variance", "quantile", "approx_count_distinct", "arg_max",
                     "arg_min", "bool_and", "bool_or", "histogram"), _AGGREGATE),
    **dict.fromkeys(("row_number", "rank", "dense_rank", "lag", "lead", "ntile", "first_value", "last_value", "nth_value"), _WINDOW),
    **dict.fromkeys(("random", "uuid", "gen_random_uuid", "uuidv4", "uuidv7", "setseed", "today", "current_date",
                     "current_timestamp", "current_time", "localtimestamp", "localtime", "get_current_timestamp",
                     "get_current_time", "transaction_timestamp", "nextval", "currval", "txid_current"), _RANDOM),
    **dict.fromkeys(("getenv", "getvariable", "current_setting", "current_user", "current_database", "current_schema",
                     "current_query", "version", "pg_typeof", "duckdb_settings", "duckdb_secrets", "which_secret", "glob",
                     "read_csv", "read_csv_auto", "read_json", "read_json_auto", "read_parquet", "read_text", "read_blob",
                     "read_ndjson", "parquet_scan", "parquet_metadata", "sniff_csv", "query", "query_table", "sqlite_scan",
                     "postgres_scan", "mysql_scan", "iceberg_scan", "delta_scan", "pragma_table_info", "load_extension",
                     "sleep_ms", "error", "write_log", "parse_duckdb_log_message", "json_execute_serialized_sql",
                     "add_parquet_key", "checkpoint", "force_checkpoint"), _OUTSIDE),
    **dict.fromkeys(("list_transform", "list_filter", "list_reduce", "apply", "filter", "reduce", "array_transform",
                     "array_filter", "array_reduce"), _LAMBDA),
    **dict.fromkeys(("unnest", "generate_series", "range", "repeat"), "rows are multiplied by an unnest node"),
}  # fmt: skip
