#include "config/options.h"

#include <assert.h>
#include <string.h>

#include "base/clock.h"

const char *const reload_texts[N_RELOADS] = {
	[RELOAD_LIVE] = "at once",
	[RELOAD_WORKERS] = "for new connections",
	[RELOAD_RESTART] = "after a restart",
};

/* The offset of a field; does not compile where the field has another type than the row's kind needs. */
#define FIELD(owner, field, kind) (offsetof(struct owner, field) + 0 * sizeof(char[_Generic(((struct owner *)0)->field, kind : 1)]))

const struct object_row object_rows[N_OBJECTS] = {
	[OBJECT_TOP] = { .parent = OBJECT_TOP, .key = "" },
	[OBJECT_LOG] = { .parent = OBJECT_TOP, .key = "log", .help = "Aegis's own messages." },
	[OBJECT_DRAIN] = { .parent = OBJECT_TOP,
	        .key = "drain",
	        .help = "What happens to connections when their workers are to end: at a reload, a stop, a drain." },
	[OBJECT_LISTENER] = { .parent = OBJECT_TOP,
	        .key = "listeners",
	        .list = true,
	        .required = true,
	        .array_offset = FIELD(config, listeners, struct listener_config *),
	        .count_offset = FIELD(config, n_listeners, size_t),
	        .element_size = sizeof(struct listener_config),
	        .max = CONFIG_MAX_LISTENERS,
	        .help = "Where clients connect to. At least one." },
	[OBJECT_LISTENER_TCP] = { .parent = OBJECT_LISTENER,
	        .key = "tcp",
	        .help = "Socket options of the connections from clients; see tcp(7)." },
	[OBJECT_LISTENER_TIMEOUT] = { .parent = OBJECT_LISTENER, .key = "timeout", .help = "How long a connection may take." },
	[OBJECT_UPSTREAM] = { .parent = OBJECT_TOP,
	        .key = "upstreams",
	        .list = true,
	        .array_offset = FIELD(config, upstreams, struct upstream_config *),
	        .count_offset = FIELD(config, n_upstreams, size_t),
	        .element_size = sizeof(struct upstream_config),
	        .max = CONFIG_MAX_SERVERS,
	        .required = true,
	        .help = "Groups of servers that do the same work. At least one." },
	[OBJECT_SERVER] = { .parent = OBJECT_UPSTREAM,
	        .key = "servers",
	        .list = true,
	        .required = true,
	        .array_offset = FIELD(upstream_config, servers, struct server_config *),
	        .count_offset = FIELD(upstream_config, n_servers, size_t),
	        .element_size = sizeof(struct server_config),
	        .max = CONFIG_MAX_SERVERS,
	        .help = "The servers of the upstream. At least one that is not a backup." },
	[OBJECT_UPSTREAM_TIMEOUT] = { .parent = OBJECT_UPSTREAM, .key = "timeout", .help = "How long a server may take." },
	[OBJECT_UPSTREAM_POOL] = { .parent = OBJECT_UPSTREAM,
	        .key = "pool",
	        .help = "Connections to the servers that are established before a client needs them. They count as connections of the "
	                "server." },
	[OBJECT_UPSTREAM_TCP] = { .parent = OBJECT_UPSTREAM,
	        .key = "tcp",
	        .help = "Socket options of the connections to the servers; see tcp(7)." },
};

#define SECOND NS_PER_S
#define MINUTE (60 * NS_PER_S)
#define DAY (86400 * NS_PER_S)
#define KB UINT64_C(1024)
#define MB (KB * 1024)
#define GB (MB * 1024)
#define TIMEOUT_MAX (365 * DAY)
#define MAX_CONNECTIONS 10000000

enum { NAME_LENGTH = CONFIG_NAME_SIZE - 1, USER_LENGTH = 32, PATH_LENGTH = 4000, ADDRESS_LENGTH = 300 };

