/* The settings: an immutable tree of plain structs, made from aegis.conf through the option table (option_rows.c).
 *
 * Process: the master loads it; workers inherit it by fork and only read it.
 * Owner:   struct config owns all that it points to; config_free() gives it back.
 * Units:   durations in nanoseconds, sizes in bytes; 0 = none or no limit unless said otherwise.
 */
#ifndef AEGIS_CONFIG_CONFIG_H
#define AEGIS_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/cidr.h"
#include "base/log.h"
#include "base/status_set.h"

enum engine_kind { ENGINE_AUTO, ENGINE_EPOLL, ENGINE_IO_URING };
enum protocol { PROTOCOL_TCP, PROTOCOL_UDP };
enum starttls { STARTTLS_NONE, STARTTLS_POSTGRES };
enum on_full { ON_FULL_REJECT, ON_FULL_WAIT };
enum balance_kind { BALANCE_ROUND_ROBIN, BALANCE_LEAST_CONNECTIONS, BALANCE_P2C, BALANCE_RANDOM, BALANCE_CONSISTENT_HASH };
enum hash_key { HASH_KEY_ADDRESS, HASH_KEY_ADDRESS_PORT, HASH_KEY_SNI };
enum health_type {
	HEALTH_TYPE_NONE,
	HEALTH_TYPE_TCP,
	HEALTH_TYPE_HTTP,
	HEALTH_TYPE_HTTPS,
	HEALTH_TYPE_UDP,
	HEALTH_TYPE_REDIS,
	HEALTH_TYPE_POSTGRES,
	HEALTH_TYPE_MYSQL
};
enum { N_BALANCE_KINDS = BALANCE_CONSISTENT_HASH + 1 };
enum when_all_down { ALL_DOWN_REFUSE, ALL_DOWN_ANY, ALL_DOWN_WAIT };
enum on_down { ON_DOWN_KEEP, ON_DOWN_CLOSE };
enum rate_limit_per { RATE_LIMIT_PER_LISTENER, RATE_LIMIT_PER_ADDRESS, RATE_LIMIT_PER_PREFIX };
enum bandwidth_per { BANDWIDTH_PER_CONNECTION, BANDWIDTH_PER_LISTENER };
enum pool_framing { POOL_FRAMING_NONE, POOL_FRAMING_HTTP1, POOL_FRAMING_REDIS, POOL_FRAMING_LINE };
enum client_verify { CLIENT_VERIFY_OFF, CLIENT_VERIFY_OPTIONAL, CLIENT_VERIFY_REQUIRED };
enum tls_version { TLS_VERSION_1_2, TLS_VERSION_1_3 };
enum source_kind { SOURCE_ANY, SOURCE_ADDRESS, SOURCE_CLIENT };
enum send_proxy { SEND_PROXY_OFF, SEND_PROXY_V1, SEND_PROXY_V2, SEND_PROXY_V2_EACH };
enum start_test { START_TEST_OFF, START_TEST_WARN, START_TEST_FAIL };

enum { CONFIG_NAME_SIZE = 64, CONFIG_MAX_LISTENERS = 256, CONFIG_MAX_SERVERS = 16384, CONFIG_MAX_WORKERS = 256, CONFIG_MAX_RETRIES = 7 };
enum { CONFIG_MAX_ROUTES = 65536, CONFIG_NO_UPSTREAM = UINT32_MAX };
enum { CONFIG_MAX_SHARED = 256, CONFIG_MAX_HOT = 65535 };
enum { CONFIG_MAX_PREFIXES = 100000, CONFIG_MAX_RESOLVERS = 8 }; /* in one list */
enum { CONFIG_MAX_CERTIFICATES = 4096 };                         /* of all listeners together */
enum { SERVER_MAX_ADDRESSES = 8 };                               /* of one host name */

struct tcp_config {
	bool nodelay;
	bool quickack;
	uint32_t fast_open; /* queue length, 0 = off */
	uint64_t defer_accept_ns;
	uint64_t keepalive_ns; /* idle time before the first probe */
	uint64_t user_timeout_ns;
	uint64_t receive_buffer_bytes; /* 0 = the kernel decides */
	uint64_t send_buffer_bytes;
};

