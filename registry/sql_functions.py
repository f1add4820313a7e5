"""Which PostgreSQL functions a select may call, by name.

An allow-list: what isn't named here is refused, so a function that a later server or an extension brings does nothing
until somebody has read what it does. Left out on purpose: what reads tables or files by name or by text
(`query_to_xml`, `ts_stat`, `ts_rewrite`, `lo_get`), the server's state and settings (`current_setting`, every `pg_*`),
looks names
up (`to_regclass`, `col_description`), writes, waits or locks, and the internal parts of types and operators.

Source: `pg_proc` of PostgreSQL 15 to 18; `tests/contract/test_sql_select.py` holds the list against a server's.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType


def words(*texts: str) -> frozenset[str]:
    """The words of these texts."""
    return frozenset(name for text in texts for name in text.split())


_MATHEMATICS = """
    abs cbrt ceil ceiling degrees div erf erfc exp factorial floor gamma gcd lcm lgamma ln log log10 min_scale mod pi
    pow power radians round scale sign sqrt trim_scale trunc width_bucket
    acos acosd acosh asin asind asinh atan atan2 atan2d atand atanh cos cosd cosh cot cotd sin sind sinh tan tand tanh
    bit_count get_bit get_byte set_bit set_byte hashtext hashtextextended hashint4 hashint8
"""

_TEXT = """
    ascii bit_length btrim casefold char_length character_length chr concat concat_ws convert convert_from convert_to
    crc32 crc32c decode encode format initcap left length lower lpad ltrim md5 octet_length parse_ident quote_ident
    quote_literal quote_nullable regexp_count regexp_instr regexp_like regexp_match regexp_replace
    regexp_split_to_array regexp_substr
    repeat replace reverse right rpad rtrim sha224 sha256 sha384 sha512 split_part starts_with string_to_array strpos
    substr to_ascii to_bin to_hex to_oct translate unicode_assigned unistr upper
    json_to_tsvector jsonb_to_tsvector numnode phraseto_tsquery plainto_tsquery setweight strip to_tsquery to_tsvector
    ts_delete ts_filter ts_headline ts_rank ts_rank_cd tsquery_phrase tsvector_to_array array_to_tsvector
    websearch_to_tsquery xml_is_well_formed xml_is_well_formed_content xml_is_well_formed_document xmlcomment xmltext
    xpath xpath_exists
"""

_TIME = """
    age date date_add date_bin date_part date_subtract date_trunc isfinite justify_days justify_hours justify_interval
    make_date make_interval make_time make_timestamp make_timestamptz timestamptz timezone to_char to_date to_number
    to_timestamp uuid_extract_timestamp uuid_extract_version
"""

_TYPES = "bool float4 float8 int2 int4 int8 num_nonnulls num_nulls text enum_first enum_last enum_range"

_ARRAYS_AND_RANGES = """
    array_append array_cat array_dims array_fill array_length array_lower array_ndims array_position array_positions
    array_prepend array_remove array_replace array_reverse array_sort array_to_json array_to_string array_upper
    cardinality trim_array
    daterange int4range int8range numrange tsrange tstzrange datemultirange int4multirange int8multirange nummultirange
    tsmultirange tstzmultirange isempty lower_inc lower_inf multirange range_merge upper_inc upper_inf
"""

_JSON = """
    json_array_length json_build_array json_build_object json_extract_path json_extract_path_text json_object
    json_populate_record json_strip_nulls json_typeof jsonb_array_length jsonb_build_array jsonb_build_object
    jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object jsonb_path_exists jsonb_path_exists_tz
    jsonb_path_match jsonb_path_match_tz jsonb_path_query_array jsonb_path_query_array_tz jsonb_path_query_first
    jsonb_path_query_first_tz jsonb_populate_record jsonb_pretty jsonb_set jsonb_set_lax jsonb_strip_nulls jsonb_typeof
    row_to_json to_json to_jsonb
"""

_GEOMETRY_AND_NETWORK = """
    area bound_box box center circle diagonal diameter height isclosed isopen line lseg npoints path pclose point
    polygon popen radius slope width abbrev broadcast family host hostmask inet_merge inet_same_family
    macaddr8_set7bit masklen
    netmask network set_masklen
"""

AGGREGATES = words("""
    any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop covar_samp every json_agg
    json_object_agg jsonb_agg jsonb_object_agg max min mode percentile_cont percentile_disc range_agg
    range_intersect_agg regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy
    regr_syy stddev stddev_pop
    stddev_samp string_agg sum var_pop var_samp variance xmlagg
