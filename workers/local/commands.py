"""Which commands the REST service takes: what Redis 6.2 had, without those that block or belong to a connection."""

from __future__ import annotations

from workers.local.resp import Command

_NAMES = """
    append decr decrby get getdel getex getrange getset incr incrby incrbyfloat mget mset msetnx psetex set setex
    setnx setrange strlen
    bitcount bitfield bitfield_ro bitop bitpos getbit setbit
    hdel hexists hget hgetall hincrby hincrbyfloat hkeys hlen hmget hmset hrandfield hscan hset hsetnx hstrlen hvals
    lindex linsert llen lmove lpop lpos lpush lpushx lrange lrem lset ltrim rpop rpoplpush rpush rpushx
    sadd scard sdiff sdiffstore sinter sinterstore sismember smembers smismember smove spop srandmember srem sscan
    sunion sunionstore
    zadd zcard zcount zdiff zdiffstore zincrby zinter zinterstore zlexcount zmscore zpopmax zpopmin zrandmember
    zrange zrangebylex zrangebyscore zrangestore zrank zrem zremrangebylex zremrangebyrank zremrangebyscore
    zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan zscore zunion zunionstore
    geoadd geodist geohash geopos georadius georadius_ro georadiusbymember georadiusbymember_ro geosearch
    geosearchstore
    pfadd pfcount pfmerge
    xack xadd xautoclaim xclaim xdel xgroup xinfo xlen xpending xrange xread xreadgroup xrevrange xtrim
    copy del dump exists expire expireat keys persist pexpire pexpireat pttl randomkey rename renamenx restore scan
    touch ttl type unlink
    eval evalsha script
    publish pubsub
    ping echo
    dbsize flushall flushdb info time
"""

AVAILABLE = frozenset(_NAMES.split())

_WITHOUT_CONDITION = frozenset({"expire", "pexpire", "expireat", "pexpireat"})
"""Their fourth argument (NX, XX, GT, LT) came with Redis 7."""

_STREAM_READS = frozenset({"xread", "xreadgroup"})


def refusal(command: Command) -> str | None:
    """The service's error text for a command that it does not take, None for one that it does."""
    name = command[0].decode(errors="replace").lower()
    if name not in AVAILABLE or _blocks(name, command):
        details = "See https://upstash.com/docs/redis/overall/rediscompatibility for details"
        return f"ERR Command is not available: '{name.upper()}'. {details}"
    if name in _WITHOUT_CONDITION and len(command) > 3:
        return f"ERR wrong number of arguments for '{name}' command"
    return None


def access_rules() -> list[bytes]:
    """The same list as rules of a redis user, because scripts could call the other commands too."""
    return [b"reset", b"on", b"nopass", b"~*", b"&*", *(b"+" + name.encode() for name in sorted(AVAILABLE))]


def _blocks(name: str, command: Command) -> bool:
    options = [argument.upper() for argument in command]
    before_keys = options[: options.index(b"STREAMS")] if b"STREAMS" in options else options
    return name in _STREAM_READS and b"BLOCK" in before_keys
