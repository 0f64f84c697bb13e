"""What a file may be: format, compression, and the options of each; knows no store."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dsl.contracts.spec import OptionError, option


class Format(StrEnum):
    """How rows are written in a file."""

    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    PARQUET = "parquet"
    AVRO = "avro"


class Dictionaries(StrEnum):
    """Which columns of a Parquet file are written with a dictionary of their values."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Compression(StrEnum):
    """How a whole file is compressed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    BZ2 = "bz2"
    XZ = "xz"


@dataclass(frozen=True, kw_only=True)
class CsvOptions:
    """How a CSV file is written (RFC 4180, and what differs from it)."""

    header: bool = option(default=True, doc="Whether the first row holds the names of the columns.")
    delimiter: str = option(default=",", doc="The character between two values.", example=";")
    quote: str = option(default='"', doc="The character around values; empty for none.")
    encoding: str = option(
        default="utf-8", doc="The characters' encoding; a byte-order mark decides by itself.", example="latin-1"
    )
    null_values: tuple[str, ...] = option(
        default=("",), doc="Unquoted texts that stand for NULL; a quoted one is itself.", example=["", "NULL"]
    )
    largest_row: int = option(default=4 * 2**20, doc="Bytes in a row, at most.", unit="size", advanced=True)

    def __post_init__(self) -> None:
        """Refuses what no CSV can be.

        Raises:
            OptionError: The delimiter or the quote is not one character.
        """
        if len(self.delimiter) != 1 or not self.delimiter.isascii() or self.delimiter in "\r\n":
            raise OptionError("delimiter", "is not one ASCII character", 'write "," or "\\t"')
        if len(self.quote) > 1 or not self.quote.isascii() or self.quote == self.delimiter:
            raise OptionError("quote", "is not one ASCII character other than the delimiter", "write '\"' or ''")


@dataclass(frozen=True, kw_only=True)
class ParquetOptions:
    """How a Parquet file is written."""

    codec: str = option(default="zstd", doc="`zstd`, `snappy`, `gzip`, `lz4` or `none`, for each column chunk.")
    row_group_rows: int = option(default=131_072, doc="Rows in a row group, about.")
    dictionaries: Dictionaries = option(
        default=Dictionaries.AUTO,
        doc="Columns with a dictionary of their values: those that repeat in the first 10,000 rows, all, or none.",
    )

    def __post_init__(self) -> None:
        """Refuses an unknown codec.

        Raises:
            OptionError: The codec is not one that Parquet readers share.
        """
        if self.codec not in {"zstd", "snappy", "gzip", "lz4", "none"}:
            raise OptionError("codec", f"'{self.codec}' is unknown", "zstd, snappy, gzip, lz4 or none")
        if self.row_group_rows < 1:
            raise OptionError("row_group_rows", "is less than 1", "131072 is a good number")


@dataclass(frozen=True, kw_only=True)
class AvroOptions:
    """How an Avro file is written."""

    codec: str = option(default="deflate", doc="`deflate`, `bzip2`, `xz` or `none`, for each block.")

    def __post_init__(self) -> None:
        """Refuses an unknown codec.

        Raises:
            OptionError: The codec is not one of those.
        """
        if self.codec not in {"deflate", "bzip2", "xz", "none"}:
            raise OptionError("codec", f"'{self.codec}' is unknown", "deflate, bzip2, xz or none")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is refused as hostile or broken, before it fills memory or disk."""

    ratio: int = option(default=200, doc="Bytes that one compressed byte may become, once 64 MiB came out.")
    bytes: int | None = option(default=None, doc="Bytes that a file may hold when decompressed.", unit="size")
    value_bytes: int = option(default=16 * 2**20, doc="Bytes of one JSON row or Avro block.", unit="size")


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """Everything about a file but its place.

    Attributes:
        format: How rows are written.
        compression: How the whole file is compressed.
        csv: Options of CSV.
        parquet: Options of Parquet.
        avro: Options of Avro.
        limits: What is refused.
    """

    format: Format
    compression: Compression = Compression.NONE
    csv: CsvOptions = CsvOptions()
    parquet: ParquetOptions = ParquetOptions()
    avro: AvroOptions = AvroOptions()
    limits: Limits = Limits()


def check_writing(kind: Format, compression: Compression, csv: CsvOptions) -> None:
    """Refuses options that no file can be written with.

    Raises:
        OptionError: Names the option at fault.
    """
    if compression is not Compression.NONE and kind in {Format.PARQUET, Format.AVRO}:
        raise OptionError(
            "compression", f"{kind} compresses its own blocks: no reader expects more", f"set `{kind}.codec` instead"
        )
    plain = CsvOptions()
    for name in ("quote", "encoding", "null_values"):
        if getattr(csv, name) != getattr(plain, name):
            raise OptionError(f"csv.{name}", "applies to reading only: CSV is written as RFC 4180 has it", "remove it")


_ENDINGS = {
    ".csv": Format.CSV,
    ".tsv": Format.CSV,
    ".json": Format.JSON,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
    ".avro": Format.AVRO,
}
_COMPRESSED = {
    ".gz": Compression.GZIP,
    ".gzip": Compression.GZIP,
    ".zst": Compression.ZSTD,
    ".zstd": Compression.ZSTD,
    ".bz2": Compression.BZ2,
    ".xz": Compression.XZ,
}
ENDING_OF = {
    Compression.NONE: "",
    Compression.GZIP: ".gz",
    Compression.ZSTD: ".zst",
    Compression.BZ2: ".bz2",
    Compression.XZ: ".xz",
}


def compression_of(name: str) -> Compression:
    """Returns how a file is compressed, by the ending of its name."""
    return _COMPRESSED.get(_ending(name), Compression.NONE)


def format_of(name: str) -> Format | None:
    """Returns a file's format by the ending of its name, that of its compression aside; None where it does not tell."""
    ending = _ending(name)
    if ending in _COMPRESSED:
        ending = _ending(name[: -len(ending)])
    return _ENDINGS.get(ending)


def _ending(name: str) -> str:
    last = name.rpartition("/")[2]
    stem, dot, ending = last.rpartition(".")
    return f"{dot}{ending}".lower() if stem else ""
