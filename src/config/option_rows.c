#include <assert.h>

#include "base/clock.h"
#include "config/field.h"
#include "config/options.h"

#define SECOND NS_PER_S
#define MINUTE (60 * NS_PER_S)
#define DAY (86400 * NS_PER_S)
#define KB UINT64_C(1024)
#define MB (KB * 1024)
#define GB (MB * 1024)
#define TIMEOUT_MAX (365 * DAY)
#define MAX_CONNECTIONS 10000000

enum { NAME_LENGTH = CONFIG_NAME_SIZE - 1, USER_LENGTH = 32, PATH_LENGTH = 4000, ADDRESS_LENGTH = 300 };
enum { LOG_BUFFER_LEAST = 16 * 1024, LOG_BUFFER_MOST = 1024 * 1024 };
enum { ROUTE_NAME_LENGTH = 300, PROTOCOL_LENGTH = 64 };
enum {
	URL_LENGTH = 1000,
	HOST_LENGTH = 255,
	EXPECT_LENGTH = 1024,
	HEX_LENGTH = 3 * EXPECT_LENGTH,
	PEER_USER_LENGTH = 63,
	CIPHERS_LENGTH = 1000,
	ALPN_LENGTH = 255
};

/* The columns of a row that depend on its type. An enum is stored as the unsigned int that the compilers make of it. */
#define BOOL(owner, field) .type = OPTION_BOOL, .offset = FIELD(owner, field, bool)
#define NUMBER(owner, field, low, high) .type = OPTION_NUMBER, .offset = FIELD(owner, field, uint32_t), .min = (low), .max = (high)
#define DURATION(owner, field, low, high) .type = OPTION_DURATION, .offset = FIELD(owner, field, uint64_t), .min = (low), .max = (high)
#define SIZE(owner, field, low, high) .type = OPTION_SIZE, .offset = FIELD(owner, field, uint64_t), .min = (low), .max = (high)
#define RATE(owner, field, low, high) .type = OPTION_RATE, .offset = FIELD(owner, field, uint64_t), .min = (low), .max = (high)
#define ENUM(owner, field, list) .type = OPTION_ENUM, .offset = FIELD(owner, field, unsigned), .words = (list), .n_words = ARRAY_LEN(list)
#define STRING(kind, owner, field, longest) .type = OPTION_##kind, .offset = FIELD(owner, field, const char *), .max = (longest)
#define LIST(kind, owner, field, number, element, most)                                                                               \
	.type = OPTION_##kind, .offset = FIELD(owner, field, element *), .count_offset = FIELD(owner, number, size_t), .max = (most), \
	.fallback = "[ ]"
#define ADDRESS(kind, owner) STRING(kind, owner, address, ADDRESS_LENGTH), .endpoint_offset = FIELD(owner, endpoint, struct endpoint)

static const char *const engines[] = { [ENGINE_AUTO] = "auto", [ENGINE_EPOLL] = "epoll", [ENGINE_IO_URING] = "io_uring" };
static const char *const levels[] = {
	[LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARN] = "warn", [LOG_LEVEL_INFO] = "info", [LOG_LEVEL_DEBUG] = "debug"
};
static const char *const formats[] = { [LOG_FORMAT_TEXT] = "text", [LOG_FORMAT_JSON] = "json" };
static const char *const protocols[] = { [PROTOCOL_TCP] = "tcp", [PROTOCOL_UDP] = "udp" };
static const char *const starttlses[] = { [STARTTLS_NONE] = "none", [STARTTLS_POSTGRES] = "postgres" };
static const char *const on_fulls[] = { [ON_FULL_REJECT] = "reject", [ON_FULL_WAIT] = "wait" };
static const char *const rate_limit_pers[] = {
	[RATE_LIMIT_PER_LISTENER] = "listener", [RATE_LIMIT_PER_ADDRESS] = "address", [RATE_LIMIT_PER_PREFIX] = "prefix"
};
static const char *const bandwidth_pers[] = { [BANDWIDTH_PER_CONNECTION] = "connection", [BANDWIDTH_PER_LISTENER] = "listener" };
static const char *const balances[] = {
	[BALANCE_ROUND_ROBIN] = "round_robin",
	[BALANCE_LEAST_CONNECTIONS] = "least_connections",
	[BALANCE_P2C] = "p2c",
	[BALANCE_RANDOM] = "random",
	[BALANCE_CONSISTENT_HASH] = "consistent_hash",
};
static const char *const hash_keys[] = { [HASH_KEY_ADDRESS] = "address", [HASH_KEY_ADDRESS_PORT] = "address_port", [HASH_KEY_SNI] = "sni" };
static const char *const health_types[] = {
	[HEALTH_TYPE_NONE] = "none",
	[HEALTH_TYPE_TCP] = "tcp",
	[HEALTH_TYPE_HTTP] = "http",
	[HEALTH_TYPE_HTTPS] = "https",
	[HEALTH_TYPE_UDP] = "udp",
	[HEALTH_TYPE_REDIS] = "redis",
	[HEALTH_TYPE_POSTGRES] = "postgres",
	[HEALTH_TYPE_MYSQL] = "mysql",
};
static const char *const when_all_downs[] = { [ALL_DOWN_REFUSE] = "refuse", [ALL_DOWN_ANY] = "any", [ALL_DOWN_WAIT] = "wait" };
static const char *const on_downs[] = { [ON_DOWN_KEEP] = "keep", [ON_DOWN_CLOSE] = "close" };
static const char *const send_proxies[] = {
	[SEND_PROXY_OFF] = "", [SEND_PROXY_V1] = "v1", [SEND_PROXY_V2] = "v2", [SEND_PROXY_V2_EACH] = "v2-each"
};
static const char *const start_tests[] = { [START_TEST_OFF] = "off", [START_TEST_WARN] = "warn", [START_TEST_FAIL] = "fail" };
static const char *const framings[] = {
	[POOL_FRAMING_NONE] = "none", [POOL_FRAMING_HTTP1] = "http1", [POOL_FRAMING_REDIS] = "redis", [POOL_FRAMING_LINE] = "line"
};
static const char *const client_verifies[] = {
	[CLIENT_VERIFY_OFF] = "off", [CLIENT_VERIFY_OPTIONAL] = "optional", [CLIENT_VERIFY_REQUIRED] = "required"
};
static const char *const tls_versions[] = { [TLS_VERSION_1_2] = "1.2", [TLS_VERSION_1_3] = "1.3" };
static_assert(ARRAY_LEN(engines) == ENGINE_IO_URING + 1, "one word per engine");
static_assert(ARRAY_LEN(levels) == LOG_LEVEL_DEBUG + 1, "one word per level");
static_assert(ARRAY_LEN(formats) == LOG_FORMAT_JSON + 1, "one word per format");
static_assert(ARRAY_LEN(protocols) == PROTOCOL_UDP + 1, "one word per protocol");
static_assert(ARRAY_LEN(starttlses) == STARTTLS_POSTGRES + 1, "one word per client_hello.starttls");
static_assert(ARRAY_LEN(on_fulls) == ON_FULL_WAIT + 1, "one word per on_full");
static_assert(ARRAY_LEN(rate_limit_pers) == RATE_LIMIT_PER_PREFIX + 1, "one word per rate_limit.per");
static_assert(ARRAY_LEN(bandwidth_pers) == BANDWIDTH_PER_LISTENER + 1, "one word per bandwidth.per");
static_assert(ARRAY_LEN(balances) == BALANCE_CONSISTENT_HASH + 1, "one word per balance");
static_assert(ARRAY_LEN(hash_keys) == HASH_KEY_SNI + 1, "one word per hash_key");
static_assert(ARRAY_LEN(health_types) == HEALTH_TYPE_MYSQL + 1, "one word per health.type");
static_assert(ARRAY_LEN(when_all_downs) == ALL_DOWN_WAIT + 1, "one word per when_all_down");
static_assert(ARRAY_LEN(on_downs) == ON_DOWN_CLOSE + 1, "one word per on_down");
static_assert(ARRAY_LEN(send_proxies) == SEND_PROXY_V2_EACH + 1, "one word per send_proxy");
static_assert(ARRAY_LEN(start_tests) == START_TEST_FAIL + 1, "one word per start_test");
static_assert(ARRAY_LEN(client_verifies) == CLIENT_VERIFY_REQUIRED + 1, "one word per tls.client_verify");
static_assert(ARRAY_LEN(tls_versions) == TLS_VERSION_1_3 + 1, "one word per tls.min_version");
static_assert(ARRAY_LEN(framings) == POOL_FRAMING_LINE + 1, "one word per framing");