/* Of a listener for datagrams. A session is what a client and a local address say to each other. */
struct udp_config {
	uint64_t idle_ns;      /* the same as timeout.idle_ns, where either may be written; never 0 */
	uint32_t responses;    /* datagrams from the server for each one of the client: with the last one a session ends; 0 = no such end */
	uint32_t requests;     /* datagrams from the client that a session takes, 0 = any number */
	uint64_t buffer_bytes; /* of the kernel, for each session's socket to its server */
	uint64_t receive_buffer_bytes; /* the same of each listening socket, which all clients share */
};

/* One certificate of a listener with its chain, its private key and what proves that it was not revoked: files in PEM. */
struct certificate_config {
	const char *cert; /* unique in its listener */
	const char *key;  /* defaults to the same file */
	const char *ocsp; /* DER; "" = none */
	const char *file; /* where it was declared, for messages; NULL from the command line */
	int line;
};

/* What both sides of TLS are offered; "" = the defaults of tls/policy.h. */
struct tls_offer_config {
	enum tls_version min_version;
	const char *ciphers;      /* TLS 1.2, in OpenSSL's words */
	const char *ciphersuites; /* TLS 1.3 */
	const char *groups;
	const char *alpn; /* names with commas between them, the best first */
};

struct listener_tls_config {
	bool enabled;
	struct certificate_config *certificates; /* at least one where it is enabled; the first is for clients that ask for no name */
	size_t n_certificates;
	struct tls_offer_config offer;
	const char *client_ca; /* "" = none */
	const char *crl;       /* "" = none */
	enum client_verify client_verify;
	bool tickets;
	uint64_t timeout_ns; /* of a handshake; 0 = none */
	const char *file;    /* where it was declared, for messages; NULL from the command line */
	int line;
};

struct upstream_tls_config {
	bool enabled;
	struct tls_offer_config offer; /* alpn "" = what the client chose */
	bool verify;
	const char *ca;   /* "" = those that the system trusts */
	const char *crl;  /* "" = none */
	const char *name; /* in the certificate, and asked for; "" = the host name or IP address of each server */
	const char *cert; /* of Aegis, "" = none */
	const char *key;  /* defaults to the same file */
	bool resume;
	const char *file; /* where it was declared, for messages; NULL from the command line */
	int line;
};

/* Of a listener that reads the ClientHello of its clients, which it does where it has any: who asks for this name, and offers this
 * protocol, goes to this upstream. */
struct route_config {
	const char *name; /* of a host, in lower case, or "*." and one, for all names below it; "" = any, or none */
	const char *alpn; /* "" = any */
	const char *upstream_name;
	uint32_t upstream; /* index into config.upstreams */
	const char *label; /* name and alpn in one: unique in its listener */
};

struct listener_config {
	const char *name; /* unique, shorter than CONFIG_NAME_SIZE, defaults to the address, with /udp behind it for PROTOCOL_UDP */
	const char *address;
	struct endpoint endpoint; /* any but ENDPOINT_NAME */
	enum protocol protocol;
	const char *upstream_name; /* NULL: see upstream */
	uint32_t upstream;         /* index into config.upstreams; CONFIG_NO_UPSTREAM: none but by routes */
	struct route_config *routes;
	size_t n_routes;
	struct {
		uint64_t timeout_ns;
		uint64_t most_bytes;
		enum starttls starttls;
	} client_hello; /* where there are routes */
	struct {
		const char *challenges; /* the folder with the answers to challenges of http-01; "" = none are given */
		uint64_t timeout_ns;
		bool only; /* there is no upstream */
	} acme;            /* of PROTOCOL_TCP, without routes and TLS */
	uint32_t backlog;
	uint32_t max_connections;
	enum on_full on_full;
	/* Who may connect. No range stands twice, be it in one list or in both. */
	struct cidr *allow;
	size_t n_allow;
	struct cidr *deny;
	size_t n_deny;
	/* Who may tell who the client is, by a header of the PROXY protocol. Not of PROTOCOL_UDP. */
	struct {
		bool enabled;
		struct cidr *from;
		size_t n_from;
		bool required; /* nobody else comes in, and none without a header */
		uint64_t timeout_ns;
	} accept_proxy;
	struct {
		uint32_t connections_per_second; /* 0 = no limit */
		uint32_t burst;                  /* beyond the even pace */
		enum rate_limit_per per;
	} rate_limit;
	struct {
		uint64_t up_bytes_per_s; /* from the client to the server, 0 = no limit */
		uint64_t down_bytes_per_s;
		enum bandwidth_per per;
	} bandwidth;
	uint64_t min_rate_bytes_per_s; /* 0 = none */
	struct tcp_config tcp;         /* of no use with PROTOCOL_UDP, as backlog, on_full, bandwidth, min_rate and first_byte_ns */
	struct udp_config udp;         /* of PROTOCOL_UDP alone */
	struct {
		uint64_t first_byte_ns;
		uint64_t idle_ns;
		uint64_t lifetime_ns;
	} timeout;
	struct listener_tls_config tls; /* of PROTOCOL_TCP alone */
};