""")
"""One row out of many."""

WINDOWS = words("""
    cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number
""")
"""With OVER, or as hypothetical-set aggregates."""

ROW_SETS = words("""
    generate_series generate_subscripts json_array_elements json_array_elements_text json_each json_each_text
    json_object_keys json_populate_recordset json_to_recordset jsonb_array_elements jsonb_array_elements_text jsonb_each
    jsonb_each_text jsonb_object_keys jsonb_path_query jsonb_path_query_tz jsonb_populate_recordset jsonb_to_recordset
    regexp_matches regexp_split_to_table string_to_table unnest
""")
"""Any number of rows: in the select list, or in FROM."""

TABLE_FUNCTIONS = ROW_SETS | words("json_to_record jsonb_to_record json_populate_record jsonb_populate_record")
"""What may stand in FROM."""

VOLATILE_FUNCTIONS = words("""
    now clock_timestamp statement_timestamp transaction_timestamp timeofday random random_normal gen_random_uuid uuidv4
    uuidv7 array_sample array_shuffle
""")
"""Another answer on the same rows: the time, or chance. `age` with one argument is another."""

VOLATILE_WORDS = words("current_timestamp current_date current_time localtime localtimestamp")
"""The same, said without parentheses."""

FUNCTIONS = (
    words(_MATHEMATICS, _TEXT, _TIME, _TYPES, _ARRAYS_AND_RANGES, _JSON, _GEOMETRY_AND_NETWORK)
    | AGGREGATES
    | WINDOWS
    | TABLE_FUNCTIONS
    | VOLATILE_FUNCTIONS
)
"""Every function that may be called by its name."""

ROW_FUNCTIONS = words("""
    num_nulls num_nonnulls to_json to_jsonb json_build_array json_build_object jsonb_build_array jsonb_build_object
    row_to_json concat quote_literal quote_nullable count array_agg json_agg jsonb_agg any_value min max
    json_agg_strict jsonb_agg_strict
    record_send record_out any_out hash_record hash_record_extended anyelement_out anynonarray_out anycompatible_out
    anycompatiblenonarray_out
""")
"""What `t.name` calls with the whole row where t has no such column. Harmless, but it reads every column."""

SPECIAL_FORMS = words("""
    between coalesce exists extract greatest grouping least normalize nullif overlay position row substring trim values
    bit char character dec decimal float interval nchar numeric time timestamp varchar
""")
"""Keywords before a parenthesis that the grammar gives a form of their own: `EXTRACT(year FROM x)`, `numeric(9, 2)`."""

SESSION_WORDS = words("current_user session_user user current_role current_catalog current_schema system_user")
"""What is answered according to who asks, said without parentheses."""

LOOKUP_TYPES = words("""
    regclass regproc regprocedure regoper regoperator regtype regrole regnamespace regcollation regdatabase
""")
"""Types whose input looks a name up in the server's catalog."""

_READS = "reads the server's state, settings or catalog, and a select reads rows; leave it out"
_BY_NAME = "reads tables or files by name, past the check of what a select reads; leave it out"
_WAITS = "waits, locks or signals, and a select only reads; leave it out"

_REASONS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            words("query_to_xml table_to_xml schema_to_xml database_to_xml cursor_to_xml ts_stat ts_rewrite dblink"),
            _BY_NAME,
        ),
        **dict.fromkeys(words("pg_sleep pg_sleep_for pg_sleep_until pg_notify"), _WAITS),
        **dict.fromkeys(words("nextval setval set_config"), "writes, and a select only reads; leave it out"),
        **dict.fromkeys(words("current_setting version currval lastval current_database current_schemas"), _READS),
    }
)


def refusal(name: str) -> str:
    """Why a function that is not on the list is refused, and what to do about it."""
    if name in _REASONS:
        return _REASONS[name]
    if name.startswith(("pg_advisory", "pg_try_advisory", "pg_terminate", "pg_cancel")):
        return _WAITS
    if name.startswith(
        ("lo_", "pg_read", "pg_ls", "query_to_", "table_to_", "schema_to_", "database_to_", "cursor_to_")
    ):
        return _BY_NAME
    if name.startswith(("pg_", "has_", "txid_")):
        return _READS
    return "is not a function that a select may call; put it behind a view, and select from that"
