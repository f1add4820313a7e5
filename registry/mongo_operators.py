"""Which MongoDB operators a select may use, and what kind of thing each stage's arguments are.

Allow-lists: what isn't named here is refused, so an operator that a later server brings does nothing until
somebody has read what it does. `REFUSED` only gives the better known refusals a reason of their own.

Source: the MongoDB manual, "Query and Projection Operators", "Aggregation Stages" and "Aggregation
Operators", 6.0 to 8.0. The server refuses by itself an operator that it is too old for.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType


class Arg(Enum):
    """How an argument is to be read."""

    MATCH = auto()  # a query: field conditions and top-level operators
    FOREIGN_MATCH = auto()  # the same, on another collection's rows
    EXPRESSION = auto()  # an aggregation expression
    FIELDS = auto()  # {path: expression}, rows otherwise passed through
    PROJECTION = auto()  # {path: 1 | 0 | expression | nested}
    GROUP = auto()  # {_id: expression, name: {accumulator: expression}}
    OUTPUT = auto()  # {name: {accumulator: expression}}
    WINDOWS = auto()  # {name: {window operator: …, window: …}}
    SORT = auto()  # {path: 1 | -1 | {$meta: …}}
    FIELD = auto()  # one field of the row: "a.b"
    REFERENCE = auto()  # the same, written "$a.b"
    COLLECTION = auto()  # a collection's name
    PIPELINE = auto()  # stages on another collection's rows
    FACETS = auto()  # {name: stages on the same rows}
    PLAIN = auto()  # a value without operators


def _names(text: str) -> frozenset[str]:
    return frozenset(f"${name}" for name in text.split())


QUERY_OPERATORS = _names("and or nor expr text comment jsonSchema sampleRate")

FIELD_OPERATORS = _names("""
    eq ne gt gte lt lte in nin exists type mod regex options size all elemMatch not
    bitsAllSet bitsAllClear bitsAnySet bitsAnyClear
    geoWithin within geoIntersects near nearSphere minDistance maxDistance
""")

GEOMETRY_OPERATORS = _names("geometry box polygon center centerSphere uniqueDocs minDistance maxDistance")

TEXT_OPERATORS = _names("search language caseSensitive diacriticSensitive")

_STATISTICS = "sum avg min max stdDevPop stdDevSamp median percentile"
_BOTH = f"{_STATISTICS} first last firstN lastN minN maxN mergeObjects"

ACCUMULATORS = _names(f"{_BOTH} push addToSet count top topN bottom bottomN concatArrays setUnion")

WINDOW_OPERATORS = ACCUMULATORS | _names("""
    rank denseRank documentNumber shift derivative integral covariancePop covarianceSamp expMovingAvg
    linearFill locf
""")

EXPRESSIONS = _names(f"""
    {_BOTH}
    abs add ceil divide exp floor ln log log10 mod multiply pow round sqrt subtract trunc sigmoid
    bitAnd bitOr bitXor bitNot
    arrayElemAt arrayToObject concatArrays filter in indexOfArray isArray map objectToArray range reduce
    reverseArray size slice sortArray zip
    and or not cmp eq gt gte lt lte ne cond ifNull switch
    binarySize bsonSize
    dateAdd dateDiff dateFromParts dateFromString dateSubtract dateToParts dateToString dateTrunc dayOfMonth
    dayOfWeek dayOfYear hour isoDayOfWeek isoWeek isoWeekYear millisecond minute month second week year
    literal let getField setField unsetField meta rand toHashedIndexKey
    allElementsTrue anyElementTrue setDifference setEquals setIntersection setIsSubset setUnion
    concat indexOfBytes indexOfCP ltrim regexFind regexFindAll regexMatch replaceAll replaceOne rtrim split
    strcasecmp strLenBytes strLenCP substr substrBytes substrCP toLower toUpper trim
    tsIncrement tsSecond
    sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh degreesToRadians radiansToDegrees
    convert isNumber toBool toDate toDecimal toDouble toInt toLong toObjectId toString toUUID type