struct server_config {
	const char *name; /* unique in its upstream, shorter than ADDR_TEXT_SIZE, defaults to the address */
	const char *address;
	struct endpoint endpoint; /* ENDPOINT_ADDRESS or ENDPOINT_NAME */
	uint32_t weight;          /* 0..65535; 0 = gets no new connection */
	uint32_t max_connections; /* hard; 0 = no limit */
	uint32_t soft_limit;      /* 0 = none, else at most max_connections where that is set */
	bool backup;
	bool disabled;
	const char *file; /* where it was declared, for messages; NULL from the command line */
	int line;
	/* Filled in by the master's preflight before workers are forked: what the endpoint stands for. */
	size_t n_addrs;
	struct addr addrs[SERVER_MAX_ADDRESSES];
};

struct config_bytes {
	const void *bytes;
	size_t count;
};

/* Active checks of the servers of an upstream; all of it without a meaning where type is HEALTH_TYPE_NONE. */
struct health_config {
	enum health_type type;
	uint64_t interval_ns;
	uint64_t fast_interval_ns; /* while a server is down or on its way up or down; at most interval_ns */
	uint64_t timeout_ns;
	uint32_t rise, fall;
	uint32_t port;            /* 0 = the server's own */
	const char *path;         /* http and https */
	const char *host;         /* the same; "" = the address of the server */
	bool verify;              /* https: the certificate of the server */
	bool tls;                 /* speak TLS as tls of the upstream says; never with https and udp */
	const char *user;         /* postgres and mysql: who would log in */
	const char *send;         /* tcp: after the connect, udp: as a datagram; "" = nothing, unless send_hex says something */
	const char *send_hex;     /* the same in hexadecimal digits; "" = as send says */
	const char *expect;       /* tcp and udp: must come then, "" = nothing special; http and https: as statuses says */
	const char *expect_hex;   /* the same of tcp and udp in hexadecimal digits */
	struct config_bytes sent; /* tcp and udp: what comes of these four */
	struct config_bytes expected;
	bool silent;                /* udp: the server does not answer */
	struct status_set statuses; /* http and https: what is good */
};

struct upstream_config {
	const char *name;
	enum balance_kind balance;
	enum hash_key hash_key; /* of BALANCE_CONSISTENT_HASH */
	struct {
		uint64_t ttl_ns; /* 0 = off */
	} affinity;
	struct server_config *servers;
	size_t n_servers;
	struct {
		uint64_t connect_ns;
		uint64_t read_ns;
	} timeout;
	uint32_t retries; /* further attempts after a failed connect, 0..CONFIG_MAX_RETRIES */
	enum start_test start_test;
	struct {
		uint32_t warm; /* per server and worker: established and never used */
		uint32_t keep; /* the same: used, and idle now; with share per server */
		enum pool_framing framing;
		uint64_t max_idle_ns;
		bool share;
	} pool;
	struct health_config health;
	struct {
		uint32_t error_threshold; /* failures in a row, 0 = off */
		uint64_t timeout_ns;
		uint32_t probes;
	} circuit_breaker;
	struct {
		uint32_t failures; /* in a row, 0 = off */
		uint64_t ejection_ns;
		uint32_t max_percent; /* of the servers */
	} outlier;
	uint64_t slow_start_ns; /* 0 = off */
	enum when_all_down when_all_down;
	enum on_down on_down;
	bool lame_duck; /* UDP: a disabled server keeps its sessions */
	const char *source;
	enum source_kind source_kind; /* these two are what comes of it */
	struct addr source_addr;      /* SOURCE_ADDRESS: IPv4 or IPv6, port 0 */
	enum send_proxy send_proxy;
	bool send_proxy_check_sum; /* these three of version 2 */
	bool send_proxy_unique_id;
	uint32_t send_proxy_traceparent; /* the type of its TLV; 0 = none */
	struct {
		uint32_t size; /* clients, 0 = none waits */
		uint64_t timeout_ns;
	} queue;
	uint64_t connect_rate_per_s; /* new connections to all servers together, 0 = no limit */
	uint32_t connect_burst;      /* beyond the even pace */
	struct tcp_config tcp;       /* of the connections to the servers; fast_open and defer_accept unused */
	struct upstream_tls_config tls;
};