/* The columns of a row that depend on its type. An enum is stored as the unsigned int that the compilers make of it. */
#define BOOL(owner, field) .type = OPTION_BOOL, .offset = FIELD(owner, field, bool)
#define NUMBER(owner, field, low, high) .type = OPTION_NUMBER, .offset = FIELD(owner, field, uint32_t), .min = (low), .max = (high)
#define DURATION(owner, field, low, high) .type = OPTION_DURATION, .offset = FIELD(owner, field, uint64_t), .min = (low), .max = (high)
#define SIZE(owner, field, low, high) .type = OPTION_SIZE, .offset = FIELD(owner, field, uint64_t), .min = (low), .max = (high)
#define ENUM(owner, field, list) .type = OPTION_ENUM, .offset = FIELD(owner, field, unsigned), .words = (list), .n_words = ARRAY_LEN(list)
#define STRING(kind, owner, field, longest) .type = OPTION_##kind, .offset = FIELD(owner, field, const char *), .max = (longest)
#define ADDRESS(kind, owner) STRING(kind, owner, address, ADDRESS_LENGTH), .endpoint_offset = FIELD(owner, endpoint, struct endpoint)

static const char *const engines[] = { [ENGINE_AUTO] = "auto", [ENGINE_EPOLL] = "epoll", [ENGINE_IO_URING] = "io_uring" };
static const char *const levels[] = {
	[LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARN] = "warn", [LOG_LEVEL_INFO] = "info", [LOG_LEVEL_DEBUG] = "debug"
};
static const char *const formats[] = { [LOG_FORMAT_TEXT] = "text", [LOG_FORMAT_JSON] = "json" };
static const char *const protocols[] = { [PROTOCOL_TCP] = "tcp" };
static const char *const on_fulls[] = { [ON_FULL_REJECT] = "reject", [ON_FULL_WAIT] = "wait" };
static const char *const balances[] = { [BALANCE_ROUND_ROBIN] = "round_robin", [BALANCE_LEAST_CONNECTIONS] = "least_connections" };
static const char *const start_tests[] = { [START_TEST_OFF] = "off", [START_TEST_WARN] = "warn", [START_TEST_FAIL] = "fail" };
static const char *const framings[] = {
	[POOL_FRAMING_NONE] = "none", [POOL_FRAMING_HTTP1] = "http1", [POOL_FRAMING_REDIS] = "redis", [POOL_FRAMING_LINE] = "line"
};
static_assert(ARRAY_LEN(engines) == ENGINE_IO_URING + 1, "one word per engine");
static_assert(ARRAY_LEN(levels) == LOG_LEVEL_DEBUG + 1, "one word per level");
static_assert(ARRAY_LEN(formats) == LOG_FORMAT_JSON + 1, "one word per format");
static_assert(ARRAY_LEN(protocols) == PROTOCOL_TCP + 1, "one word per protocol");
static_assert(ARRAY_LEN(on_fulls) == ON_FULL_WAIT + 1, "one word per on_full");
static_assert(ARRAY_LEN(balances) == BALANCE_LEAST_CONNECTIONS + 1, "one word per balance");
static_assert(ARRAY_LEN(start_tests) == START_TEST_FAIL + 1, "one word per start_test");
static_assert(ARRAY_LEN(framings) == POOL_FRAMING_LINE + 1, "one word per framing");

/* clang-format off */

