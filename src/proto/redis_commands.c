#include "proto/redis_commands.h"

#include <string.h>

/* Sorted. What is not here pins: what authenticates, chooses a database or a protocol, watches, queues, subscribes, blocks, follows
 * or administers, and what modules bring (nobody here knows what those leave). XREAD and XREADGROUP block by an argument. */
static const char commands[][REDIS_COMMAND_MAX + 1] = { "append", "bitcount", "bitfield", "bitfield_ro", "bitop", "bitpos", "copy",
	"dbsize", "decr", "decrby", "del", "dump", "echo", "eval", "eval_ro", "evalsha", "evalsha_ro", "exists", "expire", "expireat",
	"expiretime", "fcall", "fcall_ro", "flushall", "flushdb", "geoadd", "geodist", "geohash", "geopos", "georadius", "georadius_ro",
	"georadiusbymember", "georadiusbymember_ro", "geosearch", "geosearchstore", "get", "getbit", "getdel", "getex", "getrange",
	"getset", "hdel", "hexists", "hexpire", "hexpireat", "hexpiretime", "hget", "hgetall", "hgetdel", "hgetex", "hincrby",
	"hincrbyfloat", "hkeys", "hlen", "hmget", "hmset", "hpersist", "hpexpire", "hpexpireat", "hpexpiretime", "hpttl", "hrandfield",
	"hscan", "hset", "hsetex", "hsetnx", "hstrlen", "httl", "hvals", "incr", "incrby", "incrbyfloat", "info", "keys", "lastsave", "lcs",
	"lindex", "linsert", "llen", "lmove", "lmpop", "lpop", "lpos", "lpush", "lpushx", "lrange", "lrem", "lset", "ltrim", "memory",
	"mget", "mset", "msetnx", "object", "persist", "pexpire", "pexpireat", "pexpiretime", "pfadd", "pfcount", "pfmerge", "ping",
	"psetex", "pttl", "publish", "pubsub", "randomkey", "rename", "renamenx", "restore", "rpop", "rpoplpush", "rpush", "rpushx", "sadd",
	"scan", "scard", "sdiff", "sdiffstore", "set", "setbit", "setex", "setnx", "setrange", "sinter", "sintercard", "sinterstore",
	"sismember", "smembers", "smismember", "smove", "sort", "sort_ro", "spop", "spublish", "srandmember", "srem", "sscan", "strlen",
	"substr", "sunion", "sunionstore", "time", "touch", "ttl", "type", "unlink", "xack", "xadd", "xautoclaim", "xclaim", "xdel",
	"xgroup", "xinfo", "xlen", "xpending", "xrange", "xrevrange", "xtrim", "zadd", "zcard", "zcount", "zdiff", "zdiffstore", "zincrby",
	"zinter", "zintercard", "zinterstore", "zlexcount", "zmpop", "zmscore", "zpopmax", "zpopmin", "zrandmember", "zrange",
	"zrangebylex", "zrangebyscore", "zrangestore", "zrank", "zrem", "zremrangebylex", "zremrangebyrank", "zremrangebyscore",
	"zrevrange", "zrevrangebylex", "zrevrangebyscore", "zrevrank", "zscan", "zscore", "zunion", "zunionstore" };

bool redis_command_is_stateless(const char *name, size_t length)
{
	size_t low = 0, high = sizeof commands / sizeof commands[0];

	while (low < high) {
		size_t middle = (low + high) / 2;
		int order = memcmp(name, commands[middle], length);
		if (order == 0 && strlen(commands[middle]) == length)
			return true;
		if (order > 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}