""")

VARIABLES = _names("$ROOT $CURRENT $REMOVE $DESCEND $PRUNE $KEEP $NOW $CLUSTER_TIME $USER_ROLES")
"""The server's own variables, `$$NAME`. A user's begin with a small letter."""

VOLATILE = frozenset({"$$NOW", "$$CLUSTER_TIME", "$rand", "$sampleRate", "$sample"})
"""What gives another answer on the same rows."""

Shape = Arg | Mapping[str, Arg]

STAGES: Mapping[str, Shape] = MappingProxyType(
    {
        "$addFields": Arg.FIELDS,
        "$bucket": {
            "groupBy": Arg.EXPRESSION,
            "boundaries": Arg.EXPRESSION,
            "default": Arg.EXPRESSION,
            "output": Arg.OUTPUT,
        },
        "$bucketAuto": {
            "groupBy": Arg.EXPRESSION,
            "buckets": Arg.PLAIN,
            "output": Arg.OUTPUT,
            "granularity": Arg.PLAIN,
        },
        "$count": Arg.PLAIN,
        "$densify": {"field": Arg.FIELD, "partitionByFields": Arg.PLAIN, "range": Arg.PLAIN},
        "$documents": Arg.EXPRESSION,
        "$facet": Arg.FACETS,
        "$fill": {
            "partitionBy": Arg.EXPRESSION,
            "partitionByFields": Arg.PLAIN,
            "sortBy": Arg.SORT,
            "output": Arg.EXPRESSION,
        },
        "$geoNear": {
            "near": Arg.EXPRESSION,
            "query": Arg.MATCH,
            **dict.fromkeys(("distanceField", "includeLocs", "key", "spherical"), Arg.PLAIN),
            **dict.fromkeys(("minDistance", "maxDistance", "distanceMultiplier"), Arg.EXPRESSION),
        },
        "$graphLookup": {
            "from": Arg.COLLECTION,
            "startWith": Arg.EXPRESSION,
            "restrictSearchWithMatch": Arg.FOREIGN_MATCH,
            "as": Arg.FIELD,
            **dict.fromkeys(("connectFromField", "connectToField", "maxDepth", "depthField"), Arg.PLAIN),
        },
        "$group": Arg.GROUP,
        "$limit": Arg.PLAIN,
        "$lookup": {
            "from": Arg.COLLECTION,
            "localField": Arg.FIELD,
            "foreignField": Arg.PLAIN,
            "let": Arg.EXPRESSION,
            "pipeline": Arg.PIPELINE,
            "as": Arg.FIELD,
        },
        "$match": Arg.MATCH,
        "$project": Arg.PROJECTION,
        "$redact": Arg.EXPRESSION,
        "$replaceRoot": {"newRoot": Arg.EXPRESSION},
        "$replaceWith": Arg.EXPRESSION,
        "$sample": {"size": Arg.PLAIN},
        "$set": Arg.FIELDS,
        "$setWindowFields": {"partitionBy": Arg.EXPRESSION, "sortBy": Arg.SORT, "output": Arg.WINDOWS},
        "$skip": Arg.PLAIN,
        "$sort": Arg.SORT,
        "$sortByCount": Arg.EXPRESSION,
        "$unionWith": {"coll": Arg.COLLECTION, "pipeline": Arg.PIPELINE},
        "$unset": Arg.PLAIN,
        "$unwind": {
            "path": Arg.REFERENCE,
            "includeArrayIndex": Arg.PLAIN,
            "preserveNullAndEmptyArrays": Arg.PLAIN,
        },
    }
)

SHORT_FORMS: Mapping[str, str] = MappingProxyType({"$unwind": "path", "$unionWith": "coll"})
"""Stages that take one argument bare: `{$unwind: "$a"}` is `{$unwind: {path: "$a"}}`."""

_CODE = "runs JavaScript on the server, which a select may not; say it with $expr and aggregation operators"
_WRITES = "writes, and a select only reads; leave the stage out"
_SERVER = "reads the server's state and not rows; leave it out"
_SEARCH = "reads a search index, which lags behind the rows and can't be read at a snapshot; use $match"

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(_names("where function accumulator eval"), _CODE),
        **dict.fromkeys(_names("out merge"), _WRITES),
        **dict.fromkeys(
            _names("""
                currentOp listSessions listLocalSessions collStats indexStats planCacheStats changeStream
                changeStreamSplitLargeEvent listCatalog listClusterCatalog listSampledQueries
                listSearchIndexes listCachedAndActiveUsers queryStats querySettings
                shardedDataDistribution operationMetrics backupCursor backupCursorExtend
            """),
            _SERVER,
        ),
        **dict.fromkeys(_names("search searchMeta vectorSearch rankFusion scoreFusion"), _SEARCH),
    }
)

EXTENDED_JSON = _names("""
    oid date numberInt numberLong numberDouble numberDecimal binary uuid timestamp regularExpression symbol
    minKey maxKey undefined code scope dbPointer
""")

ALL = QUERY_OPERATORS | FIELD_OPERATORS | GEOMETRY_OPERATORS | WINDOW_OPERATORS | EXPRESSIONS | STAGES.keys()
"""Every operator that is allowed somewhere."""