/* The rows that listener.tcp and upstream.tcp share. */
#define TCP_ROWS(group, owner) \
	{ group, "nodelay", BOOL(owner, tcp.nodelay), \
	  .fallback = "true", .reload = RELOAD_WORKERS, \
	  .help = "Send small pieces at once instead of gathering them (TCP_NODELAY)." }, \
	{ group, "quickack", BOOL(owner, tcp.quickack), \
	  .fallback = "false", .reload = RELOAD_WORKERS, \
	  .help = "Acknowledge what arrives at once (TCP_QUICKACK); the kernel may go back to its own judgement later." }, \
	{ group, "keepalive", DURATION(owner, tcp.keepalive_ns, SECOND, 32767 * SECOND), \
	  .zero = "no probes", .fallback = "60s", .reload = RELOAD_WORKERS, \
	  .help = "How long a connection is quiet before the kernel probes whether the peer is still there (TCP_KEEPIDLE, rounded " \
		  "up to seconds). Four probes follow within the same time again; then it is given up." }, \
	{ group, "user_timeout", DURATION(owner, tcp.user_timeout_ns, NS_PER_MS, DAY), \
	  .zero = "the kernel's own", .fallback = "0s", .reload = RELOAD_WORKERS, \
	  .help = "How long sent data may stay unacknowledged before the connection is given up (TCP_USER_TIMEOUT). To the kernel a peer " \
		  "that is there but reads nothing for so long is the same: not for peers that pause." }, \
	{ group, "receive_buffer", SIZE(owner, tcp.receive_buffer_bytes, 4 * KB, GB), \
	  .zero = "the kernel decides", .fallback = "0", .reload = RELOAD_WORKERS, \
	  .help = "Size of the kernel's receive buffer (SO_RCVBUF); a fixed size turns its self-tuning off." }, \
	{ group, "send_buffer", SIZE(owner, tcp.send_buffer_bytes, 4 * KB, GB), \
	  .zero = "the kernel decides", .fallback = "0", .reload = RELOAD_WORKERS, \
	  .help = "Size of the kernel's send buffer (SO_SNDBUF); a fixed size turns its self-tuning off." }