/* The values of an enum as bits. */
#define WORD(value) (UINT32_C(1) << (value))
#define ONLY_TCP .only_with = "protocol", .only_words = WORD(PROTOCOL_TCP)
#define PROXY_V2_WORDS (WORD(SEND_PROXY_V2) | WORD(SEND_PROXY_V2_EACH))
#define TALK_TYPES (WORD(HEALTH_TYPE_TCP) | WORD(HEALTH_TYPE_UDP))
#define HTTP_TYPES (WORD(HEALTH_TYPE_HTTP) | WORD(HEALTH_TYPE_HTTPS))
#define TLS_TYPES \
	(WORD(HEALTH_TYPE_TCP) | WORD(HEALTH_TYPE_HTTP) | WORD(HEALTH_TYPE_REDIS) | WORD(HEALTH_TYPE_POSTGRES) | WORD(HEALTH_TYPE_MYSQL))

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

/* The rows that listener.tls and upstream.tls share. */
#define TLS_ROWS(group, owner) \
	{ group, "min_version", ENUM(owner, tls.offer.min_version, tls_versions), \
	  .fallback = "1.2", .reload = RELOAD_WORKERS, \
	  .help = "The oldest version of TLS that is spoken. The newest is 1.3; what is older than 1.2 cannot be had." }, \
	{ group, "ciphers", STRING(TEXT, owner, tls.offer.ciphers, CIPHERS_LENGTH), \
	  .derived_default = "ECDHE with AES-GCM and CHACHA20-POLY1305", .fallback = "", .reload = RELOAD_WORKERS, \
	  .help = "The cipher suites of TLS 1.2, as openssl-ciphers(1) writes them." }, \
	{ group, "ciphersuites", STRING(TEXT, owner, tls.offer.ciphersuites, CIPHERS_LENGTH), \
	  .derived_default = "TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384 and TLS_CHACHA20_POLY1305_SHA256", .fallback = "", \
	  .reload = RELOAD_WORKERS, \
	  .help = "The cipher suites of TLS 1.3, with colons between them." }, \
	{ group, "groups", STRING(TEXT, owner, tls.offer.groups, CIPHERS_LENGTH), \
	  .derived_default = "X25519, P-256 and P-384", .fallback = "", .reload = RELOAD_WORKERS, \
	  .help = "The groups of the key exchange, with colons between them, the best first." }

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
	  .help = "The most client connections and UDP sessions at one time, exact over all workers. The limit on open files may lower it; Aegis "
		  "says so at the start. Where there are listeners of both protocols, a quarter of it is for TCP alone: anybody can begin UDP "
		  "sessions under addresses that are not his." },
	{ OBJECT_TOP, "buffer_memory", SIZE(config, buffer_memory_bytes, MB, 1024 * GB),
	  .fallback = "256M", .reload = RELOAD_WORKERS,
	  .help = "Memory for data that slow readers have not taken yet, all workers together. When it is used up, data waits in "
		  "the kernel and the sender is held back; no connection is lost." },
	{ OBJECT_TOP, "flight_recorder", SIZE(config, flight_recorder_bytes, 4 * KB, MB),
	  .zero = "off", .fallback = "128k", .reload = RELOAD_WORKERS,
	  .help = "Memory of each worker for the steps of its last connections, which \"aegisctl why\" shows. A connection takes some 320 bytes, more "
		  "where things go wrong. Rounded up to a power of two." },

	{ OBJECT_LOG, "level", ENUM(config, log.level, levels),
	  .fallback = "info", .reload = RELOAD_WORKERS,
	  .help = "The least important messages that are written." },
	{ OBJECT_LOG, "target", STRING(TARGET, config, log.target, PATH_LENGTH),
	  .fallback = "stderr", .reload = RELOAD_WORKERS,
	  .help = "Where messages go: \"stderr\", \"syslog\", \"journal\" (systemd's) or the absolute path of a file. "
		  "A message that nobody takes in time is dropped and counted; Aegis never waits for its log." },
	{ OBJECT_LOG, "format", ENUM(config, log.format, formats),
	  .fallback = "text", .reload = RELOAD_WORKERS,
	  .help = "Lines for people or one JSON object a line." },

	{ OBJECT_ACCESS_LOG, "path", STRING(TARGET, config, access_log.path, PATH_LENGTH),
	  .zero = "off", .without_group = "", .reload = RELOAD_WORKERS,
	  .help = "Where the records go: the absolute path of a file, \"syslog\", \"journal\" (systemd's) or \"stderr\". A file is made with mode "
		  "0640 before privileges are given up, only appended to, and opened again by SIGUSR1. Of UDP sessions that were refused "
		  "each worker has 100 a second at most written, lest a flood of datagrams fills the disk; the others count as dropped." },
	{ OBJECT_ACCESS_LOG, "format", ENUM(config, access_log.format, formats),
	  .fallback = "json", .reload = RELOAD_WORKERS,
	  .help = "One JSON object a line, or a line for people." },
	{ OBJECT_ACCESS_LOG, "interval", DURATION(config, access_log.interval_ns, SECOND, TIMEOUT_MAX),
	  .zero = "no such records", .fallback = "1h", .reload = RELOAD_WORKERS,
	  .help = "How often a connection that lasts has a record." },
	{ OBJECT_ACCESS_LOG, "buffer", SIZE(config, access_log.buffer_bytes, LOG_BUFFER_LEAST, LOG_BUFFER_MOST),
	  .fallback = "256k", .reload = RELOAD_WORKERS,
	  .help = "Memory for records that are not written yet, for each worker, rounded down to a power of two; a record takes some 100 bytes. "
		  "When it is full because whoever takes the records does not, records are dropped and counted (aegis_log_dropped_total); no "
		  "connection waits for its record." },

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

	{ OBJECT_ADMIN, "address", STRING(ADMIN, config, admin.address, ADDRESS_LENGTH),
	  .endpoint_offset = FIELD(config, admin.endpoint, struct endpoint), .fallback = "", .reload = RELOAD_LIVE,
	  .help = "Where the admin API and the web page are, for example \"127.0.0.1:9090\". Anybody on the machine may look there; to change "
		  "something needs the token. Other than an address of the machine itself needs a token_file, and the token for all." },
	{ OBJECT_ADMIN, "metrics_address", STRING(ADMIN, config, admin.metrics_address, ADDRESS_LENGTH),
	  .endpoint_offset = FIELD(config, admin.metrics_endpoint, struct endpoint), .fallback = "", .reload = RELOAD_LIVE,
	  .help = "Where the metrics for Prometheus can be had (GET /metrics) and nothing else, for example \"127.0.0.1:9091\". They are "
		  "at the other addresses, too." },
	{ OBJECT_ADMIN, "token_file", STRING(FILE, config, admin.token_file, PATH_LENGTH),
	  .fallback = "", .reload = RELOAD_LIVE,
	  .help = "A file with the token that requests over TCP carry (Authorization: Bearer TOKEN) in its first line, 16 letters or more; it may "
		  "be readable by root alone. It is read anew at each reload, unless that is done in place." },

	{ OBJECT_RESOLVER, "min_ttl", DURATION(config, resolver.min_ttl_ns, NS_PER_MS, DAY),
	  .fallback = "1s", .reload = RELOAD_LIVE,
	  .help = "An answer is good for so long at least, whatever its TTL says." },
	{ OBJECT_RESOLVER, "max_ttl", DURATION(config, resolver.max_ttl_ns, NS_PER_MS, 30 * DAY),
	  .fallback = "5m", .reload = RELOAD_LIVE,
	  .help = "An answer is good for so long at most." },
	{ OBJECT_RESOLVER, "timeout", DURATION(config, resolver.timeout_ns, 10 * NS_PER_MS, MINUTE),
	  .fallback = "2s", .reload = RELOAD_LIVE,
	  .help = "How long to wait for the answer of a name server before it is asked again, or the next one." },
	{ OBJECT_RESOLVER, "servers", LIST(RESOLVERS, config, resolver.servers, resolver.n_servers, struct addr, CONFIG_MAX_RESOLVERS),
	  .derived_default = "the name servers of the system (/etc/resolv.conf)", .reload = RELOAD_LIVE,
	  .help = "The name servers to ask." },

	{ OBJECT_TLS, "ticket_rotation", DURATION(config, tls.ticket_rotation_ns, 10 * SECOND, 7 * DAY),
	  .fallback = "8h", .reload = RELOAD_LIVE,
	  .help = "Sessions are resumed by tickets, which are encrypted with one key for all workers; it is replaced after so long, and the one "
		  "before it is honoured for as long again. A ticket is good for as long." },
	{ OBJECT_TLS, "ktls", BOOL(config, tls.ktls),
	  .fallback = "true", .reload = RELOAD_WORKERS,
	  .help = "Let the kernel encrypt bulk, where it has TLS for sockets (kTLS); aegis -V says whether it does. Nothing else changes where it "
		  "has not." },
	{ OBJECT_TLS, "ktls_from", SIZE(config, tls.ktls_from_bytes, 0, GB),
	  .zero = "from the first byte", .fallback = "256k", .reload = RELOAD_WORKERS,
	  .help = "The kernel takes over a connection when so much was sent one way without a pause of a second." },
	{ OBJECT_TLS, "watch", BOOL(config, tls.watch),
	  .fallback = "true", .reload = RELOAD_LIVE,
	  .help = "Take over certificates, keys, revocation lists and OCSP answers when their files change, without a reload." },

	{ OBJECT_LISTENER, "name", STRING(NAME, listener_config, name, NAME_LENGTH),
	  .derived_default = "the address, with /udp behind it where protocol is \"udp\"", .reload = RELOAD_WORKERS,
	  .help = "Name in counters and messages. The counters of a listener live on over reloads as long as its name stays." },
	{ OBJECT_LISTENER, "address", ADDRESS(LISTEN, listener_config),
	  .reload = RELOAD_WORKERS,
	  .help = "Where to listen; see Addresses above." },
	{ OBJECT_LISTENER, "protocol", ENUM(listener_config, protocol, protocols),
	  .fallback = "tcp", .reload = RELOAD_WORKERS,
	  .help = "\"udp\" for datagrams, which come and go in sessions (see udp). A TCP and a UDP listener may have the same address; that of a "
		  "UDP listener is one of IP." },
	{ OBJECT_LISTENER, "upstream", STRING(NAME, listener_config, upstream_name, NAME_LENGTH),
	  .derived_default = "the upstream, where there is only one, no sni and no acme.only", .reload = RELOAD_WORKERS,
	  .help = "Name of the upstream that serves these clients; with sni of those that no route is for, and where it is not written then, they "
		  "are refused." },
	{ OBJECT_LISTENER, "backlog", NUMBER(listener_config, backlog, 1, 65535),
	  ONLY_TCP, .fallback = "4096", .reload = RELOAD_WORKERS,
	  .help = "Connections that the kernel holds for each worker until it accepts them; net.core.somaxconn may lower it." },
	{ OBJECT_LISTENER, "max_connections", NUMBER(listener_config, max_connections, 0, MAX_CONNECTIONS),
	  .zero = "no limit of its own", .fallback = "0", .reload = RELOAD_IN_PLACE,
	  .help = "The most connections of this listener at one time, exact over all workers." },
	{ OBJECT_LISTENER, "on_full", ENUM(listener_config, on_full, on_fulls),
	  ONLY_TCP, .fallback = "reject", .reload = RELOAD_WORKERS,
	  .help = "What happens to new connections when a max_connections is reached: \"reject\" closes them at once, "
		  "\"wait\" leaves them in the backlog until there is room." },
	{ OBJECT_LISTENER, "allow", LIST(CIDRS, listener_config, allow, n_allow, struct cidr, CONFIG_MAX_PREFIXES),
	  .reload = RELOAD_WORKERS,
	  .help = "Who may connect. Of the ranges in allow and deny that an address is in, the one with the longest prefix decides; where it "
		  "is in none, the client may connect if allow is empty. \"all\" is every address." },
	{ OBJECT_LISTENER, "deny", LIST(CIDRS, listener_config, deny, n_deny, struct cidr, CONFIG_MAX_PREFIXES),
	  .reload = RELOAD_WORKERS,
	  .help = "Who may not connect, unless a range in allow with a longer prefix says otherwise. They are closed at once." },
	{ OBJECT_LISTENER, "min_rate", RATE(listener_config, min_rate_bytes_per_s, 1, GB),
	  ONLY_TCP, .zero = "none", .fallback = "0/s", .reload = RELOAD_WORKERS,
	  .help = "A client that owes data and moves less than so many bytes a second is closed: a guard against clients that are slow on "
		  "purpose. It owes from the first byte that it sends until the server says something, but is taken for one that waits for its "
		  "answer when it has been silent for 5 seconds; and while it has not taken what was sent to it more than a second ago. The first "
		  "5 seconds of it are a grace, then each 5 seconds are measured. Idle connections, slow servers and what bandwidth holds back do "
		  "not count. Not for protocols in which clients send now and then and are never answered." },
	{ OBJECT_LISTENER_ROUTE, "name", STRING(TEXT, route_config, name, ROUTE_NAME_LENGTH),
	  .fallback = "", .reload = RELOAD_WORKERS,
	  .help = "The name: \"www.example.org\", or \"*.example.org\" for those with one label more, as in certificates: not for "
		  "example.org itself, and not for a.b.example.org. Upper and lower case are the same, names in other scripts are written in punycode (xn--...). Empty, with "
		  "alpn: any name, or none." },
	{ OBJECT_LISTENER_ROUTE, "alpn", STRING(TEXT, route_config, alpn, PROTOCOL_LENGTH),
	  .fallback = "", .reload = RELOAD_WORKERS,
	  .help = "Only for clients that offer this protocol (ALPN): \"h2\", \"acme-tls/1\". Such routes come before those without alpn. "
		  "Clients of \"acme-tls/1\" are passed on as they are where a route names that, also by a listener at which TLS ends (tls)." },
	{ OBJECT_LISTENER_ROUTE, "upstream", STRING(NAME, route_config, upstream_name, NAME_LENGTH),
	  .reload = RELOAD_WORKERS,
	  .help = "Name of the upstream that serves these clients." },
	{ OBJECT_LISTENER_HELLO, "timeout", DURATION(listener_config, client_hello.timeout_ns, NS_PER_MS, TIMEOUT_MAX),
	  .fallback = "5s", .reload = RELOAD_WORKERS,
	  .help = "From the accept until all of it has come. Who takes longer is closed, and no server has heard of it." },
	{ OBJECT_LISTENER_HELLO, "max", SIZE(listener_config, client_hello.most_bytes, 512, 64 * KB),
	  .fallback = "16k", .reload = RELOAD_WORKERS,
	  .help = "The longest that is read, headers of records included. Most have less than 2k. Until it is complete it stays in the kernel." },
	{ OBJECT_LISTENER_HELLO, "starttls", ENUM(listener_config, client_hello.starttls, starttlses),
	  .fallback = "none", .reload = RELOAD_WORKERS,
	  .help = "What clients may say before TLS. \"postgres\": PostgreSQL's SSLRequest, which Aegis answers, and sends to the server in turn; "
		  "clients that begin with TLS at once (sslnegotiation=direct) are passed on as they are. A request for GSSAPI encryption is "
		  "declined. Who goes on without TLS is refused; so is a request to cancel that comes without (libpq before version 17: psql's "
		  "Control-C), since it says nothing of where it belongs." },
	{ OBJECT_LISTENER_ACME, "challenges", STRING(FILE, listener_config, acme.challenges, PATH_LENGTH),
	  .zero = "off", .without_group = "", .reload = RELOAD_WORKERS,
	  .help = "The folder into which the ACME client puts its answers, each in a file with the name of its token: "
		  ".well-known/acme-challenge below what certbot and lego call the webroot. The workers' user reads it, each time that it is asked." },
	{ OBJECT_LISTENER_ACME, "timeout", DURATION(listener_config, acme.timeout_ns, NS_PER_MS, 60 * MINUTE),
	  .fallback = "5s", .reload = RELOAD_WORKERS,
	  .help = "From the accept until the request has come, and once more until its answer was taken. Who is silent for so long, or "
		  "has not said more than the beginning of a request, goes on to a server." },
	{ OBJECT_LISTENER_ACME, "only", BOOL(listener_config, acme.only),
	  .fallback = "false", .reload = RELOAD_WORKERS,
	  .help = "True: there is no upstream. Who asks for anything else is answered with 404, who is silent for timeout is closed." },
	{ OBJECT_LISTENER_ACCEPT_PROXY, "enabled", BOOL(listener_config, accept_proxy.enabled),
	  .without_group = "false", .fallback = "true", .reload = RELOAD_WORKERS,
	  .help = "False: as if the group were not there." },
	{ OBJECT_LISTENER_ACCEPT_PROXY, "from", LIST(CIDRS, listener_config, accept_proxy.from, accept_proxy.n_from, struct cidr, CONFIG_MAX_PREFIXES),
	  .reload = RELOAD_WORKERS,
	  .help = "The proxies: addresses and networks that are believed. At least one, but for a unix socket, whose peers are believed as they are: "
		  "the permissions of its folder say who that is. From others no header is read: what they send is what a client sends." },
	{ OBJECT_LISTENER_ACCEPT_PROXY, "required", BOOL(listener_config, accept_proxy.required),
	  .fallback = "true", .reload = RELOAD_WORKERS,
	  .help = "Nobody but the proxies comes in, and none of them without a header. False: others are clients themselves, and a proxy may leave "
		  "the header out; one that does this for its clients lets them write one of their own. Where the server speaks first, such a "
		  "connection waits for timeout." },
	{ OBJECT_LISTENER_ACCEPT_PROXY, "timeout", DURATION(listener_config, accept_proxy.timeout_ns, NS_PER_MS, 60 * MINUTE),
	  .fallback = "3s", .reload = RELOAD_WORKERS,
	  .help = "For the whole of the header, from the accept." },
	{ OBJECT_LISTENER_RATE_LIMIT, "connections_per_second",
	  NUMBER(listener_config, rate_limit.connections_per_second, 1, MAX_CONNECTIONS),
	  .zero = "no limit", .without_group = "0", .reload = RELOAD_WORKERS,
	  .help = "How many new connections in a second, at an even pace, over all workers. Those beyond it are closed at once. What was used "
		  "is kept over a reload." },
	{ OBJECT_LISTENER_RATE_LIMIT, "burst", NUMBER(listener_config, rate_limit.burst, 0, MAX_CONNECTIONS),
	  .zero = "none", .fallback = "100", .reload = RELOAD_WORKERS,
	  .help = "So many may come at once beyond the even pace." },
	{ OBJECT_LISTENER_RATE_LIMIT, "per", ENUM(listener_config, rate_limit.per, rate_limit_pers),
	  .fallback = "listener", .reload = RELOAD_WORKERS,
	  .help = "Whether all clients of the listener have one limit together (\"listener\"), each address has its own (\"address\"), or each "
		  "network (\"prefix\": the first 64 bits of an IPv6 address, since one host has as many of these as it likes; an IPv4 address "
		  "counts by itself). Clients of a unix socket have no address and no limit of their own." },
	{ OBJECT_LISTENER_BANDWIDTH, "up", RATE(listener_config, bandwidth.up_bytes_per_s, KB, 1024 * GB),
	  .zero = "no limit", .fallback = "0/s", .reload = RELOAD_WORKERS,
	  .help = "Bytes a second from the client to the server. A tenth of a second's worth (4 kB at least) may come at once." },
	{ OBJECT_LISTENER_BANDWIDTH, "down", RATE(listener_config, bandwidth.down_bytes_per_s, KB, 1024 * GB),
	  .zero = "no limit", .fallback = "0/s", .reload = RELOAD_WORKERS,
	  .help = "The same from the server to the client." },
	{ OBJECT_LISTENER_BANDWIDTH, "per", ENUM(listener_config, bandwidth.per, bandwidth_pers),
	  .fallback = "connection", .reload = RELOAD_WORKERS,
	  .help = "Whether each connection may be so fast, or all of the listener together, over all workers; those that have something to "
		  "send are then served in turn." },
	TCP_ROWS(OBJECT_LISTENER_TCP, listener_config),
	{ OBJECT_LISTENER_TCP, "fast_open", NUMBER(listener_config, tcp.fast_open, 0, 65535),
	  .zero = "off", .fallback = "0", .reload = RELOAD_WORKERS,
	  .help = "Accept data in the first packet of a connection (TCP_FASTOPEN): the most of these that may wait. The sysctl "
		  "net.ipv4.tcp_fastopen must allow it." },
	{ OBJECT_LISTENER_TCP, "defer_accept", DURATION(listener_config, tcp.defer_accept_ns, SECOND, MINUTE),
	  .zero = "off", .fallback = "0s", .reload = RELOAD_WORKERS,
	  .help = "Accept a connection only when its first data is there, or this has passed (TCP_DEFER_ACCEPT, rounded up to "
		  "seconds). Breaks protocols in which the server speaks first." },
	{ OBJECT_LISTENER_UDP, "idle", DURATION(listener_config, udp.idle_ns, NS_PER_MS, TIMEOUT_MAX),
	  .derived_default = "timeout.idle where that is written, else 60s", .reload = RELOAD_WORKERS,
	  .help = "A session ends when no datagram came or went for so long. The same as timeout.idle; write one of them." },
	{ OBJECT_LISTENER_UDP, "responses", NUMBER(listener_config, udp.responses, 1, 1000000),
	  .zero = "no such end", .fallback = "0", .reload = RELOAD_WORKERS,
	  .help = "A session ends when the server has sent so many datagrams for each one of the client: 1 for DNS, where nothing comes after the "
		  "answer." },
	{ OBJECT_LISTENER_UDP, "requests", NUMBER(listener_config, udp.requests, 1, 1000000),
	  .zero = "no such end", .fallback = "0", .reload = RELOAD_WORKERS,
	  .help = "A session takes so many datagrams from the client; the next one begins another session, with a server that is chosen anew. "
		  "Where no answers are awaited (syslog) it ends with the last one of them; with responses it goes on until these are complete." },
	{ OBJECT_LISTENER_UDP, "buffer", SIZE(listener_config, udp.buffer_bytes, 4 * KB, GB),
	  .fallback = "64k", .reload = RELOAD_WORKERS,
	  .help = "What the kernel holds of each session in the socket to its server, each way (SO_RCVBUF, SO_SNDBUF); net.core.rmem_max and "
		  "wmem_max may lower it. Datagrams beyond it are dropped." },
	{ OBJECT_LISTENER_UDP, "receive_buffer", SIZE(listener_config, udp.receive_buffer_bytes, 4 * KB, GB),
	  .fallback = "4M", .reload = RELOAD_WORKERS,
	  .help = "What the kernel holds in each of the listening sockets, one for each worker and all clients of it, while the worker is busy "
		  "(SO_RCVBUF), and as much of the answers that leave by it (SO_SNDBUF); net.core.rmem_max and wmem_max may lower it where Aegis "
		  "has not the right to go beyond (CAP_NET_ADMIN). It takes memory only as far as datagrams wait." },
	{ OBJECT_LISTENER_TLS, "enabled", BOOL(listener_config, tls.enabled),
	  .without_group = "false", .fallback = "true", .reload = RELOAD_WORKERS,
	  .help = "False: as if the group were not there." },
	TLS_ROWS(OBJECT_LISTENER_TLS, listener_config),
	{ OBJECT_LISTENER_TLS, "alpn", STRING(TEXT, listener_config, tls.offer.alpn, ALPN_LENGTH),
	  .derived_default = "none: what clients offer is not answered", .fallback = "", .reload = RELOAD_WORKERS,
	  .help = "What is spoken inside of TLS, with commas between the names, the best first, for example \"h2,http/1.1\" (ALPN). A client "
		  "that offers others only is refused; one that offers none is not." },
	{ OBJECT_LISTENER_TLS, "client_ca", STRING(FILE, listener_config, tls.client_ca, PATH_LENGTH),
	  .fallback = "", .reload = RELOAD_WORKERS,
	  .help = "A file with the certificates of those who may vouch for clients." },
	{ OBJECT_LISTENER_TLS, "client_verify", ENUM(listener_config, tls.client_verify, client_verifies),
	  .derived_default = "\"required\" where client_ca is written, else \"off\"", .fallback = "off", .reload = RELOAD_WORKERS,
	  .help = "Whether clients show a certificate: they must (\"required\"), they may (\"optional\"; one that is wrong is refused), or are "
		  "not asked (\"off\")." },
	{ OBJECT_LISTENER_TLS, "crl", STRING(FILE, listener_config, tls.crl, PATH_LENGTH),
	  .fallback = "", .reload = RELOAD_WORKERS,
	  .help = "A file with the revocation lists of all who are in client_ca. A client whose certificate stands there is refused, and so is "
		  "every client when a list has expired." },
	{ OBJECT_LISTENER_TLS, "tickets", BOOL(listener_config, tls.tickets),
	  .fallback = "true", .reload = RELOAD_WORKERS,
	  .help = "Let clients resume a session by a ticket, at any worker. Nothing of a session is kept in Aegis." },
	{ OBJECT_LISTENER_TLS, "timeout", DURATION(listener_config, tls.timeout_ns, 10 * NS_PER_MS, 60 * MINUTE),
	  .zero = "none", .fallback = "10s", .reload = RELOAD_WORKERS,
	  .help = "How long a client may take for the handshake." },
	{ OBJECT_CERTIFICATE, "cert", STRING(PATH, certificate_config, cert, PATH_LENGTH),
	  .reload = RELOAD_WORKERS,
	  .help = "The certificate and those that sign it, in this order, without the root: PEM." },
	{ OBJECT_CERTIFICATE, "key", STRING(PATH, certificate_config, key, PATH_LENGTH),
	  .derived_default = "the file of cert", .reload = RELOAD_WORKERS,
	  .help = "Its private key, without a password: PEM. It must not be readable by everybody." },
	{ OBJECT_CERTIFICATE, "ocsp", STRING(FILE, certificate_config, ocsp, PATH_LENGTH),
	  .fallback = "", .reload = RELOAD_WORKERS,
	  .help = "An answer of the authority's OCSP server for it (DER), which is passed on to clients that ask for it as long as it is "
		  "good." },
	{ OBJECT_LISTENER_TIMEOUT, "first_byte", DURATION(listener_config, timeout.first_byte_ns, NS_PER_MS, TIMEOUT_MAX),
	  ONLY_TCP, .zero = "none", .fallback = "0s", .reload = RELOAD_WORKERS,
	  .help = "Until the first byte from the client. Leave it off where the server speaks first." },
	{ OBJECT_LISTENER_TIMEOUT, "idle", DURATION(listener_config, timeout.idle_ns, NS_PER_MS, TIMEOUT_MAX),
	  .zero = "none", .fallback = "0s", .reload = RELOAD_WORKERS,
	  .help = "Without a byte in either direction. With protocol = \"udp\" the default is 60s, and udp.idle is the same." },
	{ OBJECT_LISTENER_TIMEOUT, "lifetime", DURATION(listener_config, timeout.lifetime_ns, NS_PER_MS, TIMEOUT_MAX),
	  .zero = "none", .fallback = "0s", .reload = RELOAD_WORKERS,
	  .help = "From the accept to the end, whatever happens." },

	{ OBJECT_UPSTREAM, "name", STRING(NAME, upstream_config, name, NAME_LENGTH),
	  .reload = RELOAD_WORKERS,
	  .help = "Name, by which listeners refer to it." },
	{ OBJECT_UPSTREAM, "balance", ENUM(upstream_config, balance, balances),
	  .fallback = "round_robin", .reload = RELOAD_WORKERS,
	  .help = "How the server of a new connection is chosen: in turn (\"round_robin\"), the one with the fewest connections over all "
		  "workers (\"least_connections\"), the better of two that are drawn (\"p2c\"), drawn (\"random\"), or the same one for the "
		  "same client as long as it can be had (\"consistent_hash\"). All honour weight." },
	{ OBJECT_UPSTREAM, "hash_key", ENUM(upstream_config, hash_key, hash_keys),
	  .only_with = "balance", .only_words = WORD(BALANCE_CONSISTENT_HASH), .fallback = "address", .reload = RELOAD_WORKERS,
	  .help = "What is the same client: the same address, the same address and port, or the same name that is asked for by TLS (\"sni\", "
		  "read where a listener has sni; who asks for none counts by his address)." },
	{ OBJECT_UPSTREAM, "retries", NUMBER(upstream_config, retries, 0, CONFIG_MAX_RETRIES),
	  .zero = "one attempt only", .fallback = "2", .reload = RELOAD_WORKERS,
	  .help = "Further attempts after a server could not be reached, each on another server first." },
	{ OBJECT_UPSTREAM, "start_test", ENUM(upstream_config, start_test, start_tests),
	  .fallback = "off", .reload = RELOAD_WORKERS,
	  .help = "Whether to try at a start and a reload if a server can be reached: \"warn\" only says so when none can, "
		  "\"fail\" refuses the start or the reload." },
	{ OBJECT_UPSTREAM, "slow_start", DURATION(upstream_config, slow_start_ns, NS_PER_MS, DAY),
	  .zero = "off", .fallback = "0s", .reload = RELOAD_WORKERS,
	  .help = "A server that comes back gets a small share of the new connections first, which grows to its full share within this time. "
		  "Needs health, circuit_breaker or outlier, by which servers go and come." },
	{ OBJECT_UPSTREAM, "when_all_down", ENUM(upstream_config, when_all_down, when_all_downs),
	  .fallback = "refuse", .reload = RELOAD_WORKERS,
	  .help = "What happens to new connections while no server is up: \"refuse\" closes them at once, \"any\" tries the servers "
		  "nevertheless, \"wait\" puts them into the queue until one is up again." },
	{ OBJECT_UPSTREAM, "on_down", ENUM(upstream_config, on_down, on_downs),
	  .fallback = "keep", .reload = RELOAD_WORKERS,
	  .help = "What happens to the connections of a server that goes down: they stay, or are closed so that clients connect again and get "
		  "another one, rather than stay with a dead primary. Needs health: connections that fail say nothing of those that stand." },
	{ OBJECT_UPSTREAM, "lame_duck", BOOL(upstream_config, lame_duck),
	  .fallback = "false", .reload = RELOAD_WORKERS,
	  .help = "UDP: a server that is disabled keeps the sessions that it has, and gets no new ones, until they end by themselves. Otherwise the "
		  "next datagram of such a session goes to another server. TCP connections always stay." },
	{ OBJECT_UPSTREAM, "source", STRING(TEXT, upstream_config, source, 80),
	  .fallback = "", .reload = RELOAD_WORKERS,
	  .help = "Where connections to the servers come from, and datagrams: an IPv4 or IPv6 address of this machine, or \"client\", the address of the "
		  "client, so that servers see it (see SOURCE). Otherwise the kernel chooses." },
	{ OBJECT_UPSTREAM, "send_proxy", ENUM(upstream_config, send_proxy, send_proxies),
	  .fallback = "", .reload = RELOAD_WORKERS,
	  .help = "Tell the servers who the client is, by a header of the PROXY protocol in front of all that he says; they must expect one. \"v1\" is "
		  "a line of text, for TCP; \"v2\" is binary, and has what is known besides (see PROXY PROTOCOL). UDP: \"v2\" puts it in front of "
		  "the first datagram that a server gets of a session, \"v2-each\" in front of every one, which costs a system call for each and "
		  "suits servers that keep nothing of a client. A datagram grows by 28 bytes (IPv4) or 52 (IPv6). Health checks send one that says "
		  "that they speak for nobody; those by http and https one of version 1 that tells of themselves." },
	{ OBJECT_UPSTREAM, "send_proxy_check_sum", BOOL(upstream_config, send_proxy_check_sum),
	  .only_with = "send_proxy", .only_words = PROXY_V2_WORDS, .fallback = "false", .reload = RELOAD_WORKERS,
	  .help = "With a CRC32C of the header." },
	{ OBJECT_UPSTREAM, "send_proxy_unique_id", BOOL(upstream_config, send_proxy_unique_id),
	  .only_with = "send_proxy", .only_words = PROXY_V2_WORDS, .fallback = "false", .reload = RELOAD_WORKERS,
	  .help = "TCP: with a unique id, unless another proxy sent one, which is passed on: the id of the connection as the access log has it." },
	{ OBJECT_UPSTREAM, "send_proxy_traceparent", NUMBER(upstream_config, send_proxy_traceparent, 0xe0, 0xef),
	  .only_with = "send_proxy", .only_words = PROXY_V2_WORDS, .zero = "none", .fallback = "0", .reload = RELOAD_WORKERS,
	  .help = "TCP: with a traceparent (W3C Trace Context) in a TLV of this type, 224 to 239 (0xE0 to 0xEF), unless another proxy sent one of that "
		  "type, which is passed on." },
	{ OBJECT_UPSTREAM, "connect_rate", RATE(upstream_config, connect_rate_per_s, 1, 1000000),
	  .zero = "no limit", .fallback = "0/s", .reload = RELOAD_WORKERS,
	  .help = "How many new connections to the servers in a second, all workers and servers together, so that a database that comes back "
		  "is not killed by the logins of its own clients. Those over it wait in line, as queue says; without a queue any number of them "
		  "does, for up to 5 s. Datagrams do not wait: those that would begin a session beyond it are dropped." },
	{ OBJECT_UPSTREAM, "connect_burst", NUMBER(upstream_config, connect_burst, 0, 1000000),
	  .zero = "none", .fallback = "0", .reload = RELOAD_WORKERS,
	  .help = "So many may go out at once beyond the even pace of connect_rate." },
	{ OBJECT_UPSTREAM_TIMEOUT, "connect", DURATION(upstream_config, timeout.connect_ns, NS_PER_MS, 60 * MINUTE),
	  .fallback = "5s", .reload = RELOAD_WORKERS,
	  .help = "For one attempt to connect." },
	{ OBJECT_UPSTREAM_TIMEOUT, "read", DURATION(upstream_config, timeout.read_ns, NS_PER_MS, TIMEOUT_MAX),
	  .zero = "none", .fallback = "0s", .reload = RELOAD_WORKERS,
	  .help = "For an answer: from what the client sent to the next byte from the server. While nobody waits for an answer it does "
		  "not run." },
	{ OBJECT_UPSTREAM_AFFINITY, "ttl", DURATION(upstream_config, affinity.ttl_ns, NS_PER_MS, TIMEOUT_MAX),
	  .zero = "off", .without_group = "0s", .reload = RELOAD_WORKERS,
	  .help = "The server of a client, known by its address, is remembered for so long after the last connection." },
	{ OBJECT_UPSTREAM_HEALTH, "type", ENUM(upstream_config, health.type, health_types),
	  .fallback = "tcp", .without_group = "none", .reload = RELOAD_LIVE,
	  .help = "What a server must do: take a connection (\"tcp\"), answer a request (\"http\", \"https\"), answer a datagram (\"udp\") or be "
		  "ready to take clients in its own protocol (\"redis\", \"postgres\", \"mysql\"; no login is needed). \"none\" turns checks off." },
	{ OBJECT_UPSTREAM_HEALTH, "interval", DURATION(upstream_config, health.interval_ns, 10 * NS_PER_MS, DAY),
	  .fallback = "5s", .reload = RELOAD_LIVE,
	  .help = "From one check of a server to the next. Each is moved a little by chance, so that they do not all come at once." },
	{ OBJECT_UPSTREAM_HEALTH, "fast_interval", DURATION(upstream_config, health.fast_interval_ns, 10 * NS_PER_MS, DAY),
	  .derived_default = "a fifth of interval, but not less than 100ms where interval is more", .reload = RELOAD_LIVE,
	  .help = "The same for a server that is down, or whose last checks did not agree." },
	{ OBJECT_UPSTREAM_HEALTH, "timeout", DURATION(upstream_config, health.timeout_ns, 10 * NS_PER_MS, 60 * MINUTE),
	  .fallback = "2s", .reload = RELOAD_LIVE,
	  .help = "For a check from its start to its end. It may be longer than interval: the next check waits for the end of this one." },
	{ OBJECT_UPSTREAM_HEALTH, "rise", NUMBER(upstream_config, health.rise, 1, 255),
	  .fallback = "2", .reload = RELOAD_LIVE,
	  .help = "So many checks in a row must go well until a server that was down is up. The first check ever decides alone." },
	{ OBJECT_UPSTREAM_HEALTH, "fall", NUMBER(upstream_config, health.fall, 1, 255),
	  .fallback = "3", .reload = RELOAD_LIVE,
	  .help = "So many checks in a row must fail until a server that was up is down." },
	{ OBJECT_UPSTREAM_HEALTH, "port", NUMBER(upstream_config, health.port, 1, 65535),
	  .zero = "the server's own", .fallback = "0", .reload = RELOAD_LIVE,
	  .help = "The port that is checked, where it is not the one that clients get." },
	{ OBJECT_UPSTREAM_HEALTH, "path", STRING(URL_PATH, upstream_config, health.path, URL_LENGTH),
	  .only_with = "type", .only_words = HTTP_TYPES, .fallback = "/health", .reload = RELOAD_LIVE,
	  .help = "What is asked for (GET)." },
	{ OBJECT_UPSTREAM_HEALTH, "host", STRING(HOST, upstream_config, health.host, HOST_LENGTH),
	  .only_with = "type", .only_words = HTTP_TYPES, .derived_default = "the address of the server, or the name that TLS asks for", .fallback = "", .reload = RELOAD_LIVE,
	  .help = "The host that is asked for: the field Host of the request, and with https the name that TLS asks for." },
	{ OBJECT_UPSTREAM_HEALTH, "verify", BOOL(upstream_config, health.verify),
	  .only_with = "type", .only_words = WORD(HEALTH_TYPE_HTTPS), .fallback = "false", .reload = RELOAD_LIVE,
	  .help = "Whether the certificate must be good for the host, by the authorities that the system trusts. When it is off, a check tells "
		  "whether the server works, not who it is." },
	{ OBJECT_UPSTREAM_HEALTH, "tls", BOOL(upstream_config, health.tls),
	  .only_with = "type", .only_words = TLS_TYPES, .derived_default = "as the group tls of the upstream says", .fallback = "false",
	  .reload = RELOAD_LIVE,
	  .help = "Whether a check speaks TLS, as sessions do: with the same names, authorities, lists and certificate, from the group tls of the "
		  "upstream. True where that is off: with what stands in it all the same. Each check is a full handshake." },
	{ OBJECT_UPSTREAM_HEALTH, "user", STRING(NAME, upstream_config, health.user, PEER_USER_LENGTH),
	  .only_with = "type", .only_words = WORD(HEALTH_TYPE_POSTGRES) | WORD(HEALTH_TYPE_MYSQL), .fallback = "aegis",
	  .reload = RELOAD_LIVE,
	  .help = "Who seems to log in, without a password. That the server refuses it is good; the user need not be there. A server that has "
		  "it, without rights, does not fill its log with refused logins." },
	{ OBJECT_UPSTREAM_HEALTH, "send", STRING(BYTES, upstream_config, health.send, EXPECT_LENGTH),
	  .only_with = "type", .only_words = TALK_TYPES, .fallback = "", .reload = RELOAD_LIVE, .secret = true,
	  .help = "With tcp what is sent after the connect; empty: nothing. With udp the datagram that is sent, and once more after half of the "
		  "timeout; it must be written, or send_hex, or silent." },
	{ OBJECT_UPSTREAM_HEALTH, "send_hex", STRING(HEX, upstream_config, health.send_hex, HEX_LENGTH),
	  .only_with = "type", .only_words = TALK_TYPES, .fallback = "", .reload = RELOAD_LIVE, .secret = true,
	  .help = "The same in hexadecimal digits, for what is no text: \"abcd 0100 0001 0000 0000 0000 00 0002 0001\" asks a DNS server for the "
		  "name servers of the root." },
	{ OBJECT_UPSTREAM_HEALTH, "expect", STRING(BYTES, upstream_config, health.expect, EXPECT_LENGTH),
	  .only_with = "type", .only_words = HTTP_TYPES | TALK_TYPES,
	  .derived_default = "\"2xx\" with http and https, nothing with tcp, any answer with udp", .fallback = "", .reload = RELOAD_LIVE,
	  .help = "With http and https the statuses that are good, for example \"2xx\", \"200\" or \"200-399\", or several of these with "
		  "commas. With tcp a text that must be in what the server says within the timeout, in answer to send; where the server speaks "
		  "first, write send = \"\";. With udp a text that must be in the datagram that it answers with." },
	{ OBJECT_UPSTREAM_HEALTH, "expect_hex", STRING(HEX, upstream_config, health.expect_hex, HEX_LENGTH),
	  .only_with = "type", .only_words = TALK_TYPES, .fallback = "", .reload = RELOAD_LIVE,
	  .help = "The same with tcp and udp in hexadecimal digits: \"abcd 8180\" is a good answer to the question above." },
	{ OBJECT_UPSTREAM_HEALTH, "silent", BOOL(upstream_config, health.silent),
	  .only_with = "type", .only_words = WORD(HEALTH_TYPE_UDP), .fallback = "false", .reload = RELOAD_LIVE,
	  .help = "The servers never answer (syslog). A check is good when none of them, nor its machine, has refused the datagram (ICMP port "
		  "unreachable) within half of the timeout, a second at most. Without send the datagram is empty." },
	{ OBJECT_UPSTREAM_BREAKER, "error_threshold", NUMBER(upstream_config, circuit_breaker.error_threshold, 1, 65535),
	  .zero = "off", .fallback = "5", .without_group = "0", .reload = RELOAD_WORKERS,
	  .help = "So many failures in a row, over all workers, open the breaker: the server gets no new connection. A failure is a connect that "
		  "did not succeed." },
	{ OBJECT_UPSTREAM_BREAKER, "timeout", DURATION(upstream_config, circuit_breaker.timeout_ns, 10 * NS_PER_MS, DAY),
	  .fallback = "30s", .reload = RELOAD_WORKERS,
	  .help = "How long the breaker stays open before connections are tried." },
	{ OBJECT_UPSTREAM_BREAKER, "probes", NUMBER(upstream_config, circuit_breaker.probes, 1, 1000),
	  .fallback = "3", .reload = RELOAD_WORKERS,
	  .help = "So many connections are tried at one time, exact over all workers. When as many have succeeded the breaker is closed; when one "
		  "fails it is open again." },
	{ OBJECT_UPSTREAM_OUTLIER, "failures", NUMBER(upstream_config, outlier.failures, 1, 65535),
	  .zero = "off", .fallback = "5", .without_group = "0", .reload = RELOAD_WORKERS,
	  .help = "So many failures in a row, over all workers, take a server out: connects that did not succeed, and connections that were "
		  "reset before any byte came." },
	{ OBJECT_UPSTREAM_OUTLIER, "ejection", DURATION(upstream_config, outlier.ejection_ns, 10 * NS_PER_MS, DAY),
	  .fallback = "30s", .reload = RELOAD_WORKERS,
	  .help = "For how long at the first time; each further one is longer by as much, up to ten times." },
	{ OBJECT_UPSTREAM_OUTLIER, "max_percent", NUMBER(upstream_config, outlier.max_percent, 1, 100),
	  .fallback = "50", .reload = RELOAD_WORKERS,
	  .help = "The share of the servers that may be out at one time, rounded down; more stay in, whatever they do." },
	{ OBJECT_UPSTREAM_QUEUE, "size", NUMBER(upstream_config, queue.size, 1, 1000000),
	  .zero = "nobody waits", .without_group = "0", .reload = RELOAD_IN_PLACE,
	  .help = "The most clients that wait at one time, over all workers; more are refused. First come, first served. One that ends its "
		  "side of the connection while it waits has left the line." },
	{ OBJECT_UPSTREAM_QUEUE, "timeout", DURATION(upstream_config, queue.timeout_ns, NS_PER_MS, 60 * MINUTE),
	  .fallback = "5s", .reload = RELOAD_WORKERS,
	  .help = "How long a client waits before it is refused; anew when it gets a place and the connect fails. A client that ends its side "
		  "while it waits has left." },
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
	{ OBJECT_UPSTREAM_TLS, "enabled", BOOL(upstream_config, tls.enabled),
	  .without_group = "false", .fallback = "true", .reload = RELOAD_WORKERS,
	  .help = "False: as if the group were not there." },
	{ OBJECT_UPSTREAM_TLS, "verify", BOOL(upstream_config, tls.verify),
	  .fallback = "true", .reload = RELOAD_WORKERS,
	  .help = "Connect to a server only when its certificate is good and is for its name. Without it anybody can be the server." },
	{ OBJECT_UPSTREAM_TLS, "ca", STRING(FILE, upstream_config, tls.ca, PATH_LENGTH),
	  .derived_default = "those that the system trusts", .fallback = "", .reload = RELOAD_WORKERS,
	  .help = "A file with the certificates of those who may vouch for servers." },
	{ OBJECT_UPSTREAM_TLS, "crl", STRING(FILE, upstream_config, tls.crl, PATH_LENGTH),
	  .fallback = "", .reload = RELOAD_WORKERS,
	  .help = "A file with the revocation lists of all who are in ca." },
	{ OBJECT_UPSTREAM_TLS, "name", STRING(HOST, upstream_config, tls.name, HOST_LENGTH),
	  .derived_default = "the host of each server's address", .fallback = "", .reload = RELOAD_WORKERS,
	  .help = "The name that servers are asked for (SNI), and that must stand in their certificates." },
	{ OBJECT_UPSTREAM_TLS, "cert", STRING(FILE, upstream_config, tls.cert, PATH_LENGTH),
	  .fallback = "", .reload = RELOAD_WORKERS,
	  .help = "The certificate that Aegis shows to servers which ask for one, with those that sign it." },
	{ OBJECT_UPSTREAM_TLS, "key", STRING(FILE, upstream_config, tls.key, PATH_LENGTH),
	  .derived_default = "the file of cert", .fallback = "", .reload = RELOAD_WORKERS,
	  .help = "Its private key. It must not be readable by everybody." },
	TLS_ROWS(OBJECT_UPSTREAM_TLS, upstream_config),
	{ OBJECT_UPSTREAM_TLS, "alpn", STRING(TEXT, upstream_config, tls.offer.alpn, ALPN_LENGTH),
	  .derived_default = "what the client and the listener agreed on", .fallback = "", .reload = RELOAD_WORKERS,
	  .help = "What servers are offered to speak inside of TLS, with commas between the names (ALPN)." },
	{ OBJECT_UPSTREAM_TLS, "resume", BOOL(upstream_config, tls.resume),
	  .fallback = "true", .reload = RELOAD_WORKERS,
	  .help = "Resume sessions with servers, each worker its own; never one of another name." },
	{ OBJECT_SERVER, "name", STRING(NAME, server_config, name, ADDR_TEXT_SIZE - 1),
	  .derived_default = "the address", .reload = RELOAD_WORKERS,
	  .help = "Name in counters and messages, unique in its upstream." },
	{ OBJECT_SERVER, "address", ADDRESS(SERVER, server_config),
	  .reload = RELOAD_WORKERS,
	  .help = "Where to connect to; see Addresses above." },
	{ OBJECT_SERVER, "weight", NUMBER(server_config, weight, 0, 65535),
	  .zero = "no new connection", .fallback = "100", .reload = RELOAD_IN_PLACE,
	  .help = "Share of the new connections, relative to the other servers." },
	{ OBJECT_SERVER, "max_connections", NUMBER(server_config, max_connections, 1, MAX_CONNECTIONS),
	  .zero = "no limit", .fallback = "0", .reload = RELOAD_IN_PLACE,
	  .help = "The most connections to this server at one time, exact over all workers; hot ones count, health checks come on top (one at a "
		  "time). When all servers are full, clients wait in the queue or are refused. UDP sessions count, too, and do not wait." },
	{ OBJECT_SERVER, "soft_limit", NUMBER(server_config, soft_limit, 1, MAX_CONNECTIONS),
	  .zero = "none", .fallback = "0", .reload = RELOAD_IN_PLACE,
	  .help = "From so many connections on, the server gets new ones only when all others have reached theirs." },
	{ OBJECT_SERVER, "backup", BOOL(server_config, backup),
	  .fallback = "false", .reload = RELOAD_IN_PLACE,
	  .help = "Only used when none of the others can be." },
	{ OBJECT_SERVER, "disabled", BOOL(server_config, disabled),
	  .fallback = "false", .reload = RELOAD_IN_PLACE,
	  .help = "Gets no new connection." },
};
/* clang-format on */
const size_t n_option_rows = ARRAY_LEN(option_rows);