/* TLS is spoken with its servers: by sessions, by checks, or by both. */
static inline bool upstream_has_tls(const struct upstream_config *upstream)
{
	return upstream->tls.enabled || upstream->health.tls;
}

struct config {
	uint32_t workers; /* 0 = auto */
	bool pin;
	enum engine_kind engine;
	const char *user;  /* "" = not set: aegis where it exists, else nobody, when started as root */
	const char *group; /* "" = the user's group */
	const char *runtime_dir;
	uint32_t max_connections;
	uint64_t buffer_memory_bytes;   /* for data that slow readers have not taken, all workers together */
	uint64_t flight_recorder_bytes; /* of each worker; 0 = off */
	struct {
		enum log_level level;
		const char *target;
		enum log_format format;
	} log;
	struct {
		const char *path; /* or a target as of log; "" = off */
		enum log_format format;
		uint64_t interval_ns;  /* of the records of connections that last; 0 = none */
		uint64_t buffer_bytes; /* of each worker */
	} access_log;
	struct {
		uint64_t ticket_rotation_ns; /* how long tickets are made with one key */
		bool watch;                  /* the files of certificates */
		bool ktls;                   /* may the kernel encrypt? */
		uint64_t ktls_from_bytes;    /* in a row */
	} tls;
	struct {
		uint64_t timeout_ns;
		uint32_t pace;
		uint32_t max_generations;
	} drain;
	struct {
		const char *address; /* of the admin API over TCP; "" = none */
		struct endpoint endpoint;
		const char *metrics_address; /* of GET /metrics alone; "" = none */
		struct endpoint metrics_endpoint;
		const char *token_file; /* "" = none: then both are addresses of the machine itself */
	} admin;
	struct {
		uint64_t min_ttl_ns, max_ttl_ns; /* bounds on how long an answer is good */
		uint64_t timeout_ns;
		struct addr *servers; /* none: those of the system */
		size_t n_servers;
	} resolver;
	struct listener_config *listeners;
	size_t n_listeners;
	struct upstream_config *upstreams;
	size_t n_upstreams;
	void *arena; /* owns every string and array above, and where each setting came from */
};

/* What is wrong with the settings, in full: each line "file:line: path: what is wrong; what would be right". */
struct config_errors {
	size_t count;
	char *lines;         /* '\n'-terminated lines, heap; NULL when count is 0 */
	size_t length, size; /* of lines: used, allocated */
};
/* One more line. line 0 = none, path NULL or "" = none; what is not printable is escaped. */
void config_errors_add(struct config_errors *errors, const char *file, int line, const char *path, const char *format, ...)
        printf_like(5, 6);
/* Those of another list, too. */
void config_errors_append(struct config_errors *errors, const struct config_errors *more);
void config_errors_clear(struct config_errors *errors);

struct config_source {
	const char *file;             /* NULL: no file, defaults and overrides only */
	const char *const *overrides; /* "-e" texts, each a piece of libconfig */
	size_t n_overrides;
	const char *runtime_dir;  /* "-r", or NULL */
	const char *quick_listen; /* quick mode: LISTEN, or NULL */
	const char *const *quick_upstreams;
	size_t n_quick_upstreams;
	struct file_at *at; /* for who waits for it; or NULL */
};

/* Load and check. 0 and *out (owned by the caller), or -EINVAL with at least one error; nothing else is touched.
 * Never blocks on the network: names are not resolved here. */
must_check int config_load(const struct config_source *source, struct config **out, struct config_errors *errors);
void config_free(struct config *config);

/* "aegis -T": the effective settings as a valid aegis.conf, each with a comment that says where it came from
 * ("default", "FILE:LINE", "-e"). */
void config_dump(const struct config *config, FILE *out);
/* The same without comments, for others to read: to load it makes the same settings again, but for secrets. config_diff() takes what stands
 * for one for the secret that it is compared with. */
void config_dump_bare(const struct config *config, FILE *out);

/* The manual page aegis.conf(5) in mdoc, from the option table. */
void config_manual(FILE *out);

#endif