const struct option option_rows[] = {
	{ OBJECT_TOP, "workers", NUMBER(config, workers, 1, CONFIG_MAX_WORKERS),
	  .zero_word = "auto", .fallback = "auto", .reload = RELOAD_WORKERS,
	  .help = "Number of worker processes. \"auto\" is one per CPU that the affinity mask and the cgroup quota leave to Aegis. "
		  "A reload cannot go beyond the room that was made at the start; it says so." },
	{ OBJECT_TOP, "pin", BOOL(config, pin),
	  .fallback = "true", .reload = RELOAD_WORKERS,
	  .help = "Tie each worker to one CPU and keep its memory on the NUMA node of that CPU." },
	{ OBJECT_TOP, "engine", ENUM(config, engine, engines),
	  .fallback = "auto", .reload = RELOAD_WORKERS,
	  .help = "How workers wait for and move bytes. \"io_uring\" (Linux 6.1 or newer) takes the least CPU with many small messages; where "
		  "the kernel or its administrator forbids it, workers say so and go on with \"epoll\". Bulk, and connections whose reader does not "
		  "keep up, are moved by epoll with either. \"auto\" is \"io_uring\" where it works." },
	{ OBJECT_TOP, "user", STRING(TEXT, config, user, USER_LENGTH),
	  .derived_default = "\"aegis\" where that user exists, else \"nobody\"", .fallback = "", .reload = RELOAD_RESTART,
	  .help = "The user that workers run as when Aegis is started as root." },
	{ OBJECT_TOP, "group", STRING(TEXT, config, group, USER_LENGTH),
	  .derived_default = "the group of the user", .fallback = "", .reload = RELOAD_RESTART,
	  .help = "The group that workers run as when Aegis is started as root." },
	{ OBJECT_TOP, "runtime_dir", STRING(PATH, config, runtime_dir, PATH_LENGTH),
	  .derived_default = "/run/aegis for root, else $XDG_RUNTIME_DIR/aegis, else /tmp/aegis-UID", .reload = RELOAD_RESTART,
	  .help = "Folder of what the running instance shows to others: its pid file and the statistics. The option -r takes "
		  "precedence." },
	{ OBJECT_TOP, "max_connections", NUMBER(config, max_connections, 1, MAX_CONNECTIONS),
	  .fallback = "100000", .reload = RELOAD_LIVE,
	  .help = "The most client connections at one time, exact over all workers. The limit on open files may lower it; Aegis "
		  "says so at the start." },
	{ OBJECT_TOP, "buffer_memory", SIZE(config, buffer_memory_bytes, MB, 1024 * GB),
	  .fallback = "256M", .reload = RELOAD_WORKERS,
	  .help = "Memory for data that slow readers have not taken yet, all workers together. When it is used up, data waits in "
		  "the kernel and the sender is held back; no connection is lost." },

	{ OBJECT_LOG, "level", ENUM(config, log.level, levels),
	  .fallback = "info", .reload = RELOAD_WORKERS,
	  .help = "The least important messages that are written." },
	{ OBJECT_LOG, "target", STRING(TARGET, config, log.target, PATH_LENGTH),
	  .fallback = "stderr", .reload = RELOAD_WORKERS,
	  .help = "Where messages go: \"stderr\", \"syslog\", \"journal\" (systemd's) or the absolute path of a file. "
		  "A message that cannot be written at once is dropped and counted; Aegis never waits for its log." },
	{ OBJECT_LOG, "format", ENUM(config, log.format, formats),
	  .fallback = "text", .reload = RELOAD_WORKERS,
	  .help = "Lines for people or one JSON object a line." },

	{ OBJECT_DRAIN, "timeout", DURATION(config, drain.timeout_ns, NS_PER_MS, TIMEOUT_MAX),
	  .zero = "wait for the last one", .fallback = "30s", .reload = RELOAD_LIVE,
	  .help = "How long connections may go on before they are closed." },
	{ OBJECT_DRAIN, "pace", NUMBER(config, drain.pace, 0, 1000000),
	  .zero = "no pacing", .fallback = "0", .reload = RELOAD_LIVE,
	  .help = "Idle connections to close in each second of a drain, so that clients come back little by little instead of all "
		  "at once." },
	{ OBJECT_DRAIN, "max_generations", NUMBER(config, drain.max_generations, 1, 16),
	  .fallback = "4", .reload = RELOAD_LIVE,
	  .help = "How many old generations of workers may drain at one time; one more ends the oldest at once." },

	{ OBJECT_LISTENER, "name", STRING(NAME, listener_config, name, NAME_LENGTH),
	  .derived_default = "the address", .reload = RELOAD_WORKERS,
	  .help = "Name in counters and messages. The counters of a listener live on over reloads as long as its name stays." },
	{ OBJECT_LISTENER, "address", ADDRESS(LISTEN, listener_config),
	  .reload = RELOAD_WORKERS,
	  .help = "Where to listen; see Addresses above." },
	{ OBJECT_LISTENER, "protocol", ENUM(listener_config, protocol, protocols),
	  .fallback = "tcp", .reload = RELOAD_WORKERS,
	  .help = "What is spoken." },
	{ OBJECT_LISTENER, "upstream", STRING(NAME, listener_config, upstream_name, NAME_LENGTH),
	  .derived_default = "the upstream, where there is only one", .reload = RELOAD_WORKERS,
	  .help = "Name of the upstream that serves these clients." },
	{ OBJECT_LISTENER, "backlog", NUMBER(listener_config, backlog, 1, 65535),
	  .fallback = "4096", .reload = RELOAD_WORKERS,
	  .help = "Connections that the kernel holds for each worker until it accepts them; net.core.somaxconn may lower it." },
	{ OBJECT_LISTENER, "max_connections", NUMBER(listener_config, max_connections, 0, MAX_CONNECTIONS),
	  .zero = "no limit of its own", .fallback = "0", .reload = RELOAD_LIVE,
	  .help = "The most connections of this listener at one time, exact over all workers." },
	{ OBJECT_LISTENER, "on_full", ENUM(listener_config, on_full, on_fulls),
	  .fallback = "reject", .reload = RELOAD_WORKERS,
	  .help = "What happens to new connections when a max_connections is reached: \"reject\" closes them at once, "
		  "\"wait\" leaves them in the backlog until there is room." },
	TCP_ROWS(OBJECT_LISTENER_TCP, listener_config),
	{ OBJECT_LISTENER_TCP, "fast_open", NUMBER(listener_config, tcp.fast_open, 0, 65535),
	  .zero = "off", .fallback = "0", .reload = RELOAD_WORKERS,
	  .help = "Accept data in the first packet of a connection (TCP_FASTOPEN): the most of these that may wait. The sysctl "
		  "net.ipv4.tcp_fastopen must allow it." },
	{ OBJECT_LISTENER_TCP, "defer_accept", DURATION(listener_config, tcp.defer_accept_ns, SECOND, MINUTE),
	  .zero = "off", .fallback = "0s", .reload = RELOAD_WORKERS,
	  .help = "Accept a connection only when its first data is there, or this has passed (TCP_DEFER_ACCEPT, rounded up to "
		  "seconds). Breaks protocols in which the server speaks first." },
	{ OBJECT_LISTENER_TIMEOUT, "first_byte", DURATION(listener_config, timeout.first_byte_ns, NS_PER_MS, TIMEOUT_MAX),
	  .zero = "none", .fallback = "0s", .reload = RELOAD_WORKERS,
	  .help = "Until the first byte from the client. Leave it off where the server speaks first." },
	{ OBJECT_LISTENER_TIMEOUT, "idle", DURATION(listener_config, timeout.idle_ns, NS_PER_MS, TIMEOUT_MAX),
	  .zero = "none", .fallback = "0s", .reload = RELOAD_WORKERS,
	  .help = "Without a byte in either direction." },
	{ OBJECT_LISTENER_TIMEOUT, "lifetime", DURATION(listener_config, timeout.lifetime_ns, NS_PER_MS, TIMEOUT_MAX),
	  .zero = "none", .fallback = "0s", .reload = RELOAD_WORKERS,
	  .help = "From the accept to the end, whatever happens." },

	{ OBJECT_UPSTREAM, "name", STRING(NAME, upstream_config, name, NAME_LENGTH),
	  .reload = RELOAD_WORKERS,
	  .help = "Name, by which listeners refer to it." },
	{ OBJECT_UPSTREAM, "balance", ENUM(upstream_config, balance, balances),
	  .fallback = "round_robin", .reload = RELOAD_WORKERS,
	  .help = "How the server of a new connection is chosen: in turn, or the one with the fewest connections (over all "
		  "workers). Both honour weight." },
	{ OBJECT_UPSTREAM, "retries", NUMBER(upstream_config, retries, 0, CONFIG_MAX_RETRIES),
	  .zero = "one attempt only", .fallback = "2", .reload = RELOAD_WORKERS,
	  .help = "Further attempts after a server could not be reached, each on another server first." },
	{ OBJECT_UPSTREAM, "start_test", ENUM(upstream_config, start_test, start_tests),
	  .fallback = "off", .reload = RELOAD_WORKERS,
	  .help = "Whether to try at a start and a reload if a server can be reached: \"warn\" only says so when none can, "
		  "\"fail\" refuses the start or the reload." },
	{ OBJECT_UPSTREAM_TIMEOUT, "connect", DURATION(upstream_config, timeout.connect_ns, NS_PER_MS, 60 * MINUTE),
	  .fallback = "5s", .reload = RELOAD_WORKERS,
	  .help = "For one attempt to connect." },
	{ OBJECT_UPSTREAM_TIMEOUT, "read", DURATION(upstream_config, timeout.read_ns, NS_PER_MS, TIMEOUT_MAX),
	  .zero = "none", .fallback = "0s", .reload = RELOAD_WORKERS,
	  .help = "For an answer: from what the client sent to the next byte from the server. While nobody waits for an answer it does "
		  "not run." },
	{ OBJECT_UPSTREAM_POOL, "warm", NUMBER(upstream_config, pool.warm, 0, CONFIG_MAX_HOT),
	  .zero = "none", .fallback = "0", .reload = RELOAD_WORKERS,
	  .help = "So many connections that nobody has used yet are kept ready, for each server and worker. A client gets one that is "
		  "established already, and with it what the server said meanwhile. Its place is filled again at once." },
	{ OBJECT_UPSTREAM_POOL, "keep", NUMBER(upstream_config, pool.keep, 0, CONFIG_MAX_HOT),
	  .zero = "each client has a connection of its own", .fallback = "0", .reload = RELOAD_WORKERS,
	  .help = "When a client leaves, up to so many idle connections are kept for other clients, for each server and worker, with "
		  "share for each server. Needs a framing that can prove that nothing of the former client is left." },
	{ OBJECT_UPSTREAM_POOL, "framing", ENUM(upstream_config, pool.framing, framings),
	  .fallback = "none", .reload = RELOAD_WORKERS,
	  .help = "What clients and servers speak: \"http1\" (HTTP/1.1), \"redis\" (RESP2 and RESP3), \"line\" (each line is answered by "
		  "one line), \"none\" (unknown). Aegis follows the messages and changes none. A connection is kept only when every request was "
		  "answered in full and no state is left in the server: an upgrade, a login, a transaction, a subscription and whatever is "
		  "not understood exactly keep it for its client. Not for servers that know who a connection belongs to by other means." },
	{ OBJECT_UPSTREAM_POOL, "max_idle", DURATION(upstream_config, pool.max_idle_ns, NS_PER_MS, TIMEOUT_MAX),
	  .zero = "no limit", .fallback = "30s", .reload = RELOAD_WORKERS,
	  .help = "An idle connection that is older is closed, looked for once a second; one that was kept warm is replaced. Best less than "
		  "what the server allows." },
	{ OBJECT_UPSTREAM_POOL, "share", BOOL(upstream_config, pool.share),
	  .fallback = "false", .reload = RELOAD_WORKERS,
	  .help = "Lend idle connections between workers, so that keep is for all of them together: for servers that allow few connections. "
		  "Passing one on costs a few system calls." },
	TCP_ROWS(OBJECT_UPSTREAM_TCP, upstream_config),
	{ OBJECT_SERVER, "name", STRING(NAME, server_config, name, ADDR_TEXT_SIZE - 1),
	  .derived_default = "the address", .reload = RELOAD_WORKERS,
	  .help = "Name in counters and messages, unique in its upstream." },
	{ OBJECT_SERVER, "address", ADDRESS(SERVER, server_config),
	  .reload = RELOAD_WORKERS,
	  .help = "Where to connect to; see Addresses above." },
	{ OBJECT_SERVER, "weight", NUMBER(server_config, weight, 0, 65535),
	  .zero = "no new connection", .fallback = "100", .reload = RELOAD_WORKERS,
	  .help = "Share of the new connections, relative to the other servers." },
	{ OBJECT_SERVER, "backup", BOOL(server_config, backup),
	  .fallback = "false", .reload = RELOAD_WORKERS,
	  .help = "Only used when none of the others can be." },
	{ OBJECT_SERVER, "disabled", BOOL(server_config, disabled),
	  .fallback = "false", .reload = RELOAD_WORKERS,
	  .help = "Gets no new connection." },
};
/* clang-format on */
const size_t n_option_rows = ARRAY_LEN(option_rows);

const struct option *option_find(enum object object, const char *key)
{
	for (size_t i = 0; i < n_option_rows; i++)
		if (option_rows[i].object == object && strcmp(option_rows[i].key, key) == 0)
			return &option_rows[i];
	return NULL;
}

enum object object_find(enum object parent, const char *key)
{
	for (enum object object = OBJECT_TOP + 1; object < N_OBJECTS; object++)
		if (object_rows[object].parent == parent && strcmp(object_rows[object].key, key) == 0)
			return object;
	return N_OBJECTS;
}

size_t option_keys(enum object object, const char *out[], size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < n_option_rows && n < size; i++)
		if (option_rows[i].object == object)
			out[n++] = option_rows[i].key;
	for (enum object child = OBJECT_TOP + 1; child < N_OBJECTS && n < size; child++)
		if (object_rows[child].parent == object)
			out[n++] = object_rows[child].key;
	return n;
}
